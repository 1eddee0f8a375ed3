"""Clients of others over WebSocket (RFC 7395), in node and in Chromium."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from peers.browser import Browser, browsing
from peers.certs import Certificates
from peers.clients import Driver, npm_client
from peers.contract import DOMAIN, ROOT
from peers.daemons import Callbridge, XmppServer
from peers.haproxy import HAProxy
from peers.network import free_port, listens, wait_until
from peers.processes import Processes
from peers.tools import require

PASSWORD = "pass word"
PATH = "/xmpp-websocket"


class System:
    """
    Our pair, with two users; the server listens to browsers with TLS, and for a proxy.

    @ivar web: The port with TLS.
    @ivar plain: The other.
    """

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes, self._trust = processes, certificates.trust
        self.server = server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        self.pair = certificates.issue(DOMAIN, server.hostname, "localhost", "127.0.0.1")
        tls = {"certificate": str(self.pair.certificate), "key": str(self.pair.key)}
        server.settings["tls"].update(tls)
        self.web, self.plain = server.listen_web()
        here = f"localhost:{server.component_port}"
        self.callbridge = Callbridge(processes, certificates, "s3cret", server_address=here)
        for user in ("alice", "bob"):
            self.callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)

    def start(self) -> None:
        """The server, then the Callbridge."""
        self.server.start()
        self.callbridge.start()
        self.server.process.wait_for("decides log-ins", 10.0)

    def client(self, user: str, service: str = "", **more: Any) -> Driver:
        """C{@xmpp/client}, not connected yet."""
        service = service or f"wss://localhost:{self.web}{PATH}"
        return npm_client(self.processes, service, DOMAIN, user, PASSWORD, self._trust, **more)


@pytest.fixture
def system(processes: Processes, certificates: Certificates) -> System:
    """Running."""
    system = System(processes, certificates)
    system.start()
    return system


@pytest.mark.parametrize("sasl2", [False, True])
def test_node(system: System, *, sasl2: bool) -> None:
    """xmpp.js 0.13 and 0.14 with TLS and without: sessions of use, that end as they should."""
    bob = system.client("bob", sasl2=sasl2)
    bob.connected()
    for service in ("", f"ws://localhost:{system.plain}{PATH}"):
        alice = system.client("alice", service, sasl2=sasl2)
        jid = alice.connected()["jid"]
        assert jid.startswith(f"alice@{DOMAIN}/")
        assert alice.ping(DOMAIN)["type"] == "result"
        bob.message(jid, "<&> \u00fc \U0001f600")
        assert alice.expect("message")["body"] == "<&> \u00fc \U0001f600"
        alice.do("stop")
        assert alice.expect("stopped")["status"] == "offline"


def test_resumption_in_node(system: System) -> None:
    """A WebSocket that was cut is replaced, and nothing is lost."""
    alice, bob = system.client("alice", sasl2=True, resource="js"), system.client("bob")
    jid = alice.connected()["jid"]
    assert re.fullmatch(rf"alice@{DOMAIN}/js/[\w-]{{12}}", jid)
    bob.connected()
    for number in range(3):
        alice.do("cut")
        alice.expect("disconnected")
        alice.expect("resumed")
        bob.message(jid, f"after cut {number}")
        assert alice.expect("message")["body"] == f"after cut {number}"
    assert alice.ping(DOMAIN)["type"] == "result"


def test_proxies(processes: Processes, certificates: Certificates) -> None:
    """HAProxy ends TLS, as HTTP and as TCP with a PROXY header; the server knows the client."""
    system = System(processes, certificates)
    pem = processes.make_directory("proxy") / "both.pem"
    pem.write_text(system.pair.certificate.read_text() + system.pair.key.read_text())
    behind = free_port()
    listen = system.server.settings["listen"]
    listen["web_plain"].append(f"haproxy:tcp:{behind}:interface=127.0.0.1")
    proxy = HAProxy(processes)
    tls = f"ssl crt {pem} alpn http/1.1"
    ports = [
        proxy.before(system.plain, bind=tls, more="mode http"),
        proxy.before(behind, "send-proxy-v2", bind=tls),
    ]
    proxy.start()
    system.start()
    for port in ports:
        alice = system.client("alice", f"wss://localhost:{port}{PATH}")
        assert alice.connected()["jid"].startswith(f"alice@{DOMAIN}/")
        assert alice.ping(DOMAIN)["type"] == "result"
        alice.do("stop")
        alice.expect("stopped")


STROPHE = """
const [url, jid, password, options] = arguments;
const told = window.told = [], steps = window.steps = [];
const connection = window.connection = new Strophe.Connection(url, options);
window.again = () => {
    connection.addHandler(message => {
        told.push(message.querySelector("body").textContent);
        return true;
    }, null, "message");
    connection.connect(jid, password, (status) => {
        steps.push(status);
        if (status === Strophe.Status.CONNECTED) {
            window.jid = connection.jid;
            if (!connection.sm?.resumed) connection.send($pres());
        } else if (status === Strophe.Status.AUTHFAIL) window.refused = true;
    });
};
window.again();
window.say = (to, text) => connection.send($msg({to, type: "chat"}).c("body").t(text));
window.cut = () => connection._proto.socket.close();
window.leave = () => connection.disconnect();
window.off = () => steps.includes(Strophe.Status.DISCONNECTED);
"""
STANZA = """
const told = window.told = [];
const client = window.client = XMPP.createClient({
    jid: arguments[1], password: arguments[2], transports: {websocket: arguments[0], bosh: false},
});
client.on("session:started", () => { window.jid = client.jid; client.sendPresence(); });
client.on("stream:management:resumed", () => { window.resumed = (window.resumed || 0) + 1; });
client.on("auth:failed", () => { window.refused = true; });
client.on("disconnected", () => { window.isOff = true; });
client.on("chat", message => told.push(message.body));
window.again = () => client.connect();
window.again();
window.say = (to, body) => client.sendMessage({to, body, type: "chat"});
window.cut = () => client.transport.socket.close();
window.leave = () => client.disconnect();
window.off = () => Boolean(window.isOff);
"""
TEXT = "<&> \u00fc \U0001f600"


class Site:
    """A page of somebody else's, which loads the libraries."""

    def __init__(self, processes: Processes) -> None:
        self.port = free_port()
        self.origin = f"http://localhost:{self.port}"
        folder = processes.make_directory("site")
        npm = ROOT / "peers" / "npm" / "node_modules"
        shutil.copy(npm / "strophe.js" / "dist" / "strophe.umd.min.js", folder / "strophe.js")
        bundle = [require(str(npm / ".bin" / "esbuild"), "nodejs")]
        bundle += [str(npm / "stanza" / "index.js"), "--bundle", "--format=iife"]
        bundle += ["--global-name=XMPP", "--platform=browser", f"--outfile={folder / 'stanza.js'}"]
        status, output = processes.run("esbuild", bundle)
        assert status == 0, output
        for name in ("strophe", "stanza"):
            page = f"<!DOCTYPE html><title>{name}</title><script src='{name}.js'></script>"
            (folder / f"{name}.html").write_text(page)
        serve = [sys.executable, "-m", "http.server", str(self.port), "--bind", "127.0.0.1"]
        processes.start("site", [*serve, "--directory", str(folder)])
        wait_until(lambda: listens(self.port), 10, "the site")


