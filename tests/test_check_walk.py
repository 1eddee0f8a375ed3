"""C{cms check} walks to servers in memory: what it finds, at which step, and what it advises."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from cms.audit.finding import Finding
from cms.check.lane import Lane
from cms.check.probes.daemon import Running
from cms.check.subject import Subject, from_options
from cms.check.walk import Walk
from cms.configuration.tomlfile import Secret
from cms.discovery.resolver import DNS
from cms.signalflow import Step
from cms.trust.files import PEMFiles
from cms.trust.server import ServerTrust
from cms.xmlstream import ns
from peers.pki import Authority, Leaf, Validity, pem
from tests.fakedns import FakeResolver, a, aaaa, srv
from tests.fakenetwork import Network, Reply, Script
from tests.support import header, new_folder

DOMAIN = "meet.example.com"
HOST, OTHER = f"xmpp1.{DOMAIN}", f"xmpp2.{DOMAIN}"
COMPONENT = f"_xmpp-component._tcp.{DOMAIN}"
CLIENT = f"_xmpp-client._tcp.{DOMAIN}"
MISSPELT = f"_xmppcomponent._tcp.{DOMAIN}"
FIRST, SECOND, DEAD = "192.0.2.1", "192.0.2.2", "2001:db8::1"
ROOT = Authority("Root")
GOOD = ROOT.issue([DOMAIN, HOST, OTHER])
ANSWERS = header(ns.COMPONENT, " id='i1'")
ENDS = "</stream:stream>"
STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"


def stream_error(condition: str, text: str = "") -> bytes:
    """It ends the stream."""
    inside = f"<{condition} xmlns='{ns.STREAM_ERRORS}'/>"
    return f"<stream:error>{inside}</stream:error>{ENDS}".encode()


def answer_iq(time: datetime | None = None) -> Reply:
    """A result for whatever is asked: the time is told if there is one to tell."""

    def answer(script: Script, asked: re.Match[bytes]) -> bytes:
        text = asked[0].decode()
        seen = {name: re.search(rf"\b{name}=['\"]([^'\"]*)", text) for name in ("id", "from", "to")}
        swapped = {"id": seen["id"], "from": seen["to"], "to": seen["from"]}
        said = " ".join(f"{name}='{found[1]}'" for name, found in swapped.items() if found)
        inside = ""
        if ns.TIME in text and time is not None:
            inside = f"<time xmlns='{ns.TIME}'><utc>{time.isoformat()}</utc></time>"
        return f"<iq type='result' {said}>{inside}</iq>".encode()

    return answer


ASKED = "<iq .*?</iq>"
OPENS = "<stream:stream[^>]*>"
PROVES = "<handshake>[0-9a-f]{40}</handshake>"


def accepting(time: datetime | None = None) -> list[tuple[str, Reply]]:
    """The script of a server that lets the component in, and answers it."""
    return [
        (OPENS, ANSWERS),
        (PROVES, b"<handshake/>"),
        (ASKED, answer_iq(time)),
        (ASKED, answer_iq(time)),
        (ENDS, ENDS.encode()),
    ]


def refusing(condition: str) -> list[tuple[str, Reply]]:
    """The script of a server that does not."""
    return [(OPENS, ANSWERS), (PROVES, stream_error(condition))]


class WalkTests(SynchronousTestCase):
    """A domain with a record for L{HOST}, and a server there."""

    def setUp(self) -> None:
        """The zone and the network; the server comes later."""
        self.folder = new_folder(self)
        self.network = Network()
        self.network.offset = datetime.now(UTC).timestamp()
        self.zone: dict[str, Any] = {
            COMPONENT: [srv(10, 10, 5223, HOST)],
            CLIENT: [srv(10, 10, 5222, HOST)],
            HOST: [a(FIRST)],
            OTHER: [a(SECOND)],
        }
        self.running = Running()
        self.register: bool | None = None
        self.waits: list[tuple[Step, str, float]] = []

    def put(self, name: str, content: bytes) -> Path:
        """A file."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def trust(self, leaf: Leaf = GOOD, *chain: Authority) -> ServerTrust:
        """A server's side of TLS."""
        pair = leaf.write(self.folder, *chain)
        return ServerTrust(PEMFiles("test.toml", None, pair.certificate, pair.key))

    def serve(
        self,
        lines: Sequence[tuple[str, Reply]],
        trust: ServerTrust | None = None,
        address: str = FIRST,
        port: int = 5223,
        *,
        waits: bool = False,
    ) -> None:
        """A server at an address."""
        self.network.servers[address, port] = lambda: Script(lines, trust, waits=waits)

    def subject(self, **more: Any) -> Subject:
        """The link of cb1, without TLS unless that is asked for."""
        options: dict[str, Any] = {
            "unique_name": "cb1",
            "secret": Secret("hush-hush"),
            "unprotected": True,
            "trust": self.put("ca.pem", pem(ROOT.certificate)),
            **more,
        }
        return from_options(DOMAIN, **options)

    def walk(self, **more: Any) -> list[Finding]:
        """Walk; everything that was told, in its order."""
        found: list[Finding] = []
        lane = Lane(found.append)
        lane.start()
        walk = Walk(
            self.network,
            self.subject(**more),
            DNS(FakeResolver(self.zone), "the test", self.network),
            lane,
            lambda *wait: self.waits.append(wait),
            random=Random(1),
            register=self.register,
            running=self.running,
        )
        self.assertEqual([None], self.network.finish(walk.run()))
        for _ in range(20):  # what a server does not close is closed in time
            self.network.advance(5)
        self.assertEqual([], self.network.getDelayedCalls())
        self.assertNotIn("hush-hush", str(found))
        return found

    def told(self, found: Sequence[Finding]) -> list[tuple[int, str, str]]:
        """Step and result of each, with the fault or the note."""
        return [
            (int(f.step), f.result, f.problem.fault if f.problem is not None else f.note)
            for f in found
        ]

    def wrong(self, found: Sequence[Finding]) -> list[tuple[int, str, str]]:
        """What is no fact."""
        return [each for each in self.told(found) if each[1] in ("failed", "warning")]

    def one(self, found: Sequence[Finding], fault: str) -> Finding:
        """The only finding of a fault."""
        (finding,) = [f for f in found if f.problem is not None and f.problem.fault == fault]
        return finding


