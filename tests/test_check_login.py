"""C{cms check --login} at servers in memory: what a refusal means, and what mends it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from unittest.mock import patch

from cms import faults
from cms.audit.finding import Finding
from cms.check.lane import Lane
from cms.check.probes.login import Login, LoginProbe
from cms.discovery.resolver import DNS
from cms.signalflow import Step
from cms.xmlstream import ns
from peers.pki import Authority, Leaf
from tests.fakedns import FakeResolver, srv
from tests.fakenetwork import Reply, Script
from tests.support import header
from tests.test_check_walk import (
    ASKED,
    CLIENT,
    DOMAIN,
    ENDS,
    FIRST,
    GOOD,
    HOST,
    OPENS,
    OTHER,
    ROOT,
    SECOND,
    STANZA_ERRORS,
    WalkTests,
    answer_iq,
    stream_error,
)

PASSWORD = "hush-hush"
OPENED = header(ns.CLIENT, " id='c1'")
STARTTLS = f"<stream:features><starttls xmlns='{ns.STARTTLS}'/></stream:features>".encode()
BIND = f"<stream:features><bind xmlns='{ns.BIND}'/></stream:features>".encode()
PROCEED = f"<proceed xmlns='{ns.STARTTLS}'/>".encode()
AUTH = "<auth [^>]*>([^<]*)</auth>"
RESPONSE = "<response [^>]*>([^<]*)</response>"
SECURED: list[tuple[str, Reply]] = [(OPENS, OPENED + STARTTLS), ("<starttls", (PROCEED, "tls"))]
ROUNDS, SALT = 4096, b"salt of the test"


def sasl(name: str, content: bytes | str = b"") -> bytes:
    """An element of the negotiation."""
    inside = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    return f"<{name} xmlns='{ns.SASL}'>{inside}</{name}>".encode()


def offering(*mechanisms: str, binding: str = "") -> bytes:
    """The features after TLS."""
    names = "".join(f"<mechanism>{name}</mechanism>" for name in mechanisms)
    kinds = f"<channel-binding type='{binding}'/>"
    bindings = (
        f"<sasl-channel-binding xmlns='{ns.SASL_CHANNEL_BINDING}'>{kinds}</sasl-channel-binding>"
    )
    offer = f"<mechanisms xmlns='{ns.SASL}'>{names}</mechanisms>{bindings if binding else ''}"
    return OPENED + f"<stream:features>{offer}</stream:features>".encode()


def failure(condition: str, text: str = "", fault: str = "") -> bytes:
    """A refusal."""
    inside = f"<{condition}/>" + (f"<text>{text}</text>" if text else "")
    mark = f" xmlns:f='{ns.FAULT}' f:name='{fault}'" if fault else ""
    return f"<failure xmlns='{ns.SASL}'{mark}>{inside}</failure>".encode()


def bound(script: Script, asked: re.Match[bytes]) -> bytes:
    """A resource."""
    done = answer_iq()
    assert callable(done)
    jid = f"<bind xmlns='{ns.BIND}'><jid>alice@{DOMAIN}/r1</jid></bind>"
    return (done(script, asked) or b"").replace(b"</iq>", f"{jid}</iq>".encode())


def after(time: datetime | None = None) -> list[tuple[str, Reply]]:
    """What follows a success."""
    return [(OPENS, OPENED + BIND), (ASKED, bound), (ASKED, answer_iq(time)), (ENDS, ENDS.encode())]


class ScramServer:
    """
    The other side of SCRAM-SHA-256, by RFC 5802 alone.

    @ivar header: The client's GS2 header.
    """

    def __init__(self, *, knows: bool = True) -> None:
        self.knows = knows
        self.said: list[str] = []
        self.header = ""

    def challenge(self, script: Script, asked: re.Match[bytes]) -> bytes:
        """To the client's first message."""
        first = base64.b64decode(asked[1]).decode()
        self.header, _, bare = first.rpartition(",,")
        nonce = dict(part.split("=", 1) for part in bare.split(","))["r"] + "server"
        self.said = [bare, f"r={nonce},s={base64.b64encode(SALT).decode()},i={ROUNDS}"]
        return sasl("challenge", self.said[1].encode())

    def success(self, script: Script, asked: re.Match[bytes]) -> bytes:
        """To its proof."""
        without, _, proof = base64.b64decode(asked[1]).decode().rpartition(",p=")
        signed = ",".join((*self.said, without)).encode()
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), SALT, ROUNDS)
        key = hmac.digest(salted, b"Client Key", "sha256")
        mask = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        expected = bytes(a ^ b for a, b in zip(key, mask, strict=True))
        if base64.b64decode(proof) != expected:
            return failure("not-authorized")
        server_key = hmac.digest(salted, b"Server Key" if self.knows else b"?", "sha256")
        mine = hmac.digest(server_key, signed, "sha256")
        return sasl("success", b"v=" + base64.b64encode(mine))


