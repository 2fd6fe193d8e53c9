// An approver's signature in the browser: the key file is opened here, and only the signature leaves the page.
//
// The file is PKCS #8 in PEM below a line with its role; encrypted as PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC
// (RFC 8018), which is what audits/keys.py writes. Ed25519, PBKDF2 and AES are the browser's own (WebCrypto). Who does
// not trust the page with the key signs on another machine: expunge request sign.
"use strict";

(() => {
  const form = document.getElementById("sign");
  const problem = document.getElementById("sign-problem");
  const button = form.querySelector("button");
  const ROLE = "Expunge-Role: approver";
  const PBES2 = "2a864886f70d01050d";
  const PBKDF2 = "2a864886f70d01050c";
  const HMAC_SHA256 = "2a864886f70d0209";
  const AES_256_CBC = "60864801650304012a";
  const LARGEST = 16 * 1024;

  class Refused extends Error {}

  function require(condition, sentence) {
    if (!condition) throw new Refused(sentence);
  }

  const hex = (raw) => Array.from(raw, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const toBase64 = (raw) => btoa(String.fromCharCode(...raw));
  const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  // The contents of the DER values in `raw`, one after another; lengths of up to three bytes will do here.
  function values(raw) {
    const found = [];
    for (let place = 0; place < raw.length; ) {
      let length = raw[place + 1];
      let head = 2;
      if (length & 0x80) {
        const bytes = length & 0x7f;
        length = raw.subarray(place + 2, place + 2 + bytes).reduce((sum, byte) => sum * 256 + byte, 0);
        head += bytes;
      }
      const end = place + head + length;
      require(end <= raw.length, "The key file is damaged.");
      found.push(raw.subarray(place + head, end));
      place = end;
    }
    return found;
  }

  const number = (raw) => raw.reduce((sum, byte) => sum * 256 + byte, 0);

  async function decrypted(raw, passphrase) {
    require(passphrase, "The key file is encrypted: enter its passphrase.");
    const [algorithm, secret] = values(values(raw)[0]);
    const [scheme, parameters] = values(algorithm);
    require(hex(scheme) === PBES2, "The key file is encrypted in a way that this page does not know.");
    const [derivation, cipher] = values(parameters).map(values);
    const [salt, rounds, ...rest] = values(derivation[1]);
    const known = hex(derivation[0]) === PBKDF2 && hex(cipher[0]) === AES_256_CBC;
    const hmac = rest.length > 0 && hex(values(rest[rest.length - 1])[0]) === HMAC_SHA256;
    require(known && hmac, "The key file is encrypted in a way that this page does not know.");
    const typed = await crypto.subtle.importKey("raw", new TextEncoder().encode(passphrase), "PBKDF2", false, ["deriveKey"]);
    const terms = { name: "PBKDF2", hash: "SHA-256", salt, iterations: number(rounds) };
    const key = await crypto.subtle.deriveKey(terms, typed, { name: "AES-CBC", length: 256 }, false, ["decrypt"]);
    try {
      return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-CBC", iv: cipher[1] }, key, secret));
    } catch {
      throw new Refused("The passphrase does not open the key file.");
    }
  }

  async function open(file, passphrase) {
    require(file && file.size <= LARGEST, "Choose your key file.");
    const text = await file.text();
    require(text.startsWith(ROLE + "\n"), `The key file's first line is not '${ROLE}'.`);
    const block = /-----BEGIN (ENCRYPTED )?PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END/.exec(text);
    require(block !== null, "The key file holds no private key.");
    const raw = fromBase64(block[2].replace(/\s/g, ""));
    const plain = block[1] ? await decrypted(raw, passphrase) : raw;
    try {
      return await crypto.subtle.importKey("pkcs8", plain, "Ed25519", true, ["sign"]);
    } catch (fault) {
      require(fault.name !== "NotSupportedError", "This browser has no Ed25519; sign with 'expunge request sign'.");
      throw new Refused("The key file holds no Ed25519 key.");
    }
  }

  async function sign() {
    require(window.crypto && crypto.subtle, "Signing needs https, or this very machine.");
    const { key, passphrase, statement, signature, key_id: keyId } = form.elements;
    const secret = await open(key.files[0], passphrase.value);
    const { x } = await crypto.subtle.exportKey("jwk", secret);
    const point = fromBase64(x.replace(/-/g, "+").replace(/_/g, "/"));
    const signed = await crypto.subtle.sign("Ed25519", secret, new TextEncoder().encode(statement.value));
    signature.value = toBase64(new Uint8Array(signed));
    keyId.value = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", point)));
    // Neither may leave: they have no name, and are emptied all the same.
    passphrase.value = "";
    key.value = "";
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.hidden = true;
    button.disabled = true;
    try {
      await sign();
      form.submit();
    } catch (fault) {
      problem.textContent = fault instanceof Refused ? fault.message : "The key file could not be used.";
      problem.hidden = false;
      button.disabled = false;
    }
  });
  button.disabled = false;
})();
