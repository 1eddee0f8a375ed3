"""An entry of the record as people read it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from cms.record.steps import Entry
from cms.signalflow import counted

# What is said of a log-in's reason; all else is a condition of RFC 6120 6.5.
REASONS: Final = {
    "wrong-password": "the password is wrong",
    "no-such-user": "there is no such user",
    "locked": "too many wrong passwords came before, so this one was not looked at",
    "locked-by-directory": "the directory has locked the account, and looks at no password",
    "account-disabled": "the account is disabled",
    "credentials-expired": "the password is too old",
    "changed": "the user was disabled, deleted or given another password meanwhile",
    "directory": "the user directory failed",
    "aborted": "the client gave up, or was gone",
    "lost": "the link to the XMPP server was lost",
    "invalid-mechanism": "the mechanism is not offered",
    "malformed-request": "the client's message is none of its mechanism",
    "invalid-authzid": "the client wanted to act for another user",
}
NAMES: Final = {"xmpp": "XMPP server", "callbridge": "Callbridge"}


def moment_text(entry: Entry) -> str:
    """When it was, in UTC."""
    return f"{datetime.fromtimestamp(entry['at'], UTC):%Y-%m-%dT%H:%M:%SZ}"


def told(entry: Entry) -> str:
    """What happened, in one line."""
    text = _told(entry)
    left_out = entry.get("leftOut")
    return f"{text}; {left_out} more before it were left out" if left_out else text


def _told(entry: Entry) -> str:
    kind = entry.get("kind")
    if kind == "login":
        return _login(entry)
    if kind == "link":
        return _link(entry)
    if kind == "session":
        return f"session of {_who(entry)} ended ({entry.get('reason')})"
    if kind == "guest":
        return f"guest from {entry.get('peer')}: {entry.get('result')}"
    if kind == "lost":
        return (
            f"{counted(entry.get('number'), 'entry', 'entries')} could not be written before this"
        )
    return str(kind)


def _who(entry: Entry) -> str:
    return str(entry.get("jid") or entry.get("user") or "somebody unnamed")


def _login(entry: Entry) -> str:
    result, reason = entry.get("result"), str(entry.get("reason") or entry.get("result"))
    way = f"log-in of {_who(entry)} from {entry.get('peer')}"
    how = f" ({entry['mechanism']})" if entry.get("mechanism") else ""
    if result == "success":
        by = f", decided by {entry['callbridge']}" if entry.get("callbridge") else ""
        return f"{way}{how}{by}"
    why = str(entry.get("cause") or REASONS.get(reason, reason)).rstrip(".")
    text = str(entry.get("text") or "")
    more = (
        f": {text}" if text and text not in (why, reason, result) and not entry.get("cause") else ""
    )
    return f"{way}{how} failed: {why}{more}"


def _link(entry: Entry) -> str:
    step = f"attempt {entry.get('attempt')}: step {entry.get('step')} {entry.get('name')}"
    if entry.get("result") == "failed":
        return f"{step} failed: {entry.get('cause')} Cure: {entry.get('cure')}"
    evidence = entry.get("evidence")
    seen = evidence if isinstance(evidence, dict) else {}
    shown = ", ".join(f"{key} {value}" for key, value in seen.items())
    return f"{step} {entry.get('result')}" + (f" ({shown})" if shown else "")
