"""The door and the room in Chromium, with both daemons and other programs in the room."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from peers.browser import SECONDS, Browser, browsing
from peers.certs import Certificates
from peers.clients import Driver, slixmpp_guest
from peers.contract import DOMAIN
from peers.daemons import XmppServer
from peers.firefox import ENTER, firefox
from peers.network import wait_until
from peers.processes import Processes
from peers.realclients import Account, Profanity
from peers.road import road
from peers.slapd import DISABLED, Slapd, account
from peers.terminal import Terminals

PASSCODE = "471147114711"
PASSWORD = "alice's pass"
NO_LINK = "(step 1)"


class System:
    """Both daemons, a space with a passcode, one for members, and a browser."""

    def __init__(self, processes: Processes, certificates: Certificates, browser: Browser) -> None:
        self.processes, self.certificates = processes, certificates
        self.browser = browser
        self.server = server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        self.port, _ = server.listen_web()
        self.callbridge = server.callbridge()
        quick = {"first_delay": 0.2, "most_delay": 0.5, "refused_delay": 0.2}
        self.callbridge.settings["link"] = {**quick, "most_refused_delay": 0.5}
        server.settings["web"] = {"title": "Example meetings", "text": "Call 4711 for help."}
        for user in ("alice", "bob"):
            self.callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
        self.callbridge.space("add", "Team", "--uri", "team", "--passcode-stdin", text=PASSCODE)
        self.callbridge.space("member", "set", "team", "alice", "--may", "canAddRemoveMember")
        self.callbridge.space("add", "Board", "--uri", "board", "--members-only")
        self.callbridge.space("member", "set", "board", "bob")
        self.space = self.callbridge.space("show", "team")
        self.board = self.callbridge.space("show", "board")

    def start(self) -> None:
        """The server, then the Callbridge."""
        self.server.start()
        self.callbridge.start()
        self.server.process.wait_for("decides log-ins", SECONDS)

    def address(self, path: str) -> str:
        """Of a page."""
        return f"https://localhost:{self.port}{path}"

    def open(self, path: str = "/") -> None:
        """Go to a page, and wait for its script."""
        self.browser.driver.get(self.address(path))
        self.browser.find("form")

    def fill(self, **fields: str) -> None:
        """Fill in, and press Enter."""
        for name, text in fields.items():
            self.browser.fill(f"#{name}", text)
        self.browser.press(Keys.ENTER)

    def join(self, name: str = "Guest", passcode: str = PASSCODE) -> None:
        """As a guest, by the call ID in the address."""
        self.open(f"/meeting/{self.space['callId']}")
        self.fill(passcode=passcode, name=name)
        self.browser.find(".room")

    def sign_in(self, user: str = "alice") -> None:
        """To the list of spaces."""
        self.open()
        self.fill(address=user, password=PASSWORD)
        self.browser.find(".spaces li")

    def press(self, text: str) -> None:
        """Click on the button of this text."""
        next(one for one in self.browser.all("button") if one.text == text).click()

    def people(self) -> list[str]:
        """Who is in the room, by the page."""
        script = "return [...document.querySelectorAll('.rows bdi')].map(e => e.textContent)"
        found: list[str] = self.browser.run(script)
        return found

    def wait_people(self, *names: str) -> None:
        """Until these are in it, and nobody else."""
        try:
            wait_until(lambda: sorted(self.people()) == sorted(names), SECONDS, f"{names}")
        except AssertionError as problem:
            raise AssertionError(f"{problem}; there are {self.people()}") from None

    def say(self, text: str) -> None:
        """In the chat."""
        self.browser.fill("#text", text)
        self.browser.press(Keys.ENTER)

    def heard(self) -> list[str]:
        """The messages on the page, without those that wait to be sent."""
        said = "document.querySelectorAll('li:not(.waiting) > .said')"
        script = f"return [...{said}].map(e => e.textContent)"
        found: list[str] = self.browser.run(script)
        return found

    def new_tab(self) -> str:
        """Another one, which is the one that is driven now."""
        self.browser.driver.switch_to.new_window("tab")
        return str(self.browser.driver.current_window_handle)


@pytest.fixture
def system(processes: Processes, certificates: Certificates, tmp_path: Path) -> Iterator[System]:
    """Running."""
    with browsing(tmp_path) as browser:
        system = System(processes, certificates, browser)
        system.start()
        yield system


def inside(system: System, user: str = "bob", nick: str = "bob") -> Driver:
    """slixmpp in the room of the space."""
    client = slixmpp_guest(
        *(system.processes, f"{user}@{DOMAIN}", PASSWORD, system.server.client_port),
        system.certificates.trust,
    )
    client.connected()
    client.do("join", room=system.space["address"], nick=nick, password=PASSCODE)
    client.expect("joined", SECONDS)
    return client


def expect(client: Driver, body: str) -> None:
    """Until somebody says so there."""
    while client.expect("said", SECONDS)["body"] != body:
        pass


def test_signed_in(system: System) -> None:
    """Alice's spaces are hers alone; she enters one without passcode, another by its call ID."""
    browser = system.browser
    system.open()
    system.fill(address="alice", password="wrong")
    browser.wait_for("[role=alert]", "Address or password is wrong.")
    system.sign_in()
    assert browser.run(
        "return [...document.querySelectorAll('.spaces h2')].map(e => e.textContent)"
    ) == ["Team"]
    assert system.space["callId"] in browser.text(".spaces")
    browser.find(".spaces button").click()
    browser.find(".room")
    system.wait_people("alice")
    assert "Moderator" in browser.text(".rows")
    browser.driver.back()
    browser.find(".spaces li")
    system.fill(callId=system.board["callId"], name="Alice")
    # Of a space that is closed to her she hears no more than of one that is not there.
    browser.wait_for("[role=alert]", "There is no meeting with this call ID.")
    system.fill(callId=system.space["callId"])
    browser.find(".room")
    system.wait_people("Alice")
    assert browser.complaints() == []


