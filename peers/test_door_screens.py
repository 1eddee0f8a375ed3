"""
The screens of the door in Chromium, with a session and a room that the test plays.

F{test_door_pages.py} has the same screens with both daemons.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from peers.browser import PHONE, SECONDS, WIDE, Browser, browsing
from peers.contract import ROOT
from peers.daemons import daemon_environment
from peers.network import free_port, wait_until
from peers.processes import Processes

STATIC = ROOT / "cms" / "door" / "static"
UHD = (3840, 2160)
MOST_ROWS = 100  # as in app.js, where the next two are as well
MOST_MESSAGES = 200
WORD_EVERY = 4.0  # seconds
TEAM = "/meeting/204918374"
# Beside those on a phone, the pictures of docs/meeting.md.
SHOWN = ("home", "denied", "spaces", "alone", "room", "reconnecting", "invite", "remove", "removed")
ATTACKS = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror='window.pwned=1'>",
    "<svg/onload=window.pwned=1>",
    "\"'><iframe srcdoc='<script>parent.pwned=1</script>'>",
    "javascript:window.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}",
    "</p></li></ol><form action=//x><input name=password>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "\u202egnp.exe\u2066 \u2069\u2067",
    "a\u0000\u0007\u001b[31m\u2028b\u2029c",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324" * 40,
    "\ud83d\ude00" * 5_000,
    "x" * 10_000,
    "\n" * 9_000 + "below",
)
TALK = """
    const now = Date.now();
    room.topic("Sprint review, then planning for the winter release");
    room.come({nick: "Bob Marsh"}, {nick: "Chandra Iyer", hand: true},
        {nick: "Dmitri", reconnecting: true}, {nick: "Eleni Papadopoulou", role: "moderator"},
        {nick: "Farid"}, {nick: "\u0641\u0627\u0637\u0645\u0629"});
    const before = (minutes) => ({delayed: true, at: new Date(now - minutes * 60000)});
    room.hear("Bob Marsh", "Good morning everybody", before(12));
    room.hear("Chandra Iyer", "Morning! The notes are at https://example.com/notes/2026-11-28",
        before(11));
    room.hear("Alice", "Thanks, I put the numbers there too.", {mine: true, ...before(8)});
    room.hear("Alice", "We start in two minutes.", {mine: true, ...before(7)});
    room.hear("Eleni Papadopoulou", "Before we begin: the release notes need one more reader. It is"
        + " four pages, and most of it is the table at the end.");
    room.hear("Farid", "I can do that after lunch.");