class DiscoveryTests(WalkTests):
    """Steps 2 to 5, and what is tried where they lead nowhere."""

    def test_healthy(self) -> None:
        """Each step from 2 to 11 is told once, in order."""
        self.serve(accepting(datetime.fromtimestamp(self.network.wall_seconds(), UTC)))
        found = self.walk()
        self.assertEqual(
            [("warning", "srv-single-target"), ("warning", "unprotected")],
            [each[1:] for each in self.wrong(found)],
        )
        passed = [f for f in found if f.result == "passed"]
        steps = [2, 3, 4, 4, 5, 6, 7, 9, 10, 11]
        self.assertEqual(steps, [int(f.step) for f in passed])
        self.assertEqual("5223", passed[5].evidence["port"])
        self.assertEqual("registered, and let go again", passed[-1].note)
        self.assertIn("server_time", passed[-1].evidence)
        self.assertIn((Step.SRV, COMPONENT, 5.0), self.waits)
        self.assertIn((8, "skipped", "not reached"), self.told(found))

    def test_configuration(self) -> None:
        """What cannot be read ends it; the later steps say why they were not tried."""
        found = self.walk(certificate=self.put("x.crt", b"?"), key=self.put("x.key", b"?"))
        self.assertEqual([(2, "failed", "configuration-value")], self.wrong(found))
        skipped = [each for each in self.told(found) if each[1] == "skipped"]
        self.assertEqual([(step, "skipped", "step 2 failed") for step in range(3, 12)], skipped)
        self.assertIn("PEM", found[0].problem.cure if found[0].problem else "")

    def test_server_address(self) -> None:
        """With one, SRV is not asked, and only one place is walked to."""
        self.serve(accepting(), port=5555)
        found = self.walk(server_address=f"{HOST}:5555")
        self.assertIn((4, "skipped", "a server address is configured"), self.told(found))
        self.assertEqual([(FIRST, 5555)], self.network.connected)
        self.assertIn((11, "passed", "registered, and let go again"), self.told(found))

    def test_localhost(self) -> None:
        """Nobody misses records of a server that is called localhost."""
        self.zone = {"localhost": [a("127.0.0.1")]}
        self.serve(accepting(), address="127.0.0.1")
        found = self.walk(server_address="localhost")
        self.assertEqual(["unprotected"], [each[2] for each in self.wrong(found)])
        self.assertTrue(any("has no use for it" in f.note for f in found))

    def test_no_record(self) -> None:
        """The hosts that clients are sent to are looked at, and only seen if they answer."""
        del self.zone[COMPONENT]
        self.serve([])
        found = self.walk()
        self.assertEqual((4, "failed", "srv-nxdomain"), self.wrong(found)[0])
        problem = self.one(found, "srv-nxdomain").problem
        assert problem is not None
        self.assertEqual(f"{COMPONENT}. 300 IN SRV 10 10 5223 {HOST}.", problem.mend)
        guessed = [f for f in found if f.note.startswith("a guessed host")]
        self.assertEqual([6, 7], [int(f.step) for f in guessed if f.result == "passed"])
        self.assertIn((9, "skipped", "step 4 failed"), self.told(found))

    def test_nothing_to_guess(self) -> None:
        """If no likely host answers, they are named."""
        del self.zone[COMPONENT]
        self.zone[DOMAIN] = [a(SECOND)]
        self.network.refuse(FIRST, 5223)
        self.network.refuse(SECOND, 5223)
        found = self.walk()
        tried = f"{HOST}:5223, {DOMAIN}:5223"
        note = f"none of the hosts that are likely answers: {tried}"
        self.assertIn((6, "skipped", note), self.told(found))

    def test_misspelt(self) -> None:
        """The record as the document prints it is a failure with the right one to copy."""
        self.zone[MISSPELT] = self.zone.pop(COMPONENT)
        self.network.refuse(FIRST, 5223)
        found = self.walk()
        problem = self.one(found, "srv-misspelt").problem
        assert problem is not None
        self.assertIn(HOST, problem.mend)
        self.assertNotIn("srv-misspelt-beside", [each[2] for each in self.wrong(found)])

    def test_beside(self) -> None:
        """What else DNS holds is told, with what is wrong in it."""
        self.serve(accepting())
        self.zone[MISSPELT] = [srv(1, 1, 5223, HOST)]
        self.zone[f"_cisco-uds._tcp.{DOMAIN}"] = [srv(1, 1, 8443, HOST)]
        self.zone[CLIENT] = [srv(3, 4, 5223, HOST)]
        found = self.walk()
        names = ["client-srv-port", "srv-misspelt-beside", "domain-of-others"]
        self.assertLessEqual({*names}, {each[2] for each in self.wrong(found)})
        port = self.one(found, "client-srv-port").problem
        assert port is not None
        self.assertEqual(f"{CLIENT}. 300 IN SRV 3 4 5222 {HOST}.", port.mend)
        for record, fault in (([srv(0, 0, 0, ".")], "client-srv-not-offered"), (None, "")):
            self.zone[CLIENT] = record
            told = self.told(self.walk())
            self.assertIn(fault, [each[2] for each in told])

    def test_no_client_record(self) -> None:
        """Clients' record is missing: they cannot find the server."""
        del self.zone[CLIENT]
        self.serve(accepting())
        doubt = self.one(self.walk(), "client-srv-missing")
        self.assertEqual((Step.SRV, CLIENT), (doubt.step, doubt.about))

    def test_local_target(self) -> None:
        """A record that sends everybody to himself."""
        self.zone[COMPONENT] = [srv(1, 1, 5223, "localhost"), srv(2, 1, 5223, "10.0.0.1")]
        self.zone["localhost"] = [a("127.0.0.1")]
        self.assertIn((4, "warning", "srv-target-local"), self.wrong(self.walk()))

    def test_silent_dns(self) -> None:
        """It fails at step 4, nothing is guessed, and it ends in time."""
        self.zone = dict.fromkeys((COMPONENT, CLIENT))
        found = self.walk()
        self.assertEqual((4, "failed", "dns-silent-srv"), self.wrong(found)[0])
        self.assertEqual([], self.network.connected)

    def test_no_address(self) -> None:
        """A target without an address fails at step 5."""
        del self.zone[HOST]
        found = self.walk()
        self.assertIn((5, "failed", "host-nxdomain"), self.wrong(found))
        self.assertIn((11, "skipped", "step 5 failed"), self.told(found))