def test_ldap(processes: Processes, certificates: Certificates, tmp_path: Path) -> None:
    """
    Where passwords are checked by a directory alone: one of its people signs in, and a guest comes
    in.  Who is disabled there is told so.
    """
    slapd = Slapd(processes, certificates, [account("alice", PASSWORD), account("bob", PASSWORD)])
    slapd.start()
    with browsing(tmp_path) as browser:
        system = System(processes, certificates, browser)
        system.callbridge.settings["directory"] = [slapd.settings(DOMAIN)]
        system.start()
        system.open()
        system.fill(address="alice", password="wrong")
        browser.wait_for("[role=alert]", "Address or password is wrong.")
        system.sign_in()
        assert "(PLAIN, " in system.callbridge.process.output
        browser.find(".spaces button").click()
        system.new_tab()
        system.join("Zoe")
        system.wait_people("alice", "Zoe")
        slapd.replace(account("bob", "").dn, "userAccountControl", str(DISABLED))
        system.new_tab()
        system.open()
        system.fill(address="bob", password=PASSWORD)
        browser.wait_for("[role=alert]", "This account is switched off.")
        for daemon in (system.server, system.callbridge):
            assert PASSWORD not in daemon.process.output


def test_guest(system: System) -> None:
    """By ID and by link, with somebody on profanity: they talk, and one is thrown out."""
    browser, space = system.browser, system.space
    account = Account(
        *(f"bob@{DOMAIN}", PASSWORD, "127.0.0.1", system.server.client_port),
        *(system.certificates.trust, system.certificates.issue(DOMAIN, "localhost")),
    )
    profanity = Profanity(system.processes, Terminals(system.processes), account)
    profanity.start()
    wait_until(lambda: "logged in successfully" in profanity.shown(), SECONDS, "its log-in")
    profanity.enter(space["address"], "bob", PASSCODE)
    system.join("Zo\u00eb")
    assert "Team" in browser.driver.title
    system.wait_people("Zo\u00eb", "bob")
    wait_until(lambda: "Zo\u00eb" in profanity.shown(), SECONDS, "her in profanity")
    system.say("hello-from-the-page")
    wait_until(lambda: "hello-from-the-page" in profanity.shown(), SECONDS, "what she says")
    profanity.command("hello-from-profanity")
    wait_until(lambda: "hello-from-profanity" in system.heard(), SECONDS, "what he says")
    system.press("Leave")
    assert "You have left the meeting" in browser.text("h1")

    # The one link that joins, with the name that was remembered; history is there.
    browser.driver.get(system.address(f"/m/{space['secret']}"))
    assert browser.find("#name").get_attribute("value") == "Zo\u00eb"
    browser.tab_to("form button")
    browser.press(Keys.ENTER)
    browser.find(".room")
    system.wait_people("Zo\u00eb", "bob")
    wait_until(lambda: "hello-from-profanity" in system.heard(), SECONDS, "the history")
    assert system.heard().count("hello-from-profanity") == 1
    # Nobody's log has the secret, nor the passcode.
    for daemon in (system.server, system.callbridge):
        assert space["secret"] not in daemon.process.output
        assert PASSCODE not in daemon.process.output
    assert '"/m/..."' in system.server.process.output
    assert browser.complaints() == []


