"""
Step 12 on the XMPP server: one SASL exchange of a client, relayed to a Callbridge.

    new -> waiting -> deciding -> challenged -> deciding ... -> over

C{waiting} lasts until there is a Callbridge, C{deciding} until it answers, C{challenged}
until the client does.  The machine knows nothing of XML: RFC 6120 6 and XEP-0388 are two
ways to write the same steps, and the L{Authenticator} writes them.  An answer that comes
when the exchange is over, since the client gave up or is gone, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from automat import TypeMachineBuilder
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from cms.fast.machines import Machine, release
from cms.linkprotocol import login as lp
from cms.process.logs import Logger
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.loginrelay import Answer, Exchange, Refusal
from cms.xmpp.waitingroom import WaitingRoom


class Authenticator(Protocol):
    """
    The owner of an exchange, which writes its results to the client.

    @ivar peer_text: The client's network address.
    @ivar peer_host: Its IP address.
    @ivar channel_binding: Type and data, if the connection has them (RFC 9266).
    @ivar claimed: C{from} of its header.
    @ivar ids: The IDs for the client's log lines.
    """

    @property
    def peer_text(self) -> str: ...

    @property
    def peer_host(self) -> str: ...

    @property
    def channel_binding(self) -> tuple[str, bytes] | None: ...

    @property
    def claimed(self) -> str | None: ...

    @property
    def ids(self) -> dict[str, str]: ...

    def waits(self, does: bool) -> None:
        """It begins, or ends, to wait for a Callbridge."""

    def relayed(self, exchange_id: str) -> None:
        """A Callbridge is asked, by this exchange ID."""

    def challenged(self, payload: bytes | None) -> None:
        """The Callbridge wants another response."""

    def succeeded(self, success: lp.Success, callbridge: str) -> None:
        """The Callbridge said yes."""

    def refused(self, refusal: Refusal) -> None:
        """The exchange is over; the client may try again."""

    def unserved(self, refusal: Refusal) -> None:
        """The log-in could not be decided, through no fault of the client."""

    def broken(self, failure: Failure) -> None:
        """An unexpected error."""


class _Inputs(Protocol):
    """What can happen to an exchange."""

    def relay(self, payload: bytes | None) -> None:
        """There is a Callbridge for the initial response."""

    def wait(self, payload: bytes | None) -> None:
        """There is none now."""

    def nobody(self) -> None:
        """None came."""

    def challenge(self, payload: bytes | None) -> None:
        """The Callbridge wants another response."""

    def success(self, success: lp.Success) -> None:
        """The Callbridge said yes."""

    def refusal(self, refusal: Refusal) -> None:
        """The Callbridge refused, or gave no valid answer."""

    def respond(self, payload: bytes | None) -> None:
        """The client's response."""

    def unreadable(self, condition: str) -> None:
        """The client's response cannot be read."""

    def refuse(self, condition: str) -> None:
        """The client aborted it, or made an error that ends it."""

    def leave(self) -> None:
        """The client is gone."""


