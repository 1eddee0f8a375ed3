"""
The contacts of a user who is none any more are forgotten: his Callbridge says so
(docs/login-protocol.md 7.6), or an administrator.

Nothing brings them back.  So a Callbridge is believed only if no other one can have this user.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError

from cms.linkprotocol import ending
from cms.linkprotocol.login import MalformedLogin
from cms.process.logs import Logger
from cms.signalflow import counted
from cms.state.database import StoreUnusable
from cms.xmlstream.jid import parse_jid
from cms.xmlstream.stanza import Stanza
from cms.xmpp.contacts.acts import Outcome
from cms.xmpp.contacts.service import Contacts
from cms.xmpp.contacts.store import Refused
from cms.xmpp.links import Links


class Forgetting:
    """
    Forgets contacts.

    @param known: The addresses of components, connected or not.
    """

    log = Logger()

    def __init__(self, contacts: Contacts, links: Links, known: Iterable[str]) -> None:
        self._contacts = contacts
        self._links = links
        self._known = known

    def asked(self, stanza: Stanza) -> Deferred[ending.Forgotten]:
        """
        A Callbridge says that a user was deleted.

        @return: Fails with C{StanzaError}.
        @raise StanzaError: it asks for nothing that can be read, or another one may know the user.
        """
        component = stanza.sender or ""
        try:
            wanted = ending.parse(stanza.child)
        except MalformedLogin as problem:
            raise StanzaError("bad-request", text=str(problem)) from None
        if not isinstance(wanted, ending.Forget):
            raise StanzaError("bad-request")
        jid = parse_jid(wanted.jid)
        if jid.host != self._contacts.keys.domain:
            raise StanzaError("bad-request", text="the jid is not of this domain")
        other = self._another(component)
        if other is not None:
            raise StanzaError("conflict", text=f"{other} may have this user")
        asked = self.forget(str(jid.user), f"{component} says")
        return asked.addCallbacks(ending.Forgotten, _explain)

    def _another(self, component: str) -> str | None:
        """Another Callbridge that may have the same users, or a component that may be one."""
        below = f".{self._contacts.keys.domain}"
        for name in sorted(self._known):
            link = self._links.get(name)
            decides_nothing = link is not None and link.no_authority is not None
            if name != component and name.endswith(below) and not decides_nothing:
                return name
        return None

    def forget(self, name: str, who: str) -> Deferred[int]:
        """
        Forget all contacts of a user: also what others have of him, but not how they call him.

        @param name: The prepared local part.
        @param who: Who wants it, for the log.
        @return: Fires with how many entries he had; fails with L{Refused} and L{StoreUnusable}.
        """
        asked = self._contacts.change(name, lambda act: act.forget(name))
        return asked.addCallback(self._note, name, who)

    def _note(self, outcome: Outcome, name: str, who: str) -> int:
        self.log.info(
            "{contacts} of {name} forgotten, as {who}",
            contacts=counted(outcome.forgotten, "contact"),
            name=name,
            who=who,
        )
        return outcome.forgotten


def _explain(failure: Failure) -> Failure:
    problem = failure.value
    if isinstance(problem, Refused):
        return Failure(StanzaError(problem.condition, type=problem.kind, text=problem.text))
    if failure.check(StoreUnusable):  # of that is told where it was noticed
        return Failure(StanzaError("internal-server-error", type="wait"))
    return failure
