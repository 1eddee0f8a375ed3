"""What commands and pages say of a server that is drained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cms.signalflow import counted

USUAL_SECONDS = 60  # as long as a client without a connection may come back, usually
MOST_SECONDS = 86_400
NOBODY = (
    "Its clients have nowhere to go: no other server takes them. What is still here when the time"
    " is over is ended. cms xmpp drain --cancel lets them stay."
)


def still_here(facts: Mapping[str, Any]) -> str:
    """What a server still has."""
    clients, components = facts["clients"], facts["components"]
    return f"{counted(clients, 'client')}, {counted(components, 'component')}"


def drain_text(facts: Mapping[str, Any]) -> str:
    """What becomes of a server, in a sentence or two."""
    if facts["state"] == "open":
        return "It takes what comes."
    given = counted(facts["given"], "session")
    done = f"{given} went to other servers, {facts['ended']} ended"
    if facts["state"] == "drained":
        return f"It is drained, and can be stopped: {done}."
    told = f"It is being drained, for {facts['secondsLeft']} s more at most: {done};"
    return f"{told} still here: {still_here(facts)}."
