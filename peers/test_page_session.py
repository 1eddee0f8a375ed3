"""
A page's session and room in Chromium, with both daemons: cuts, restarts, reloads, two tabs.

The page of this test is empty; the screens have tests of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from peers.browser import Browser, browsing
from peers.certs import Certificates
from peers.clients import Driver, slixmpp_guest
from peers.contract import DOMAIN, ROOT
from peers.daemons import XmppServer
from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.prosody import Prosody
from peers.realclients import Account, Profanity
from peers.road import Road, road
from peers.scrape import Figures
from peers.terminal import Terminals
from peers.test_link_cut import driver

PASSWORD, CODE = "password", "471147114711"
TEAM = f"team@cb1.{DOMAIN}"
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self' ws:; img-src data:;"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
SCRIPTS = ROOT / "cms" / "door" / "static"
MAIN = """
import * as session from './session.js';
import * as room from './room.js';
globalThis.cms = { ...session, ...room, states: [], events: [] };
cms.open = (settings, nick, password) => {
    cms.session = new cms.Session(settings);
    cms.session.addEventListener('state', ({ detail: { state, fault, resumed } }) =>
        cms.states.push([state, fault && fault.word, resumed, performance.now()]));
    cms.room = new cms.Room(cms.session, { jid: settings.room, nick, password });
    for (const type of ['away', 'back', 'left'])
        cms.room.addEventListener(type, ({ detail }) => cms.events.push([type, detail?.why?.word]));
    cms.entered = cms.room.enter().then(() => 'in', ({ word }) => word);
    cms.session.start();
};
"""
SAID = "return cms.room.messages.map(({ nick, text }) => `${nick}: ${text}`)"
INSIDE = "return [...cms.room.occupants.values()].map(({ nick }) => nick).sort()"
STATES = "return cms.states.map(([state, word, resumed]) => [state, word, resumed])"


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.removeprefix("/").partition("?")[0]
        body, kind = b"<!doctype html><title>page</title>", "text/html"
        if name in ("session.js", "room.js"):
            body, kind = (SCRIPTS / name).read_bytes(), "text/javascript"
        elif name == "main.js":
            body, kind = MAIN.encode(), "text/javascript"
        else:
            body += b"<link rel=icon href='data:,'><script type=module src=/main.js></script>"
        self.send_response(200)
        for field, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Security-Policy", POLICY),
        ):
            self.send_header(field, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


class System:
    """Both daemons, a space that Alice moderates, and a browser."""

    def __init__(self, processes: Processes, certificates: Certificates, origin: str) -> None:
        self.processes, self.certificates = processes, certificates
        self.server = server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        server.settings["web"] = {"origins": [origin]}
        self.origin = origin
        _, self.plain = server.listen_web()
        self.callbridge = server.callbridge()
        for user in ("alice", "bob", "mallory"):
            self.callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
        self.callbridge.space("add", "Team", "--uri", "team", "--passcode-stdin", text=CODE)
        may = ("--may", "canAddRemoveMember")
        self.callbridge.space("member", "set", "team", "alice", *may)
        server.start()
        self.callbridge.start()

    def alice(self) -> Driver:
        """Alice with slixmpp, in the room."""
        account = f"alice@{DOMAIN}", PASSWORD, self.server.client_port
        alice = slixmpp_guest(self.processes, *account, self.certificates.trust)
        alice.connected()
        alice.do("join", room=TEAM, nick="alice")
        alice.expect("joined", 30.0)
        return alice

    def occupants(self) -> int:
        """How many the Callbridge counts."""
        return int(Figures(self.callbridge)("cms_callbridge_room_occupants"))


class Page:
    """A tab with somebody in a room."""

    def __init__(
        self,
        origin: str,
        browser: Browser,
        port: int,
        *,
        user: str = "bob",
        domain: str = DOMAIN,
        room: str = TEAM,
    ) -> None:
        self.browser = browser
        self._user = user
        self._settings = {
            "url": f"ws://localhost:{port}/xmpp-websocket",
            "domain": domain,
            "jid": f"{user}@{domain}",
            "password": PASSWORD,
            "room": room,
        }
        browser.driver.get(origin)
        self.enter()

    def enter(self) -> None:
        """Log in and enter."""
        wait_until(lambda: bool(self.run("return !!globalThis.cms")), 15.0, "the scripts")
        self.run("cms.open(...arguments)", self._settings, self._user, CODE)
        self.until("return cms.room.state === 'in'")

    def run(self, script: str, *arguments: Any) -> Any:
        """In the page."""
        return self.browser.run(script, *arguments)

    def until(self, script: str, seconds: float = 20.0) -> float:
        """Wait until it is true."""
        return wait_until(lambda: bool(self.run(script)), seconds, script)

    def say(self, *texts: str) -> None:
        """One after the other."""
        self.run("for (const text of arguments[0]) cms.room.say(text)", texts)

    def hears(self, *lines: str) -> None:
        """All of this was said, once, and in this order."""
        wait_until(lambda: self.run(SAID) == list(lines), 20.0, f"{lines}, not {self.run(SAID)}")


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the page comes from."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def system(processes: Processes, certificates: Certificates, origin: str) -> System:
    """Running."""
    return System(processes, certificates, origin)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """With no tab of ours yet."""
    with browsing(tmp_path / "browser") as browser:
        yield browser


@pytest.fixture
def way(system: System) -> Iterator[Road]:
    """To the WebSocket."""
    with road(system.plain) as way:
        yield way


def test_a_meeting(system: System, browser: Browser) -> None:
    """In, seen, heard, thrown out; what others write is text, and the policy has nothing to say."""
    alice = system.alice()
    page = Page(system.origin, browser, system.plain)
    assert page.run(INSIDE) == ["alice", "bob"]
    assert alice.expect("seen", 30.0)["sender"] == f"{TEAM}/bob"
    page.say("<b>&amp; \U0001f600", "two")
    assert [alice.expect("said")["body"] for _ in range(2)] == ["<b>&amp; \U0001f600", "two"]
    alice.do("say", room=TEAM, body="<img src=x onerror=alert(1)>")
    page.hears("bob: <b>&amp; \U0001f600", "bob: two", "alice: <img src=x onerror=alert(1)>")
    page.run("cms.room.setState({ hand: true })")
    page.until("return [...cms.room.occupants.values()].some((one) => one.isSelf && one.hand)")
    alice.do("subject", room=TEAM, subject="<i>plans</i>")
    page.until("return cms.room.subject === '<i>plans</i>'")
    alice.do("kick", room=TEAM, nick="bob")
    page.until("return cms.events.some(([type, word]) => type === 'left' && word === 'kicked')")
    assert browser.complaints() == []


def test_profanity(system: System, browser: Browser) -> None:
    """Chat with somebody on profanity."""
    port, trust = system.server.client_port, system.certificates.trust
    account = Account(f"mallory@{DOMAIN}", PASSWORD, "127.0.0.1", port, trust, system.server.pair)
    client = Profanity(system.processes, Terminals(system.processes), account)
    client.start()
    wait_until(lambda: "logged in successfully" in client.shown(), 40.0, "its log-in")
    page = Page(system.origin, browser, system.plain)
    client.enter(TEAM, "mal", CODE)
    wait_until(lambda: system.occupants() == 2, 40.0, client.shown())
    assert page.run(INSIDE) == ["bob", "mal"]
    page.say("hello-from-the-page")
    wait_until(lambda: "hello-from-the-page" in client.shown(), 40.0, "what the page said")
    client.command("hello-from-profanity")
    page.hears("bob: hello-from-the-page", "mal: hello-from-profanity")


@pytest.mark.parametrize("kind", ["reset", "silence"])
def test_ten_seconds(system: System, browser: Browser, way: Road, kind: str) -> None:
    """A cut of ten seconds is healed within one of the network's return; all is heard once."""
    alice = system.alice()
    page = Page(system.origin, browser, way.port)
    page.say("before")
    page.hears("bob: before")
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    command = "Network.emulateNetworkConditions"
    browser.driver.execute_cdp_cmd(command, {"offline": True, **network})
    (way.close if kind == "reset" else way.silence)()
    page.say("while away 1")
    alice.do("say", room=TEAM, body="to one who is away")
    page.run("setTimeout(() => cms.room.say('while away 2'), 5000)")
    page.run("cms.cut = performance.now()")
    page.until("return performance.now() - cms.cut > 10000", 30.0)
    if kind == "reset":
        way.open()
    else:  # what was held is lost: those connections lead nowhere any more
        way.reset()
        way.speak()
    page.run(
        "cms.back = new Promise((resolve) => addEventListener('online', () => {"
        "const began = performance.now();"
        "cms.session.addEventListener('state', ({ detail }) => detail.state === 'online'"
        " && resolve([performance.now() - began, detail.resumed])); }))"
    )
    browser.driver.execute_cdp_cmd(command, {"offline": False, **network})
    took, resumed = browser.driver.execute_async_script(
        "cms.back.then(arguments[arguments.length - 1])"
    )
    print(f"{kind}: healed {took:.0f} ms after the network's return")
    assert resumed
    assert took < 1000
    page.hears(
        *("bob: before", "alice: to one who is away", "bob: while away 1", "bob: while away 2")
    )
    heard = [alice.expect("said")["body"] for _ in range(4)]
    assert [text for text in heard if "one" not in text] == [
        "before",
        "while away 1",
        "while away 2",
    ]
    assert page.run("return cms.events") == []