"""


class Stand:
    """The pages on a port of this host, and a browser that looks at them."""

    def __init__(self, browser: Browser, port: int) -> None:
        self.browser = browser
        self.port = port

    def open(self, path: str = "/") -> None:
        """Go to a page, and wait for its script."""
        self.browser.driver.get(f"http://localhost:{self.port}{path}")
        self.browser.find("form")

    def join(self, path: str = TEAM, name: str = "Alice") -> None:
        """Press Join there."""
        self.open(path)
        self.browser.fill("#name", name)
        self.browser.press(Keys.ENTER)

    def enter(self, path: str = TEAM, name: str = "Alice") -> None:
        """The same, to the room."""
        self.join(path, name)
        self.browser.find(".room")

    def sign_in(self) -> None:
        """As alice, to the list of her spaces."""
        self.open()
        self.browser.fill("#address", "alice")
        self.browser.fill("#password", "right")
        self.browser.press(Keys.ENTER)
        self.browser.find(".spaces li")

    def press(self, text: str) -> None:
        """Click on the button of this text."""
        buttons = [one for one in self.browser.all("button") if one.text == text]
        buttons[0].click()

    def play(self, script: str, *arguments: Any) -> Any:
        """Let something happen in the room (C{room}) or to the session (C{session})."""
        names = "const room = fake.rooms.at(-1), session = fake.sessions.at(-1);"
        return self.browser.run(names + script, *arguments)

    def said(self) -> str:
        """What a screen reader was told last."""
        return self.browser.text("#announcer")

    @property
    def screen(self) -> str:
        """Which it is."""
        return str(self.browser.run("return document.body.dataset.screen"))


@contextmanager
def served(processes: Processes, folder: Path) -> Iterator[int]:
    """The pages, with the script as it is written, and what is played beside it."""
    for path in STATIC.iterdir():
        if path.name not in ("bundle.js", "bundle.css", "session.js", "room.js"):
            shutil.copy(path, folder / path.name)
    (folder / "app.js").rename(folder / "bundle.js")
    (folder / "style.css").rename(folder / "bundle.css")
    for name in ("session.js", "room.js"):
        shutil.copy(ROOT / "peers" / "doorstand" / name, folder)
    english = (STATIC / "texts.en.js").read_text()
    other = english.replace('"ltr"', '"rtl"').replace("Join a meeting", "yImuv")
    (folder / "texts.tlh.js").write_text(other)
    port = free_port()
    command = [sys.executable, "-m", "peers.doorstand", str(port), str(folder)]
    process = processes.start("doorstand", command, cwd=ROOT, env=daemon_environment())
    process.wait_for("ready", SECONDS)
    yield port
    process.stop()


@pytest.fixture
def stand(processes: Processes, tmp_path: Path) -> Iterator[Stand]:
    """It stands."""
    folder = tmp_path / "static"
    folder.mkdir()
    elsewhere = "--host-resolver-rules=MAP door.example 127.0.0.1"
    with served(processes, folder) as port, browsing(tmp_path, elsewhere) as browser:
        yield Stand(browser, port)


def test_screens(stand: Stand) -> None:
    """Each of them: nothing for axe-core to find, no sideways scrolling, and a picture."""
    browser = stand.browser

    def look(name: str, *, phone: bool = False) -> None:
        browser.assert_accessible(name)
        browser.size(UHD)
        assert not browser.scrolls_sideways(), name
        browser.size(WIDE)
        if name in SHOWN:
            browser.shot(f"meeting-{name}")
        if phone:
            browser.prefer(color_scheme="dark")
            browser.size(PHONE)
            browser.shot(f"meeting-{name}-phone")
            browser.size(WIDE)
            browser.prefer()

    stand.open()
    look("home", phone=True)
    stand.open(TEAM)
    look("join")
    browser.press(Keys.TAB)
    stand.press("Join")
    assert browser.text("#name-wrong") == "Please fill this in."
    browser.assert_accessible("not filled in")
    stand.press("I have an account")
    look("account")
    stand.open("/m/b8f0c0d1e2f3")
    look("link", phone=True)
    stand.join("/meeting/403")
    browser.wait_for("[role=alert]", "did not let you in")
    look("denied")
    stand.join("/meeting/503")
    browser.wait_for(".note", "(step 1)")
    look("joining", phone=True)
    stand.sign_in()
    look("spaces")
    stand.enter()
    look("alone")
    stand.play(TALK)
    browser.wait_for(".log", "after lunch")
    look("room", phone=True)
    stand.play("session.lose('no-callbridge', 60)")
    browser.wait_for("#banner", "(step 1)")
    look("reconnecting", phone=True)
    stand.play("session.retry()")
    stand.press("Invite")
    look("invite")
    browser.press(Keys.ESCAPE)
    stand.press("Remove")
    look("remove")
    stand.press("Cancel")
    stand.play("room.throwOut('kicked')")
    browser.wait_for("[role=alert]", "A moderator removed you from the meeting.")
    look("removed")
    stand.enter()
    browser.size(PHONE)
    stand.play(TALK)
    stand.press("People 7")
    assert browser.find("#people").is_displayed()
    assert browser.violations() == []
    browser.shot("meeting-people-phone")
    assert browser.unexpected(403, 503) == []


def test_refusals(stand: Stand) -> None:
    """Each in the participant's words, where the form is, with what was typed."""
    for path, words in (
        ("/meeting/403", "Check the call ID and the passcode."),
        ("/meeting/404404", "The meeting is full."),
        ("/meeting/405405", "This meeting does not let you in."),
        ("/meeting/406406", "Only members may enter this meeting."),
        ("/meeting/407407", "Choose another name."),
    ):
        stand.join(path, "Zo\u00eb")
        stand.browser.wait_for("[role=alert]", words)
        assert stand.screen == "join"
        assert stand.browser.find("#name").get_attribute("value") == "Zo\u00eb"
        # Where a screen reader begins, the words come first.
        focused = stand.browser.run("return document.activeElement === document.body")
        assert focused or stand.browser.run("return document.activeElement.role") == "alert"
        assert stand.browser.run("return fake.sessions.every(s => s.state === 'over')")
    stand.open()
    stand.browser.fill("#address", "alice")
    stand.browser.fill("#password", "wrong")
    stand.browser.press(Keys.ENTER)
    stand.browser.wait_for("[role=alert]", "Address or password is wrong.")
    assert stand.browser.find("#address").get_attribute("value") == "alice@meet.example.com"
    stand.sign_in()
    stand.browser.fill("#callId", "401")
    stand.browser.fill("#name", "Alice")
    stand.browser.press(Keys.ENTER)
    stand.browser.wait_for("[role=alert]", "This meeting needs its passcode")
    stand.browser.fill("#callId", "404")
    stand.browser.press(Keys.ENTER)
    stand.browser.wait_for("[role=alert]", "There is no meeting with this call ID.")
    assert stand.browser.unexpected(403) == []


