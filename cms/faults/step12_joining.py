"""Step 12, login: a guest asks to be admitted to a space."""

from __future__ import annotations

from cms.faults.kinds import Fault, LoginError, Side
from cms.signalflow import Step, StepError

JOIN_REFUSED = Fault(
    "join-refused",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "guest not admitted",
        "meeting ID or passcode not accepted",
        "the link to a meeting does not work",
        "join-refused",
    ),
    cause="A guest was not admitted: {why}.",
    cure="{mend}",
    mend="cms callbridge space list --config callbridge.toml",
)
JOIN_SLOWED = Fault(
    "join-slowed",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "guest not admitted: slowed",
        "the right passcode is not looked at",
        "join-slowed",
    ),
    cause=(
        "Guests of {peer} must wait: too many call IDs or passcodes from there, or for this space"
        " from everywhere, were wrong."
    ),
    cure=(
        "Wait, or come by the link of the space, which nobody's guesses hold up. Members and those"
        " who sign in are not held up either."
    ),
    mend="cms callbridge space show <space> --config callbridge.toml     # its link",
)
REENTRY_OVER = Fault(
    "reentry-over",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "guest not admitted: over",
        "a reload of the page asks for the name again",
        "reentry-over",
    ),
    cause=(
        "A guest could not come back as who he was: he was away for too long or thrown out, the"
        " passcode, link or space was changed, or the Callbridge does not know him any more."
    ),
    cure="Join anew, with the call ID and passcode or the link.",
)
JOIN_CROWDED = Fault(
    "join-crowded",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "guest not admitted: crowded",
        "join-crowded",
    ),
    cause="Too many guests are on their way in: {problem}.",
    cure="Try again in some seconds. If it stays, somebody who has a link uses it without end.",
    mend=(
        "cms callbridge space set <space> --new-secret --config callbridge.toml     # ends the link"
    ),
)
JOIN_UNDECIDED = Fault(
    "join-undecided",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "guest not admitted: undecided",
        "a guest's join fails now and then",
        "join-undecided",
    ),
    cause="It could not be decided whether a guest is admitted: {problem}.",
    cure="Look at the log of that Callbridge: its store fails, or it does not answer.",
    mend="journalctl -u cms-callbridge --since -10min",
)
JOIN_UNSUPPORTED = Fault(
    "join-unsupported",
    LoginError,
    Step.LOGIN,
    on=Side.SERVER,
    symptoms=(
        "guests cannot join although users can log in",
        "join-unsupported",
    ),
    cause="None of the Callbridges that are connected admits guests: {components}.",
    cure=(
        "Update them: older Callbridges cannot be asked. If one is of this version, let its"
        " login.mechanisms have SCRAM-SHA-256 or PLAIN."
    ),
    mend="cms status --config xmpp.toml     # on the XMPP server's host",
)

_WHY = {
    "unknown": (
        "no space has the call ID that was given",
        "Give the guest the right one. Many such lines from one address are guesses.",
    ),
    "passcode": (
        "the passcode was missing or wrong",
        "Give the guest the right one, or the link, which needs none.",
    ),
    "closed": (
        "the space is closed to guests",
        "To open it: cms callbridge space set <space> --open.",
    ),
    "link": (
        "no space has the link that was given",
        "Give the guest the link of now: a new one ends the old one.",
    ),
}
_NOT_TOLD = (
    "no space has this call ID or link, the passcode is wrong, or the space is closed to guests",
    "The Callbridge's log, signal flow and metrics tell these apart.",
)


def join_refused(why: str) -> StepError:
    """
    A guest was not admitted.

    @param why: C{unknown}, C{passcode}, C{closed} or C{link}; empty where it is not told.
    """
    cause, mend = _WHY.get(why, _NOT_TOLD)
    return JOIN_REFUSED.error(why=cause, mend=mend)
