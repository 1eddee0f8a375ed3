"""
Step 12 from outside: a client that logs in and says what happened.

It speaks STARTTLS, SCRAM and PLAIN, binds a resource and can send requests.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from attrs import field, frozen
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError, exceptionFromStreamError
from twisted.words.xish.domish import Element

from cms.client.scram import ScramClient, ServerNotProven
from cms.trust.client import ServerVerification
from cms.trust.connection import connection_of, explain_handshake, tls_exporter
from cms.xmlstream import limits, ns
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.replies import request
from cms.xmlstream.requests import Requests
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import XMLStream
from cms.xmlstream.toldfault import of_condition, of_mark
from cms.xmlstream.wire import Wire

SCRAM = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1")
MECHANISMS = (*SCRAM, "PLAIN")


class LoginFailed(Exception):
    """
    The log-in did not succeed.

    @ivar condition: The SASL or stream condition, or a word of our own.
    @ivar text: The server's text.
    @ivar fault: Its name in the fault catalogue, if the server is ours and says so.
    @ivar waiting: What it waited for in vain, in words, if that is all that is known.
    """

    def __init__(
        self, condition: str, text: str = "", fault: str = "", *, waiting: str = ""
    ) -> None:
        super().__init__(f"{condition}: {text}" if text else condition)
        self.condition = condition
        self.text = text
        self.fault = fault
        self.waiting = waiting


@frozen
class Account:
    """
    The account that logs in, and its password.

    @ivar is_announced: Whether the header says whose stream it is (RFC 6120 4.7.1), which only
        a protected one may.
    """

    name: str
    domain: str
    password: str = field(repr=False)
    mechanisms: tuple[str, ...] = MECHANISMS
    is_announced: bool = False

    @property
    def address(self) -> str:
        """Its bare JID."""
        return f"{self.name}@{self.domain}"


class LoginStream(XMLStream):
    """
    One log-in.

    @ivar session: Fires with the stream once a resource is bound; fails with
        L{LoginFailed} or C{TrustError}.
    @ivar jid: The full address.
    @ivar mechanism: The one that was used.
    @ivar waiting: What it waits for, in words.
    @ivar patience: How many seconds it waits.
    @ivar on_stanza: Called with stanzas that are not the negotiation and no answers.
    @param timeout: Seconds for each wait.
    @param decision: Seconds for each answer to the log-in itself, which the server's
        Callbridge gives.
    @param secured: Whether the connection is protected already, or needs not to be.
    """

    def __init__(
        self,
        clock: Any,
        account: Account,
        context: SSL.Context,
        timeout: float,
        *,
        decision: float | None = None,
        peer: str = "the server",
        secured: bool = False,
    ) -> None:
        super().__init__(clock)
        self.account = account
        self.session: Deferred[LoginStream] = Deferred()
        self.requests = Requests(clock, self.party.send, own=account.address)
        self.on_stanza: Callable[[Stanza], object] = lambda stanza: None
        self.jid = ""
        self.mechanism = ""
        self.waiting = ""
        self.patience = timeout
        self._timeout = timeout
        self._decision = decision or timeout
        self._peer = peer
        self._settled = False
        self._secure = secured
        self._logged_in = False
        self._scram: ScramClient | None = None
        self._verification = ServerVerification(
            context, domain=account.domain, host=account.domain, host_is_ip=False, peer=peer
        )

    def opened(self, wire: Wire) -> None:
        """Open the stream."""
        self._open()

    def _await(self, what: str, seconds: float | None = None) -> None:
        self.waiting, self.patience = what, seconds or self._timeout
        self.set_deadline(self.patience)

    def _open(self) -> None:
        self._await("its stream header")
        announced = self._secure and self.account.is_announced
        header = {"from": self.account.address} if announced else {}
        self.send_header({**header, "to": self.account.domain, "version": "1.0"})

    def stream_started(self, start: StreamStart) -> None:
        """Features follow."""
        self.set_limits(limits.CLIENT)
        # A server of ours holds the mechanisms back while it waits for a Callbridge.
        self._await("its stream features", self._decision if self._secure else None)

    def secured(self) -> None:
        """TLS is up: begin again."""
        self._secure = True
        self._open()

    def stanza_received(self, stanza: Stanza) -> None:
        """One step of the negotiation, or an answer."""
        element = stanza.element
        if stanza.uri == ns.STREAMS and stanza.name == "features":
            self._features(element)
        elif stanza.uri == ns.STREAMS and stanza.name == "error":
            error = exceptionFromStreamError(element)
            fault = of_condition(error.appCondition).name
            self._fail(LoginFailed(error.condition or "stream error", error.text or "", fault))
        elif (stanza.uri, stanza.name) == (ns.STARTTLS, "proceed") and self.transport is not None:
            self.reset(limits.CLIENT)
            self._await("the TLS handshake")
            self.start_tls(self._verification)
        elif stanza.uri == ns.SASL:
            self._sasl(element)
        elif not self.requests.take(stanza):
            self.on_stanza(stanza)

    def _features(self, features: Element) -> None:
        if not self._secure:
            self._start_tls(features)
        elif not self._logged_in:
            self._begin(features)
        else:
            bind = Element((ns.BIND, "bind"))
            iq = request("set", "", "", bind)
            del iq.element["from"], iq.element["to"]
            self._await("the binding of a resource")
            bound = self.requests.ask(iq, self._timeout)
            bound.addCallback(self._bound).addErrback(
                lambda failure: self._fail(LoginFailed("bind", failure.getErrorMessage()))
            )

    def _start_tls(self, features: Element) -> None:
        if next(features.elements(ns.STARTTLS, "starttls"), None) is None:
            self._fail(LoginFailed("no-starttls", "it does not offer STARTTLS"))
            return
        self._await("leave to begin TLS")
        self.write(Stanza(Element((ns.STARTTLS, "starttls"))).raw)

    def _begin(self, features: Element) -> None:
        offered = {str(e) for m in features.elements(ns.SASL, "mechanisms") for e in m.elements()}
        binding = tls_exporter(connection_of(self.transport)) if _binds(features) else None
        usable = [
            m
            for m in self.account.mechanisms
            if m in offered and (binding is not None or not m.endswith("-PLUS"))
        ]
        if not usable:
            self._fail(LoginFailed("no-mechanism", ", ".join(sorted(offered)) or "none"))
            return
        self.mechanism = usable[0]
        self._await("the answer to the log-in", self._decision)
        if self.mechanism == "PLAIN":
            account = self.account
            auth = _sasl("auth", f"\0{account.name}\0{account.password}".encode())
            auth["mechanism"] = self.mechanism
            self.write(Stanza(auth).raw)
            return
        bound = binding if self.mechanism.endswith("-PLUS") else None
        self._scram = ScramClient(self.mechanism, self.account.name, self.account.password, bound)
        auth = _sasl("auth", self._scram.first())
        auth["mechanism"] = self.mechanism
        self.write(Stanza(auth).raw)

    def _sasl(self, element: Element) -> None:
        scram = self._scram
        try:
            if element.name == "challenge" and scram is not None:
                self._await("the answer to the log-in", self._decision)
                self.write(Stanza(_sasl("response", scram.final(_decode(element)))).raw)
            elif element.name == "success":
                if scram is not None:
                    scram.verify(_decode(element))
                self._logged_in = True
                self.reset(limits.CLIENT)
                self._open()
            elif element.name == "failure":
                condition = next((e.name for e in element.elements() if e.name != "text"), "?")
                text = next((str(e) for e in element.elements(ns.SASL, "text")), "")
                self._fail(LoginFailed(condition, text, of_mark(element).name))
        except ServerNotProven as problem:
            self._fail(LoginFailed("server-not-proven", str(problem)))

    def _bound(self, stanza: Stanza) -> None:
        self.set_deadline(None)
        self.jid = "".join(str(e) for b in stanza.element.elements() for e in b.elements())
        self._settled = True
        self.session.callback(self)

    def stream_broken(self, error: StreamError) -> None:
        """The server's XML is bad."""
        self._fail(LoginFailed(error.condition or "bad XML"))

    def deadline_passed(self) -> None:
        """The server did not answer in time."""
        text = f"it was waiting for {self.waiting}"
        self._fail(LoginFailed("timeout", text, waiting=self.waiting))

    def stream_lost(self, reason: Failure) -> None:
        """Report why, unless that was done."""
        self.requests.lost()
        if not self._settled:
            self._settled = True
            error: Exception = LoginFailed("connection-lost", reason.getErrorMessage())
            verdict = self._verification.verdict
            if not self._secure and verdict.error is not None:
                error = explain_handshake(reason, peer=self._peer, presented=False, verdict=verdict)
            self.session.errback(Failure(error))

    def _fail(self, error: LoginFailed) -> None:
        if not self._settled:
            self._settled = True
            self.session.errback(Failure(error))
        self.close()
        self._lose_connection()


