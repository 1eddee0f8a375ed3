"""One client with an account against everybody else: the link stays, and all log in."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from peers.certs import Certificates
from peers.contract import DOMAIN, LINK_ACTIVE
from peers.network import wait_until
from peers.processes import Processes
from peers.test_bind_login import ALICE, BOB, PASSWORDS, System
from peers.wire import WireClient

CALLBRIDGE = f"cb1.{DOMAIN}"
PING = "<ping xmlns='urn:xmpp:ping'/>"
INFO = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
LOGINS = 4


class Hostile(WireClient):
    """
    Sends something again and again, as fast as it is taken.

    @ivar sent: How many bytes were.
    @ivar heard: And came back, where it reads.
    """

    sent = heard = 0

    def attack(self, words: bytes, until: threading.Event, *, reads: bool) -> None:
        """Begin, in a thread."""
        self._socket.setblocking(False)
        self.thread = threading.Thread(target=self._attack, args=(words, until, reads))
        self.thread.start()

    def _attack(self, words: bytes, until: threading.Event, reads: bool) -> None:
        left = memoryview(words)
        while not until.is_set():
            moved = False
            try:
                done = self._socket.send(left[:65536])
                self.sent += done
                left, moved = left[done:] or memoryview(words), True
            except (ssl.SSLWantWriteError, BlockingIOError):
                pass
            except OSError:
                return  # the server has had enough of it
            if reads:
                try:
                    data = self._socket.recv(65536)
                    self.heard += len(data)
                    moved = True
                    if not data:
                        return
                except (ssl.SSLWantReadError, BlockingIOError):
                    pass
                except OSError:
                    return
            if not moved:
                time.sleep(0.005)


class Besieged:
    """A system that is up, with somebody who means no good."""

    def __init__(self, system: System, certificates: Certificates) -> None:
        self.system = system
        self._trust = certificates.trust
        system.start()
        system.server.process.wait_for("decides log-ins", 15.0)
        self.until = threading.Event()
        self.hostile: list[Hostile] = []

    def log_in(self, jid: str = ALICE) -> WireClient:
        """Somebody honest."""
        user = jid.partition("@")[0]
        return WireClient(self.system.server.client_port, self._trust, user, PASSWORDS[jid])

    def enter(self, resource: str) -> Hostile:
        """Somebody who is not, logged in."""
        port = self.system.server.client_port
        hostile = Hostile(port, self._trust, "bob", PASSWORDS[BOB], resource=resource)
        self.hostile.append(hostile)
        return hostile

    def flood(self, xml: str, *, resource: str = "m", reads: bool = False) -> Hostile:
        """Let one send this again and again."""
        hostile = self.enter(resource)
        hostile.attack((xml * (1 + 100_000 // len(xml))).encode(), self.until, reads=reads)
        return hostile

    @contextmanager
    def ends(self) -> Iterator[None]:
        """Whatever happens, they stop."""
        try:
            yield
        finally:
            self.until.set()
            for hostile in self.hostile:
                if hasattr(hostile, "thread"):
                    hostile.thread.join(10.0)


def ask(payload: str, to: str = CALLBRIDGE) -> str:
    """A request."""
    return f"<iq type='get' id='c1' to='{to}'>{payload}</iq>"


def _asks_and_does_not_read(besieged: Besieged) -> None:
    besieged.flood(ask(INFO))


def _asks_and_reads(besieged: Besieged) -> None:
    besieged.flood(ask(PING), reads=True)


def _messages_to_the_callbridge(besieged: Besieged) -> None:
    besieged.flood(f"<message to='{CALLBRIDGE}'><b/></message>", resource="r" * 1_000)


def _asks_the_server(besieged: Besieged) -> None:
    besieged.flood(ask(INFO, DOMAIN))


def _asks_the_server_and_reads(besieged: Besieged) -> None:
    besieged.flood(ask(INFO, DOMAIN), reads=True)


def _each_other(besieged: Besieged) -> None:
    body = f"<body>{'x' * 2_000}</body>"
    for own, other in ("ab", "ba"):
        besieged.flood(f"<message to='{BOB}/{other}'>{body}</message>", resource=own)


def _presence(besieged: Besieged) -> None:
    for number in range(10):
        besieged.enter(f"r{number}").send("<presence/>")
    besieged.flood(f"<presence><status>{'s' * 56_000}</status></presence>")


def _to_many_ids(besieged: Besieged) -> None:
    asked = "".join(
        f"<iq type='get' id='c{number}' to='{CALLBRIDGE}'>{PING}</iq>" for number in range(2_000)
    )
    besieged.flood(asked, resource="r&amp;d", reads=True)


def _answers_in_an_unusual_form(besieged: Besieged) -> None:
    """Whose address and ids make every answer on the shared link look otherwise."""
    asked = f"<iq type='get' id=\"a'b>c&amp;\" to='{CALLBRIDGE}'>{PING}</iq>"
    besieged.flood(asked, resource="r&amp;d's &lt;b>", reads=True)


def _requests_in_an_unusual_form(besieged: Besieged) -> None:
    host = CALLBRIDGE.replace(".", "&#x2e;")
    asked = f"<iq  type='get'\n id = \"c1\" to='{host}'>{PING}</iq>"
    besieged.flood(asked, resource="m", reads=True)


def _what_the_fast_way_cannot_read(besieged: Besieged) -> None:
    hidden = f"<message to='{BOB}/none'><body><![CDATA[x]]></body></message>"
    besieged.flood(hidden * 50 + ask(PING).replace("</iq>", "</iq >"), reads=True)


ATTACKS: dict[str, Callable[[Besieged], None]] = {
    "asks and does not read": _asks_and_does_not_read,
    "asks and reads": _asks_and_reads,
    "messages to the Callbridge": _messages_to_the_callbridge,
    "asks the server": _asks_the_server,
    "asks the server and reads": _asks_the_server_and_reads,
    "two flood each other": _each_other,
    "presence": _presence,
    "ids of others": _to_many_ids,
    "answers in an unusual form": _answers_in_an_unusual_form,
    "requests in an unusual form": _requests_in_an_unusual_form,
    "what the fast way cannot read": _what_the_fast_way_cannot_read,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_everybody_logs_in(attack: str, processes: Processes, certificates: Certificates) -> None:
    """All who log in meanwhile do, what they say arrives, and the link has never ended."""
    system = System(processes, certificates)
    besieged = Besieged(system, certificates)
    with besieged.ends():
        ATTACKS[attack](besieged)
        victims = [h for h in besieged.hostile if hasattr(h, "thread")]
        wait_until(lambda: all(h.sent > 200_000 for h in victims), 20.0, "the attack to begin")
        times = []
        for _ in range(LOGINS):
            before = time.monotonic()
            client = besieged.log_in()
            assert client.jid.startswith(f"{ALICE}/")
            assert client.ask("get", PING, CALLBRIDGE).get("type") == "result"
            times.append(time.monotonic() - before)
    print(f"{attack}: log-ins took {[round(t, 2) for t in times]}")
    print(f"sent {[h.sent for h in victims]}, heard {[h.heard for h in victims]}")
    assert system.callbridge.process.output.count(LINK_ACTIVE) == 1
    assert system.server.process.output.count("component cb1.") == 1