class TargetTests(WalkTests):
    """Several targets and addresses: what works all the same is a warning."""

    def two(self) -> None:
        """A second target."""
        self.zone[COMPONENT].append(srv(20, 10, 5223, OTHER))

    def test_one_of_two(self) -> None:
        """The one that works is enough; the other is told with step, cause and cure."""
        self.two()
        self.network.refuse(FIRST, 5223)
        self.serve(accepting(), address=SECOND)
        found = self.walk()
        doubt = self.one(found, "target-fails")
        assert doubt.problem is not None
        self.assertEqual(
            (Step.CONNECT, "warning", f"{HOST}:5223"), (doubt.step, doubt.result, doubt.about)
        )
        self.assertIn("connect-refused", str(doubt.problem.evidence))
        self.assertNotIn("failed", [f.result for f in found])

    def test_none_of_two(self) -> None:
        """Both fail, and are failures."""
        self.two()
        self.network.refuse(FIRST, 5223)
        self.serve(refusing("not-authorized"), address=SECOND)
        failed = [each for each in self.wrong(self.walk()) if each[1] == "failed"]
        self.assertEqual([(6, "failed", "connect-refused"), (10, "failed", "wrong-secret")], failed)

    def test_refused_by_one(self) -> None:
        """A wrong secret stays a failure though another server takes it."""
        self.two()
        self.serve(refusing("not-authorized"))
        self.serve(accepting(), address=SECOND)
        found = self.walk()
        self.assertEqual("failed", self.one(found, "wrong-secret").result)

    def test_other_address(self) -> None:
        """An address that fails after it was connected to, where another one works."""
        self.zone[HOST] = [a(FIRST), a(SECOND)]
        self.serve([(OPENS, "close")])
        self.serve(accepting(), address=SECOND)
        found = self.walk()
        doubt = self.one(found, "address-fails")
        assert doubt.problem is not None
        self.assertEqual((Step.REGISTER, "warning"), (doubt.step, doubt.result))
        self.assertIn(FIRST, doubt.problem.cause)
        self.assertNotIn("failed", [f.result for f in found])

    def test_dead_addresses(self) -> None:
        """Those that cannot be connected to, beside one that can."""
        self.zone[HOST] = {1: [a(FIRST), a(SECOND)], 28: [aaaa(DEAD)]}
        self.network.refuse(DEAD, 5223)
        self.network.refuse(SECOND, 5223)
        self.serve(accepting())
        found = self.walk()
        for fault, address in (("ipv6-dead", DEAD), ("address-dead", SECOND)):
            doubt = self.one(found, fault)
            self.assertEqual((Step.CONNECT, "warning"), (doubt.step, doubt.result))
            self.assertEqual(address, doubt.evidence["address"])

    def test_over_time(self) -> None:
        """What was not walked to its end is named; with a link that is up it is no failure."""
        self.two()
        for lines, result in ((accepting(), "skipped"), ([], "failed")):
            self.serve(lines)
            with patch("cms.check.walk.STAGES", 0.5):
                found = self.walk()
            unwalked = [f for f in found if "because the time was over" in f.note]
            self.assertEqual(f"{OTHER}:5223", unwalked[-1].about)
            last = [f for f in found if f.result == "failed" or "did not end" in f.note][-1]
            self.assertEqual(result, last.result)


