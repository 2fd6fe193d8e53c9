// The offline protocol of `python -m audits receipt`, in a browser: the same steps, the same words, the same order.
//
// Pure: files in (as bytes), numbered steps out. It reads nothing else, keeps nothing and talks to nobody. Ed25519,
// SHA-256 and HMAC are the browser's own (WebCrypto). No module syntax, so that it also runs from a saved file.
// Sources: c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature, tlog-policy, tlog-proof; DSSE 1.0.2; RFC 6962
// section 2.1; RFC 9162 section 2.1.3.2; RFC 8785; audits/receipt.py, which tests hold this file to.
"use strict";

const ExpungeReceipt = (() => {
  const MAX_FILE = 2 * 1024 * 1024;
  const MAX_NOTE = 1024 * 1024;
  const MAX_POLICY = 256 * 1024;
  const MAX_ENTRY = 65535;
  const MAX_DEPTH = 32;
  const MAX_LINES = 1024;
  const MAX_SIGNATURES = 100;
  const MAX_HASHES = 63;
  const ED25519 = 1;
  const COSIGNATURE = 4;
  const TYPE = "application/vnd.expunge.receipt+json";
  const LATEST = 253402214400n; // 9999-12-31, as far as the verifier's calendar goes
  const SKEW = 10 * 60 * 1e6; // microseconds
  const PROOF_HEADER = "c2sp.org/tlog-proof@v1";
  // The 14 encodings of a point of low order: signatures under such a key hold for every message.
  const LOW_ORDER = new Set([
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
  ]);

  const encoder = new TextEncoder();
  const bytesOf = (text) => encoder.encode(text);

  class Refused extends Error {}

  function require(condition, sentence) {
    if (!condition) throw new Refused(sentence);
  }

  // Bytes, texts, numbers: one form each -------------------------------------------------------------------------

  const hex = (raw) => Array.from(raw, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const same = (one, other) => one.length === other.length && one.every((byte, place) => byte === other[place]);

  function join(...parts) {
    const result = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    let place = 0;
    for (const part of parts) {
      result.set(part, place);
      place += part.length;
    }
    return result;
  }

  function toBase64(raw) {
    let text = "";
    for (const byte of raw) text += String.fromCharCode(byte);
    return btoa(text);
  }

  // The bytes, or null: enough padding, and nothing from outside the alphabet.
  function lenient(text) {
    const found = /^([A-Za-z0-9+/]*)(={0,2})$/.exec(text);
    if (found === null) return null;
    const missing = (4 - (found[1].length % 4)) % 4;
    if (missing === 3 || found[2].length < missing) return null;
    return Uint8Array.from(atob(found[1]), (character) => character.charCodeAt(0));
  }

  function fromBase64(text, what) {
    const raw = lenient(text);
    require(raw !== null, `${what} is not base64.`);
    require(toBase64(raw) === text, `${what} is not base64 in its one form.`);
    return raw;
  }

  function decimal(text, what, largest = Number.MAX_SAFE_INTEGER) {
    require(/^[0-9]+$/.test(text) && text.length <= String(largest).length, `${what} is no number.`);
    require(String(Number(text)) === text && Number(text) <= largest, `${what} is not a number in its one form.`);
    return Number(text);
  }

  function decode(raw, sentence) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
    } catch {
      throw new Refused(sentence);
    }
  }

  // JSON as it comes from strangers: no key twice, no depth without end, no number that a double can't hold.
  function loadJson(raw, what, limit) {
    require(raw.length <= limit, `${what} is larger than ${limit} bytes.`);
    const text = decode(raw, `${what} is not valid UTF-8.`);
    const broken = () => new Refused(`${what} is not valid JSON.`);
    const token = /[ \t\n\r]*(?:([{}[\],:])|("(?:[^"\\\u0000-\u001f]|\\.)*")|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(true|false|null))/y;
    let found = null;
    const next = () => {
      found = token.exec(text);
      if (found === null) throw broken();
      return found;
    };
    const expectSign = (sign) => {
      if (next()[1] !== sign) throw broken();
    };
    const stringOf = () => {
      let value;
      try {
        value = JSON.parse(found[2]);
      } catch {
        throw broken();
      }
      if (/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(value)) throw broken();
      return value;
    };
    function objectAt(depth) {
      const value = Object.create(null);
      next();
      if (found[1] === "}") return value;
      for (;;) {
        if (found[2] === undefined) throw broken();
        const name = stringOf();
        require(!(name in value), `${what} names one key twice.`);
        expectSign(":");
        next();
        value[name] = valueAt(depth);
        next();
        if (found[1] === "}") return value;
        if (found[1] !== ",") throw broken();
        next();
      }
    }
    function listAt(depth) {
      const value = [];
      next();
      if (found[1] === "]") return value;
      for (;;) {
        value.push(valueAt(depth));
        next();
        if (found[1] === "]") return value;
        if (found[1] !== ",") throw broken();
        next();
      }
    }
    function numberOf() {
      const value = Number(found[3]);
      const whole = /^-?[0-9]+$/.test(found[3]);
      require(!whole || Math.abs(value) <= Number.MAX_SAFE_INTEGER, `${what} holds an integer beyond 2**53.`);
      require(Number.isFinite(value), `${what} holds a number that no double can hold.`);
      return value;
    }
    function valueAt(depth) {
      if (found[1] === "{" || found[1] === "[") {
        require(depth < MAX_DEPTH, `${what} is nested deeper than ${MAX_DEPTH} levels.`);
        return found[1] === "{" ? objectAt(depth + 1) : listAt(depth + 1);
      }
      if (found[2] !== undefined) return stringOf();
      if (found[3] !== undefined) return numberOf();
      if (found[4] !== undefined) return JSON.parse(found[4]);
      throw broken();
    }
    next();
    const value = valueAt(0);
    if (/[^ \t\n\r]/.test(text.slice(token.lastIndex))) throw broken();
    return value;
  }

  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const hasKeys = (value, names) =>
    isObject(value) && Object.keys(value).sort().join() === [...names].sort().join();

  // RFC 8785.
  function canonical(value) {
    if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
    if (!isObject(value)) return JSON.stringify(value);
    const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
    return `{${members.join(",")}}`;
  }

  // Microseconds of an RFC 3339 time in UTC, or null.
  function moment(text) {
    const found = typeof text === "string" && /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?Z$/.exec(text);
    if (!found) return null;
    const date = new Date(`${found[1]}Z`);
    const real = !Number.isNaN(date.getTime()) && date.toISOString().slice(0, 19) === found[1];
    if (!real || found[1].startsWith("0000")) return null;
    return date.getTime() * 1000 + Number((found[2] || "").padEnd(6, "0"));
  }

  // Cryptography -------------------------------------------------------------------------------------------------

  const sha256 = async (raw) => new Uint8Array(await crypto.subtle.digest("SHA-256", raw));

  async function supported() {
    try {
      await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
      return true;
    } catch {
      return false;
    }
  }

  function checkKey(key) {
    require(key.length === 32, "An Ed25519 public key has 32 bytes.");
    require(!LOW_ORDER.has(hex(key)), "The public key has low order: signatures under it prove nothing.");
  }

  async function signedBy(key, signature, message) {
    checkKey(key);
    if (signature.length !== 64) return false;
    try {
      const imported = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
      return await crypto.subtle.verify({ name: "Ed25519" }, imported, signature, message);
    } catch {
      return false;
    }
  }

  async function fingerprint(key) {
    return hex(await sha256(key)).replace(/(.{8})(?=.)/g, "$1 ");
  }

  // Notes, keys, checkpoints -------------------------------------------------------------------------------------

  const isName = (text) => /^[^\p{C}\p{Z}+]+$/u.test(text);

  async function keyId(name, algorithm, key) {
    return hex((await sha256(join(bytesOf(`${name}\n`), [algorithm], key))).slice(0, 4));
  }

  const cut = (text, sign) => {
    const place = text.indexOf(sign);
    return place < 0 ? [text, ""] : [text.slice(0, place), text.slice(place + sign.length)];
  };

  async function parseVkey(text) {
    const [name, rest] = cut(text, "+");
    const [digits, encoded] = cut(rest, "+");
    require(isName(name), "The verifier key's name is empty or has a space or a plus sign.");
    require(/^[0-9a-f]{8}$/.test(digits), "The verifier key's id is not 8 hex digits.");
    const raw = fromBase64(encoded, "The verifier key");
    require([ED25519, COSIGNATURE].includes(raw[0]), "The verifier key has an unknown algorithm.");
    const key = { name, algorithm: raw[0], publicKey: raw.slice(1) };
    checkKey(key.publicKey);
    key.id = await keyId(name, key.algorithm, key.publicKey);
    require(`${name}+${key.id}+${encoded}` === text, "The verifier key's id does not belong to the key.");
    return key;
  }

  function parseNote(text) {
    require(bytesOf(text).length <= MAX_NOTE, `The note is larger than ${MAX_NOTE} bytes.`);
    require(!/[\u0000-\u0009\u000b-\u001f]/.test(text), "The note has a control character.");
    const place = text.lastIndexOf("\n\n");
    const lines = place < 0 ? "" : text.slice(place + 2);
    require(lines.endsWith("\n"), "The note has no blank line before its signatures.");
    const signatures = lines.slice(0, -1).split("\n").map((line) => {
      const parts = line.split(" ");
      require(line.startsWith("\u2014 ") && parts.length === 3, "A signature line is malformed.");
      require(isName(parts[1]), "A signature line names no key.");
      const raw = fromBase64(parts[2], "A signature");
      require(raw.length > 4, "A signature is too short.");
      return { name: parts[1], id: hex(raw.slice(0, 4)), blob: raw.slice(4) };
    });
    require(signatures.length <= MAX_SIGNATURES, `The note has more than ${MAX_SIGNATURES} signatures.`);
    return { text: text.slice(0, place + 1), signatures };
  }

  async function verifyLine(key, line, text) {
    let message = bytesOf(text);
    let signature = line.blob;
    let time = null;
    if (key.algorithm === COSIGNATURE) {
      time = line.blob.slice(0, 8).reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
      require(time < 2n ** 63n, "A cosignature's time is out of range.");
      message = bytesOf(`cosignature/v1\ntime ${time}\n${text}`);
      signature = line.blob.slice(8);
    }
    const holds = await signedBy(key.publicKey, signature, message);
    require(holds, `The note's signature by the known key ${key.name} is wrong.`);
    return time;
  }

  async function openNote(text, known) {
    const note = parseNote(text);
    const lookup = new Map();
    for (const key of known) {
      const identity = `${key.name} ${key.id}`;
      const clash = lookup.get(identity) || key;
      const equal = clash.algorithm === key.algorithm && same(clash.publicKey, key.publicKey);
      require(equal, "Two known keys share a name and an id.");
      lookup.set(identity, clash);
    }
    const verified = new Map();
    for (const line of note.signatures) {
      const key = lookup.get(`${line.name} ${line.id}`);
      if (key !== undefined && !verified.has(key)) {
        verified.set(key, await verifyLine(key, line, note.text));
      }
    }
    require(verified.size > 0, "No known key signed the note.");
    return { text: note.text, verified };
  }

  async function parseCheckpoint(text) {
    const lines = text.split("\n");
    require(lines.length === 4 && lines[3] === "", "A checkpoint has exactly three lines.");
    const origin = lines[0];
    require(origin && !/[ +]/.test(origin), "The checkpoint's origin is malformed.");
    const size = decimal(lines[1], "The checkpoint's size");
    const root = fromBase64(lines[2], "The checkpoint's root");
    require(root.length === 32, "The checkpoint's root has not the length of SHA-256.");
    const empty = same(root, await sha256(new Uint8Array()));
    require(empty === (size === 0), "The checkpoint's size and root contradict each other.");
    return { origin, size, root };
  }

  // Trust policies -----------------------------------------------------------------------------------------------

  function policyLines(raw) {
    require(raw.length <= MAX_POLICY, `The trust policy is larger than ${MAX_POLICY} bytes.`);
    const text = decode(raw, "The trust policy is not valid UTF-8.");
    require(!/[\u0000-\u0008\u000b-\u001f\u007f]/.test(text), "The trust policy has a control character.");
    const lines = text.split("\n");
    require(lines.length <= MAX_LINES, `The trust policy has more than ${MAX_LINES} lines.`);
    return lines
      .map((line, place) => [place + 1, line.split(/[\t ]+/).filter((word) => word)])
      .filter(([, words]) => words.length && !words[0].startsWith("#"));
  }

  async function readPolicyLine(draft, words) {
    const [kind, name, ...rest] = words;
    const known = (one) => draft.witnesses.has(one) || draft.groups.has(one);
    if (kind === "log" && (words.length === 2 || words.length === 3)) {
      const key = await parseVkey(name);
      require(key.algorithm === ED25519, "a log's key is of type 1.");
      const fresh = draft.logs.every((log) => !same(log.publicKey, key.publicKey));
      require(fresh, "this log's key was listed before.");
      draft.logs.push(key);
    } else if (kind === "witness" && (words.length === 3 || words.length === 4)) {
      const key = await parseVkey(rest[0]);
      require(key.algorithm === COSIGNATURE, "a witness's key is of type 4.");
      require(name !== "none" && !known(name), "this name is taken.");
      const fresh = [...draft.witnesses.values()].every((one) => !same(one.publicKey, key.publicKey));
      require(fresh, "this witness's key was listed before.");
      draft.witnesses.set(name, key);
    } else if (kind === "group" && words.length >= 3) {
      const [threshold, ...members] = rest;
      require(name !== "none" && !known(name), "this name is taken.");
      require(members.length && members.every(known), "a member of the group is not defined above it.");
      require(new Set(members).size === members.length, "the group lists a member twice.");
      require(members.every((one) => !draft.used.has(one)), "a member belongs to another group already.");
      const named = { any: 1, all: members.length };
      const needed = Object.hasOwn(named, threshold)
        ? named[threshold]
        : decimal(threshold, "the group's threshold", members.length);
      require(needed >= 1, "the group's threshold is zero.");
      members.forEach((one) => draft.used.add(one));
      draft.groups.set(name, { needed, members });
    } else if (kind === "quorum" && words.length === 2) {
      require(name === "none" || known(name), "the quorum names nothing that is defined above it.");
      draft.quorums.push(name);
    } else {
      throw new Refused("it is none of log, witness, group or quorum, or has too few or too many words.");
    }
  }

  async function parsePolicy(raw) {
    const draft = { logs: [], witnesses: new Map(), groups: new Map(), used: new Set(), quorums: [] };
    for (const [number, words] of policyLines(raw)) {
      try {
        await readPolicyLine(draft, words);
      } catch (fault) {
        if (!(fault instanceof Refused)) throw fault;
        throw new Refused(`Line ${number} of the trust policy: ${fault.message}`);
      }
    }
    require(draft.logs.length, "The trust policy names no log.");
    const one = draft.quorums.length === 1;
    require(one, "The trust policy needs exactly one quorum line ('quorum none' is one).");
    return { ...draft, quorum: draft.quorums[0] === "none" ? null : draft.quorums[0] };
  }

  async function verifyLog(policy, signed) {
    const opened = await openNote(signed, [...policy.logs, ...policy.witnesses.values()]);
    const checkpoint = await parseCheckpoint(opened.text);
    const log = policy.logs.find((one) => opened.verified.has(one) && one.name === checkpoint.origin);
    require(log !== undefined, "No log of the trust policy signed this checkpoint.");
    const witnesses = [...policy.witnesses].filter(([, key]) => opened.verified.has(key)).map(([name]) => name);
    const times = [...opened.verified.values()].filter((time) => time !== null);
    const latest = times.reduce((one, other) => (one > other ? one : other), 0n);
    require(latest <= LATEST, "A cosignature's time is not in the calendar.");
    // Microseconds, as `moment` gives them; null when no witness cosigned.
    const at = times.length ? Number(latest) * 1e6 : null;
    return { checkpoint, log, witnesses: witnesses.sort(), at };
  }

  function requireQuorum(policy, trust) {
    const counts = (name) => {
      if (policy.witnesses.has(name)) return trust.witnesses.includes(name);
      const group = policy.groups.get(name);
      return group.members.filter(counts).length >= group.needed;
    };
    const enough = policy.quorum === null || counts(policy.quorum);
    require(enough, `The quorum ${policy.quorum} of witnesses did not cosign this checkpoint.`);
  }

  // The log ------------------------------------------------------------------------------------------------------

  function parseProof(text) {
    require([...text].length <= MAX_NOTE, `The log proof is larger than ${MAX_NOTE} characters.`);
    const place = text.indexOf("\n\n");
    require(place >= 0, "The log proof has no blank line before its checkpoint.");
    const [first, ...lines] = text.slice(0, place).split("\n");
    require(first === PROOF_HEADER, `The log proof does not start with '${PROOF_HEADER}'.`);
    let extra = null;
    if (lines.length && lines[0].startsWith("extra ")) {
      extra = fromBase64(lines.shift().slice(6), "The log proof's extra data");
    }
    require(lines.length && lines[0].startsWith("index "), "The log proof names no index.");
    require(lines.length <= 1 + MAX_HASHES, `The log proof has more than ${MAX_HASHES} hashes.`);
    const index = decimal(lines[0].slice(6), "The log proof's index");
    const hashes = lines.slice(1).map((line) => fromBase64(line, "A hash of the log proof"));
    return { index, hashes, extra, checkpoint: text.slice(place + 2) };
  }

  const nodeHash = (left, right) => sha256(join([1], left, right));

  async function requireIncluded(proof, checkpoint, entry) {
    const { index, hashes } = proof;
    require(index < checkpoint.size, "The entry's index lies outside the tree.");
    require(hashes.every((one) => one.length === 32), "A hash of the proof has not the length of SHA-256.");
    let [position, last] = [index, checkpoint.size - 1];
    let result = await sha256(join([0], entry));
    const halve = () => {
      position = Math.floor(position / 2);
      last = Math.floor(last / 2);
    };
    for (const sibling of hashes) {
      require(last > 0, "The inclusion proof is too long for its tree.");
      if (position % 2 === 1 || position === last) {
        result = await nodeHash(sibling, result);
        while (position > 0 && position % 2 === 0) halve();
      } else {
        result = await nodeHash(result, sibling);
      }
      halve();
    }
    require(last === 0, "The inclusion proof is too short for its tree.");
    require(same(result, checkpoint.root), "The inclusion proof does not lead to the tree's root.");
  }

  function parseEntry(raw) {
    const value = loadJson(raw, "The log entry", MAX_ENTRY);
    require(isObject(value), "The log entry is not a JSON object.");
    const known = hasKeys(value, ["type", "at", "salt", "data"]);
    require(known, "The log entry has other fields than type, at, salt, data.");
    require(isObject(value.data), "The log entry's data is not a JSON object.");
    const typed = typeof value.type === "string" && /^[a-z][a-z_]*(\.[a-z][a-z_]*)+$/.test(value.type);
    require(typed, "The log entry's type is malformed.");
    const salted = typeof value.salt === "string" && /^[0-9a-f]{32}$/.test(value.salt);
    require(salted, "The log entry's salt is not 16 bytes in hex.");
    require(moment(value.at) !== null, "The log entry's time is not RFC 3339 in UTC.");
    require(same(bytesOf(canonical(value)), raw), "The log entry is not in its RFC 8785 form.");
    return value;
  }

  async function receiptKey(raw) {
    const entry = parseEntry(raw);
    require(entry.type === "key.registered", "The log entry registers no key.");
    const { data } = entry;
    const known = hasKeys(data, ["role", "algorithm", "publicKey", "keyId"]);
    require(known, "The key registration has other fields.");
    require(data.role === "receipt", "The registered key is not a receipt key.");
    require(data.algorithm === "ed25519", "The registered receipt key's algorithm is not ed25519.");
    require(typeof data.publicKey === "string", "The registered key is not text.");
    const key = fromBase64(data.publicKey, "The registered key");
    checkKey(key);
    require(data.keyId === hex(await sha256(key)), "The registered key id is not the key's digest.");
    return key;
  }

  // The envelope and the receipt in it ---------------------------------------------------------------------------

  function envelopePart(text, what) {
    require(typeof text === "string", `The envelope's ${what} is not text.`);
    const raw = lenient(text.replace(/-/g, "+").replace(/_/g, "/"));
    require(raw !== null, `The envelope's ${what} is not base64.`);
    return raw;
  }

  async function openEnvelope(envelope, key) {
    const { payloadType, signatures } = envelope;
    require(typeof payloadType === "string" && payloadType, "The envelope does not name its payload's type.");
    require(Array.isArray(signatures) && signatures.length, "The envelope has no signature.");
    require(signatures.length <= 16, "The envelope has more than 16 signatures.");
    const payload = envelopePart(envelope.payload, "payload");
    const pairs = signatures.map((one) => {
      require(isObject(one), "A signature of the envelope is not a JSON object.");
      const named = one.keyid === undefined || one.keyid === null || typeof one.keyid === "string";
      require(named, "A key id of the envelope is not text.");
      return { keyid: one.keyid, sig: envelopePart(one.sig, "signature") };
    });
    require(payloadType === TYPE, `The envelope's payload is not of the type ${TYPE}.`);
    const head = `DSSEv1 ${bytesOf(TYPE).length} ${TYPE} ${payload.length} `;
    const message = join(bytesOf(head), payload);
    const holds = [];
    for (const one of pairs) holds.push(await signedBy(key, one.sig, message));
    require(holds.includes(true), "No signature of the envelope is by the expected key.");
    const id = hex(await sha256(key));
    const single = pairs.length === 1 && pairs[0].keyid === id;
    require(single, "The envelope names another key than its signer.");
    const form = canonical({
      payload: toBase64(payload),
      payloadType,
      signatures: [{ keyid: id, sig: toBase64(pairs[0].sig) }],
    });
    require(form === canonical(envelope), "The envelope holds more than what was signed.");
    return payload;
  }

  const CODE = /^[a-z][a-z0-9_.-]{0,63}$/;
  const TIME = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$/;
  // As in audits/schema/receipt-v1.json.
  const FIELDS = {
    type: /^expunge-receipt\/v1$/,
    requestId: /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/,
    commitment: /^[0-9a-f]{64}$/,
    regime: CODE,
    scope: CODE,
    receivedAt: TIME,
    respondBy: TIME,
    checkpoint: /^[\s\S]{1,65535}$/u,
    includeBy: TIME,
  };

  function faults(value) {
    if (!isObject(value)) return ["The statement is not of the type object."];
    const missing = Object.keys(FIELDS).filter((name) => !(name in value)).map((name) => `${name} is missing.`);
    const wrong = Object.entries(value).map(([name, item]) => {
      if (!Object.hasOwn(FIELDS, name)) return `${name} is not a known field.`;
      if (name === "type") return item === "expunge-receipt/v1" ? "" : 'type is not "expunge-receipt/v1".';
      if (typeof item !== "string") return `${name} is not of the type string.`;
      return FIELDS[name].test(item) ? "" : `${name} is not written as it must be.`;
    });
    return [...missing, ...wrong.filter((one) => one)];
  }

  function parseReceipt(payload) {
    const value = loadJson(payload, "The receipt", MAX_FILE);
    const found = faults(value);
    require(!found.length, `The receipt is malformed. ${found.slice(0, 5).join(" ")}`);
    const times = ["receivedAt", "respondBy", "includeBy"].map((name) => moment(value[name]));
    require(!times.includes(null), "A time of the receipt is not in the calendar.");
    const first = times[0] <= Math.min(times[1], times[2]);
    require(first, "The receipt promises something for before it was made.");
    require(same(bytesOf(canonical(value)), payload), "The receipt is not in its RFC 8785 form.");
    return value;
  }

  // A checkpoint that the policy's log signed; of the same log as the others at hand, and no fork of one of them.
  async function trusted(state, signed) {
    const trust = await verifyLog(state.policy, signed);
    for (const { checkpoint } of state.seen) {
      require(checkpoint.origin === trust.checkpoint.origin, "The checkpoints at hand are of different logs.");
      const forked = checkpoint.size === trust.checkpoint.size && !same(checkpoint.root, trust.checkpoint.root);
      require(!forked, "The log signed two different checkpoints of one size: its history was forked.");
    }
    state.seen.push(trust);
    return trust;
  }

  function inTime(receipt, seen) {
    if (seen === null) return `promised by ${receipt.includeBy}, and nobody but the operator vouches for the time.`;
    const ahead = moment(receipt.receivedAt) > seen + SKEW;
    require(!ahead, "The log dates the request after its witnesses saw it: it is post-dated.");
    const shown = `${new Date(seen / 1000).toISOString().slice(0, 19)}Z`;
    if (seen <= moment(receipt.includeBy)) {
      return `its witnesses had seen it by ${shown}, before ${receipt.includeBy}, as promised.`;
    }
    return (
      `promised by ${receipt.includeBy}; the earliest cosignature at hand is of ${shown}, so that the date rests on ` +
      "the operator's clock and on the entries around it."
    );
  }

  // The opening of the person's own commitment -------------------------------------------------------------------

  function areIdentifiers(value) {
    if (!isObject(value)) return false;
    const names = Object.keys(value).filter((name) => name !== "target");
    if (names.sort().join() !== "email,identifiers,name,statement") return false;
    const { identifiers, ...texts } = value;
    if (!Array.isArray(identifiers)) return false;
    return [...Object.values(texts), ...identifiers].every((one) => typeof one === "string");
  }

  // Keys in order, and a space after every comma and colon: what the desk committed to (audits/opening.py).
  function spaced(identifiers) {
    const shown = (value) =>
      Array.isArray(value) ? `[${value.map((one) => JSON.stringify(one)).join(", ")}]` : JSON.stringify(value);
    const members = Object.keys(identifiers).sort().map((name) => `"${name}": ${shown(identifiers[name])}`);
    return bytesOf(`{${members.join(", ")}}`);
  }

  async function verifyOpening(raw, receipt) {
    const value = loadJson(raw, "The opening", 256 * 1024);
    const shaped = hasKeys(value, ["requestId", "key", "identifiers"]) && typeof value.requestId === "string";
    require(shaped, "This is no opening file.");
    require(typeof value.key === "string", "The opening's key is not text.");
    const key = fromBase64(value.key, "The opening's key");
    require(key.length === 32, "The opening's key has not 32 bytes.");
    require(areIdentifiers(value.identifiers), "The opening's identifiers are not those of a request.");
    require(value.requestId === receipt.requestId, "The opening is of another request.");
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    const imported = await crypto.subtle.importKey("raw", key, algorithm, false, ["sign"]);
    const message = join(bytesOf("commitment\0"), spaced(value.identifiers));
    const found = hex(new Uint8Array(await crypto.subtle.sign(algorithm, imported, message)));
    require(found === receipt.commitment, "The opening does not lead to the commitment in the receipt.");
  }

  // The log's own entry about the request ------------------------------------------------------------------------

  function requireSame(entry, receipt) {
    const about = entry.type === "request.received";
    require(about, "The log entry is not about a request that was received.");
    for (const name of ["requestId", "commitment", "regime", "scope"]) {
      require(entry.data[name] === receipt[name], `The log and the receipt name different values of ${name}.`);
    }
    const day = `${entry.data.respondBy}T23:59:59Z` === receipt.respondBy;
    require(day, "The log and the receipt name different days for the answer.");
    require(entry.at === receipt.receivedAt, `The log dates the request ${entry.at}, the receipt another time.`);
    const due = moment(entry.at) <= moment(receipt.includeBy);
    require(due, "The log dates the request later than the receipt promised it to be there.");
  }

  async function verifyProof(raw, state) {
    const file = loadJson(raw, "The proof file", MAX_FILE);
    const shaped = hasKeys(file, ["index", "entry", "proof"]);
    const texts = shaped && typeof file.entry === "string" && typeof file.proof === "string";
    require(texts, "This is no proof file.");
    const entry = bytesOf(file.entry);
    const proof = parseProof(file.proof);
    const trust = await trusted(state, proof.checkpoint);
    requireQuorum(state.policy, trust);
    await requireIncluded(proof, trust.checkpoint, entry);
    require(proof.extra === null, "The proof carries unauthenticated extra data.");
    require(file.index === proof.index, "The proof file and its proof name different entries.");
    requireSame(parseEntry(entry), state.receipt);
    const later = state.checkpoint.size <= proof.index;
    require(later, "The log had the request before the receipt's checkpoint: it is dated too late.");
    const times = state.seen.filter((one) => one.checkpoint.size > proof.index && one.at !== null);
    const why = inTime(state.receipt, times.length ? Math.min(...times.map((one) => one.at)) : null);
    return `Entry ${proof.index} of ${trust.checkpoint.size} is the request, as the receipt says; ${why}`;
  }

  // The steps ----------------------------------------------------------------------------------------------------

  const STEPS = {
    "read the receipt": async (state) => {
      const value = loadJson(state.given.receipt, "The receipt file", MAX_FILE);
      const shaped = hasKeys(value, ["envelope", "keyEntry", "keyProof"]) && isObject(value.envelope);
      const texts = shaped && typeof value.keyEntry === "string" && typeof value.keyProof === "string";
      require(texts, "This is no receipt file.");
      state.file = value;
      return "The file is a receipt.";
    },
    "trust policy": async (state) => {
      const missing = "No trust policy was given, so nothing in this receipt can be believed.";
      require(state.given.policy, missing);
      state.policy = await parsePolicy(state.given.policy);
      const { logs, witnesses } = state.policy;
      return `The policy names ${logs.length} log(s) and ${witnesses.size} witness(es).`;
    },
    "checkpoint signature": async (state) => {
      state.proof = parseProof(state.file.keyProof);
      require(state.proof.extra === null, "The proof carries unauthenticated extra data.");
      state.trust = await trusted(state, state.proof.checkpoint);
      return `The log ${state.trust.log.name} signed a checkpoint over ${state.trust.checkpoint.size} entries.`;
    },
    witnesses: async (state) => {
      requireQuorum(state.policy, state.trust);
      const { witnesses } = state.trust;
      state.level = witnesses.length ? "witnessed" : "unwitnessed";
      if (witnesses.length) return `Cosigned by ${witnesses.join(", ")}.`;
      return "unwitnessed: only the log's operator vouches for there being one history.";
    },
    "key registration": async (state) => {
      const entry = bytesOf(state.file.keyEntry);
      await requireIncluded(state.proof, state.trust.checkpoint, entry);
      state.key = await receiptKey(entry);
      return `The log registers the receipt key ${await fingerprint(state.key)}.`;
    },
    "envelope signature": async (state) => {
      state.payload = await openEnvelope(state.file.envelope, state.key);
      return "The registered key signed the receipt.";
    },
    receipt: async (state) => {
      const value = parseReceipt(state.payload);
      const seen = (await trusted(state, value.checkpoint)).checkpoint;
      state.receipt = value;
      state.checkpoint = seen;
      return (
        `Request ${value.requestId} (${value.scope}) was received at ${value.receivedAt}, to be answered by ` +
        `${value.respondBy} and in the log by ${value.includeBy}; the log had ${seen.size} entries.`
      );
    },
    opening: async (state) => {
      await verifyOpening(state.given.opening, state.receipt);
      return "The commitment in the receipt is that of the request's own data, under its own key.";
    },
    proof: (state) => verifyProof(state.given.proof, state),
  };

  const harmless = (text) => {
    const clean = text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
    return clean.length <= 2000 ? clean : `${clean.slice(0, 2000)} ...`;
  };

  async function outcome(check, state) {
    try {
      return [true, await check(state)];
    } catch (fault) {
      if (fault instanceof Refused) return [false, fault.message];
      return [false, `The check could not be carried out (${fault.name}).`];
    }
  }

  // given: {receipt, policy, opening, proof}, each a Uint8Array; all but the receipt may be null.
  async function verify(given) {
    const names = Object.keys(STEPS).filter((name) => !["opening", "proof"].includes(name) || given[name]);
    const state = { given, level: "none", seen: [] };
    const steps = [];
    let failed = 0;
    for (const name of names) {
      const n = steps.length + 1;
      const [ok, why] = failed
        ? [false, `Not checked, because step ${failed} failed.`]
        : await outcome(STEPS[name], state);
      if (!ok && !failed) failed = n;
      steps.push({ n, name, ok, why: harmless(why) });
    }
    const ok = failed === 0;
    return { ok, trust: state.level, steps, receipt: ok ? state.receipt : null };
  }

  return { verify, supported };
})();
