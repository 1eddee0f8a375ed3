"""
The states of a client's negotiation; L{cms.xmpp.clientnegotiation} has what they do.

docs/server-states.md draws them.
"""

from __future__ import annotations

from collections.abc import Callable

from automat import TypeMachineBuilder
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.jid import JID

from cms.fast.machines import Machine
from cms.trust.server import ServerTrust
from cms.xmlstream.stanza import Stanza
from cms.xmpp.clientinputs import Inputs
from cms.xmpp.clientnegotiation import ClientNegotiation
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.resumption import Resumable


def _make_machine() -> Callable[[ClientNegotiation], Inputs]:  # noqa: PLR0915 - a table
    machine = TypeMachineBuilder(Inputs, ClientNegotiation)
    greeting = machine.state("greeting")
    offering_tls = machine.state("offering TLS")
    securing = machine.state("securing")
    closed_unsecured = machine.state("closed, unsecured")
    greeting_secure = machine.state("greeting, secure")
    waiting = machine.state("waiting")
    choosing = machine.state("choosing")
    authenticating = machine.state("authenticating")
    authenticating_inline = machine.state("authenticating, SASL2")
    greeting_again = machine.state("greeting, logged in")
    asking = machine.state("binding")
    bound = machine.state("bound")
    closed = machine.state("closed")

    greeting.upon(Inputs.shielded).to(greeting_secure).returns(None)
    choosing.upon(Inputs.began).to(authenticating).returns(None)
    authenticating.upon(Inputs.refused).to(choosing).returns(None)
    choosing.upon(Inputs.began_inline).to(authenticating_inline).returns(None)
    authenticating_inline.upon(Inputs.refused).to(choosing).returns(None)
    authenticating.upon(Inputs.logged_in).to(greeting_again).returns(None)
    securing.upon(Inputs.ended).to(closed_unsecured).returns(None)
    idle = (greeting, offering_tls, greeting_secure, choosing, greeting_again, asking, bound)
    for state in idle:
        state.upon(Inputs.ended).to(closed).returns(None)
    for late in (Inputs.ended, Inputs.stanza, Inputs.secured):
        closed_unsecured.upon(late).loop().returns(None)
        closed.upon(late).loop().returns(None)
    closed.upon(Inputs.refused).loop().returns(None)

    # TLS

    @greeting.upon(Inputs.header).to(offering_tls)
    def offer_tls(inputs: Inputs, client: ClientNegotiation) -> None:
        client.offer_tls()

    @offering_tls.upon(Inputs.stanza).loop()
    def in_clear(inputs: Inputs, client: ClientNegotiation, stanza: Stanza) -> None:
        client.answer_in_clear(stanza)

    @greeting.upon(Inputs.begin_tls).to(securing)
    @offering_tls.upon(Inputs.begin_tls).to(securing)
    def start_tls(inputs: Inputs, client: ClientNegotiation) -> None:
        client.start_tls()

    @securing.upon(Inputs.secured).to(greeting_secure)
    def note_tls(inputs: Inputs, client: ClientNegotiation) -> None:
        client.note_tls()

    @closed_unsecured.upon(Inputs.lost).to(closed)
    def tell_handshake(inputs: Inputs, client: ClientNegotiation, reason: Failure) -> None:
        client.tell_handshake(reason)
        client.done()

    @closed.upon(Inputs.lost).loop()
    def done(inputs: Inputs, client: ClientNegotiation, reason: Failure) -> None:
        client.done()

    # the log-in

    @greeting_secure.upon(Inputs.header).to(waiting)
    def greet_login(inputs: Inputs, client: ClientNegotiation) -> None:
        client.greet_login()

    @waiting.upon(Inputs.came).to(choosing)
    def offer_login(inputs: Inputs, client: ClientNegotiation) -> None:
        client.offer_login()

    @waiting.upon(Inputs.nobody).to(closed)
    def nobody(inputs: Inputs, client: ClientNegotiation) -> None:
        client.tell_nobody()

    @waiting.upon(Inputs.stanza).loop()
    def refuse_early(inputs: Inputs, client: ClientNegotiation, stanza: Stanza) -> None:
        client.refuse_early()

    @waiting.upon(Inputs.ended).to(closed)
    def wait_no_more(inputs: Inputs, client: ClientNegotiation) -> None:
        client.wait_no_more()

    @choosing.upon(Inputs.stanza).loop()
    def begin_login(inputs: Inputs, client: ClientNegotiation, stanza: Stanza) -> None:
        client.begin_login(stanza)

    @authenticating.upon(Inputs.stanza).loop()
    def continue_login(inputs: Inputs, client: ClientNegotiation, stanza: Stanza) -> None:
        client.continue_login(stanza)

    @authenticating_inline.upon(Inputs.stanza).loop()
    def continue_inline(inputs: Inputs, client: ClientNegotiation, stanza: Stanza) -> None:
        client.continue_inline(stanza)

    @authenticating.upon(Inputs.ended).to(closed)
    @authenticating_inline.upon(Inputs.ended).to(closed)
    def leave_exchange(inputs: Inputs, client: ClientNegotiation) -> None:
        client.leave_exchange()

    # the resource

    @greeting_again.upon(Inputs.header).to(asking)
    @authenticating_inline.upon(Inputs.logged_in).to(asking)
    def offer_binding(inputs: Inputs, client: ClientNegotiation) -> None:
        client.offer_binding()

    @asking.upon(Inputs.stanza).loop()
    def judge_binding(inputs: Inputs, client: ClientNegotiation, stanza: Stanza) -> None:
        client.judge_binding(stanza)

    @asking.upon(Inputs.resume).to(bound)
    @authenticating_inline.upon(Inputs.resume).to(bound)
    def resume_session(
        inputs: Inputs, client: ClientNegotiation, session: Resumable, answer: bytes
    ) -> None:
        client.resume_session(session, answer)

    @asking.upon(Inputs.bind).to(bound)
    @authenticating_inline.upon(Inputs.bind).to(bound)
    def begin_session(
        inputs: Inputs,
        client: ClientNegotiation,
        full: JID,
        answer: Callable[[ClientSession], Stanza | None],
    ) -> None:
        client.begin_session(full, answer)

    return Machine(machine)


_machine = _make_machine()


def begin(
    policy: ClientPolicy, tls: ServerTrust | None, *, direct: bool = False
) -> ClientNegotiation:
    """
    The handler of a client's wire.

    @param tls: C{None} on a plain listener, where a proxy has seen to TLS.
    @param direct: TLS from the first byte (XEP-0368) in place of STARTTLS.
    """
    client = ClientNegotiation(policy, tls, direct=direct)
    client.inputs = _machine(client)
    return client
