"""One connection to an LDAP server."""

from __future__ import annotations

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import sansldap
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from sansldap import FilterPresent
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.ldap import connection as module
from cms.callbridge.ldap.codes import SUCCESS, ad_reason, code_name
from cms.callbridge.ldap.connection import (
    MOST_BYTES,
    MOST_REFERENCES,
    MOST_VALUE,
    MOST_VALUES,
    LdapConnection,
    Refused,
)
from cms.callbridge.ldap.framing import MOST_HEAD
from cms.callbridge.ldap.settings import LdapServer
from cms.signalflow import StepError
from cms.trust.verdict import Verdict
from tests.ldapserver import BASE, READER, READER_PASSWORD, MemoryLdap, connected
from tests.support import MemoryTransport

_T = TypeVar("_T")
PEOPLE = FilterPresent("uid")
SERVER = LdapServer("dc1.example.com", 389, is_ip=False, tls_first=False)


def begun(work: Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
    """What a coroutine comes to."""
    return Deferred.fromCoroutine(work)


class ConnectionTests(SynchronousTestCase):
    """Operations on a connection with TLS."""

    def setUp(self) -> None:
        """A server with two people."""
        self.clock = Clock()
        self.server = MemoryLdap()
        for uid in ("alice", "bob"):
            self.server.person(uid)
        self.connection = connected(self.clock, self.server)

    def fault(self, work: Deferred[Any]) -> StepError:
        """Why it failed."""
        error: StepError = self.failureResultOf(work, StepError).value
        return error

    def test_bind(self) -> None:
        """Right and wrong passwords are told apart by the code."""
        bind = self.connection.bind
        self.assertEqual(
            SUCCESS, self.successResultOf(begun(bind(READER, READER_PASSWORD, 1))).code
        )
        self.assertEqual(49, self.successResultOf(begun(bind(READER, "other", 1))).code)
        self.assertEqual([READER, READER], self.server.binds)

    def test_empty_password(self) -> None:
        """It is never sent: the server would say yes, and mean nobody (RFC 4513 5.1.2)."""
        for name, password in ((READER, ""), ("", "s3cret")):
            self.failureResultOf(begun(self.connection.bind(name, password, 1)), ValueError)
        self.assertEqual([], self.server.binds)

    def test_no_bind_without_tls(self) -> None:
        """A password does not leave before TLS is up."""
        connection, transport = LdapConnection(self.clock, SERVER), MemoryTransport()
        transport.connect(connection)
        self.failureResultOf(begun(connection.bind(READER, READER_PASSWORD, 1)), ValueError)
        self.assertEqual(b"", transport.value())

    def test_unknown_code(self) -> None:
        """A code that sansldap does not know is no success, though it says that it equals it."""
        strange = sansldap.LDAPResultCode(4096)
        self.assertEqual(4096, strange.value)
        self.server.bind_code = 4096
        bound = self.successResultOf(begun(self.connection.bind("cn=x", "s3cret", 1)))
        self.assertEqual(4096, bound.code)
        self.server.search_code = 4097
        found = begun(self.connection.search(BASE, PEOPLE, ("uid",), 1, most=5))
        self.assertEqual(4097, self.failureResultOf(found, Refused).value.code)
        self.assertEqual(
            ("invalidCredentials (49)", "result code 4096"), (code_name(49), code_name(4096))
        )

    def test_policy(self) -> None:
        """The error of the password policy is read; what cannot be read is none."""
        answers = ((b"\x30\x03\x81\x01\x01", 1), (b"\x30\x06\xa0\x04\x80\x02\x02\x58", None))
        for value, error in (
            *answers,
            (b"\x30\x05\x81\x01", None),
            (b"", None),
            (b"\x30\x82\x08\x04\x81\x82\x08\x00" + b"\x7f" * 2_048, None),
        ):
            self.server.policy = value
            bound = self.successResultOf(begun(self.connection.bind(READER, READER_PASSWORD, 1)))
            self.assertEqual(error, bound.policy, value)

    def test_search(self) -> None:
        """Entries come with the attributes that were asked for, and no other."""
        page = self.successResultOf(
            begun(self.connection.search(BASE, PEOPLE, ("uid", "cn"), 1, most=5))
        )
        alice = page.entries[0]
        self.assertEqual(f"uid=alice,{BASE}", alice.dn)
        self.assertEqual({"uid": (b"alice",), "cn": (b"Alice",)}, dict(alice.values))
        self.assertNotIn("s3cret", repr(page))

    def test_pages(self) -> None:
        """RFC 2696: page by page until the cookie is empty."""
        names: list[str] = []
        cookie = b""
        while True:
            found = self.connection.search(BASE, PEOPLE, ("uid",), 1, most=1, page=1, cookie=cookie)
            page = self.successResultOf(begun(found))
            names += [entry.dn for entry in page.entries]
            cookie = page.cookie
            if not cookie:
                break
        self.assertEqual([f"uid=alice,{BASE}", f"uid=bob,{BASE}"], names)

    def test_too_many(self) -> None:
        """The server's own limit is a refusal; a server that ignores ours is hung up on."""
        found = begun(self.connection.search(BASE, PEOPLE, ("uid",), 1, most=1))
        self.assertEqual(4, self.failureResultOf(found, Refused).value.code)
        self.server.most = 99
        found = begun(self.connection.search(BASE, PEOPLE, ("uid",), 1, most=1))
        self.assertEqual(faults.LDAP_BROKEN.name, self.fault(found).fault)
        self.assertTrue(self.connection.closed)

    def test_large(self) -> None:
        """A value that is none of an address is left out; a whole answer has its bytes too."""
        self.server.person("carol", cn="x" * (MOST_VALUE + 1), sn="King")
        page = self.successResultOf(
            begun(self.connection.search(BASE, PEOPLE, ("uid", "cn", "sn"), 1, most=9))
        )
        carol = page.entries[-1].values
        self.assertEqual(((b"carol",), (), (b"King",)), (carol["uid"], carol["cn"], carol["sn"]))
        self.patch(module, "MOST_ANSWER", 1_000)
        found = begun(self.connection.search(BASE, PEOPLE, ("uid", "cn"), 1, most=9))
        self.assertIn("longer than 1000 bytes", self.fault(found).cause)
        self.assertTrue(self.connection.closed)

    def test_long_name(self) -> None:
        """A DN that no directory has is not kept, and nothing of that entry is."""
        self.server.add(f"uid={'x' * MOST_VALUE},{BASE}", objectClass="person", uid="x")
        found = begun(self.connection.search(BASE, PEOPLE, ("uid",), 1, most=9))
        entry = self.successResultOf(found).entries[-1]
        self.assertEqual((MOST_VALUE, {}), (len(entry.dn), dict(entry.values)))
        self.assertEqual(f"its DN is longer than {MOST_VALUE} characters", entry.problem)

    def test_too_large(self) -> None:
        """An entry that is too large is named, and the connection goes on."""
        self.server.person("carol", cn=[str(number) for number in range(MOST_VALUES)])
        self.server.person("dan", cn="x" * MOST_BYTES)
        self.server.person("eve")
        found = begun(self.connection.search(BASE, PEOPLE, ("uid", "cn"), 1, most=9))
        entries = self.successResultOf(found).entries
        self.assertEqual(
            ["", "", "it has more than 1000 values", "it is longer than 131072 bytes", ""],
            [entry.problem for entry in entries],
        )
        self.assertEqual([f"uid=dan,{BASE}", f"uid=eve,{BASE}"], [e.dn for e in entries[3:]])
        found = begun(self.connection.search(BASE, PEOPLE, ("uid",), 1, most=9))
        self.assertEqual(5, len(self.successResultOf(found).entries))

    def test_silent(self) -> None:
        """After its time an operation fails, and the connection is closed at once."""
        self.server.frozen = True
        lost: list[LdapConnection] = []
        self.connection.on_lost = lost.append
        found = begun(self.connection.search(BASE, PEOPLE, ("uid",), 2, most=5))
        self.clock.advance(1.9)
        self.assertNoResult(found)
        self.clock.advance(0.2)
        self.assertEqual(faults.LDAP_SILENT.name, self.fault(found).fault)
        self.assertEqual([self.connection], lost)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_lost(self) -> None:
        """What is under way fails when the connection is lost."""
        self.server.frozen = True
        found = begun(self.connection.search(BASE, PEOPLE, ("uid",), 2, most=5))
        self.server.hang_up()
        self.assertEqual(faults.LDAP_BROKEN.name, self.fault(found).fault)
        later = begun(self.connection.search(BASE, PEOPLE, ("uid",), 2, most=5))
        self.assertEqual(faults.LDAP_BROKEN.name, self.fault(later).fault)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_used_after_its_end(self) -> None:
        """However it came to its end, and whatever was under way, it says that it is closed."""
        for ended in (
            lambda connection: connection.dataReceived(b"\x30\x03\x02\x01\x09"),
            lambda connection: connection.close(),
            lambda connection: connection.connectionLost(Failure(ConnectionLost())),
        ):
            self.server.frozen = False
            connection = connected(self.clock, self.server)
            ended(connection)
            for again in (
                lambda used: used.search(BASE, PEOPLE, ("uid",), 2, most=5),
                lambda used: used.bind(READER, "s3cret", 2),
                lambda used: used.start_tls(None, 2),
            ):
                self.assertIn("was closed", self.fault(begun(again(connection))).cause)

    def test_abandoned(self) -> None:
        """Who waits no more has the connection closed: its answer would be taken for another."""
        self.server.frozen = True
        found = begun(self.connection.search(BASE, PEOPLE, ("uid",), 2, most=5))
        found.cancel()
        self.failureResultOf(found)
        self.assertTrue(self.connection.closed)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_close(self) -> None:
        """It says goodbye, and does not wait for a frozen server's side of it."""
        (transport,) = self.server.open
        self.connection.close()
        self.connection.close()
        self.assertTrue(transport.lost)
        self.clock.advance(2)
        self.assertEqual([], self.clock.getDelayedCalls())


class HostileTests(SynchronousTestCase):
    """What a server, or who stands between, may send."""

    def setUp(self) -> None:
        """A connection in the clear."""
        self.clock = Clock()
        self.transport = MemoryTransport()
        self.connection = LdapConnection(self.clock, SERVER)
        self.transport.connect(self.connection)

    def answer(
        self, *, code: int = 0, more: bytes = b"", verification: Any = None
    ) -> Deferred[None]:
        """STARTTLS is asked for and answered."""
        asked = begun(self.connection.start_tls(verification, 2))
        session = sansldap.LDAPServer()
        (request,) = session.receive(self.transport.value())
        self.transport.clear()
        assert isinstance(request, sansldap.ExtendedRequest)
        self.assertEqual("1.3.6.1.4.1.1466.20037", request.name)
        result = sansldap.LDAPResultCode(code)
        session.extended_response(request.message_id, name=request.name, result_code=result)
        self.connection.dataReceived(session.data_to_send() + more)
        return asked

    def test_starttls(self) -> None:
        """TLS begins when the server agrees; until it is up, nothing is asked."""
        self.transport.tls = "not yet"
        asked = self.answer()
        self.assertIsNone(self.transport.tls)
        self.assertNoResult(asked)
        self.transport.handshake()
        self.successResultOf(asked)

    def test_no_starttls(self) -> None:
        """A server that does not agree gets nothing."""
        error = self.failureResultOf(self.answer(code=2), StepError).value
        self.assertEqual(faults.LDAP_NO_STARTTLS.name, error.fault)
        self.assertTrue(self.connection.closed)

    def test_injected(self) -> None:
        """What stands behind the agreement in the clear is not read as the first answer in TLS."""
        forged = sansldap.LDAPServer()
        forged.receive(_bind_request(1))
        forged.bind_response(1)
        asked = self.answer(more=forged.data_to_send()[:9])
        self.transport.handshake()
        self.successResultOf(asked)
        bound = begun(self.connection.bind(READER, "wrong", 2))
        self.connection.dataReceived(b"")
        self.assertNoResult(bound)
        bound.addErrback(lambda _: None)
        self.connection.close()

    def test_handshake_closed(self) -> None:
        """A server that has no certificate closes the connection: "trust its CA" is no cure."""
        asked = self.answer(verification=SimpleNamespace(verdict=Verdict(self.connection.peer)))
        self.connection.connectionLost(Failure(ConnectionLost()))
        error = self.failureResultOf(asked, StepError).value
        self.assertEqual(faults.LDAP_NO_STARTTLS.name, error.fault)
        self.assertIn("does not do STARTTLS: it closed the connection", error.cause)

    def test_handshake_silent(self) -> None:
        """A handshake has its time too."""
        asked = self.answer()
        self.clock.advance(2.1)
        error = self.failureResultOf(asked, StepError).value
        self.assertEqual(faults.LDAP_SILENT.name, error.fault)

    def test_handshake_lost(self) -> None:
        """A port that speaks no TLS is not told as a certificate that is not trusted."""
        self.connection = LdapConnection(self.clock, evolve(SERVER, tls_first=True))
        self.transport.connect(self.connection)
        verification: Any = SimpleNamespace(verdict=Verdict(self.connection.peer))
        asked = self.connection.secure(verification, 2)
        self.connection.connectionLost(Failure(ConnectionLost()))
        error = self.failureResultOf(asked, StepError).value
        self.assertEqual(faults.LDAP_BROKEN.name, error.fault)
        self.assertIn("during the TLS handshake", error.cause)
        self.assertIn("ldaps:// is TLS from the first byte", error.cure)

    def test_unknown_root(self) -> None:
        """A chain is refused at its root, before the server's own certificate was looked at."""
        verdict = Verdict(self.connection.peer)
        verdict.error = faults.CERTIFICATE_ROOT_UNTRUSTED.error(
            peer="dc1", at="CN=Root", problem="self-signed", fingerprint="00"
        )
        asked = self.answer(verification=SimpleNamespace(verdict=verdict))
        self.connection.connectionLost(Failure(ConnectionLost()))
        error = self.failureResultOf(asked, StepError).value
        self.assertEqual(faults.LDAP_UNTRUSTED.name, error.fault)

    def test_other_answer(self) -> None:
        """An end of a search is no answer to a bind."""
        held = MemoryLdap(frozen=True)
        connection = connected(self.clock, held)
        bound = begun(connection.bind(READER, "s3cret", 2))
        session = sansldap.LDAPServer()
        session.receive(_search_request(1))
        session.search_result_done(1)
        connection.dataReceived(session.data_to_send())
        error = self.failureResultOf(bound, StepError).value
        self.assertEqual(faults.LDAP_BROKEN.name, error.fault)

    def test_goodbye(self) -> None:
        """A server that ends the connection is told with its own words (RFC 4511 4.4.1)."""
        connection = connected(self.clock, MemoryLdap(frozen=True))
        bound = begun(connection.bind(READER, "s3cret", 2))
        text = b"\x0a\x01\x34\x04\0\x04\x0agoing down"  # 52
        name = b"\x8a\x161.3.6.1.4.1.1466.20036"
        operation = bytes((0x78, len(text + name))) + text + name
        connection.dataReceived(bytes((0x30, len(operation) + 3, 2, 1, 0)) + operation)
        error = self.failureResultOf(bound, StepError).value
        self.assertEqual(faults.LDAP_BROKEN.name, error.fault)
        self.assertIn("ends the connection, and says unavailable (52): going down", error.cause)

    def test_too_large_unasked(self) -> None:
        """Not even the name is taken of an entry that nobody asked for."""
        head = b"\x02\x01\x09\x64\x83\x20\0\0\x04\x04cn=x" + bytes(MOST_HEAD)
        for asks in (False, True):
            connection = connected(self.clock, MemoryLdap(frozen=True))
            bound = begun(connection.bind(READER, "s3cret", 2)) if asks else None
            connection.dataReceived(b"\x30\x83\x20\0\x05" + head)
            self.assertTrue(connection.closed)
            if bound is not None:
                error = self.failureResultOf(bound, StepError).value
                self.assertIn("it answers what was not asked (bind)", error.cause)

    def test_references(self) -> None:
        """References are counted, and not without an end."""
        reference = b"\x30\x0b\x02\x01\x01\x73\x06\x04\x04ldap"
        for number, is_closed in ((MOST_REFERENCES, False), (MOST_REFERENCES + 1, True)):
            connection = connected(self.clock, MemoryLdap(frozen=True))
            found = begun(connection.search(BASE, PEOPLE, ("uid",), 2, most=5))
            connection.dataReceived(reference * number)
            self.assertEqual(is_closed, connection.closed)
            if not is_closed:
                connection.dataReceived(b"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\0\x04\0\x04\0")
                self.assertEqual(number, self.successResultOf(found).references)
                continue
            error = self.failureResultOf(found, StepError).value
            self.assertIn("more than 1000 references", error.cause)

    def test_long_message(self) -> None:
        """A message without an end is not kept."""
        asked = begun(self.connection.start_tls(None, 2))  # type: ignore[arg-type]
        self.connection.dataReceived(b"\x30\x84\x7f\xff\xff\xff\x02\x01\x01\x78" + bytes(600))
        self.assertNoResult(asked)
        self.connection.dataReceived(bytes(MOST_HEAD))
        error = self.failureResultOf(asked, StepError).value
        self.assertEqual(faults.LDAP_BROKEN.name, error.fault)

    @settings(max_examples=60, deadline=None)
    @given(st.binary(min_size=1, max_size=60))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes, the operation ends, in time, and nothing is raised."""
        clock = Clock()
        connection, transport = LdapConnection(clock, SERVER), MemoryTransport()
        transport.connect(connection)
        asked = begun(connection.start_tls(None, 2))  # type: ignore[arg-type]
        for cut in (data[:7], data[7:]):
            connection.dataReceived(cut)
        clock.advance(3)
        self.failureResultOf(asked, StepError)
        self.assertTrue(transport.lost)


class CodeTests(SynchronousTestCase):
    """Numbers, and no words."""

    def test_ad(self) -> None:
        """Active Directory's number is read where its text has its form."""
        text = (
            "80090308: LdapErr: DSID-0C090449, comment: AcceptSecurityContext error, data {}, v4f7c"
        )
        self.assertEqual("533", ad_reason(text.format("533")))
        for other in ("", "data 533", "account disabled", text.format("533; x")[:20]):
            self.assertEqual("", ad_reason(other))


def _bind_request(_: int) -> bytes:
    client = sansldap.LDAPClient()
    client.bind_simple("cn=x", "y")
    return client.data_to_send()


def _search_request(_: int) -> bytes:
    client = sansldap.LDAPClient()
    client.search_request("")
    return client.data_to_send()