def test_waiting(stand: Stand) -> None:
    """What is waited for is said, with the time of the next try; Cancel cancels."""
    browser = stand.browser
    for path, words in (
        ("/meeting/503", "The meeting server is not connected to its Callbridge yet (step 1)."),
        ("/meeting/429", "There were too many tries from here."),
        ("/meeting/500", "The meeting server cannot be reached."),
    ):
        stand.join(path)
        browser.wait_for("[role=status].away ~ *, .note [role=status]", words)
        assert "Asking for entry" in browser.text("[aria-current=step]")
        if path != "/meeting/500":
            browser.wait_for(".note", "Next try in 3 seconds.")
            browser.wait_for(".note", "Next try in 1 second.")
        # The countdown is not read aloud each second.
        assert browser.all(".note [aria-hidden]")
        assert browser.run("return document.activeElement.id") == "cancel"
        browser.press(Keys.ENTER)
        browser.find("#name")
        assert browser.run("return fake.sessions.length") == 1
        assert browser.run("return fake.sessions[0].state") == "over"
        assert browser.find("#name").get_attribute("value") == "Alice"
    # So does going back.
    stand.open()
    browser.fill("#callId", "503")
    browser.fill("#name", "Alice")
    browser.press(Keys.ENTER)
    browser.find("#cancel")
    browser.run("history.pushState({}, ''); history.back()")
    browser.find("#name")
    assert browser.run("return fake.sessions.every(one => one.state === 'over')")


def test_once(stand: Stand) -> None:
    """Whoever presses twice is in the room once; a quick join has no screen of its own."""
    stand.open(TEAM)
    stand.browser.fill("#name", "Alice")
    stand.browser.run(
        "window.seen = new Set();"
        "new MutationObserver(() => seen.add(document.body.dataset.screen))"
        ".observe(document.body, {attributes: true});"
        "const form = document.querySelector('form'), press = form.querySelector('button');"
        "press.click(); press.click(); form.requestSubmit();"
    )
    stand.browser.find(".room")
    assert stand.browser.run("return [fake.sessions.length, fake.rooms.length]") == [1, 1]
    assert stand.browser.run("return [...seen]") == ["room"]


def test_history(stand: Stand) -> None:
    """Back leaves, forward comes back as the same one; the list of spaces stays signed in."""
    browser = stand.browser
    stand.open()
    browser.fill("#callId", "204 918-374")
    browser.fill("#name", "Alice")
    browser.press(Keys.ENTER)
    browser.find(".room")
    assert browser.driver.current_url.endswith(TEAM)
    assert browser.driver.title == "Product team - Example meetings"
    browser.driver.back()
    browser.find("#callId")
    assert stand.screen == "home"
    assert stand.play("return [room.state, session.state]") == ["out", "over"]
    browser.driver.forward()
    browser.find(".room")
    assert stand.play("return [fake.rooms.length, room.nick]") == [2, "Alice"]
    stand.press("Leave")
    assert stand.screen == "left"
    assert stand.play("return [room.state, session.state]") == ["out", "over"]
    browser.driver.back()
    browser.find("#callId")

    stand.sign_in()
    stand.browser.all(".spaces button")[2].click()
    browser.find(".room")
    browser.driver.back()
    browser.find(".spaces li")
    assert stand.play("return [room.state, session.state]") == ["out", "online"]
    browser.driver.forward()
    browser.find(".room")
    stand.press("Leave")
    stand.press("Back to your spaces")
    browser.find(".spaces li")
    stand.press("Sign out")
    browser.find("#password")
    assert stand.play("return session.state") == "over"