class RegistrationTests(WalkTests):
    """Steps 9 to 11."""

    def end(self, lines: Sequence[tuple[str, Reply]]) -> list[tuple[int, str, str]]:
        """What is told from step 9 on."""
        self.serve(lines)
        return [each for each in self.told(self.walk()) if each[0] >= 9]

    def test_refused(self) -> None:
        """Each with its fault; what follows says which step failed."""
        for condition, fault, step in (
            ("not-authorized", "wrong-secret", 10),
            ("host-unknown", "unknown-id", 10),
            ("internal-server-error", "registration-rejected", 10),
        ):
            told = self.end(refusing(condition))
            self.assertEqual(
                [(step, "failed", fault), (11, "skipped", f"step {step} failed")], told[-2:]
            )

    def test_already_connected(self) -> None:
        """The secret is proved; the link that is up is not ours to look at."""
        told = self.end(refusing("conflict"))
        self.assertEqual(
            [
                (9, "passed", ""),
                (10, "passed", "already connected, which proves the secret"),
                (11, "skipped", "the link that is up already belongs to the Callbridge"),
            ],
            told,
        )

    def test_nothing_to_register_with(self) -> None:
        """Without ID and secret, and with --no-register."""
        self.serve([])
        for more, register, why in (
            ({"secret": None}, None, "no unique name and secret were given"),
            ({}, False, "--no-register was given"),
        ):
            self.register = register
            told = [each for each in self.told(self.walk(**more)) if each[0] >= 9]
            self.assertEqual([(step, "skipped", why) for step in (9, 10, 11)], told)

    def test_up_already(self) -> None:
        """The daemon says that its link is up: it is not disturbed."""
        told = Finding(Step.ACTIVE, "passed", "the running Callbridge")
        self.running = Running("running", f"{HOST}:5223", told)
        seen = self.end([(OPENS, ANSWERS)])
        note = "already connected, as the Callbridge says itself, which proves the secret"
        self.assertEqual([(9, "passed", ""), (10, "passed", note), (11, "passed", "")], seen)

    def test_shared_link(self) -> None:
        """A server that would share a live link's stanzas is left in peace, unless asked for."""
        shares = header(ns.COMPONENT, " id='12345678901234567890'")
        told = self.end([(OPENS, shares)])
        self.assertEqual([9, 10, 11], [each[0] for each in told])
        self.assertEqual(["passed", "skipped", "skipped"], [each[1] for each in told])
        self.assertIn("--register does it all the same", told[1][2])
        self.register = True
        told = self.end([(OPENS, shares), *accepting()[1:]])
        self.assertEqual(["passed"] * 3, [each[1] for each in told])

    def test_silent_link(self) -> None:
        """A ping that is not answered."""
        told = self.end(accepting()[:2])
        self.assertEqual((11, "failed", "link-silent"), told[-1])

    def test_useless_link(self) -> None:
        """The server does not serve the domain."""

        def unserved(script: Script, asked: re.Match[bytes]) -> bytes:
            done = answer_iq()
            assert callable(done)
            result = (done(script, asked) or b"").replace(b"'result'", b"'error'")
            condition = f"<remote-server-not-found xmlns='{STANZA_ERRORS}'/>"
            inside = f"<error type='cancel'>{condition}</error>"
            return result.replace(b"</iq>", f"{inside}</iq>".encode())

        told = self.end([*accepting()[:2], (ASKED, unserved), (ASKED, unserved)])
        self.assertEqual((11, "failed", "domain-not-served"), told[-1])

    def test_lost_link(self) -> None:
        """The server ends it in the moment that it was up."""
        for reply, fault in (("close", "link-lost"), (ENDS.encode(), "link-closed")):
            lines: list[tuple[str, Reply]] = [*accepting()[:2], (ASKED, reply)]
            self.assertEqual((11, "failed", fault), self.end(lines)[-1])

    def test_clock(self) -> None:
        """A server whose clock is an hour ahead."""
        ahead = datetime.fromtimestamp(self.network.wall_seconds(), UTC) + timedelta(hours=1)
        told = self.end(accepting(ahead))
        self.assertEqual((11, "warning", "clock-apart"), told[-1])

    def test_unexpected(self) -> None:
        """An error of our own is told at the step that it happened in."""
        with patch("cms.check.probes.link.ask_time", side_effect=KeyError("x")):
            self.serve(accepting())
            failed = self.one(self.walk(), "internal")
        assert failed.problem is not None
        self.assertEqual((Step.ACTIVE, "failed"), (failed.step, failed.result))
        self.assertIn("KeyError", failed.problem.cause)


