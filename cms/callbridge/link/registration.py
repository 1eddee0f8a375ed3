"""
Steps 7 to 11 on the Callbridge: one stream to an XMPP server (XEP-0114).

The stream begins when TCP is connected.  It reports each stage as it passes
and ends with exactly one outcome: registered and later lost, or failed.
L{cms.callbridge.link.managedstream} has what it counts and resumes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import (
    StanzaError,
    StreamError,
    exceptionFromStreamError,
)

from cms import faults
from cms.callbridge.config import LinkSettings, Timing
from cms.callbridge.link.managedstream import ManagedStream, Registrant
from cms.callbridge.link.servername import explain_other_name, other_name
from cms.process.cleanup import run_all
from cms.process.logs import link_id
from cms.signalflow import Step, StepError
from cms.trust.client import ServerVerification
from cms.trust.connection import (
    connection_of,
    explain_alert,
    explain_handshake,
    openssl_words,
    peer_expiry,
    tls_evidence,
)
from cms.xmlstream import limits, ns
from cms.xmlstream.keepalive import Keepalive, send_at_once, watch_socket
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.replies import ping_payload, request
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.toldfault import of_condition
from cms.xmlstream.wrongpeer import server_without_tls, server_without_xmpp

_REFUSALS: dict[str, faults.Fault] = {
    "host-unknown": faults.UNKNOWN_ID,
    "not-authorized": faults.WRONG_SECRET,
    "conflict": faults.ALREADY_CONNECTED,
}
# It is shown as a value to copy, so it must be a name.  Internationalised domains are left out.
_HOST_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
_ACCEPTED = (ns.CLIENT, "handshake")  # component:accept is held as jabber:client
Look = Callable[[ServerVerification, str, int], Deferred[bool]]
READ_BYTES = 32_768  # read or written at once; log-ins overtake what waits behind it
MOST_WORDS = 200  # characters of a server's own text that are shown


class ComponentRegistration(ManagedStream):
    """
    The initiating side of XEP-0114.

    @param verification: Judges the server's certificate; C{None} where the
        operator asked for a link without TLS.
    @param presents: Whether we have a certificate to show.
    @ivar certificate_expires: When the server's certificate expires, in seconds since the
        epoch.
    @ivar unserved: The failure, if the server is known not to serve our domain.
    @param registers: Whether to go on after step 8; if not, the stream ends there.
    @param look: Makes another handshake with the server's address and port, and tells
        whether its certificate is good under another name.
    """

    content_namespace = ns.COMPONENT

    def __init__(
        self,
        clock: IReactorTime,
        settings: LinkSettings,
        timing: Timing,
        verification: ServerVerification | None,
        registrant: Registrant,
        *,
        peer: str,
        presents: bool,
        registers: bool = True,
        look: Look | None = None,
    ) -> None:
        super().__init__(clock, settings, registrant, peer=peer)
        self.timing = timing
        self.verification = verification
        self.presents = presents
        self.certificate_expires: float | None = None
        self.registers = registers
        self._look = look
        self._address: tuple[str, int] | None = None
        self._looking: Deferred[bool] | None = None
        self._outcome: StepError | None = None
        self._headless = False
        self._served = ""
        self.unserved: StepError | None = None
        self._keepalive = Keepalive(
            clock,
            self,
            ping=self._ping,
            interval=timing.ping_interval,
            timeout=timing.ping_timeout,
            dead=self._silent,
        )

    @property
    def waiting_bytes(self) -> int:
        """How much waits for the server to read."""
        return self.party.waiting_bytes

    # stages

    def begin(self) -> None:
        """TCP is connected and the race is won: begin the handshake."""
        self._reported = False
        send_at_once(self.transport)
        watch_socket(self.transport, self.timing.tcp_user_timeout)
        peer = self.transport.getPeer() if self.transport is not None else None
        if isinstance(peer, IPv4Address | IPv6Address):
            self._address = peer.host, peer.port
        self._enter(Step.TLS)
        if self.verification is None:
            no_tls = faults.UNPROTECTED.error()
            self.registrant.stage_passed({"protocol": "NONE: unprotected"}, no_tls)
            self._open()
        elif self.transport is not None:
            self.start_tls(self.verification)

    def secured(self) -> None:
        """The server's certificate was judged and found good."""
        connection = connection_of(self.transport)
        self.certificate_expires = peer_expiry(connection)
        evidence = tls_evidence(connection)
        names = {"names": evidence.pop("names", "")}
        self.registrant.stage_passed(evidence)
        self.registrant.stage_begun(Step.IDENTITY)  # judged within the handshake
        self.registrant.stage_passed(names)
        self._open()

    def _enter(self, step: Step) -> None:
        self.step = step
        self.set_deadline(self.timing.stage)
        self.registrant.stage_begun(step)

    def _open(self) -> None:
        if not self.registers:
            self.quit()
            return
        self._enter(Step.REGISTER)
        self.send_header({"to": self.settings.component, **self._resumption()})

    def stream_started(self, start: StreamStart) -> None:
        """The server's header: prove the secret for its stream ID."""
        problem, self._served = None, _one_line(start.get("from") or "")
        if (start.uri, start.name) != (ns.STREAMS, "stream"):
            problem = "its answer is no stream header"
        elif start.default_namespace != ns.COMPONENT:
            problem = f'its stream is for "{start.default_namespace[:80]}"'
        elif not start.get("id"):
            self._headless = True  # some servers send an error without a header
            return
        if problem is not None:
            unclear = faults.REGISTER_NOT_XMPP.error(peer=self.peer, problem=problem)
            self._fail(server_without_xmpp(self.heard, peer=self.peer) or unclear)
            return
        self._manages = (ns.LINK_MANAGEMENT, "seconds") in start.attributes
        stream_id = start.get("id") or ""
        self.link_id = link_id(stream_id)
        evidence = {"component": self.settings.component, "link": self.link_id}
        self.registrant.stage_passed(evidence)
        self._enter(Step.REGISTERED)
        proof = (stream_id + self.settings.secret.value).encode()
        digest = hashlib.sha1(proof).hexdigest()  # noqa: S324 - XEP-0114 section 3
        self.write(f"<handshake>{digest}</handshake>".encode())

    def stanza_received(self, stanza: Stanza) -> None:
        """The answer to the handshake, an error, or what an active link carries."""
        if (stanza.uri, stanza.name) == (ns.STREAMS, "error"):
            self._stream_error(exceptionFromStreamError(stanza.element))
        elif self.step is Step.ACTIVE:
            self._active(stanza)
        elif self.step is Step.REGISTERED and (stanza.uri, stanza.name) == _ACCEPTED:
            self._accepted()
        elif self._awaits_answer:
            self._answered(stanza)

    def _begin_link(self) -> None:
        self.set_deadline(None)
        self.splice(limits.COMPONENT, READ_BYTES)
        self.registrant.stage_passed({"peer": self.peer})
        self.step = Step.ACTIVE
        self._keepalive.start()

    # endings

    def _stop_keepalive(self) -> None:
        self._keepalive.stop()

    def _stream_error(self, error: StreamError) -> None:
        condition = _one_line(error.condition or "undefined-condition")
        text = _one_line(error.text or "no text")
        told = of_condition(error.appCondition)
        seen: dict[str, object] = {
            "peer": self.peer,
            "component": self.settings.component,
            "condition": condition,
            "text": text,
            "advice": faults.of_stream_error(condition),
        }
        if self.step is Step.ACTIVE:
            if condition == "system-shutdown":
                fault = faults.LINK_CLOSED
                seen["problem"] = "system-shutdown"
            else:
                fault = faults.LINK_ERROR
        elif condition == "host-unknown" and self._serves_another():
            fault = faults.DOMAIN_MISMATCH
            seen["served"] = self._served
        elif condition in _REFUSALS:
            fault = _REFUSALS[condition]
        elif told.name == faults.PEER_REFUSED.name:
            fault = faults.REGISTRATION_SLOWED
            seen["seconds"] = told.seconds or "some"
        elif self.step is Step.REGISTER:
            fault = faults.REGISTER_REJECTED
        else:
            fault = faults.REGISTRATION_REJECTED
        self._fail(fault.error(**seen))

    def _serves_another(self) -> bool:
        """Whether the header of a refusal is from a domain that our address is not within."""
        served, own = self._served.lower(), self.settings.component
        return _HOST_NAME.fullmatch(served) is not None and not f".{own}".endswith(f".{served}")

    def stream_broken(self, error: StreamError) -> None:
        """The server sends what is not XMPP."""
        problem = f"{error.condition}: {error.text}" if error.text else str(error.condition)
        if self.step is Step.ACTIVE:
            self._fail(faults.LINK_LOST.error(peer=self.peer, problem=problem), error)
        else:
            wrong_peer = server_without_xmpp(self.heard, peer=self.peer)
            unclear = faults.REGISTER_NOT_XMPP.error(peer=self.peer, problem=problem)
            self._fail(wrong_peer or unclear, error)

    def unexpected(self, problem: Exception) -> None:
        """It is told at the step where it happened; it is no fault of the server."""
        error = faults.INTERNAL.at(self.step).error(problem=type(problem).__name__)
        self._fail(error, StreamError("internal-server-error"))

    def deadline_passed(self) -> None:
        """The server did not answer in time."""
        if self._headless:
            problem = "its stream header has no id"
            self._fail(faults.REGISTER_NOT_XMPP.error(peer=self.peer, problem=problem))
            self.abort()
            return
        silent = {
            Step.TLS: faults.TLS_SILENT,
            Step.REGISTER: faults.REGISTER_SILENT,
            Step.REGISTERED: faults.REGISTERED_SILENT,
        }[self.step]
        error = silent.error(
            peer=self.peer, seconds=self.timing.stage, component=self.settings.component
        )
        self._fail(error)
        self.abort()

    def peer_closed(self) -> None:
        """The server closed its stream."""
        if self.step is Step.ACTIVE:
            self._fail(faults.LINK_CLOSED.error(peer=self.peer, problem="stream closed"))

    def stream_lost(self, reason: Failure) -> None:
        """The connection is closed: report the outcome, once."""
        run_all(
            self.log,
            self.peer,
            self._stop_keepalive,
            self._lose_requests,
            lambda: self._judge_end(reason),
            self._look_or_report,
        )

    def _lose_requests(self) -> None:
        if not self.can_be_resumed:
            self.requests.lost()

    def _judge_end(self, reason: Failure) -> None:
        if self._outcome is None:
            self._outcome = faults.INTERNAL.at(self.step).error(problem="see above")
            self._outcome = self._explain(reason)

    def _look_or_report(self) -> None:
        if self._outcome is None or not self._looks_again(self._outcome):
            self._report()

    def _looks_again(self, outcome: StepError) -> bool:
        """Whether it first checks if the right certificate is there under another name."""
        if self._look is None or self._reported:
            return False
        other = other_name(outcome, self.verification)
        address = self._address
        if other is None or address is None:
            return False

        def looked(fits: bool) -> None:
            if fits:
                self._outcome = explain_other_name(outcome, other)

        def broken(failure: Failure) -> None:
            if not failure.check(CancelledError):
                self.log.failure("the look for another certificate broke", failure)

        self._looking = self._look(other, *address)
        self._looking.addCallback(looked)
        self._looking.addErrback(broken)
        self._looking.addBoth(lambda _: self._report())
        return True

    def _explain(self, reason: Failure) -> StepError:
        alert = explain_alert(reason, peer=self.peer, presented=self.presents)
        if alert is not None and self.step is not Step.ACTIVE:
            return alert
        problem = openssl_words(reason)
        if self.step is Step.TLS:
            verdict = self.verification.verdict if self.verification is not None else None
            wrong_peer = server_without_tls(self.heard, peer=self.peer)
            if wrong_peer is not None:
                return wrong_peer
            return explain_handshake(
                reason, peer=self.peer, presented=self.presents, verdict=verdict
            )
        if self.step is Step.ACTIVE:
            return faults.LINK_LOST.error(peer=self.peer, problem=problem)
        early = self.step is Step.REGISTER
        closed = faults.REGISTER_CLOSED if early else faults.REGISTERED_CLOSED
        return closed.error(peer=self.peer, problem=problem, component=self.settings.component)

    def _fail(self, outcome: StepError, error: StreamError | None = None) -> None:
        self._outcome = self._outcome or outcome
        self._ends = True
        if self.step is Step.TLS:
            self.abort()
        else:
            self.close(error)
            self._lose_connection()

    def _report(self) -> None:
        if self._reported or self._outcome is None:
            return
        resumable = self.can_be_resumed
        self._reported = True
        if resumable:
            self.registrant.link_broken(self._outcome)
        elif self.step is Step.ACTIVE:
            self.registrant.link_ended(self._outcome)
        else:
            self.registrant.registration_failed(self._outcome)

    def quit(self) -> None:
        """
        End the stream from our side, at any stage, without a report.  C{ended} fires when
        the connection is closed.
        """
        self._reported = True
        if self._looking is not None:
            self._looking.cancel()
        if self.step is Step.TLS:
            self.abort()
            return
        self.say_last()
        self.close()
        if self.step is not Step.ACTIVE:
            self._lose_connection()  # at this stage the peer would not answer a closing tag

    # liveness, XEP-0199

    def judge_domain(self, answer: Stanza | Failure) -> None:
        """
        Find out from the answer to a ping whether the server serves our domain.  If not, the
        link is up but useless.
        """
        refusal = answer.value if isinstance(answer, Failure) else None
        error = unserved(refusal, peer=self.peer, domain=self.settings.domain)
        if error is None or self.unserved is not None:
            return
        self.unserved = error
        self.log.warn(
            "{step_text}: {cause} Cure: {cure}",
            **error.fields,
            link_id=self.link_id,
        )

    def _ping(self) -> Deferred[Stanza]:
        ping = request("get", self.settings.component, self.settings.domain, ping_payload())
        return self.requests.ask(ping, self.timing.ping_timeout)

    def _silent(self) -> None:
        error = faults.LINK_SILENT.error(peer=self.peer, seconds=self.timing.ping_timeout)
        self._outcome = self._outcome or error
        if not self.can_be_resumed:
            self.close(StreamError("connection-timeout"))
        self.abort()


def unserved(answer: object, *, peer: str, domain: str) -> StepError | None:
    """
    The failure if the answer to a ping says that our domain is not served; C{None} if it is,
    or if the answer does not tell.
    """
    if not isinstance(answer, StanzaError) or answer.condition != "remote-server-not-found":
        return None
    problem = f'a ping to it was answered "{answer.condition}"'
    return faults.DOMAIN_NOT_SERVED.error(peer=peer, domain=domain, problem=problem)


def _one_line(text: str) -> str:
    """A server's own text, made safe for a line of a log."""
    return " ".join(text.split())[:MOST_WORDS]