class SaslExchange:
    """
    One attempt to log in.

    @ivar owner: Who is told what it comes to.
    @ivar mechanism: The name that the client sent; it may be anything.
    """

    log = Logger()

    def __init__(self, policy: ClientPolicy, owner: Authenticator, mechanism: str) -> None:
        self._policy = policy
        self.owner = owner
        self.mechanism = mechanism
        self._exchange: Exchange | None = None  # once a Callbridge was asked
        self._began = policy.clock.seconds()
        self._inputs = inputs = _machine(self)
        self.respond = inputs.respond
        self.unreadable = inputs.unreadable
        self.refuse = inputs.refuse
        self.leave = inputs.leave

    def begin(self, payload: bytes | None) -> None:
        """
        Start it, as soon as there is a Callbridge.

        @param payload: The initial response, C{None} when there was none.
        """
        if self._policy.relay.is_ready:
            self._inputs.relay(payload)
        else:  # it was lost since the mechanisms were offered
            self._inputs.wait(payload)

    # what the transitions do

    def wait(self, payload: bytes | None) -> None:
        """Let the client wait for a Callbridge."""

        def came() -> None:
            self.owner.waits(False)
            self._inputs.relay(payload)

        self.owner.waits(True)
        self._waiting = await_callbridge(
            self._policy.waiting_room,
            len(payload or b""),
            came,
            self._inputs.nobody,
            self.owner.broken,
        )

    def wait_no_more(self) -> None:
        """It is over while the client waits."""
        self._waiting.cancel()
        self.owner.waits(False)

    def start(self, payload: bytes | None) -> None:
        """Ask one of the Callbridges."""
        owner = self.owner
        self._exchange, answer = self._policy.relay.begin(
            *(self.mechanism, payload, owner.peer_host, owner.channel_binding, owner.claimed)
        )
        if self._exchange is not None:
            owner.relayed(self._exchange.id)
        answer.addCallback(self._answered).addErrback(owner.broken)

    def relay(self, payload: bytes | None) -> None:
        """Pass the client's response on."""
        if self._exchange is not None:
            answer = self._exchange.respond(payload or b"")
            answer.addCallback(self._answered).addErrback(self.owner.broken)

    def _answered(self, answer: Answer) -> None:
        if isinstance(answer, lp.Challenge):
            self._inputs.challenge(answer.payload)
        elif isinstance(answer, lp.Success):
            self._inputs.success(answer)
        else:
            self._inputs.refusal(answer)

    def _decided(self) -> str | None:
        """The Callbridge that decided."""
        seconds = self._policy.clock.seconds() - self._began
        self._policy.observer.login_decided(seconds)
        release(self._inputs)
        return None if self._exchange is None else self._exchange.link.component

    def tell_success(self, success: lp.Success) -> None:
        """The client is logged in, if its owner finds nothing against it."""
        self.owner.succeeded(success, self._decided() or "")

    def tell_refusal(self, refusal: Refusal) -> None:
        """The Callbridge said no, or could not decide."""
        callbridge = self._decided()
        if refusal.fault is None:
            self._refuse(refusal, callbridge)
        else:
            self._tell_unserved(refusal, callbridge)

    def tell_nobody(self) -> None:
        """No Callbridge came."""
        release(self._inputs)
        self.owner.waits(False)
        self._tell_unserved(self._policy.relay.nobody(), None)

    def _tell_unserved(self, refusal: Refusal, callbridge: str | None) -> None:
        note_refusal(self._policy, self.owner, self.mechanism, refusal, callbridge)
        self.owner.unserved(refusal)

    def tell_refused(self, condition: str) -> None:
        """It ends because of an error of the client."""
        release(self._inputs)
        self._refuse(Refusal(condition), None)

    def _refuse(self, refusal: Refusal, callbridge: str | None) -> None:
        note_refusal(self._policy, self.owner, self.mechanism, refusal, callbridge)
        self.owner.refused(refusal)

    def abort(self) -> None:
        """Tell the Callbridge that its answer is not needed any more."""
        if self._exchange is not None:
            self._exchange.abort()

    def abandon(self) -> None:
        """The client is gone."""
        release(self._inputs)
        self._policy.observer.login_ended(self.mechanism, "abandoned")


def note_refusal(
    policy: ClientPolicy,
    owner: Authenticator,
    mechanism: str,
    refusal: Refusal,
    callbridge: str | None = None,
) -> None:
    """
    Report a failed log-in to log and observers.

    @param callbridge: The Callbridge that decided; C{None} if none was asked.
    """
    reason = refusal.condition if refusal.fault is None else refusal.fault.fault
    policy.service.refused(owner.peer_text, refusal, callbridge, owner.ids, mechanism)
    policy.observer.login_refused(reason)
    policy.observer.login_ended(mechanism, refusal.condition)


def await_callbridge(
    room: WaitingRoom,
    size: int,
    came: Callable[[], object],
    nobody: Callable[[], object],
    broken: Callable[[Failure], None],
) -> Deferred[None]:
    """
    Wait for a Callbridge; then call one function if there is one, another if none came in time.

    @param size: Bytes that are kept meanwhile.
    @return: May be cancelled; then nothing is called.
    """

    def ended(there: bool) -> None:
        (came if there else nobody)()

    waiting = room.wait(size).addCallbacks(ended, _given_up)
    return waiting.addErrback(broken)


