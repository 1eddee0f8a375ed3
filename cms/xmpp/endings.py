"""
The Callbridge that decided a log-in says that its sessions are over (docs/login-protocol.md 7).

A client that has logged in and not bound a resource yet has no session.  So each end is
noted, and whoever logged in before it may bind none.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted.words.protocols.jabber.error import StanzaError, StreamError

from cms.linkprotocol import ending
from cms.linkprotocol.login import MalformedLogin
from cms.process.logs import Logger
from cms.signalflow import Step, counted
from cms.xmlstream.jid import parse_jid
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.toldfault import ToldFault, as_condition
from cms.xmpp.elsewhere import Others
from cms.xmpp.sessions import ADMINISTRATOR, REPLACED, Sessions

# Users whose end is remembered.  What came before the last that was forgotten may bind no
# resource either: such a client logs in again, and is told what there is to tell.
MOST_REMEMBERED = 1_000
# RFC 6120 4.9.3.  After C{reset} clients log in again, and then ask for the password.  After
# C{not-authorized} they do not come back by themselves (docs/design/ended-sessions.md).
_ERRORS: Final = {
    ADMINISTRATOR: ("policy-violation", "ended by an administrator"),
    REPLACED: ("conflict", "this resource was bound by another connection"),
    "password": ("reset", "the password was changed"),
    "disabled": ("not-authorized", "the account was disabled"),
    "deleted": ("not-authorized", "the account was deleted"),
}
# For programs, beside the condition: a page says what it means (cms/door/static/texts.en.js).
_WORDS: Final = {
    ADMINISTRATOR: "ended-by-administrator",
    "disabled": "account-disabled",
    "deleted": "account-disabled",
}
_OTHERWISE: Final = ("not-authorized", "the account may not be logged in any more")


def error_of(reason: str) -> StreamError:
    """The stream error by which a client is told."""
    condition, text = _ERRORS.get(reason, _OTHERWISE)
    word = _WORDS.get(reason)
    why = None if word is None else as_condition(ToldFault(word))
    return StreamError(condition, text=text, appCondition=why)


class Endings:
    """
    Ends sessions when their Callbridge says so.

    @ivar number: How many ends there were: a log-in that succeeds takes note of it.
    @ivar others: The other nodes, if there can be any.
    """

    log = Logger()

    def __init__(self, sessions: Sessions) -> None:
        self.number = 0
        self.others: Others | None = None
        self._sessions = sessions
        self._last: OrderedDict[tuple[str, str], tuple[int, str]] = OrderedDict()
        self._forgotten = 0

    def asked(self, stanza: Stanza) -> ending.Ended:
        """
        A Callbridge asks for an end.

        @raise StanzaError: it asks for nothing that can be read.
        """
        component = stanza.sender or ""
        try:
            wanted = ending.parse(stanza.child)
        except MalformedLogin as problem:
            raise StanzaError("bad-request", text=str(problem)) from None
        if not isinstance(wanted, ending.End):
            raise StanzaError("bad-request")
        if self.others is not None:
            self.others.end_user(component, wanted.jid, wanted.reason)
        ended = self.end(component, wanted.jid, wanted.reason)
        self.log.info(
            "{step_text}: {sessions} of {jid} ended, as {component} says ({reason})",
            step=int(Step.LOGIN),
            step_text=str(Step.LOGIN),
            sessions=counted(ended, "session"),
            jid=wanted.jid,
            component=component,
            reason=wanted.reason,
        )
        return ending.Ended(ended)

    def end(self, component: str, address: str, reason: str) -> int:
        """
        End the sessions of an address whose log-in a Callbridge decided.

        @param address: Prepared; a bare one: all of a user.
        @return: How many that were, of those that are known here.
        """
        jid = parse_jid(address)
        if jid.resource is None:
            self._note(component, address, reason)
            found = self._sessions.of(address)
        else:
            session = self._sessions.find(jid)
            found = [] if session is None else [session]
        theirs = [session for session in found if session.authority == component]
        for session in theirs:
            session.end(reason)
        return len(theirs)

    def _note(self, component: str, bare: str, reason: str) -> None:
        self.number += 1
        key = component, bare
        self._last[key] = self.number, reason
        self._last.move_to_end(key)
        if len(self._last) > MOST_REMEMBERED:
            self._forgotten = self._last.popitem(last=False)[1][0]

    def since(self, number: int, component: str, bare: str) -> StreamError | None:
        """
        Why a client that has logged in may bind no resource, if so.

        @param number: L{number} when its log-in succeeded.
        @param component: The Callbridge that decided.
        """
        last, reason = self._last.get((component, bare), (self._forgotten, "password"))
        return error_of(reason) if number < last else None
