"""The operations that drain an XMPP server before it is stopped."""

from __future__ import annotations

from cms.admin import schemas
from cms.admin.commonapi import API
from cms.admin.interfaces import XmppServer
from cms.admin.operations import Call, Operation
from cms.admin.replies import Document, Done, Reply
from cms.control.drainwords import MOST_SECONDS, USUAL_SECONDS
from cms.web.forms import Parameter

DRAIN = f"{API}/drain"
SECONDS = Parameter(
    "seconds",
    "Then what is left is ended.",
    "integer",
    least=1,
    most=MOST_SECONDS,
)
FORCE = Parameter("force", "true: also if no other server takes its clients.", "boolean")
FACTS = schemas.record(
    {
        "state": {"enum": ["open", "draining", "drained"]},
        "secondsLeft": schemas.WHOLE,
        "clients": schemas.WHOLE,
        "components": schemas.WHOLE,
        "given": schemas.WHOLE,
        "ended": schemas.WHOLE,
        "inCluster": schemas.TRUTH,
        "takers": schemas.WHOLE,
    },
    *("state", "secondsLeft", "clients", "components", "given", "ended", "inCluster", "takers"),
)


class DrainOperations:
    """The operations, on any implementation of the role."""

    def __init__(self, role: XmppServer) -> None:
        self._role = role

    def operations(self) -> list[Operation]:
        """All of them."""
        return [
            Operation(
                "GET",
                DRAIN,
                "getDrain",
                "Whether it is drained, and what is still here.",
                self.show,
                answers=schemas.named("drain", FACTS),
            ),
            Operation(
                "POST",
                DRAIN,
                "beginDrain",
                "Take nothing new, and send what is here to the other servers of the cluster.",
                self.begin,
                form=(SECONDS, FORCE),
                answers=schemas.named("drain", FACTS),
                reasons=("nowhereToGo",),
            ),
            Operation(
                "DELETE",
                DRAIN,
                "cancelDrain",
                "Take what comes again.",
                self.cancel,
                reasons=("notOpened",),
            ),
        ]

    def show(self, call: Call) -> Reply:
        """GET drain."""
        return Document("drain", self._role.drain_facts())

    def begin(self, call: Call) -> Reply:
        """POST drain."""
        seconds = float(call.form.get("seconds", USUAL_SECONDS))
        self._role.begin_drain(seconds, forced=call.form.get("force") == "true")
        return self.show(call)

    async def cancel(self, call: Call) -> Reply:
        """DELETE drain."""
        await self._role.cancel_drain()
        return Done()
