"""The pages of both daemons in Chromium: by keyboard, followed by events, on a phone."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from cms.admin.accounts import PASSWORD
from cms.control.place import socket_path
from cms.web.eventstream import MOST
from peers.api import Administration
from peers.bind import Bind
from peers.browser import PHONE, SECONDS, WIDE, Browser, browsing
from peers.certs import Certificates
from peers.clients import slixmpp_client
from peers.contract import DOMAIN, LINK_SECONDS
from peers.daemons import Callbridge, Daemon, XmppServer
from peers.network import free_port, wait_until
from peers.processes import Processes

SECRET = "s3cret-of-cb1"
ALICE = f"alice@{DOMAIN}"
XMPP = "/api/v1/system/configuration/xmpp"


class System:
    """Both daemons with HTTPS, and a browser that is logged in nowhere yet."""

    def __init__(self, processes: Processes, certificates: Certificates, browser: Browser) -> None:
        self._processes = processes
        self._trust = certificates.trust
        self.browser = browser
        self.server = XmppServer(processes, certificates, {"cb1": SECRET})
        pair = certificates.issue(DOMAIN, self.server.hostname, "localhost")
        tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
        self.server.settings["tls"] |= tls
        srv = f"_xmpp-component._tcp SRV 10 10 {self.server.component_port} xmpp1"
        self.dns = Bind(processes, {DOMAIN: [srv, "xmpp1 A 127.0.0.1"]})
        self.callbridge = Callbridge(processes, certificates, SECRET, dns=self.dns)
        self.callbridge.settings["tls"] |= tls
        quick = {"first_delay": 0.2, "most_delay": 0.5, "refused_delay": 0.2}
        self.callbridge.settings["link"] = {**quick, "most_refused_delay": 0.5}
        self.hosts: dict[str, str] = {}
        for daemon in (self.server, self.callbridge):
            port = free_port()
            self.hosts[daemon.name] = f"localhost:{port}"
            listen = daemon.settings.setdefault("listen", {})
            listen["api"] = [f"tcp:{port}:interface=127.0.0.1"]

    def start(self) -> None:
        """DNS, the server, then the Callbridge, with a user."""
        self.dns.start()
        self.callbridge.add_user(ALICE, "alice's pass")
        self.server.start()
        self.callbridge.start()

    def password(self, daemon: Daemon) -> str:
        """Of the first administrator."""
        return (daemon.directory / "state" / PASSWORD).read_text().strip()

    def open(self, daemon: Daemon) -> None:
        """Log in to a daemon's pages."""
        self.browser.open(self.hosts[daemon.name], password=self.password(daemon))

    def log_in(self) -> None:
        """A client of the XMPP server."""
        port = self.server.client_port
        client = slixmpp_client(self._processes, ALICE, "alice's pass", port, self._trust)
        client.connected()


@pytest.fixture
def system(processes: Processes, certificates: Certificates, tmp_path: Path) -> Iterator[System]:
    """Made, but not started."""
    with browsing(tmp_path) as browser:
        yield System(processes, certificates, browser)


def states(browser: Browser) -> list[str]:
    """Of the twelve steps."""
    steps = "document.querySelectorAll('#live > .steps > .step')"
    names = browser.run(f"return [...{steps}].map(e => e.className)")
    return [name.removeprefix("step ") for name in names]


def is_as_reloaded(browser: Browser) -> bool:
    """Whether all the events have led to what the page would be if it were loaded now."""
    script = """
        const done = arguments[0];
        fetch("/").then(r => r.text()).then(text => {
            const fresh = new DOMParser().parseFromString(text, "text/html");
            const [a, b] = [fresh, document].map(d => d.querySelector("#live").innerHTML);
            done(a === b);
        });
    """
    return bool(browser.driver.execute_async_script(script))


def assert_phone(browser: Browser, name: str) -> None:
    """It fits on a phone; with a picture."""
    browser.size(PHONE)
    assert not browser.scrolls_sideways()
    browser.shot(name)
    browser.size(WIDE)


