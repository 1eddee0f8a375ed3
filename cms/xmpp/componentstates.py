"""
The states of a component's registration; L{cms.xmpp.componentregistration} has what they do.

    securing -> opening -> handshaking -> registered
                             |     |         ^
                             |     v         |
                             |  probing -----+
                             v               |
                          resuming ----------+      every state -> closed

C{securing} lasts until TLS is there, C{opening} until the stream header, C{handshaking}
until the proof of the secret, C{probing} until an older link of the same address has shown
whether it lives, C{resuming} until the component has said how much it has of a link that it
resumes (docs/link-management.md).

docs/server-states.md draws them.
"""

from __future__ import annotations

from collections.abc import Callable

from automat import TypeMachineBuilder
from twisted.python.failure import Failure

from cms.configuration.tomlfile import Secret
from cms.fast.machines import Machine
from cms.trust.server import ServerTrust
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.stanza import Stanza
from cms.xmpp.componentinputs import Inputs
from cms.xmpp.componentpolicy import ComponentPolicy
from cms.xmpp.componentregistration import ComponentRegistration
from cms.xmpp.links import Link


def _make_machine() -> Callable[[ComponentRegistration], Inputs]:
    machine = TypeMachineBuilder(Inputs, ComponentRegistration)
    securing = machine.state("securing")
    opening = machine.state("opening")
    handshaking = machine.state("handshaking")
    probing = machine.state("probing")
    resuming = machine.state("resuming")
    registered = machine.state("registered")
    closed = machine.state("closed")

    securing.upon(Inputs.shielded).to(opening).returns(None)
    opening.upon(Inputs.welcomed).to(handshaking).returns(None)
    for state in (securing, opening, handshaking, probing, resuming, registered, closed):
        state.upon(Inputs.refused).to(closed).returns(None)
    for late in (Inputs.secured, Inputs.stanza, Inputs.probed):
        closed.upon(late).loop().returns(None)

    @securing.upon(Inputs.secured).to(opening)
    def note_tls(inputs: Inputs, peer: ComponentRegistration) -> None:
        peer.note_tls()

    @securing.upon(Inputs.lost).to(closed)
    def tell_handshake(inputs: Inputs, peer: ComponentRegistration, reason: Failure) -> None:
        peer.tell_handshake(reason)
        peer.done()

    @opening.upon(Inputs.lost).to(closed)
    @handshaking.upon(Inputs.lost).to(closed)
    @probing.upon(Inputs.lost).to(closed)
    @resuming.upon(Inputs.lost).to(closed)
    @registered.upon(Inputs.lost).to(closed)
    @closed.upon(Inputs.lost).loop()
    def done(inputs: Inputs, peer: ComponentRegistration, reason: Failure) -> None:
        peer.done()

    @opening.upon(Inputs.header).loop()
    def judge_header(inputs: Inputs, peer: ComponentRegistration, start: StreamStart) -> None:
        peer.judge_header(start)

    @handshaking.upon(Inputs.stanza).loop()
    def judge_handshake(inputs: Inputs, peer: ComponentRegistration, stanza: Stanza) -> None:
        peer.judge_handshake(stanza)

    @handshaking.upon(Inputs.contested).to(probing)
    def probe(inputs: Inputs, peer: ComponentRegistration, secret: Secret, older: Link) -> None:
        peer.probe(secret, older)

    @probing.upon(Inputs.stanza).loop()
    def impatient(inputs: Inputs, peer: ComponentRegistration, stanza: Stanza) -> None:
        peer.refuse_early(stanza)

    @probing.upon(Inputs.probed).loop()
    def judge_older(
        inputs: Inputs, peer: ComponentRegistration, secret: Secret, older: Link, alive: bool
    ) -> None:
        peer.judge_older(secret, older, alive)

    @handshaking.upon(Inputs.resumes).to(resuming)
    def await_resume(
        inputs: Inputs, peer: ComponentRegistration, secret: Secret, older: Link
    ) -> None:
        peer.await_resume(secret)

    @resuming.upon(Inputs.stanza).loop()
    def resume(inputs: Inputs, peer: ComponentRegistration, stanza: Stanza) -> None:
        peer.resume(stanza)

    @resuming.upon(Inputs.resumed).to(registered)
    def end(inputs: Inputs, peer: ComponentRegistration) -> None:
        peer.done()

    @resuming.upon(Inputs.proved).to(registered)
    @handshaking.upon(Inputs.proved).to(registered)
    @probing.upon(Inputs.proved).to(registered)
    def register(inputs: Inputs, peer: ComponentRegistration, secret: Secret) -> None:
        peer.register(secret)

    return Machine(machine)


_machine = _make_machine()


def begin(policy: ComponentPolicy, tls: ServerTrust | None) -> ComponentRegistration:
    """
    The handler of a component's wire.

    @param tls: C{None} on a plain listener.
    """
    peer = ComponentRegistration(policy, tls)
    peer.inputs = _machine(peer)
    return peer
