"""What all components of this server share, and the record of each connection."""

from __future__ import annotations

from typing import ClassVar

from attrs import Factory, define, field
from twisted.internet.interfaces import IReactorTime
from twisted.words.protocols.jabber.error import StreamError

from cms import faults
from cms.configuration.tomlfile import Secret
from cms.process.clocks import Timeline
from cms.process.logs import LineLimiter, Logger
from cms.protection.guessing import Guesses
from cms.signalflow import Attempt, StepError
from cms.xmlstream.flow import SendLimits
from cms.xmpp.config import ComponentSettings
from cms.xmpp.elsewhere import Others
from cms.xmpp.flowrecord import ServerFlow
from cms.xmpp.links import Links
from cms.xmpp.registry import Registry
from cms.xmpp.resumption import Resumptions
from cms.xmpp.router import Router
from cms.xmpp.undelivered import Undelivered


@define
class ComponentPolicy:
    """
    What all components of this server share.

    @ivar settings: The time limits of each.
    @ivar send_limits: The limits on what waits for one that does not read.
    @ivar resumptions: Of links (docs/link-management.md); none, if they may be away for 0 s.
    @ivar undelivered: Gives back what waited for one whose link has ended.
    @ivar others: The other nodes, if there can be any.
    """

    clock: IReactorTime
    domain: str
    registry: Registry
    links: Links
    router: Router
    guesses: Guesses
    flow: ServerFlow
    settings: ComponentSettings = field(factory=ComponentSettings)
    send_limits: SendLimits = field(
        default=Factory(lambda self: SendLimits(self.settings.send_limit), takes_self=True)
    )
    resumptions: Resumptions = field(
        default=Factory(lambda self: Resumptions(self.clock, 0.0), takes_self=True)
    )
    undelivered: Undelivered = field(
        default=Factory(
            lambda self: Undelivered(self.clock, self.router.give_back), takes_self=True
        ),
    )
    others: Others | None = None
    line_limiter: LineLimiter = field(
        init=False, default=Factory(lambda self: LineLimiter(self.clock.seconds), takes_self=True)
    )


@define
class ComponentRecord:
    """
    One connection of a component, as the log and the signal flow show it.

    @ivar link_id: Names this connection in the logs of both sides.
    @ivar component: Its address, once the header named one of ours.
    @ivar evidence: What TLS and the certificate showed.
    @ivar certificate_expires: When the certificate that it showed does.
    @ivar told: Whether its refusal was logged.
    """

    log: ClassVar[Logger] = Logger()
    policy: ComponentPolicy
    link_id: str
    attempt: Attempt
    time: Timeline
    peer: str = ""
    component: str = ""
    evidence: dict[str, str] = field(factory=dict)
    certificate_expires: float | None = None
    told: bool = False

    def refused(self, fault: StepError) -> None:
        """It was refused, or its link ended, for this."""
        self.told = True
        self.attempt.failed(self.time.now, fault)
        if not (self.component or self.policy.line_limiter.allows()):
            return
        self.log.warn(
            "component refused: {step_text}: {cause} Cure: {cure}",
            **fault.fields,
            peer=self.peer,
            component=self.component,
            link_id=self.link_id,
        )


def refusal_of(
    registry: Registry, component: str, secret: Secret
) -> tuple[StepError, StreamError] | None:
    """Why a component must be disconnected because of the secret that it proved, if so."""
    if registry.accepts(component, secret):
        return None
    if component in registry:
        fault = faults.LINK_SECRET_EXPIRED.error(component=component)
        return fault, StreamError("not-authorized", text="the secret has expired")
    fault = faults.LINK_DELETED.error(component=component)
    return fault, StreamError("host-gone", text="this component was deleted")