class Page:
    """A client in a browser."""

    def __init__(self, browser: Browser, site: Site, name: str) -> None:
        self.browser = browser
        self._script = {"strophe": STROPHE, "stanza": STANZA}[name]
        browser.driver.get(f"{site.origin}/{name}.html")

    def connect(self, url: str, user: str, password: str = PASSWORD, options: object = None) -> str:
        """Log in; its address."""
        self.browser.run(self._script, url, f"{user}@{DOMAIN}", password, options or {})
        self.wait("window.jid")
        return str(self.run("window.jid"))

    def run(self, expression: str, *arguments: object) -> Any:
        """The value of an expression."""
        return self.browser.run(f"return {expression}", *arguments)

    def wait(self, expression: str) -> None:
        """Until it is true."""
        wait_until(lambda: bool(self.run(expression)), 15, expression)


@pytest.mark.parametrize("name", ["strophe", "stanza"])
def test_chromium(
    processes: Processes, certificates: Certificates, tmp_path: Path, name: str
) -> None:
    """strophe.js 5 and stanza 12, unchanged: log in, talk, leave; another site's page may not."""
    system, site = System(processes, certificates), Site(processes)
    system.server.settings["web"] = {"origins": [site.origin]}
    system.start()
    bob = system.client("bob")
    jid = bob.connected()["jid"]
    with browsing(tmp_path) as browser:
        for url in (f"wss://localhost:{system.web}{PATH}", f"ws://localhost:{system.plain}{PATH}"):
            page = Page(browser, site, name)
            own = page.connect(url, "alice")
            assert own.startswith(f"alice@{DOMAIN}/")
            page.run("say(arguments[0], arguments[1])", jid, TEXT)
            heard = None
            while heard is None:  # chat states have no body
                heard = bob.expect("message")["body"]
            assert heard == TEXT
            bob.message(own, TEXT)
            page.wait("told.length")
            assert page.run("told") == [TEXT]
            page.run("leave()")
            page.wait("off()")
        page = Page(browser, site, name)
        page.browser.run(page._script, url, f"alice@{DOMAIN}", "wrong", {})
        page.wait("window.refused")
        browser.complaints()
        other = f"http://127.0.0.1:{site.port}/{name}.html"
        browser.driver.get(other)
        page.browser.run(page._script, url, f"alice@{DOMAIN}", PASSWORD, {})
        wait_until(lambda: any("403" in one for one in browser.complaints()), 15, "the refusal")
        assert page.run("window.jid") is None
    system.server.process.wait_for(
        f"A browser's page of http://127.0.0.1:{site.port} was refused", 5
    )


@pytest.mark.parametrize(
    ("name", "options", "resumed"),
    [
        ("strophe", {"enableStreamManagement": True}, "connection.sm?.resumed"),
        ("stanza", {}, "window.resumed"),
    ],
)
def test_resumption_in_chromium(
    processes: Processes,
    certificates: Certificates,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    resumed: str,
) -> None:
    """A WebSocket that was cut is replaced, and what was said meanwhile comes once."""
    system, site = System(processes, certificates), Site(processes)
    system.server.settings["web"] = {"origins": [site.origin]}
    system.start()
    bob = system.client("bob")
    bob.connected()
    url = f"wss://localhost:{system.web}{PATH}"
    with browsing(tmp_path) as browser:
        page = Page(browser, site, name)
        own = page.connect(url, "alice", options=options)
        bob.message(own, "before")
        page.wait("told.length")
        page.run("cut()")
        system.server.process.wait_for("lost its connection", 10)
        bob.message(own, "meanwhile")
        page.wait("off()")
        page.run("again()")
        page.wait("told.length > 1")
        bob.message(own, "after")
        page.wait("told.length > 2")
        assert page.run("told") == ["before", "meanwhile", "after"]
        assert page.run(resumed)