def test_thrown_out(system: System) -> None:
    """By a moderator, who has a button for it; each is told."""
    browser = system.browser
    guest = inside(system, nick="rude")
    system.sign_in()
    browser.find(".spaces button").click()
    browser.find(".room")
    system.wait_people("alice", "rude")
    system.press("Remove")
    browser.press(Keys.ENTER)
    system.wait_people("alice")
    while (seen := guest.expect("seen", SECONDS))["type"] != "unavailable":
        pass
    assert seen["sender"].endswith("/rude")
    first = browser.driver.current_window_handle
    second = system.new_tab()
    system.join("Guest")
    browser.driver.switch_to.window(first)
    system.wait_people("alice", "Guest")
    system.press("Remove")
    browser.press(Keys.ENTER)
    system.wait_people("alice")
    browser.driver.switch_to.window(second)
    browser.wait_for("[role=alert]", "A moderator removed you from the meeting.")
    assert browser.complaints() == []


def test_refused(system: System) -> None:
    """A wrong passcode, an unknown ID and a closed space have one answer; a full room its own."""
    browser = system.browser
    texts = []
    for call_id, passcode in (
        (system.space["callId"], "1"),
        ("999999999", ""),
        (system.board["callId"], ""),
    ):
        system.open(f"/meeting/{call_id}")
        system.fill(passcode=passcode, name="Eve")
        browser.wait_for("[role=alert]", "Check the call ID and the passcode.")
        texts.append(browser.text("main"))
    assert len(set(texts)) == 1
    assert browser.find("#name").get_attribute("value") == "Eve"
    # The connection that was begun meanwhile is not needed.
    told = [one for one in browser.unexpected(403) if "is closed before" not in one]
    assert told == []


def test_full(system: System) -> None:
    """Whoever is one too many is told, and is not in it."""
    system.callbridge.settings["rooms"] = {"most_occupants": 2}
    system.callbridge.process.stop()
    system.callbridge.start()
    system.join("One")
    system.new_tab()
    system.open(f"/meeting/{system.space['callId']}")
    system.fill(passcode=PASSCODE, name="Two")
    system.browser.wait_for("[role=alert]", "The meeting is full.")
    assert system.browser.complaints() == []


def test_reload(system: System) -> None:
    """Others see one occupant, who stays the same one; what was said is there once."""
    browser = system.browser
    watcher = inside(system)
    system.join("Guest")
    system.wait_people("Guest", "bob")
    system.say("before")
    expect(watcher, "before")
    for _ in range(3):
        browser.driver.refresh()
        browser.find(".room")
        system.wait_people("Guest", "bob")
        wait_until(lambda: system.heard() == ["before"], SECONDS, "what was said")
    system.say("after")
    expect(watcher, "after")
    # Her own messages from before are hers still.
    assert browser.run("return document.querySelectorAll('.log .mine').length") == 2
    assert browser.complaints() == []


def test_tabs(system: System) -> None:
    """Two tabs are two people, with names that differ; closing one leaves the other."""
    browser = system.browser
    system.join("Guest")
    first = browser.driver.current_window_handle
    system.new_tab()
    system.join("Guest")
    system.wait_people("Guest", "Guest 2")
    system.say("from two")
    browser.driver.close()
    browser.driver.switch_to.window(first)
    wait_until(lambda: system.heard() == ["from two"], SECONDS, "what was said")
    system.wait_people("Guest")
    assert browser.complaints() == []


def test_history(system: System) -> None:
    """Back leaves the meeting, forward comes back into it; no reload."""
    browser = system.browser
    watcher = inside(system)
    system.open()
    system.fill(callId=system.space["callId"], passcode=PASSCODE, name="Guest")
    browser.find(".room")
    browser.run("window.untouched = true")
    system.wait_people("Guest", "bob")
    browser.driver.back()
    browser.find("#callId")
    while watcher.expect("seen", SECONDS)["type"] != "unavailable":
        pass
    browser.driver.forward()
    browser.find(".room")
    system.wait_people("Guest", "bob")
    assert browser.run("return window.untouched") is True
    assert browser.complaints() == []


def test_callbridge_restarted(system: System) -> None:
    """The page says that it is gone, comes back by itself, and loses nothing that is on it."""
    browser = system.browser
    system.join("Guest")
    system.say("before")
    wait_until(lambda: system.heard() == ["before"], SECONDS, "what was said")
    browser.run("window.untouched = true")
    system.callbridge.process.kill()
    system.say("while it was gone")
    first = browser.driver.current_window_handle  # the list of them has no order
    system.new_tab()
    system.open(f"/meeting/{system.space['callId']}")
    system.fill(passcode=PASSCODE, name="Other")
    browser.wait_for(".note", "The meeting server is not connected to its Callbridge yet (step 1).")
    assert "Asking for entry" in browser.text("[aria-current=step]")
    system.callbridge.start()
    browser.find(".room", 4 * SECONDS)
    browser.driver.switch_to.window(first)
    wait_until(lambda: sorted(system.people()) == ["Guest", "Other"], 6 * SECONDS, "both")
    system.say("after")
    wait_until(lambda: "after" in system.heard(), SECONDS, "what she says")
    assert system.heard() == ["before", "while it was gone", "after"]
    assert browser.run("return window.untouched") is True
    assert not browser.find("#banner").is_displayed()


