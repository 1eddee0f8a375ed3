// @xmpp/component, told what to do as drivers/slixmpp_peer.py is: the first line
// of standard input is a JSON object of settings, each further line a command;
// each event is a line of JSON on standard output.
"use strict";

const readline = require("readline");
const { component, xml } = require("@xmpp/component");

const tell = (event, facts) =>
  process.stdout.write(JSON.stringify({ event, ...facts }) + "\n");

let settings = null;
let peer = null;

function connect() {
  peer = component({
    service: `xmpp://${settings.host}:${settings.port}`,
    domain: settings.jid,
    password: settings.password,
  });
  peer.iqCallee.get("urn:xmpp:ping", "ping", () => true);
  peer.on("online", (address) => tell("online", { jid: address.toString(), mechanism: null }));
  peer.on("offline", () => tell("offline", {}));
  peer.on("disconnect", () => tell("disconnected", {}));
  peer.on("error", (error) =>
    tell("stream-error", { condition: error.condition || error.code || error.name, text: error.message }),
  );
  peer.start().catch(() => {}); // the "error" event has said it
}

async function ping(to) {
  try {
    const answer = await peer.iqCaller.request(
      xml("iq", { type: "get", to, from: settings.jid }, xml("ping", "urn:xmpp:ping")),
      10000,
    );
    tell("result", { to, type: "result", sender: answer.attrs.from });
  } catch (error) {
    tell("result", { to, type: "error", condition: error.condition || error.name });
  }
}

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const words = JSON.parse(line);
    if (settings === null) {
      settings = words;
      tell("ready", {});
    } else if (words.do === "connect") {
      connect();
    } else if (words.do === "ping") {
      ping(words.to);
    } else if (words.do === "stop") {
      peer.stop();
    }
  })
  .on("close", () => process.exit(0));
