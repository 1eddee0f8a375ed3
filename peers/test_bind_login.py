"""Step 4 to step 12 with strangers at both ends: BIND, slixmpp and go-sendxmpp."""

from __future__ import annotations

import signal

import pytest

from peers.bind import Bind
from peers.certs import Certificates
from peers.clients import Driver, GoSendxmpp, slixmpp_client
from peers.contract import DOMAIN, NO_LINK_CONDITION
from peers.daemons import Callbridge, XmppServer
from peers.network import wait_until
from peers.processes import Processes

ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
PASSWORDS = {ALICE: "alice's pass word", BOB: "b\u00f6b"}


class System:
    """BIND, an XMPP server and a Callbridge with two users."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._processes = processes
        self._trust = certificates.trust
        self.server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        srv = f"_xmpp-component._tcp SRV 10 10 {self.server.component_port} xmpp1"
        self.dns = Bind(processes, {DOMAIN: [srv, "xmpp1 A 127.0.0.1"]})
        self.callbridge = Callbridge(processes, certificates, "s3cret", dns=self.dns)
        for jid, password in PASSWORDS.items():
            self.callbridge.add_user(jid, password)

    def start(self) -> None:
        """Start all three, in the order in which they need each other."""
        self.dns.start()
        self.server.start()
        self.callbridge.start()

    def slixmpp(self, jid: str, password: str | None = None, **more: object) -> Driver:
        """A client that is not connected yet."""
        password = PASSWORDS[jid] if password is None else password
        port = self.server.client_port
        return slixmpp_client(self._processes, jid, password, port, self._trust, **more)

    def go_sendxmpp(self, jid: str) -> GoSendxmpp:
        """The other client."""
        port = self.server.client_port
        return GoSendxmpp(self._processes, jid, PASSWORDS[jid], port, self._trust)


@pytest.fixture
def system(processes: Processes, certificates: Certificates) -> System:
    """Made, but not started."""
    return System(processes, certificates)


# No -PLUS: Python's ssl module, and so slixmpp, has no tls-exporter (RFC 9266).
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
def test_slixmpp_logs_in(system: System, mechanism: str) -> None:
    """Each mechanism that both know logs it in, over STARTTLS."""
    system.start()
    client = system.slixmpp(ALICE, mechanism=mechanism)
    online = client.connected()
    assert online["mechanism"] == mechanism
    assert online["jid"].startswith(f"{ALICE}/")


def test_slixmpp_chooses_scram(system: System) -> None:
    """Left to itself slixmpp uses SCRAM, and the server answers its disco and ping."""
    system.start()
    client = system.slixmpp(ALICE)
    assert client.connected()["mechanism"].startswith("SCRAM-SHA-")
    assert client.ping(DOMAIN)["type"] == "result"
    assert "http://jabber.org/protocol/disco#info" in client.disco(DOMAIN)["features"]
    assert client.ping(f"cb1.{DOMAIN}")["type"] == "result"


def test_slixmpp_to_slixmpp(system: System) -> None:
    """Two users write to each other."""
    system.start()
    alice, bob = system.slixmpp(ALICE), system.slixmpp(BOB)
    alice_jid, bob_jid = alice.connected()["jid"], bob.connected()["jid"]
    alice.message(bob_jid, "to the full address")
    heard = bob.expect("message")
    assert (heard["sender"], heard["body"]) == (alice_jid, "to the full address")
    bob.message(ALICE, "to the bare address \u2014 <&>")
    heard = alice.expect("message")
    assert (heard["sender"], heard["body"]) == (bob_jid, "to the bare address \u2014 <&>")


def test_go_sendxmpp_and_slixmpp(system: System) -> None:
    """
    go-sendxmpp logs in over STARTTLS and writes to slixmpp, and the other way round.

    Debian 12's go-sendxmpp knows no SCRAM: over TLS it uses PLAIN.
    """
    system.start()
    alice = system.slixmpp(ALICE)
    alice.connected()
    status, output = system.go_sendxmpp(BOB).send(ALICE, "written in Go")
    assert status == 0, output
    heard = alice.expect("message")
    assert heard["sender"].startswith(f"{BOB}/")
    assert heard["body"] == "written in Go"

    listening = system.go_sendxmpp(BOB).listen()
    # Its resource appears in the answer to bind; presence follows at once.
    listening.wait_for("go-sendxmpp.", 15.0)

    def answered() -> bool:
        alice.message(BOB, "written in Python")
        return f"{ALICE}: written in Python" in listening.output

    wait_until(answered, 15.0, "the message in go-sendxmpp's output")


def test_wrong_password_and_unknown_user(system: System) -> None:
    """A wrong password and an unknown user are refused alike, and the next log-in is served."""
    system.start()
    wrong = system.slixmpp(ALICE, "not hers")
    wrong.connect()
    assert wrong.expect("refused")["condition"] == "not-authorized"
    unknown = system.slixmpp(f"nobody@{DOMAIN}", "nothing")
    unknown.connect()
    assert unknown.expect("refused")["condition"] == "not-authorized"
    assert system.slixmpp(BOB).connected()


def test_no_login_before_the_link(system: System) -> None:
    """Step 1: a log-in waits for a Callbridge; if none comes, its stream ends and says why."""
    system.dns.start()
    system.server.start()
    client = system.slixmpp(ALICE)
    client.connect()
    refused = client.expect("stream-error", 20.0)
    assert refused["condition"] == NO_LINK_CONDITION
    assert "callbridge" in refused["text"].lower()
    client.process.stop()
    early = system.slixmpp(ALICE)
    early.connect()
    system.callbridge.start()
    early.expect("online")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (signal.SIGKILL, "was lost in the middle of the log-in"),
        (None, "did not decide the log-in within 15.0 s"),
    ],
)
def test_callbridge_gone_in_a_login(system: System, end: signal.Signals | None, words: str) -> None:
    """Step 12: a Callbridge that hangs, or dies, while it decides; the next log-in is served."""
    system.start()
    client = system.slixmpp(ALICE)
    callbridge = system.callbridge.process
    callbridge.signal(signal.SIGSTOP)
    client.connect()
    if end is not None:
        with pytest.raises(AssertionError):
            client.expect("stream-error", 1.0)
        callbridge.signal(end)
    refused = client.expect("stream-error", 20.0)
    assert refused["condition"] == NO_LINK_CONDITION
    assert f"step 12 login: The Callbridge cb1.{DOMAIN} {words}" in refused["text"]
    system.server.process.wait_for(f"failed: step 12 login: The Callbridge cb1.{DOMAIN}", 5.0)
    callbridge.signal(signal.SIGCONT)
    if end is not None:
        system.callbridge.start()
    assert system.slixmpp(BOB).connected()


def test_no_secret_in_the_logs(system: System) -> None:
    """After log-ins good and bad, neither log holds the secret, a password or a message."""
    system.start()
    alice = system.slixmpp(ALICE, mechanism="PLAIN")
    alice.connected()
    bad = system.slixmpp(BOB, "wr0ng-passw0rd", mechanism="PLAIN")
    bad.connect()
    bad.expect("refused")
    alice.message(ALICE, "for nobody's log")
    alice.expect("message")
    logs = system.server.process.output + system.callbridge.process.output
    for private in ("s3cret", PASSWORDS[ALICE], "wr0ng-passw0rd", "for nobody's log"):
        assert private not in logs