def test_reload(stand: Stand) -> None:
    """A reload comes back by the token; a copy of the tab does not take it."""
    browser = stand.browser
    stand.enter("/m/b8f0c0d1e2f3")
    assert browser.driver.current_url.endswith("/m/b8f0c0d1e2f3")
    browser.driver.refresh()
    browser.find(".room")
    assert browser.run("return fake.rooms.length") == 1
    # What is kept: the name; and for this tab its token and its number.
    assert browser.run("return Object.keys(localStorage)") == ["name"]
    assert browser.run("return Object.keys(sessionStorage).sort()") == ["reentry", "tab"]
    token = browser.run("return sessionStorage.reentry")
    first = browser.driver.current_window_handle
    browser.run("window.open(location.href)")
    wait_until(lambda: len(browser.driver.window_handles) == 2, 10.0, "the other tab")
    (second,) = set(browser.driver.window_handles) - {first}
    browser.driver.switch_to.window(second)
    browser.find("form")
    assert browser.run("return sessionStorage.tab.length") == 36
    assert browser.run("return sessionStorage.reentry ?? null") is None
    browser.run("sessionStorage.reentry = arguments[0]", token)
    browser.run("sessionStorage.tab = opener.sessionStorage.tab")
    browser.run("history.replaceState({screen: 'room'}, '')")
    browser.driver.refresh()
    browser.find("form")
    assert stand.screen == "join"
    assert browser.run("return sessionStorage.reentry ?? null") is None
    browser.driver.close()
    browser.driver.switch_to.window(first)
    assert stand.screen == "room"
    # Whoever was signed in signs in again, and is back where he was.
    stand.sign_in()
    stand.browser.all(".spaces button")[2].click()
    browser.find(".room")
    browser.driver.refresh()
    browser.find("#password")
    assert browser.find("#address").get_attribute("value") == "alice@meet.example.com"
    browser.fill("#password", "right")
    browser.press(Keys.ENTER)
    browser.find(".room")


def test_banner(stand: Stand) -> None:
    """A loss is told after a second, above the room, which stays as it is; and its end."""
    browser = stand.browser
    stand.enter()
    stand.play(TALK)
    browser.run("window.untouched = document.querySelector('.log li')")
    stand.play("session.lose('no-callbridge', 60); session.tell('connecting')")
    began = time.monotonic()
    assert not browser.find("#banner").is_displayed()
    wait_until(lambda: browser.find("#banner").is_displayed(), SECONDS, "the banner")
    assert time.monotonic() - began > 0.5
    assert "not connected to its Callbridge yet (step 1)." in browser.text("#banner")
    assert browser.run("return document.querySelectorAll('dialog').length") == 0
    browser.fill("#text", "while it is away")
    browser.press(Keys.ENTER)
    stand.play("session.lose('no-callbridge', 30)")
    browser.wait_for("#banner", "Next try in")
    stand.press("Try now")
    wait_until(lambda: not browser.find("#banner").is_displayed(), SECONDS, "its end")
    assert stand.said().strip() == "You are connected again."
    # A short one is not told.
    stand.play("session.lose('offline', 1); session.retry()")
    assert not browser.find("#banner").is_displayed()
    # The room may be away while the session is not.
    stand.play(
        "room.tell('away', {why: {word: 'remote-server-not-found'}, nextTry: Date.now() + 60000})"
    )
    browser.wait_for("#banner", "has lost its Callbridge")
    stand.play("room.tell('back')")
    wait_until(lambda: not browser.find("#banner").is_displayed(), SECONDS, "its end")
    assert browser.run("return window.untouched === document.querySelector('.log li')")
    stand.play("session.tell('over', {word: 'conflict'})")
    browser.wait_for("[role=alert]", "")
    assert stand.screen == "left"