def test_cuts(system: System, browser: Browser, processes: Processes) -> None:
    """Connections are cut at random bytes, in all ways: 0 lost, 0 doubled, 0 out of order."""
    port = free_port()
    paths = [(port, system.plain)]
    cutter = driver(processes, "cutter", seed=7, cuts=15, mean_bytes=6_000, ports=paths)
    alice = system.alice()
    page = Page(system.origin, browser, port)
    cutter.do("cut")
    page.run(
        "cms.count = cms.heard = 0; cms.refused = [];"
        "cms.room.addEventListener('message', ({ detail }) => { cms.heard += detail.mine; });"
        "cms.timer = setInterval(() => {"  # a room keeps 100 that were not heard yet
        " if (cms.count - cms.heard < 90)"
        " cms.room.say(`${cms.count++}`).catch(({ word }) => cms.refused.push(word)); }, 100);"
    )
    for number in range(50):
        alice.do("say", room=TEAM, body=f"a{number}")
        time.sleep(0.2)
    made = cutter.expect("enough", 180.0)["cuts"]
    count = page.run("clearInterval(cms.timer); return cms.count")
    mine = "return cms.room.messages.filter(({ mine }) => mine).map(({ text }) => Number(text))"
    wait_until(lambda: len(page.run(mine)) >= count, 60.0, "all that was said")
    resumed = page.run("return cms.states.filter(([state, , resumed]) => resumed).length")
    print(f"{made}, {resumed} resumptions, {count} messages")
    assert page.run(mine) == list(range(count))
    heard = [said for said in iter(lambda: _said(alice), None) if not said.startswith("a")]
    assert heard == [str(number) for number in range(count)]
    others = "return cms.room.messages.filter(({ mine }) => !mine).map(({ text }) => text)"
    assert page.run(others) == [f"a{number}" for number in range(50)]
    assert page.run("return [cms.events, cms.refused]") == [[], []]
    assert resumed >= sum(made.values()) // 2
    assert system.occupants() == 2


