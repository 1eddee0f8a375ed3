// @xmpp/client, told what to do as component.js is; what it does at an error is told
// with the name and the condition that its user sees.
"use strict";

const readline = require("readline");
const { client, xml } = require("@xmpp/client");

const tell = (event, facts) =>
  process.stdout.write(JSON.stringify({ event, ...facts }) + "\n");

let settings = null;
let peer = null;

function connect(different) {
  const { service, domain, username, password } = { ...settings, ...different };
  peer = client({ service, domain, username, password });
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
  if (words.do === "connect") {
    connect(words);
  } else if (words.do === "ping") {
    await ping(words.to);
  } else if (words.do === "message") {
    await peer.send(xml("message", { to: words.to, type: "chat" }, xml("body", {}, words.body)));
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