def test_keyboard(stand: Stand) -> None:
    """All by keyboard, with the states told; a bare space is a space."""
    browser = stand.browser
    stand.enter()
    stand.play(TALK)
    assert browser.run("return document.activeElement.localName") == "h1"
    browser.fill("#text", "a b  c")
    assert browser.find("#text").get_attribute("value") == "a b  c"
    line = webdriver.ActionChains(browser.driver)
    line.key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).send_keys("d").perform()
    browser.press(Keys.ENTER)
    browser.wait_for(".log li:last-child .said", "a b  c\nd")
    assert browser.find(".hand").get_attribute("aria-pressed") == "false"
    browser.tab_to(".hand")
    browser.press(Keys.SPACE)
    assert browser.find(".hand").get_attribute("aria-pressed") == "true"
    browser.wait_for(".rows li:first-child", "Hand raised")
    browser.press(Keys.SPACE)
    assert browser.find(".hand").get_attribute("aria-pressed") == "false"
    browser.tab_to(".hand + .toggle + button, .hand ~ button:not(.toggle)")
    browser.press(Keys.ENTER)
    assert browser.run("return document.activeElement.closest('dialog') !== null")
    browser.press(Keys.ESCAPE)
    wait_until(lambda: not browser.all("dialog"), SECONDS, "its end")
    assert browser.run("return document.activeElement.textContent") == "Invite"
    browser.tab_to(".rows .small")
    named = browser.run("return document.activeElement.ariaLabel")
    assert named == "Remove \u2068Chandra Iyer\u2069"
    browser.press(Keys.ENTER)
    browser.press(Keys.ENTER)
    wait_until(lambda: "Chandra" not in browser.text(".rows"), SECONDS, "that she has left")
    # Wherever the focus is, it is seen.
    seen = browser.run(
        "return [...document.querySelectorAll('button, input, textarea, a, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility()).every(e => {e.focus({focusVisible: true});"
        " return getComputedStyle(e).outlineStyle !== 'none'})"
    )
    assert seen


def test_mistyped(stand: Stand) -> None:
    """An address that is none is a call ID that nobody has; what fails in a room is told."""
    stand.open("/meeting/%zz")
    assert stand.browser.find("#callId").get_attribute("value") == "%zz"
    stand.enter()
    stand.play("room.come({nick: 'untouchable'})")
    stand.browser.wait_for(".rows", "untouchable")
    stand.press("Remove")
    stand.browser.press(Keys.ENTER)
    stand.browser.wait_for("dialog", "This is not allowed here.")
    assert stand.browser.complaints() == []


def test_failed_message(stand: Stand) -> None:
    """What could not be said says so, and stays to be read."""
    stand.enter()
    stand.browser.fill("#text", "too much")
    stand.browser.press(Keys.ENTER)
    stand.browser.wait_for(".waiting", "Not sent. Too many people are joining just now.")
    assert "too much" in stand.browser.text(".waiting")
    stand.play("fake.hold = true")
    stand.browser.fill("#text", "later")
    stand.browser.press(Keys.ENTER)
    stand.browser.wait_for(".log li:last-child", "Sending")