def _said(driver: Driver) -> str | None:
    """The next thing, or nothing if there is no more."""
    try:
        return str(driver.expect("said", 1.0)["body"])
    except AssertionError:
        return None


def test_callbridge_killed(system: System, browser: Browser) -> None:
    """The page says that the room cannot be reached, and is in it again without a reload."""
    page = Page(system.origin, browser, system.plain)
    page.say("before")
    page.hears("bob: before")
    system.callbridge.process.kill()
    page.say("while it was gone")
    page.until("return cms.room.state !== 'in'", 60.0)
    page.until("return cms.events.some(([type, word]) => word === 'no-callbridge')", 60.0)
    assert page.run("return cms.session.state") == "online"
    system.callbridge.start()
    page.until("return cms.room.state === 'in' && cms.events.at(-1)[0] === 'back'", 30.0)
    assert page.run(INSIDE) == ["bob"]
    page.say("after")
    page.hears("bob: before", "bob: while it was gone", "bob: after")
    assert system.occupants() == 1


def test_server_killed(system: System, browser: Browser) -> None:
    """Everything is lost, and the page comes back by itself."""
    page = Page(system.origin, browser, system.plain)
    system.server.process.kill()
    page.until("return cms.session.state !== 'online'")
    page.say("while it was gone")
    system.server.start()
    page.until("return cms.room.state === 'in' && cms.session.state === 'online'", 60.0)
    page.hears("bob: while it was gone")
    assert page.run(STATES)[-1] == ["online", None, False]
    wait_until(lambda: system.occupants() == 1, 30.0, "one occupant")