class LoginTests(WalkTests):
    """Alice logs in at a server with STARTTLS on L{FIRST}."""

    def login(
        self, *lines: tuple[str, Reply], leaf: Leaf = GOOD, login: str = "alice", **more: Any
    ) -> Finding:
        """What is told of step 12, last."""
        if lines:
            self.serve(lines, self.trust(leaf), port=5222, waits=True)
        self.found: list[Finding] = []
        lane = Lane(self.found.append)
        lane.start()
        probe = LoginProbe(
            self.network,
            self.subject(**more),
            DNS(FakeResolver(self.zone), "the test", self.network),
            Login(login, DOMAIN, PASSWORD),
            lane=lane,
            waiting=lambda *wait: self.waits.append(wait),
            random=Random(1),
        )
        self.assertEqual([None], self.network.finish(probe.run()))
        for _ in range(30):
            self.network.advance(5)
        self.assertEqual([], self.network.getDelayedCalls())
        self.assertNotIn(PASSWORD, str(self.found))
        return self.found[-1]

    def refused(self, *lines: tuple[str, Reply], **more: Any) -> str:
        """The fault that it ends with, at step 12 but where a lower step is to blame."""
        finding = self.login(*lines, **more)
        self.assertEqual("failed", finding.result)
        self.assertEqual(f"alice@{DOMAIN}", finding.about)
        problem = finding.problem
        assert problem is not None
        self.assertEqual(faults.CATALOGUE[problem.fault].step, finding.step)
        self.assertTrue(problem.cure)
        return problem.fault

    def decided(self, answer: Reply) -> str:
        """The fault of an answer to <auth/>."""
        return self.refused(*SECURED, (OPENS, offering("PLAIN")), (AUTH, answer))