def test_cut(system: System) -> None:
    """Ten seconds without the network: a banner, and then all that was said, once."""
    browser = system.browser
    watcher = inside(system)

    def network(*, offline: bool) -> None:
        """What the operating system tells the browser."""
        none = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        browser.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {"offline": offline, **none}
        )

    with road(system.port) as way:
        system.port = way.port
        system.join("Guest")
        system.wait_people("Guest", "bob")
        browser.run("window.untouched = true")
        way.close()
        network(offline=True)
        wait_until(lambda: browser.find("#banner").is_displayed(), SECONDS, "the banner")
        assert "The meeting server cannot be reached." in browser.text("#banner")
        watcher.do("say", room=system.space["address"], body="while away")
        system.say("from away")
        time.sleep(8.0)
        assert "Guest" in system.people()
        way.open()
        network(offline=False)
        began = time.monotonic()
        wait_until(lambda: "while away" in system.heard(), SECONDS, "what was missed")
        print(f"what was said meanwhile is there {time.monotonic() - began:.2f} s after the cut")
        expect(watcher, "from away")
        wait_until(lambda: "from away" in system.heard(), SECONDS, "her own")
        assert sorted(system.heard()) == ["from away", "while away"]
        assert not browser.find("#banner").is_displayed()
        assert browser.run("return window.untouched") is True


def test_service(system: System) -> None:
    """Without script an honest sentence; the operator's words; the limits of weight."""
    browser = system.browser
    browser.driver.execute_cdp_cmd("Network.enable", {})
    system.open(f"/meeting/{system.space['callId']}")
    assert browser.text("header") == "Example meetings"
    assert "Call 4711 for help." in browser.text("footer")
    system.fill(passcode=PASSCODE, name="Guest")
    browser.find(".room")
    loaded = browser.run(
        "return performance.getEntries().filter(e => e.encodedBodySize !== undefined)"
        ".map(e => [e.name, e.encodedBodySize])"
    )
    sizes = {name: size for name, size in loaded if not name.endswith("/icon.svg")}
    # And the WebSocket, of which the browser keeps no account.
    assert len(sizes) + 1 <= 8, sizes
    assert all(name.startswith(system.address("/")) for name in sizes)
    assert 10_000 < sum(sizes.values()) <= 25_000, sizes
    print(f"{sum(sizes.values())} bytes in {len(sizes)} requests, and the WebSocket: {sizes}")
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.driver.get(system.address("/"))
    wait_until(lambda: "noscript" in browser.driver.page_source, SECONDS, "the page")
    assert "This page needs JavaScript" in browser.driver.find_element("css selector", "main").text


def test_quick(system: System) -> None:
    """How long it takes from Join to the room; the figures are in docs/performance.md."""
    browser = system.browser
    taken: dict[str, list[float]] = {"admitted": [], "logged in": [], "in the room": []}
    for number in range(25):
        system.join(f"Guest {number}")
        began, took, passed, online = browser.run(
            "const [join] = performance.getEntriesByName('join'), at = (name) =>"
            " performance.getEntriesByName(name)[0].startTime;"
            "return [join.startTime, join.duration, at('pass'), at('online')]"
        )
        for part, time_ in zip(taken, (passed - began, online - began, took), strict=True):
            taken[part].append(time_)
        system.press("Leave")
    for part, times in taken.items():
        print(f"{part}: p50 {statistics.median(times):.0f} ms of {sorted(map(round, times))}")
    assert all(len(times) == 25 for times in taken.values())


def test_firefox(system: System, tmp_path: Path) -> None:
    """Firefox: in by call ID, a talk, a reload as the same one; in by an account."""
    watcher = inside(system)
    with firefox(system.processes, tmp_path) as browser:
        browser.open(system.address(f"/meeting/{system.space['callId']}"))
        browser.fill("#passcode", PASSCODE)
        browser.fill("#name", f"Foxy{ENTER}")
        browser.wait_for(".rows", "Foxy")
        browser.fill("#text", f"hello from Firefox{ENTER}")
        expect(watcher, "hello from Firefox")
        watcher.do("say", room=system.space["address"], body="hello to Firefox")
        browser.wait_for(".log", "hello to Firefox")
        browser.reload()
        browser.wait_for(".log", "hello to Firefox")
        assert browser.text(".count") == "2"
        browser.run("document.querySelector('.tools .danger').click()")
        browser.wait_for("h1", "You have left the meeting")
        browser.open(system.address("/"))
        browser.fill("#address", "alice")
        browser.fill("#password", f"{PASSWORD}{ENTER}")
        browser.wait_for(".spaces", "Team")
        assert browser.complaints == []
