// @xmpp/client, told what to do as component.js is; what it does at an error is told
// with the name and the condition that its user sees.  The package is the first argument:
// xmpp-client-sasl2 is @xmpp/client of version 0.14, a module, which knows SASL2.
"use strict";

const readline = require("readline");
const { webcrypto } = require("crypto");

globalThis.crypto ??= webcrypto; // which is there from Node.js 19 on
globalThis.WebSocket ??= require("ws"); // likewise from 22 on

const tell = (event, facts) =>
  process.stdout.write(JSON.stringify({ event, ...facts }) + "\n");

let settings = null;
let peer = null;
let client, xml;
let said = [];

function connect(different) {
  const { service, domain, username, password, resource } = { ...settings, ...different };
  peer = client({ service, domain, username, password, resource });
  peer.on("send", (element) => said.push(element.name));
  peer.streamManagement.on?.("resumed", () => tell("resumed", {}));
  peer.on("online", (address) => tell("online", { jid: address.toString() }));
  peer.on("offline", () => tell("offline", {}));
  peer.on("disconnect", () => tell("disconnected", {}));
  peer.on("error", (error) =>
    tell("error", { name: error.name, condition: error.condition || error.code || null }),
  );
  peer.on("stanza", (stanza) => {
    if (stanza.is("message")) {
      const { from, type } = stanza.attrs;
      tell("message", { sender: from, type, body: stanza.getChildText("body") });
    }
  });
  peer.start().catch(() => {}); // the "error" event has said it
}

async function ping(to) {
  try {
    const answer = await peer.iqCaller.request(
      xml("iq", { type: "get", to }, xml("ping", "urn:xmpp:ping")),
      10000,
    );
    tell("result", { to, type: "result", sender: answer.attrs.from });
  } catch (error) {
    tell("result", { to, type: "error", condition: error.condition || error.name });
  }
}

async function act(words) {
  ({ client, xml } = await import(process.argv[2]));
  if (words.do === "connect") {
    connect(words);
  } else if (words.do === "ping") {
    await ping(words.to);
  } else if (words.do === "message") {
    await peer.send(xml("message", { to: words.to, type: "chat" }, xml("body", {}, words.body)));
  } else if (words.do === "said") {
    tell("said", { names: said });
    said = [];
  } else if (words.do === "cut") {
    peer.socket.end(); // without a word
  } else if (words.do === "stop") {
    await peer.stop();
    tell("stopped", { status: peer.status });
  }
}

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const words = JSON.parse(line);
    if (settings === null) {
      settings = words;
      tell("ready", {});
    } else {
      act(words);
    }
  })
  .on("close", () => process.exit(0));
