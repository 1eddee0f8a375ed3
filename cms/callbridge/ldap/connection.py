"""
One connection to an LDAP server (RFC 4511): a thin shell around sansldap, which reads and
writes the messages.

It does one operation at a time.  Each has its time, after which the connection is closed:
an answer that comes late is never taken for that of the next operation.  What the server
sends is limited in bytes, and an entry that is too large is named and not read.  Referrals
are reported and never followed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

import sansldap
from attrs import field, frozen
from sansldap import LDAPClient, LDAPFilter, PagedResultControl, SearchScope
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from cms import faults
from cms.callbridge.ldap.codes import SUCCESS, code_name
from cms.callbridge.ldap.framing import Frames, NoLdap, TooLarge
from cms.callbridge.ldap.mapping import Entry
from cms.callbridge.ldap.settings import LdapServer
from cms.signalflow import StepError
from cms.trust.browser import BrowserVerification
from cms.trust.connection import connection_of, explain_handshake, tls_evidence

MOST_BYTES = 1 << 17  # of one entry
MOST_VALUES = 1_000  # of one entry
MOST_ANSWER = 1 << 24  # bytes of one answer, which is many messages
MOST_REFERENCES = 1_000  # of one answer
MOST_VALUE = 2_048  # bytes of a value, and characters of a DN
MOST_TEXT = 200  # characters of the server's own words that are shown
_START_TLS = "1.3.6.1.4.1.1466.20037"  # RFC 4511 4.14.1
_GOODBYE = "1.3.6.1.4.1.1466.20036"  # RFC 4511 4.4.1
_POLICY = "1.3.6.1.4.1.42.2.27.8.5.1"  # draft-behera-ldap-password-policy 6.1
# What the exceptions of sansldap mean, where that can be told.
_WRONG = {
    "ProtocolError": "it answers what was not asked",
    "NotImplementedError": "it answers with an operation that nobody asked for",
    "UnicodeDecodeError": "it sends text that is not in UTF-8",
}


class Refused(Exception):
    """
    The server answered, and said no.

    @ivar code: Its result code (RFC 4511 4.1.9).
    @ivar text: Its own words, for people.
    """

    def __init__(self, peer: str, code: int, text: str = "") -> None:
        super().__init__(code_name(code))
        self.peer = peer
        self.code = code
        self.text = text

    @property
    def words(self) -> str:
        """Code and text."""
        return said(self.code, self.text)


@frozen
class Bound:
    """
    What a server says of a password.

    @ivar code: The result code; 0 if it is right.
    @ivar text: The server's own words.
    @ivar policy: The error of the password policy (draft-behera 6.2): 0 expired, 1 locked,
        2 must be changed; C{None} without one.
    """

    code: int
    text: str = ""
    policy: int | None = None


@frozen
class FoundEntry:
    """
    An entry.

    @ivar dn: Its name, as the server writes it.
    @ivar values: Of each attribute, but those that are longer than L{MOST_VALUE}.
    @ivar problem: Why it was not read, and has no values; empty: it was.
    """

    dn: str
    values: Entry = field(repr=False)
    problem: str = ""


@frozen
class Page:
    """
    The answer to a search.

    @ivar references: How many parts of the tree are on other servers, which are not asked.
    @ivar cookie: With which the next page is asked for; empty if this is the last.
    """

    entries: tuple[FoundEntry, ...]
    references: int = 0
    cookie: bytes = field(default=b"", repr=False)


@implementer(IHandshakeListener)
class LdapConnection(Protocol):
    """
    The connection.  Each operation fails with a L{StepError} if there is no answer, and the
    connection is closed then; L{closed} says so.

    @param server: Where it leads to.
    @ivar peer: The same, for reports.
    @ivar on_lost: Called once, when the connection is gone.
    @ivar evidence: Of TLS.
    @ivar most_message: Bytes of one entry that are read, if other than L{MOST_BYTES}.
    @ivar most_values: Values of an entry that is read.
    @ivar most_value: Bytes of a value that is taken.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, server: LdapServer) -> None:
        self._clock = clock
        self.server = server
        self.peer = str(server)
        self.on_lost: Callable[[LdapConnection], object] = lambda _: None
        self._messages = LDAPClient()
        self._frames = Frames()
        self._waits: Deferred[Any] | None = None
        self._limit: IDelayedCall | None = None
        self._doing = ""
        self._awaited: type[sansldap.LDAPMessage] = sansldap.ExtendedResponse
        self._entries: list[FoundEntry] = []
        self._references = 0
        self._most_entries = 0
        self.most_message, self.most_values, self.most_value = 0, MOST_VALUES, MOST_VALUE
        self._read = 0
        self._verification: BrowserVerification | None = None
        self._is_secure = False
        self.closed = False
        self.evidence: dict[str, str] = {}

    # operations

    def secure(self, verification: BrowserVerification, seconds: float) -> Deferred[None]:
        """TLS on a connection on which nothing was said yet, or after STARTTLS was agreed."""
        handshake = self._wait("TLS handshake", seconds)
        self._verification = verification
        self.transport.startTLS(verification)
        return handshake

    async def start_tls(self, verification: BrowserVerification, seconds: float) -> None:
        """
        STARTTLS (RFC 4511 4.14).

        @raise StepError: C{ldap-no-starttls} if the server does not do it.
        """
        began = self._clock.seconds()
        self._session.extended_request(_START_TLS)
        answer = await self._ask("STARTTLS", seconds, sansldap.ExtendedResponse)
        result = answer.result
        if result.result_code.value != SUCCESS:
            self.close()
            problem = said(result.result_code.value, _shortened(result.diagnostics_message))
            raise self._no_starttls(problem)
        # What came with the answer in the clear is forgotten with the readers of it.
        self._messages, self._frames = LDAPClient(), Frames()
        await self.secure(verification, max(0.01, seconds - (self._clock.seconds() - began)))

    async def bind(self, name: str, password: str, seconds: float) -> Bound:
        """
        A simple bind (RFC 4513 5.1.3), and never without a password: that would succeed, and
        mean nobody (5.1.2).

        @param name: A DN, or what else the server takes.
        @raise ValueError: name or password is empty, or there is no TLS.
        """
        if not name or not password or not self._is_secure:
            raise ValueError("a bind needs a name, a password and TLS")
        control = sansldap.LDAPControl(_POLICY, False, None)
        self._session.bind_simple(name, password, controls=[control])
        answer = await self._ask("bind", seconds, sansldap.BindResponse)
        result = answer.result
        policy = next((c.value for c in answer.controls if c.control_type == _POLICY), None)
        return Bound(
            result.result_code.value,
            _shortened(result.diagnostics_message),
            None if policy is None else _policy_error(policy),
        )

    async def search(
        self,
        base: str,
        wanted: LDAPFilter,
        attributes: tuple[str, ...],
        seconds: float,
        *,
        most: int,
        scope: SearchScope = SearchScope.SUBTREE,
        page: int = 0,
        cookie: bytes = b"",
    ) -> Page:
        """
        Search, or get one page of a search (RFC 2696).

        @param attributes: The only ones that are sent.
        @param most: Entries that are taken; with more the connection is closed.
        @param page: Entries in a page; 0: no pages.
        @param seconds: For the whole answer.
        @raise Refused: the server says no, C{sizeLimitExceeded} and C{referral} among it.
        """
        self._entries, self._references, self._most_entries = [], 0, most
        paged = [PagedResultControl(critical=True, size=page, cookie=cookie)] if page else []
        self._session.search_request(
            base,
            scope,
            size_limit=0 if page else most,
            time_limit=ceil(seconds) + 1,  # behind ours, which tells one thing of all servers
            filter=wanted,
            attributes=list(attributes) or ["1.1"],
            controls=list(paged),
        )
        answer = await self._ask("search", seconds, sansldap.SearchResultDone)
        code = answer.result.result_code.value
        if code != SUCCESS:
            raise Refused(self.peer, code, _shortened(answer.result.diagnostics_message))
        entries, self._entries = tuple(self._entries), []
        more = (c.cookie for c in answer.controls if isinstance(c, PagedResultControl))
        return Page(entries, self._references, next(more, b""))

    def close(self) -> None:
        """Close it; what is under way fails."""
        if self.closed:
            return
        self.closed = True
        if self._waits is None and self._messages.state is not sansldap.SessionState.CLOSED:
            self._messages.unbind()
            self.transport.write(self._messages.data_to_send())
            self.transport.loseConnection()
            # A frozen server would keep us waiting for its side of the end.
            self._limit = self._clock.callLater(1.0, self.transport.abortConnection)
        else:
            self.transport.abortConnection()

    # the wire

    @property
    def _session(self) -> LDAPClient:
        """For a request; that of a connection which is closed takes none any more."""
        return LDAPClient() if self.closed else self._messages

    def _ask(
        self, doing: str, seconds: float, awaited: type[sansldap.LDAPMessage]
    ) -> Deferred[Any]:
        self._awaited = awaited
        self._read = 0
        answer = self._wait(doing, seconds)
        data = self._messages.data_to_send()
        if not self.closed:
            self.transport.write(data)
        return answer

    def _wait(self, doing: str, seconds: float) -> Deferred[Any]:
        if self._waits is not None:
            raise RuntimeError("an operation is under way")
        self._doing = doing
        answer: Deferred[Any] = Deferred(lambda _: self._give_up(None))
        self._waits = answer
        if self.closed:
            self._over(self._broken("the connection was closed"))
        else:
            self._limit = self._clock.callLater(seconds, self._silent, seconds)
        return answer

    def _silent(self, seconds: float) -> None:
        self._limit = None
        self._give_up(
            faults.LDAP_SILENT.error(peer=self.peer, doing=self._doing, seconds=f"{seconds:.2g}")
        )

    def _give_up(self, problem: StepError | None) -> None:
        """Close at once; C{None}: whoever asked waits no more."""
        waits, self._waits = self._waits, None
        self._stop_limit()
        self.closed = True
        self.transport.abortConnection()
        if waits is not None and problem is not None:
            waits.errback(problem)

    def _over(self, result: Any) -> None:
        """The operation under way has a result."""
        self._stop_limit()
        waits, self._waits = self._waits, None
        if waits is None:
            return
        if isinstance(result, Exception):
            waits.errback(result)
        else:
            waits.callback(result)

    def _stop_limit(self) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._limit = None

    def _broken(self, problem: str) -> StepError:
        return faults.LDAP_BROKEN.error(peer=self.peer, doing=self._doing, problem=problem)

    def _no_starttls(self, problem: str) -> StepError:
        return faults.LDAP_NO_STARTTLS.error(peer=self.peer, problem=problem)

    def handshakeCompleted(self) -> None:
        """From Twisted: TLS is up, and the certificate was accepted within it."""
        self._is_secure = True
        self.evidence = tls_evidence(connection_of(self.transport))
        self._over(None)

    def dataReceived(self, data: bytes) -> None:
        """From Twisted."""
        if self.closed:
            return
        try:
            frames = self._frames.feed(data, self.most_message or MOST_BYTES, self.most_values)
        except NoLdap as problem:
            self._give_up(self._broken(f"it is no LDAP that can be read: {problem}"))
            return
        for frame in frames:
            if self.closed:
                return
            if not isinstance(frame, TooLarge):
                self._frame_received(frame)
            elif self._waits is None or self._awaited is not sansldap.SearchResultDone:
                self._give_up(self._broken(_WRONG["ProtocolError"]))
            else:
                self._found(FoundEntry(frame.dn[:MOST_VALUE], {}, frame.problem))

    def _frame_received(self, frame: bytes) -> None:
        self._read += len(frame)
        if self._read > MOST_ANSWER:
            self._give_up(self._broken(f"an answer is longer than {MOST_ANSWER} bytes"))
            return
        try:
            (message,) = self._messages.receive(frame)
        except Exception as problem:  # noqa: BLE001 - whatever a server sends, it must end here
            self._give_up(self._broken(_unread(problem)))
            return
        self._heard(message)

    def _found(self, entry: FoundEntry) -> None:
        if len(self._entries) >= self._most_entries:
            self._give_up(self._broken(f"it sends more entries than {self._most_entries}"))
        else:
            self._entries.append(entry)

    def _heard(self, message: sansldap.LDAPMessage) -> None:
        if isinstance(message, sansldap.SearchResultEntry):
            if len(message.object_name) > MOST_VALUE:
                problem = f"its DN is longer than {MOST_VALUE} characters"
                self._found(FoundEntry(message.object_name[:MOST_VALUE], {}, problem))
                return
            values = {
                a.name.lower(): tuple(bytes(v) for v in a.values if len(v) <= self.most_value)
                for a in message.attributes
            }
            self._found(FoundEntry(message.object_name, values))
        elif isinstance(message, sansldap.SearchResultReference):
            self._references += 1
            if self._references > MOST_REFERENCES:
                self._give_up(self._broken(f"it sends more than {MOST_REFERENCES} references"))
        elif isinstance(message, self._awaited):
            self._over(message)
        else:
            self._give_up(self._broken(f"it answers with {type(message).__name__}"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """From Twisted."""
        self.closed = True
        if self._verification is not None and not self._is_secure:
            verdict = self._verification.verdict
            problem = explain_handshake(reason, peer=self.peer, presented=False, verdict=verdict)
            agreed = not self.server.tls_first  # to STARTTLS
            if agreed and problem.fault == faults.TLS_CLOSED.name:  # it has no certificate
                problem = self._no_starttls("it closed the connection during the TLS handshake")
            elif verdict.facts is None and verdict.error is None:  # not for its certificate
                problem = self._broken(problem.cause.rstrip("."))
            elif problem.fault != faults.LDAP_CERTIFICATE_NAME.name:
                problem = faults.LDAP_UNTRUSTED.error(peer=self.peer, problem=problem.cause)
            self._over(problem)
        else:
            words = reason.getErrorMessage().rstrip(".")
            self._over(self._broken(f"the connection was lost ({words})"))
        self.on_lost(self)


def most_in_page(connection: LdapConnection) -> int:
    """Entries that fit into an answer, however large each is that is read."""
    return MOST_ANSWER // (connection.most_message or MOST_BYTES) - 1


def _unread(problem: Exception) -> str:
    """Why a message was not read; a server that says goodbye (RFC 4511 4.4.1) may say why."""
    last = getattr(problem, "request", None)
    if isinstance(last, sansldap.ExtendedResponse) and last.name == _GOODBYE:
        code, text = last.result.result_code.value, _shortened(last.result.diagnostics_message)
        return f"it ends the connection, and says {said(code, text)}"
    # The words of the library may hold octets of the server; the kind is enough.
    kind = type(problem.__cause__ or problem).__name__
    return _WRONG.get(kind, f"it is no LDAP that can be read: {kind}")


def _shortened(text: str) -> str:
    return text[:MOST_TEXT]


def said(code: int, text: str) -> str:
    """A result code with the server's own words."""
    return f"{code_name(code)}: {text}" if text else code_name(code)


def _policy_error(value: bytes) -> int | None:
    """
    The error in a response of the password policy::

        SEQUENCE { warning [0] CHOICE ... OPTIONAL, error [1] ENUMERATED OPTIONAL }
    """
    try:
        inner = sansldap.asn1.ASN1Reader(value).read_sequence()
        while inner:
            header = inner.peek_header()
            if header.tag.tag_number == 1 and header.length == 1:
                return inner.read_enumerated(int, header=header)
            inner.skip_value(header)
    except (ValueError, LookupError, sansldap.asn1.NotEnougData):
        return None
    return None