def test_one_place(system: System, browser: Browser) -> None:
    """A reload, going away and back, a crash, a copied tab: there is one occupant of each."""
    alice = system.alice()
    page = Page(system.origin, browser, system.plain)
    assert alice.expect("seen", 30.0)["type"] == "available"
    page.say("before")
    page.hears("bob: before")
    browser.driver.refresh()
    assert alice.expect("seen", 5.0)["type"] == "unavailable"
    page.enter()
    assert page.run(INSIDE) == ["alice", "bob"]
    page.hears("bob: before")
    assert page.run("return cms.room.messages[0].mine")
    browser.driver.get(f"{system.origin}/other")
    wait_until(lambda: system.occupants() == 1, 5.0, "the end of the page")
    browser.driver.back()
    wait_until(lambda: bool(page.run("return !!globalThis.cms")), 15.0, "the page")
    if not page.run("return !!cms.session"):  # it was not kept by the browser
        page.enter()
    page.until("return cms.room.state === 'in' && cms.session.state === 'online'")
    assert page.run(INSIDE) == ["alice", "bob"]
    page.hears("bob: before")
    assert system.occupants() == 2
    alice.do("leave", room=TEAM, nick="alice")

    # a page that says no goodbye, and is opened again, takes its own place
    page.run(
        "cms.session.close = () => {}; window.addEventListener('pagehide', (event) => "
        "event.stopImmediatePropagation(), true)"
    )
    browser.driver.refresh()
    page.enter()
    assert page.run(INSIDE) == ["bob"]
    assert system.occupants() == 1

    # a copy of a tab takes its place, and the first says so and stays out of it
    first = browser.driver.current_window_handle
    page.run("window.open(location.href)")
    wait_until(lambda: len(browser.driver.window_handles) == 2, 10.0, "the other tab")
    (second,) = set(browser.driver.window_handles) - {first}
    browser.driver.switch_to.window(second)
    page.enter()
    assert page.run(INSIDE) == ["bob"]
    browser.driver.switch_to.window(first)
    page.until("return cms.session.state === 'over'")
    assert page.run(STATES)[-1] == ["over", "conflict", False]
    assert page.run("return cms.events") == [["left", "conflict"]]
    assert system.occupants() == 1


def test_reconnecting(system: System, browser: Browser, way: Road) -> None:
    """Others see after three seconds that somebody has no connection, and that he is back."""
    Page(system.origin, browser, way.port)
    browser.driver.switch_to.new_window("tab")
    alice = Page(system.origin, browser, system.plain, user="alice")
    bob = "const bob = [...cms.room.occupants.values()].find(({ nick }) => nick === 'bob');"
    assert not alice.run(f"{bob} return bob.reconnecting")
    way.close()
    alice.until(f"{bob} return bob.reconnecting")
    assert alice.run(INSIDE) == ["alice", "bob"]
    way.open()
    alice.until(f"{bob} return !bob.reconnecting")
    assert alice.run("return cms.events") == []


def test_another_server(
    processes: Processes, certificates: Certificates, browser: Browser, origin: str
) -> None:
    """Prosody has no SASL2: the page logs in, resumes and is in a room of its in the old way."""
    domain = "prosody.example.com"
    pair, rooms = certificates.issue(domain), f"rooms.{domain}"
    modules = "websocket", "smacks"
    peers = {f"echo.{domain}": "secret"}, {"bob": PASSWORD}
    server = Prosody(processes, pair, domain, *peers, *modules, rooms=rooms)
    server.start()
    with road(server.http_port) as way:
        page = Page(origin, browser, way.port, domain=domain, room=f"team@{rooms}")
        assert page.run(INSIDE) == ["bob"]
        page.say("one")
        page.hears("bob: one")
        way.close()
        page.say("two")
        page.until("return cms.session.state !== 'online'")
        way.open()
        page.hears("bob: one", "bob: two")
        assert page.run(STATES)[-1] == ["online", None, True]
        assert page.run("return cms.events") == []
