"""Step 1, link-before-login: no log-in is served until a Callbridge is there to decide it."""

from __future__ import annotations

from cms.faults.kinds import Fault, LoginError, Side
from cms.signalflow import Step

NO_CALLBRIDGE = Fault(
    "no-callbridge",
    LoginError,
    Step.LINK_BEFORE_LOGIN,
    on=Side.LOGIN | Side.CHECK,
    symptoms=(
        "remote-connection-failed",
        "log-in fails although user name and password are right",
        "no Callbridge is connected",
    ),
    cause="No Callbridge is connected, so no log-in can be decided.",
    cure="Start a Callbridge; its own log names the step at which its link fails.",
    mend="cms check --config callbridge.toml     # on the Callbridge's host",
)
NO_AUTHORITY = Fault(
    "no-authority",
    LoginError,
    Step.LINK_BEFORE_LOGIN,
    on=Side.LOGIN | Side.CHECK,
    symptoms=(
        "remote-connection-failed, although something is connected",
        "cms status: connected, but none decides log-ins",
    ),
    cause="What is connected to the XMPP server decides no log-ins: {problem}",
    cure="{mend}",
    mend="cms status --config xmpp.toml     # on the XMPP server's host",
)
SERVER_DRAINING = Fault(
    "server-draining",
    LoginError,
    Step.LINK_BEFORE_LOGIN,
    on=Side.SERVER,
    symptoms=("503 of /healthz, although all is well", "Connection refused, by one of the servers"),
    cause="{node} is being drained: it takes nothing new, and what it has goes to other servers.",
    cure="Somebody is about to stop it.  If not, cms xmpp drain --cancel opens it again.",
    mend="cms xmpp drain --cancel --config xmpp.toml     # on that server's host",
)