def test_hostile(stand: Stand) -> None:
    """Names, subjects, titles and messages are text: they do nothing, and are bounded."""
    browser = stand.browser
    stand.enter()
    plain = browser.run("return document.querySelectorAll('*').length")
    for attack in ATTACKS:
        stand.play(
            "room.topic(arguments[0]); room.come({nick: arguments[0], hand: true});"
            "room.hear(arguments[0], arguments[0]); room.hear('x', 'see ' + arguments[0])",
            attack,
        )
    stand.press("Remove")
    browser.wait_for("dialog h2", "Remove")
    browser.press(Keys.ESCAPE)
    time.sleep(1.0)  # for what an attack would do
    assert browser.run("return window.pwned ?? null") is None
    strange = (
        "script:not([src]), img:not([alt]), iframe, svg, form:not([novalidate]), object, style"
    )
    assert browser.all(strange) == []
    assert browser.all("a[href^='javascript:']") == []
    grown = browser.run("return document.querySelectorAll('*').length") - plain
    assert grown < 30 * len(ATTACKS)
    names = browser.run(
        "return [...document.querySelectorAll('.rows bdi')].map(e => e.textContent)"
    )
    assert len(names) == len(ATTACKS) + 1
    # 64 characters, each of at most two units.
    assert max(map(len, names)) <= 64
    assert not any(
        set(name) & set("\u202e\u2066\u2067\u2069\n\u0000\u001b\u2028") for name in names
    )
    assert any(name.startswith("\ufffdgnp.exe") for name in names)
    heights = browser.run(
        "return [...document.querySelectorAll('.rows li')].map(e => e.offsetHeight)"
    )
    assert max(heights) < 100
    texts = browser.run("return [...document.querySelectorAll('.said')].map(e => e.textContent)")
    assert ATTACKS[0] in texts
    assert max(map(len, texts)) <= 8_001
    assert max(text.count("\n") for text in texts) < 60
    assert not browser.scrolls_sideways()
    browser.size(PHONE)
    assert not browser.scrolls_sideways()
    browser.size(WIDE)
    links = browser.run(
        "fake.rooms.at(-1).hear('x', 'https://a.example/?q=<b>\"x javascript:x http://b.example');"
        "return [...document.querySelectorAll('.said a')].map(a => [a.href, a.rel])"
    )
    assert [href for href, _ in links] == ["https://a.example/?q=", "http://b.example/"]
    assert {rel for _, rel in links} == {"noopener noreferrer"}
    assert browser.violations() == []
    # The policy holds on its own, too.
    blocked = "try { document.body.innerHTML = '<b>'; return 'done' } catch (e) { return e.name }"
    assert browser.run(blocked) == "TypeError"
    assert [one for one in browser.complaints() if "TrustedHTML" not in one] == []


def test_crowd(stand: Stand) -> None:
    """500 people and 1,000 messages cost a bounded number of elements, and few words."""
    browser = stand.browser
    stand.enter()
    stand.play("room.come({nick: 'Zara', role: 'moderator'})")
    browser.run("""
        window.changes = 0;
        window.words = [];
        new MutationObserver((all) => { for (const {addedNodes, removedNodes} of all)
            changes += addedNodes.length + removedNodes.length; })
            .observe(document.querySelector('#people'), {childList: true, subtree: true});
        new MutationObserver(() => words.push(document.querySelector('#announcer').textContent))
            .observe(document.querySelector('#announcer'), {childList: true, subtree: true});
        window.drawn = 0;
    """)
    began = time.monotonic()
    stand.play(
        "const step = (n) => { for (let i = n; i < n + 25; i++)"
        " room.come({nick: `Guest ${String(i).padStart(3, '0')}`});"
        " if (n < 475) setTimeout(step, 20, n + 25); }; step(0)"
    )
    browser.wait_for(".count", "502")
    wait_until(lambda: "joined" in stand.said(), SECONDS, "what is announced")
    rows = browser.run("return document.querySelectorAll('.rows li').length")
    assert rows == MOST_ROWS
    # Each row is put there once, and what its name pushes out of the first hundred goes once.
    assert browser.run("return changes") < 12 * MOST_ROWS
    assert browser.text("#people > button") == "Show 100 more"
    time.sleep(WORD_EVERY)
    taken = time.monotonic() - began
    words = browser.run("return words")
    assert 1 <= len(words) <= taken / WORD_EVERY + 2
    assert "people joined" in words[0]
    # One change of one person is one row.
    browser.run("window.changes = 0")
    stand.play("room.come({nick: 'Guest 001', reconnecting: true})")
    browser.wait_for(".rows", "Reconnecting")
    assert browser.run("return changes") <= 6
    browser.fill("#find", "guest 49")
    assert browser.run("return document.querySelectorAll('.rows li').length") == 10
    browser.fill("#find", "nobody of this name")
    assert "Nobody here has such a name." in browser.text("#people")
    browser.fill("#find", "")
    stand.press("Show 100 more")
    assert browser.run("return document.querySelectorAll('.rows li').length") == 2 * MOST_ROWS
    stand.play("for (let i = 0; i < 1000; i++) room.hear('Zara', `message ${i}`)")
    browser.wait_for(".log", "message 999")
    assert browser.run("return document.querySelectorAll('.log li').length") == MOST_MESSAGES
    assert browser.violations() == []
    stand.play("for (let i = 0; i < 500; i++) room.go(`Guest ${String(i).padStart(3, '0')}`)")
    wait_until(lambda: browser.text(".count") == "2", SECONDS, "an empty room")
    assert browser.complaints() == []