class SuccessTests(LoginTests):
    """In and out again."""

    def test_plain(self) -> None:
        """The evidence: server, address, mechanism, TLS; nothing secret."""

        def check(script: Script, asked: re.Match[bytes]) -> bytes:
            self.assertEqual(f"\0alice\0{PASSWORD}".encode(), base64.b64decode(asked[1]))
            return sasl("success")

        told = datetime.fromtimestamp(self.network.wall_seconds(), UTC)
        found = self.login(*SECURED, (OPENS, offering("PLAIN")), (AUTH, check), *after(told))
        self.assertEqual((Step.LOGIN, "passed"), (found.step, found.result))
        self.assertEqual(
            [f"{HOST}:5222", f"alice@{DOMAIN}/r1", "PLAIN"],
            [found.evidence[key] for key in ("server", "address", "mechanism")],
        )
        self.assertEqual("TLSv1.3", found.evidence["protocol"])
        self.assertIn("server_time", found.evidence)
        self.assertEqual(1, len(self.found))

    def test_scram(self) -> None:
        """The strongest that both have; with channel binding where the server knows the kind."""
        for binding, mechanism, start in (
            ("", "SCRAM-SHA-256", "n"),
            ("tls-unique", "SCRAM-SHA-256", "n"),
            ("tls-exporter", "SCRAM-SHA-256-PLUS", "p=tls-exporter"),
        ):
            server = ScramServer()
            found = self.login(
                *SECURED,
                (OPENS, offering("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", binding=binding)),
                (AUTH, server.challenge),
                (RESPONSE, server.success),
                *after(),
            )
            self.assertEqual(mechanism, found.evidence["mechanism"])
            self.assertEqual(start, server.header)

    def test_clock(self) -> None:
        """A server whose clock is wrong is told beside it."""
        ahead = datetime.fromtimestamp(self.network.wall_seconds(), UTC) - timedelta(hours=1)
        accepts: Reply = sasl("success")
        lines = [*SECURED, (OPENS, offering("PLAIN")), (AUTH, accepts), *after(ahead)]
        self.login(*lines)
        self.assertEqual(["clock-apart", ""], [each[2] for each in self.told(self.found)])

    def test_other_target(self) -> None:
        """The next target is tried when one cannot be connected to."""
        self.zone[CLIENT] = [srv(1, 1, 5222, OTHER), srv(2, 1, 5222, HOST)]
        self.network.refuse(SECOND, 5222)
        accepts: Reply = sasl("success")
        found = self.login(*SECURED, (OPENS, offering("PLAIN")), (AUTH, accepts), *after())
        self.assertEqual((f"{HOST}:5222", "passed"), (found.evidence["server"], found.result))

    def test_where(self) -> None:
        """Without a record: the configured server, else the domain itself (RFC 6120 3.2)."""
        accepts: Reply = sasl("success")
        lines = [*SECURED, (OPENS, offering("PLAIN")), (AUTH, accepts), *after()]
        del self.zone[CLIENT]
        self.assertEqual(f"{HOST}:5222", self.login(*lines, server_address=HOST).evidence["server"])
        self.zone[DOMAIN] = self.zone[HOST]
        self.assertEqual(f"{DOMAIN}:5222", self.login(*lines).evidence["server"])
        self.zone[CLIENT] = None
        self.assertEqual(f"{HOST}:5222", self.login(*lines, server_address=HOST).evidence["server"])
        self.assertEqual("login-unreachable", self.refused(*lines))
        self.zone[CLIENT] = [srv(0, 0, 0, ".")]
        self.assertEqual(f"{DOMAIN}:5222", self.login(*lines).evidence["server"])