def test_callbridge(system: System) -> None:
    """Twelve green steps; a wrong address shows what is wrong without a reload; mended, green."""
    system.start()
    system.log_in()
    browser = system.browser
    system.open(system.callbridge)
    wait_until(lambda: states(browser) == ["passed"] * 12, LINK_SECONDS, "twelve green steps")
    assert "The link is active" in browser.text("#summary")
    browser.shot("pages-callbridge")
    assert_phone(browser, "pages-callbridge-phone")

    # By keyboard alone: another address, where nothing listens.
    nowhere = free_port()
    browser.fill("#serverAddressOverride", f"localhost:{nowhere}")
    browser.press(Keys.ENTER)
    browser.wait_for(".note", "Saved")
    browser.run("window.untouched = true")
    browser.wait_for("#step-6", "failed")
    assert re.search(r"Cause: .*nothing listens", browser.text("#step-6"))
    assert "Cure: " in browser.text("#step-6")
    wait_until(lambda: "failed" in browser.text("#summary"), SECONDS, "the summary")
    assert states(browser)[0] == "waiting"
    assert browser.run("return window.untouched") is True
    browser.shot("pages-callbridge-failed")

    # What cannot be is refused beside its field; what was typed stays.
    browser.fill("#uniqueName", "cb 2")
    browser.fill("#domain", "not a domain")
    browser.fill("#sharedSecret", "typed")
    browser.press(Keys.ENTER)
    browser.wait_for("[role=alert]", "Nothing was saved")
    assert browser.run("return document.activeElement.id") == "uniqueName"
    assert '"cb 2"' in browser.text("#uniqueName-error")
    assert browser.find("#uniqueName").get_attribute("value") == "cb 2"
    assert browser.find("#domain").get_attribute("value") == "not a domain"
    assert browser.find("#sharedSecret").get_attribute("value") == ""
    browser.shot("pages-callbridge-errors")
    assert [entry for entry in browser.complaints() if "400" not in entry] == []

    browser.open(system.hosts["cb1"])
    browser.fill("#serverAddressOverride", "")
    browser.press(Keys.ENTER)
    browser.wait_for(".note", "Saved")
    wait_until(lambda: states(browser)[:11] == ["passed"] * 11, LINK_SECONDS, "green steps")
    browser.run("window.untouched = true")
    # By events, without a reload.  How soon they are sent is held by a test with a clock of
    # its own (tests/test_web_eventstream.py): on a busy machine the daemon looks less often.
    ours = Administration(system.callbridge.directory / "state")
    assert ours.ask("PUT", XMPP, serverAddressOverride=f"localhost:{nowhere}")[0] == 200
    red = browser.wait_for("#step-6", "failed")
    assert ours.ask("PUT", XMPP, serverAddressOverride="")[0] == 200
    green = browser.wait_for("#summary", "The link is active")
    print(f"red is shown after {red:.2f} s, green after {green:.2f} s")
    assert browser.run("return window.untouched") is True
    assert browser.complaints() == []

    # The daemon is away for a while: the page says so, and follows again by itself.
    system.callbridge.process.stop()
    browser.wait_for("p[role=alert]", "does not answer")
    system.callbridge.start()
    browser.find("p[role=alert][hidden]")
    browser.wait_for("#summary", "The link is active")
    assert browser.run("return window.untouched") is True
    wait_until(lambda: is_as_reloaded(browser), SECONDS, "what a reload would show")
    assert SECRET not in browser.driver.page_source


def test_xmpp(system: System) -> None:
    """A Callbridge is added, its secret shown once; its link comes up; it is deleted."""
    browser, server, callbridge = system.browser, system.server, system.callbridge
    callbridge.settings["unique_name"] = "cb2"
    system.dns.start()
    server.start()
    system.open(server)
    assert "No log-in is possible" in browser.text("#summary")
    browser.fill("#name", "cb2")
    browser.press(Keys.ENTER)
    secret = browser.find("#secret").text
    assert re.fullmatch(r"[A-Za-z0-9]{20,}", secret)
    browser.open(system.hosts["xmpp1"])
    assert secret not in browser.driver.page_source
    browser.run("window.untouched = true")

    callbridge.settings["shared_secret"] = secret
    callbridge.add_user(ALICE, "alice's pass")
    callbridge.start()
    card = "#callbridges ~ .cards .card:nth-child(2)"
    browser.wait_for(card, "active")
    system.log_in()
    browser.wait_for("#live table", ALICE)
    assert browser.run("return window.untouched") is True
    wait_until(lambda: is_as_reloaded(browser), SECONDS, "what a reload would show")
    browser.shot("pages-xmpp")
    assert_phone(browser, "pages-xmpp-phone")

    # A client that is asked to go, then the Callbridge; each asks first.
    browser.tab_to("#live td a")
    browser.press(Keys.ENTER)
    browser.tab_to("button.danger")
    browser.press(Keys.ENTER)
    browser.wait_for("#live", "Nobody.")
    browser.tab_to(f"{card} a")
    browser.press(Keys.ENTER)
    browser.find("a[href$='/delete']").click()
    browser.wait_for("h1", "Delete Callbridge cb2")
    browser.shot("pages-xmpp-delete")
    browser.tab_to("button.danger")
    browser.press(Keys.ENTER)
    wait_until(lambda: len(browser.all(".card")) == 1, SECONDS, "one card")
    browser.wait_for("#summary", "No log-in is possible")
    assert browser.complaints() == []


