// The page around ExpungeReceipt: files in, steps on the page. Writes text only, never markup.
"use strict";

(() => {
  const form = document.getElementById("check");
  const answer = document.getElementById("answer");
  const FILES = ["receipt", "policy", "proof", "opening"];
  const LARGEST = 4 * 1024 * 1024;
  const TITLES = {
    "read the receipt": "The file is a receipt",
    "trust policy": "Whom to trust",
    "checkpoint signature": "The log signed its state",
    witnesses: "Who else saw the log",
    "key registration": "The signing key is in the log",
    "envelope signature": "The signature",
    receipt: "What it promises",
    opening: "It is about your own data",
    proof: "Your request is in the log",
  };

  // What fails beside a receipt that holds.
  const BESIDE = {
    opening: "The receipt holds, the opening does not",
    proof: "The receipt holds, the proof does not",
  };

  function element(kind, text, look = "") {
    const made = document.createElement(kind);
    made.textContent = text;
    if (look) made.className = look;
    return made;
  }

  function show(...parts) {
    answer.replaceChildren(...parts);
    answer.hidden = false;
    answer.focus();
  }

  function sorry(title, sentence) {
    const box = element("div", "", "verdict no");
    box.append(element("h2", title), element("p", sentence));
    show(box);
  }

  function verdict(found) {
    const box = element("div", "", found.ok ? "verdict yes" : "verdict no");
    const failed = found.steps.find((step) => !step.ok);
    box.append(element("h2", found.ok ? "The receipt holds" : BESIDE[failed.name] || "The receipt does not hold"));
    if (!found.ok) {
      box.append(element("p", `Step ${failed.n} failed: ${failed.why}`));
      return box;
    }
    const { receivedAt, respondBy, includeBy, requestId } = found.receipt;
    const day = (time) =>
      new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
    box.append(
      element("p", `Received on ${day(receivedAt)}, to be in the log by ${day(includeBy)}, answered by ${day(respondBy)}.`),
      element("p", `Request ${requestId}`, "mono"),
    );
    if (found.trust === "unwitnessed") {
      box.append(element("p", "Your policy asks for no witness: only the log's operator vouches for there being one history."));
    }
    return box;
  }

  function listed(steps) {
    const list = element("ol", "", "checks");
    for (const step of steps) {
      const skipped = step.why.startsWith("Not checked");
      const item = element("li", "", step.ok ? "yes" : skipped ? "skipped" : "no");
      const mark = element("span", step.ok ? "holds" : skipped ? "not checked" : "fails", "mark");
      const head = element("p", `${step.n}. ${TITLES[step.name]} `, "what");
      head.append(mark);
      item.append(head, element("p", step.why, "why"));
      item.dataset.step = step.name;
      list.append(item);
    }
    return list;
  }

  async function read(name) {
    const [file] = document.getElementById(name).files;
    if (file === undefined) return null;
    if (file.size > LARGEST) throw new RangeError(name);
    return new Uint8Array(await file.arrayBuffer());
  }

  async function check() {
    const given = {};
    for (const name of FILES) given[name] = await read(name);
    if (given.receipt === null) {
      sorry("There is no receipt yet", "Choose your receipt first: the file whose name begins with “receipt”.");
      return;
    }
    const found = await ExpungeReceipt.verify(given);
    const steps = element("section", "", "card");
    steps.append(element("h2", "Step by step"), listed(found.steps));
    show(verdict(found), steps);
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await check();
    } catch {
      sorry("A file cannot be read", "Choose the files again; each has less than four megabytes.");
    }
  });

  // What was found is about the files as they were: another choice takes it away.
  form.addEventListener("change", () => {
    answer.hidden = true;
  });

  (async () => {
    if (globalThis.crypto === undefined || crypto.subtle === undefined) {
      sorry("This browser cannot check here", "Open this page over https, or save it and open the file.");
    } else if (!(await ExpungeReceipt.supported())) {
      const other = "It cannot verify Ed25519 signatures. Use a current browser, or the command at the end of this page.";
      sorry("This browser is too old", other);
    } else {
      document.getElementById("start").disabled = false;
    }
  })();
})();