class RefusalTests(LoginTests):
    """What a server says, and what it means."""

    def test_conditions(self) -> None:
        """The condition alone decides, where the server is not one of ours."""
        for condition, fault in (
            ("not-authorized", "login-denied"),
            ("invalid-authzid", "login-denied"),
            ("account-disabled", "login-disabled"),
            ("credentials-expired", "login-disabled"),
            ("temporary-auth-failure", "login-temporary"),
            ("invalid-mechanism", "login-no-mechanism"),
            ("mechanism-too-weak", "login-no-mechanism"),
            ("aborted", "login-broken"),
        ):
            self.assertEqual(fault, self.decided(failure(condition)), condition)

    def test_faults(self) -> None:
        """What a server of ours adds for programs says more; no text is read."""
        for name, fault in (
            ("no-callbridge", "no-callbridge"),
            ("no-authority", "no-authority"),
            ("login-slowed", "login-slowed"),
            ("link-silent", "login-temporary"),
            ("not-in-the-catalogue", "login-denied"),
        ):
            self.assertEqual(fault, self.decided(failure("not-authorized", "x", name)), name)
        self.assertEqual(
            "login-denied", self.decided(failure("not-authorized", "too many failures"))
        )

    def test_shown(self) -> None:
        """What the server said is shown; who tried, too."""
        self.decided(failure("not-authorized", "go\x7f away"))
        problem = self.found[-1].problem
        assert problem is not None
        self.assertTrue(problem.evidence["text"].isprintable())
        self.assertEqual(f"alice@{DOMAIN}", problem.evidence["user"])

    def test_streams(self) -> None:
        """Errors of the stream, before and after TLS."""
        for condition, fault in (("host-unknown", "login-wrong-domain"), ("reset", "login-broken")):
            self.assertEqual(fault, self.refused((OPENS, OPENED + stream_error(condition))))
        self.assertEqual("login-broken", self.refused((OPENS, b"HTTP/1.1 400 Bad Request")))
        self.assertEqual("login-broken", self.refused(*SECURED, (OPENS, "close")))

    def test_offers(self) -> None:
        """No STARTTLS, no mechanism of ours."""
        bare = OPENED + b"<stream:features/>"
        self.assertEqual("login-no-starttls", self.refused((OPENS, bare)))
        offers = (OPENS, offering("GSSAPI"))
        self.assertEqual("login-no-mechanism", self.refused(*SECURED, offers))
        problem = self.found[-1].problem
        assert problem is not None
        self.assertIn("GSSAPI", problem.cause)

    def test_bind(self) -> None:
        """A resource that is not given."""

        def refuse(script: Script, asked: re.Match[bytes]) -> bytes:
            done = answer_iq()
            assert callable(done)
            inside = f"<error type='cancel'><conflict xmlns='{STANZA_ERRORS}'/></error>"
            result = (done(script, asked) or b"").replace(b"'result'", b"'error'")
            return result.replace(b"</iq>", f"{inside}</iq>".encode())

        accepts: Reply = sasl("success")
        lines = [*SECURED, (OPENS, offering("PLAIN")), (AUTH, accepts), (OPENS, OPENED + BIND)]
        self.assertEqual("login-broken", self.refused(*lines, (ASKED, refuse)))

    def test_silence(self) -> None:
        """It says for what it waited, and how long: four stages for a decision."""
        plain: tuple[str, Reply] = (OPENS, offering("PLAIN"))
        for lines, waited, seconds in (
            ([(OPENS, b"")], "its stream header", "5"),
            ([(OPENS, OPENED)], "its stream features", "5"),
            ([(OPENS, OPENED + STARTTLS)], "leave to begin TLS", "5"),
            ([(OPENS, OPENED + STARTTLS), ("<starttls", PROCEED)], "the TLS handshake", "5"),
            ([*SECURED, plain], "the answer to the log-in", "20"),
        ):
            self.assertEqual("login-timeout", self.refused(*lines, ("never", "tls")))
            problem = self.found[-1].problem
            assert problem is not None
            self.assertIn(waited, problem.cause)
            self.assertIn(f"{seconds} s", problem.cause)

    def test_impostor(self) -> None:
        """A server that does not know the password cannot say that it fits."""
        server = ScramServer(knows=False)
        answers: list[Reply] = [server.challenge, sasl("challenge", "A"), sasl("success", b"v=")]
        for wrong in (b"x", b"\xff", b"r=other,s=AAAA,i=4096", b"r=x,s=AAAA,i=0"):
            answers += [sasl("challenge", wrong)]
        for answer in answers:
            fault = self.refused(
                *SECURED,
                (OPENS, offering("SCRAM-SHA-256")),
                (AUTH, answer),
                (RESPONSE, server.success),
            )
            self.assertEqual("login-broken", fault)
            problem = self.found[-1].problem
            assert problem is not None
            self.assertIn("server-not-proven", problem.cause)

    def test_untrusted(self) -> None:
        """Nothing is sent to a server that cannot be believed; the cure is the certificate's."""
        stranger = Authority("Strangers").issue([DOMAIN])
        self.assertEqual("login-untrusted", self.refused(*SECURED, leaf=stranger))
        for names, result in (([HOST], "login-untrusted"), ([DOMAIN], "login-broken")):
            lines = [*SECURED, (OPENS, "close")]
            self.assertEqual(result, self.refused(*lines, leaf=ROOT.issue(names)))

    def test_unreachable(self) -> None:
        """Why no target could be connected to, with the port."""
        self.network.refuse(FIRST, 5222)
        self.assertEqual("login-unreachable", self.refused())
        problem = self.found[-1].problem
        assert problem is not None
        self.assertIn("refused", problem.cause)
        del self.zone[HOST]
        self.assertEqual("login-unreachable", self.refused())

    def test_over_time(self) -> None:
        """It ends within its bound, whatever is silent."""
        with patch("cms.check.probes.login.STAGES", -7.5):
            found = self.login(*SECURED, (OPENS, offering("PLAIN")), ("never", b""))
        assert found.problem is not None
        self.assertEqual(("check-unfinished", Step.LOGIN), (found.problem.fault, found.step))
        self.assertIn(f"alice@{DOMAIN}", found.problem.cause)