def test_spaces(system: System) -> None:
    """A space is added, changed and given members by keyboard; axe-core finds nothing anywhere."""
    browser, callbridge = system.browser, system.callbridge
    for name, uri in (("Board", "board"), ("All hands", "all"), ("Support", "support")):
        callbridge.space("add", name, "--uri", uri, "--members-only")
    system.start()
    system.open(callbridge)
    browser.assert_accessible("Callbridge")
    browser.open(system.hosts["cb1"], "/spaces")
    browser.fill("#name", "Product team")
    browser.fill("#uri", "team")
    browser.fill("#passcode", "12")
    browser.press(Keys.ENTER)
    browser.wait_for("[role=alert]", "asscode")
    assert browser.run("return document.activeElement.id") == "passcode"
    assert browser.find("#name").get_attribute("value") == "Product team"
    browser.assert_accessible("a space that cannot be")
    browser.fill("#passcode", "4711")
    browser.press(Keys.ENTER)
    browser.wait_for("h1", "Space Product team")
    for member in ("alice", "bob"):
        browser.fill("#userJid", member)
        if member == "alice":
            browser.tab_to("#canAddRemoveMember")
            browser.press(Keys.SPACE)
        browser.press(Keys.ENTER)
        browser.wait_for("[role=table]", member)
    browser.assert_accessible("a space")
    browser.shot("pages-space")
    assert_phone(browser, "pages-space-phone")
    browser.tab_to("[role=table] td a")
    browser.press(Keys.ENTER)
    browser.wait_for("h1", "Member alice")
    browser.assert_accessible("a member")
    browser.tab_to("button.danger")
    browser.press(Keys.ENTER)
    wait_until(lambda: f"alice@{DOMAIN}" not in browser.text("main"), SECONDS, "her removal")

    browser.open(system.hosts["cb1"], "/spaces")
    browser.wait_for("[role=table]", "Product team")
    browser.assert_accessible("spaces")
    browser.shot("pages-spaces")
    assert_phone(browser, "pages-spaces-phone")
    browser.fill("#filter", "board")
    browser.press(Keys.ENTER)
    wait_until(lambda: "Product team" not in browser.text("[role=table]"), SECONDS, "one row")
    browser.fill("#filter", "none of them")
    browser.press(Keys.ENTER)
    browser.wait_for("main .quiet", "None.")
    browser.assert_accessible("no spaces")
    browser.open(system.hosts["cb1"], "/spaces?filter=board")
    browser.tab_to("[role=table] a")
    browser.press(Keys.ENTER)
    browser.wait_for("h1", "Space Board")
    browser.tab_to("a[href$='/delete']")
    browser.press(Keys.ENTER)
    browser.wait_for("h1", "Delete space Board")
    browser.assert_accessible("a question")
    browser.tab_to("button.danger")
    browser.press(Keys.ENTER)
    browser.wait_for("h1", "Spaces")
    wait_until(lambda: "Board" not in browser.text("[role=table]"), SECONDS, "its end")
    assert browser.unexpected(400) == []