def test_announced(stand: Stand) -> None:
    """Joins, leaves, hands and messages are told, one by name."""
    browser = stand.browser
    stand.enter()
    for script, words in (
        ("room.come({nick: 'Bob'})", "\u2068Bob\u2069 joined"),
        ("room.come({nick: 'Bob', hand: true})", "\u2068Bob\u2069 raised a hand"),
        ("room.hear('Bob', 'Hello')", "\u2068Bob\u2069 says: \u2068Hello\u2069"),
        ("room.go('Bob')", "\u2068Bob\u2069 left"),
    ):
        stand.play(script)
        browser.wait_for("#announcer", words)
    live = browser.find("#announcer")
    assert live.get_attribute("role") == "status"
    # Nothing is told of what was said before one came, nor of oneself.
    stand.play("room.hear('Eve', 'old', {delayed: true}); room.hear('Alice', 'own', {mine: true})")
    time.sleep(WORD_EVERY + 1)
    assert stand.said() == "\u2068Bob\u2069 left"


def test_invite(stand: Stand) -> None:
    """The link and the call ID are there to be copied, with what else is needed."""
    browser = stand.browser
    browser.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    stand.open(TEAM)
    browser.fill("#passcode", "1234")
    browser.fill("#name", "Alice")
    browser.press(Keys.ENTER)
    browser.find(".room")
    stand.press("Invite")
    assert "with the passcode" in browser.text("dialog")
    link = browser.find("#invite-link").get_attribute("value")
    assert link == f"http://localhost:{stand.port}{TEAM}"
    assert browser.find("#invite-id").get_attribute("value") == "204918374"
    stand.press("Copy")
    browser.wait_for("dialog [role=status]", "opied")
    assert "1234" not in browser.driver.page_source


def test_language(stand: Stand) -> None:
    """Another language is another file of words, in its direction, and the browser chooses."""
    browser = stand.browser
    agent = browser.run("return navigator.userAgent")
    browser.driver.execute_cdp_cmd(
        "Network.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": "tlh,en;q=0.5"}
    )
    stand.open()
    assert "yImuv" in browser.text("h1")
    assert browser.run("return [document.documentElement.lang, document.dir]") == ["tlh", "rtl"]
    assert not browser.scrolls_sideways()
    stand.enter()
    stand.play(TALK)
    assert not browser.scrolls_sideways()
    assert browser.violations() == []


def test_without(stand: Stand) -> None:
    """Without script an honest sentence; without a secure context another."""
    browser = stand.browser
    browser.driver.get(f"http://door.example:{stand.port}{TEAM}")
    browser.wait_for("[role=alert]", "can only be joined over HTTPS")
    assert browser.all("form") == []
    browser.complaints()  # of headers that count only over HTTPS
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.driver.get(f"http://localhost:{stand.port}{TEAM}")
    wait_until(lambda: "noscript" in browser.driver.page_source, SECONDS, "the page")
    shown = browser.driver.find_element("css selector", "main").text
    assert "This page needs JavaScript. Switch it on and reload" in shown
    assert "too old" not in shown
    assert browser.complaints() == []


def test_likes(stand: Stand) -> None:
    """Nothing moves for those who asked for that; states are seen in forced colours."""
    browser = stand.browser
    browser.prefer(reduced_motion="reduce")
    stand.join("/meeting/503")
    browser.wait_for(".note", "(step 1)")
    assert browser.run("return document.getAnimations().length") == 0
    browser.prefer(forced_colors="active")
    stand.enter()
    colour = "return getComputedStyle(document.querySelector('.hand')).backgroundColor"
    before = browser.run(colour)
    browser.find(".hand").click()
    assert browser.run(colour) != before
    assert browser.violations() == []