def _given_up(failure: Failure) -> None:
    failure.trap(CancelledError)


def _make_machine() -> Callable[[SaslExchange], _Inputs]:
    machine = TypeMachineBuilder(_Inputs, SaslExchange)
    new = machine.state("new")
    waiting = machine.state("waiting")
    deciding = machine.state("deciding")
    challenged = machine.state("challenged")
    over = machine.state("over")

    for late in (_Inputs.challenge, _Inputs.success, _Inputs.refusal, _Inputs.leave):
        over.upon(late).loop().returns(None)

    @new.upon(_Inputs.wait).to(waiting)
    def wait(inputs: _Inputs, exchange: SaslExchange, payload: bytes | None) -> None:
        exchange.wait(payload)

    @new.upon(_Inputs.relay).to(deciding)
    @waiting.upon(_Inputs.relay).to(deciding)
    def start(inputs: _Inputs, exchange: SaslExchange, payload: bytes | None) -> None:
        exchange.start(payload)

    @waiting.upon(_Inputs.nobody).to(over)
    def nobody(inputs: _Inputs, exchange: SaslExchange) -> None:
        exchange.tell_nobody()

    @deciding.upon(_Inputs.challenge).to(challenged)
    def challenge(inputs: _Inputs, exchange: SaslExchange, payload: bytes | None) -> None:
        exchange.owner.challenged(payload)

    @challenged.upon(_Inputs.respond).to(deciding)
    def respond(inputs: _Inputs, exchange: SaslExchange, payload: bytes | None) -> None:
        exchange.relay(payload)

    @deciding.upon(_Inputs.success).to(over)
    def success(inputs: _Inputs, exchange: SaslExchange, success: lp.Success) -> None:
        exchange.tell_success(success)

    @deciding.upon(_Inputs.refusal).to(over)
    def refusal(inputs: _Inputs, exchange: SaslExchange, refusal: Refusal) -> None:
        exchange.tell_refusal(refusal)

    # what the client must not do, or does to end it

    @new.upon(_Inputs.refuse).to(over)
    def refuse_at_once(inputs: _Inputs, exchange: SaslExchange, condition: str) -> None:
        exchange.tell_refused(condition)

    @waiting.upon(_Inputs.refuse).to(over)
    def refuse_waiting(inputs: _Inputs, exchange: SaslExchange, condition: str) -> None:
        exchange.wait_no_more()
        exchange.tell_refused(condition)

    @challenged.upon(_Inputs.unreadable).to(over)
    @challenged.upon(_Inputs.refuse).to(over)
    @deciding.upon(_Inputs.refuse).to(over)
    def refuse(inputs: _Inputs, exchange: SaslExchange, condition: str) -> None:
        exchange.abort()
        exchange.tell_refused(condition)

    @waiting.upon(_Inputs.respond).loop()
    @deciding.upon(_Inputs.respond).loop()
    def out_of_turn(inputs: _Inputs, exchange: SaslExchange, payload: bytes | None) -> None:
        inputs.refuse("malformed-request")

    @waiting.upon(_Inputs.unreadable).loop()
    @deciding.upon(_Inputs.unreadable).loop()
    def rubbish_out_of_turn(inputs: _Inputs, exchange: SaslExchange, condition: str) -> None:
        inputs.refuse("malformed-request")

    @waiting.upon(_Inputs.leave).to(over)
    def leave_waiting(inputs: _Inputs, exchange: SaslExchange) -> None:
        exchange.wait_no_more()
        exchange.abandon()

    @deciding.upon(_Inputs.leave).to(over)
    @challenged.upon(_Inputs.leave).to(over)
    def leave(inputs: _Inputs, exchange: SaslExchange) -> None:
        exchange.abort()
        exchange.abandon()

    return Machine(machine)


_machine = _make_machine()