def test_accessible(system: System) -> None:
    """The other pages: nothing for axe-core to find, light and dark, on a phone and a desk."""
    browser, server, callbridge = system.browser, system.server, system.callbridge
    away = {"servers": [f"ldaps://localhost:{free_port()}"], "base": "dc=x", "sync_interval": 0}
    ldap = {"kind": "ldap", **away, "jidMapping": f"$uid$@{DOMAIN}"}
    callbridge.settings["directory"] = [{"kind": "local"}, ldap]
    callbridge.settings["login"] = {"mechanisms": ["SCRAM-SHA-256", "PLAIN"]}
    system.start()
    system.open(server)
    browser.assert_accessible("XMPP server")
    system.log_in()
    browser.wait_for("#live table", ALICE)
    browser.assert_accessible("a client")
    browser.open(system.hosts["xmpp1"], "/clients")
    browser.assert_accessible("clients")
    browser.tab_to("table td a")
    browser.press(Keys.ENTER)
    browser.find("button.danger")
    browser.assert_accessible("end of a client")
    browser.open(system.hosts["xmpp1"], "/contacts?jid=alice")
    browser.wait_for("main", "There are none")
    browser.assert_accessible("contacts of a user")
    browser.open(system.hosts["xmpp1"])
    browser.fill("#name", "cb9")
    browser.press(Keys.ENTER)
    browser.find("#secret")
    browser.assert_accessible("a secret")
    system.open(callbridge)
    browser.fill("#serverAddressOverride", f"localhost:{free_port()}")
    browser.press(Keys.ENTER)
    browser.wait_for("#step-6", "failed")
    browser.assert_accessible("a step that failed")
    browser.fill("#domain", "not a domain")
    browser.press(Keys.ENTER)
    browser.wait_for("[role=alert]", "Nothing was saved")
    browser.assert_accessible("a value that cannot be")
    callbridge.expect_error("No server of the directory ldap can be used")
    browser.open(system.hosts[callbridge.name], "/users")
    browser.tab_to("table td a")
    browser.press(Keys.ENTER)
    browser.wait_for("main", "Name for people")
    browser.assert_accessible("a user")
    browser.open(system.hosts[callbridge.name], "/directories")
    browser.assert_accessible("directories")
    browser.tab_to("form button")
    browser.press(Keys.ENTER)
    browser.wait_for("h1", "Directory ldap")

    def failed() -> bool:
        browser.driver.refresh()
        return "no server works" in browser.text("main")

    wait_until(failed, SECONDS, "that the sync failed")
    browser.assert_accessible("a directory")
    assert_phone(browser, "pages-directory-phone")


def test_without_script(system: System) -> None:
    """The page is whole, and its form works."""
    system.start()
    browser = system.browser
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    system.open(system.callbridge)
    # Chromium has been seen to give an empty source at first on a busy machine.
    wait_until(
        lambda: browser.driver.page_source.count('class="step passed"') == 11, SECONDS, "the page"
    )
    assert ">Reload</a>" in browser.driver.page_source
    field = browser.driver.find_element("id", "serverAddressOverride")
    field.send_keys(f"localhost:{free_port()}", Keys.ENTER)
    wait_until(lambda: "Saved." in browser.driver.page_source, SECONDS, "the form")

    def failed() -> bool:
        browser.driver.find_element("link text", "Reload").click()
        return 'class="step failed"' in browser.driver.page_source

    wait_until(failed, SECONDS, "a step that failed")


def test_followers(processes: Processes, certificates: Certificates) -> None:
    """So many may follow and no more; when they go, however they go, there is room again."""
    server = XmppServer(processes, certificates, {"cb1": SECRET})
    server.start()
    state_dir = server.directory / "state"
    following: list[socket.socket] = []

    def follow() -> str:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(SECONDS)
        with socket_path(state_dir) as path:
            peer.connect(path)
        peer.sendall(b"GET /events HTTP/1.1\r\nHost: cms\r\n\r\n")
        following.append(peer)
        return peer.recv(4096).split(b"\r\n")[0].decode()

    try:
        answers = [follow() for _ in range(MOST + 3)]
        assert answers == ["HTTP/1.1 200 OK"] * MOST + ["HTTP/1.1 503 Service Unavailable"] * 3
        ours = Administration(state_dir)
        began = time.monotonic()
        for _ in range(100):
            ours.health()
        print(f"healthz beside {MOST}: {(time.monotonic() - began) * 10:.1f} ms")
        for peer in following:
            peer.close()
        wait_until(lambda: follow() == "HTTP/1.1 200 OK", SECONDS, "room")
    finally:
        for peer in following:
            peer.close()
    assert "Traceback" not in server.process.output