def _binds(features: Element) -> bool:
    """
    Whether the server says that it knows C{tls-exporter} (XEP-0440): some
    offer -PLUS over TLS 1.3 and know nothing but C{tls-unique} (ejabberd 23.01).
    """
    offers = features.elements(ns.SASL_CHANNEL_BINDING, "sasl-channel-binding")
    return any(e.getAttribute("type") == "tls-exporter" for o in offers for e in o.elements())


def _sasl(name: str, payload: bytes) -> Element:
    element = Element((ns.SASL, name))
    element.addContent(base64.b64encode(payload).decode())
    return element


def _decode(element: Element) -> bytes:
    """
    @raise ServerNotProven: it is no Base64.
    """
    try:
        return base64.b64decode(str(element))
    except ValueError:
        raise ServerNotProven("what it says cannot be read") from None


async def log_in(
    reactor: Any,
    account: Account,
    host: str,
    port: int,
    context: SSL.Context,
    *,
    timeout: float = 20.0,
) -> LoginStream:
    """
    Log in and bind a resource.

    @raise LoginFailed: the server, or the Callbridge behind it, said no.
    @raise TrustError: the server's certificate was refused.
    """
    endpoint = HostnameEndpoint(reactor, host, port)
    stream = LoginStream(reactor, account, context, timeout)
    session = stream.session
    factory = Factory.forProtocol(lambda: stream)
    factory.noisy = False
    await endpoint.connect(factory)
    return await session