class TLSTests(WalkTests):
    """Steps 7 and 8, with real handshakes."""

    def shake(
        self, leaf: Leaf = GOOD, *chain: Authority, lines: Sequence[tuple[str, Reply]] = ()
    ) -> list[Finding]:
        """With a server of this certificate."""
        self.serve(lines or accepting(), self.trust(leaf, *chain))
        return self.walk(unprotected=False)

    def test_healthy(self) -> None:
        """All steps pass; the certificate is in the evidence of step 7, its names in that of 8."""
        found = self.shake()
        self.assertEqual([(4, "warning", "srv-single-target")], self.wrong(found))
        steps = {int(f.step): f for f in found if f.result == "passed"}
        self.assertEqual([*range(2, 12)], sorted(steps))
        self.assertEqual("TLSv1.3", steps[7].evidence["protocol"])
        self.assertIn("1 in order", steps[7].evidence["chain"])
        self.assertIn(HOST, steps[8].evidence["names"])

    def test_names(self) -> None:
        """Step 7 passes, step 8 says which name is missing; nothing is sent to that server."""
        found = self.shake(ROOT.issue([HOST]))
        self.assertEqual((8, "failed", "identity-domain-missing"), self.wrong(found)[-1])
        self.assertIn("passed", [f.result for f in found if f.step is Step.TLS])
        self.assertIn((9, "skipped", "step 8 failed"), self.told(found))

    def test_untrusted(self) -> None:
        """Step 7 fails; the names are looked at all the same."""
        stranger = Authority("Strangers")
        for names, result in (([DOMAIN, HOST], "passed"), ([HOST], "failed")):
            found = self.shake(stranger.issue(names), stranger)
            self.assertIn((7, "failed", "certificate-root-untrusted"), self.wrong(found))
            (identity,) = [f for f in found if f.step is Step.IDENTITY]
            self.assertEqual(result, identity.result)
        self.assertIn("chain", self.one(found, "certificate-root-untrusted").evidence)

    def test_doubts(self) -> None:
        """What works by luck: few days, a wildcard, an order."""
        soon = ROOT.issue([DOMAIN, f"*.{DOMAIN}"], validity=Validity(-1, 9))
        told = self.wrong(self.shake(soon, Authority("Other")))
        self.assertEqual(
            [
                (7, "warning", "certificate-expires-soon"),
                (7, "warning", "certificate-chain-surplus"),
                (8, "warning", "identity-wildcard"),
            ],
            told[1:],
        )

    def test_no_tls(self) -> None:
        """What listens there instead is found out, or it stays what it was."""
        features = header(ns.CLIENT, " id='1'") + b"<stream:features/>"
        for lines, fault in (
            ([("..", b"HTTP/1.1 400 Bad Request\r\n\r\n")], "tls-http"),
            ([("<stream:stream", features), ("\x16\x03", "close")], "tls-client-port"),
            ([("\x16\x03", "close")], "tls-closed"),
            ([("\x16\x03", "abort")], "tls-reset"),
            ([("never", b"")], "tls-silent"),
        ):
            self.serve(lines)  # type: ignore[arg-type]
            found = self.walk(unprotected=False)
            self.assertEqual((7, "failed", fault), self.wrong(found)[-1])

    def test_registers_in_turn(self) -> None:
        """Two targets are walked to at once, but register one after the other."""
        self.zone[COMPONENT].append(srv(20, 10, 5223, OTHER))
        self.serve(accepting(), self.trust())
        self.serve(accepting(), self.trust(), SECOND)
        found = self.walk(unprotected=False)
        self.assertEqual([], self.wrong(found))
        self.assertEqual(2, len([f for f in found if f.step is Step.ACTIVE]))
