"""
Names and pictures for clients: vcard-temp (XEP-0054) and the pictures of XEP-0084.

Both are read from the directory, so nobody sets them.  Who may see a user's presence may see who
he is, and so may whom he asks to see; everybody else is told what he is told where nobody is.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from cms.linkprotocol.people import Person
from cms.process.logs import Logger
from cms.state.database import StoreUnusable
from cms.xmlstream.serialize import escape_text, quote_attribute
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_result
from cms.xmpp.contacts.people import People
from cms.xmpp.contacts.service import Contacts
from cms.xmpp.contacts.settings import EVERYBODY, ContactSettings
from cms.xmpp.router import MOST_BYTES, Router
from cms.xmpp.sessions import Session

VCARD: Final = "vcard-temp"  # XEP-0054
PUBSUB: Final = "http://jabber.org/protocol/pubsub"  # XEP-0060
METADATA: Final = "urn:xmpp:avatar:metadata"  # XEP-0084
DATA: Final = "urn:xmpp:avatar:data"
UPDATE: Final = "vcard-temp:x:update"  # XEP-0153
_UPDATE: Final = UPDATE.encode()
MOST_ASKING: Final = 20  # questions of one user that are under way
_DIRECTORY = "names and pictures come from the directory"

Show = Callable[[Person], str | None]


class Cards:
    """
    Answers who somebody is.

    @param contacts: C{None}: users have none.
    @ivar requests: What clients may ask of accounts, by type, namespace and name.
    """

    log = Logger()

    def __init__(
        self, people: People, router: Router, contacts: Contacts | None, settings: ContactSettings
    ) -> None:
        self._people = people
        self._router = router
        self._contacts = contacts
        self._settings = settings
        self._asking: Counter[str] = Counter()
        self.requests = {
            ("get", VCARD, "vCard"): self.card,
            ("set", VCARD, "vCard"): self.set_card,
            ("get", PUBSUB, "pubsub"): self.items,
        }

    def card(self, session: Session, stanza: Stanza, _: Element, to: JID) -> None:
        """A vCard; an empty one if the directory has nothing."""
        self._answer(session, stanza, to, _card)

    def set_card(self, session: Session, stanza: Stanza, _: Element, to: JID) -> None:
        """Nobody sets one."""
        if to.userhost() != session.jid.userhost():
            self._router.bounce(stanza, "service-unavailable")
        else:
            self._router.bounce(stanza, "not-allowed", text=_DIRECTORY)

    def items(self, session: Session, stanza: Stanza, pubsub: Element, to: JID) -> None:
        """The one item of each of both nodes (XEP-0084 4.2.3)."""
        asked = next(iter(pubsub.elements(PUBSUB, "items")), None)
        node = None if asked is None else asked.getAttribute("node")
        if asked is None or node not in (METADATA, DATA):
            self._router.bounce(stanza, "service-unavailable")  # there are no others
            return
        wanted = [item.getAttribute("id") for item in asked.elements(PUBSUB, "item")]
        self._answer(session, stanza, to, partial(_item, node, wanted))

    def _answer(self, session: Session, stanza: Stanza, to: JID, show: Show) -> None:
        if not self._may_know(session, to):
            self._router.bounce(stanza, "service-unavailable")
            return
        asking = session.jid.userhost()
        if self._asking[asking] >= MOST_ASKING:
            self._router.bounce(stanza, "resource-constraint", "wait")
            return
        self._asking[asking] += 1

        def found(person: Person | None) -> None:
            text = None if person is None else show(person)
            if person is None:
                self._router.bounce(stanza, "service-unavailable")
            elif text is None:
                self._router.bounce(stanza, "item-not-found")
            else:
                self._router.route(written_result(stanza, text))

        def failed(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, StanzaError):
                self.log.failure("unexpected error in a vCard", failure)
                error = StanzaError("internal-server-error")
            self._router.bounce(stanza, error.condition, error.type)

        def over(_: object) -> None:
            self._asking[asking] -= 1
            if not self._asking[asking]:
                del self._asking[asking]

        self._people.find(to.userhost()).addCallback(found).addErrback(failed).addBoth(over)

    @property
    def announces(self) -> bool:
        """Whether presence says which picture somebody has."""
        return self._settings.announce_pictures

    def marked(
        self, session: Session, stanza: Stanza, again: Callable[[Session, Stanza], object]
    ) -> Stanza:
        """
        Presence of a user, with the hash of his picture (XEP-0153) if that is known.

        @param again: Called with it later, if it becomes known and is his presence still.
        """
        if _UPDATE in stanza.raw or session.is_guest:
            return stanza
        user = session.jid.userhost()
        is_known, person = self._people.known(user)
        if is_known:
            return _with_hash(stanza, person)

        def came(person: Person | None) -> None:
            marked = _with_hash(stanza, person)
            if marked is not stanza and session.presence is stanza:
                again(session, marked)

        # Who has no answer now goes without until his next presence.
        self._people.find(user).addCallbacks(came, lambda failure: failure.trap(StanzaError))
        return stanza

    def _may_know(self, session: Session, to: JID) -> bool:
        """
        Whether a session may know who somebody is.

        Of whom nobody may know anything the Callbridge is not asked: so the time tells nothing.
        """
        if session.is_guest:
            return False
        if to.userhost() == session.jid.userhost() or self._settings.known_to == EVERYBODY:
            return True
        contacts = self._contacts
        if contacts is None:
            return False
        own = contacts.keys.own(session.jid.userhost())
        try:
            return contacts.changes.store.may_know(contacts.keys.key(to), own)
        except StoreUnusable:
            return False  # of that is told where presence is read


def _with_hash(stanza: Stanza, person: Person | None) -> Stanza:
    raw = stanza.raw
    if person is None or not person.picture:
        return stanza
    id_ = hashlib.sha1(person.picture).hexdigest()  # noqa: S324 - as XEP-0153 4.3 has it
    x = f"<x xmlns='{UPDATE}'><photo>{id_}</photo></x></presence>".encode()
    if raw.endswith(b"</presence>"):
        raw = raw.removesuffix(b"</presence>") + x
    elif raw.endswith(b"/>") and raw.count(b"<") == 1:
        raw = raw.removesuffix(b"/>") + b">" + x
    if len(raw) > MOST_BYTES:
        return stanza
    return SplicedStanza((b"presence", None, None, raw))


def _card(person: Person) -> str:
    name = f"<FN>{escape_text(person.name)}</FN>" if person.name else ""
    photo = ""
    if person.picture:
        binary = base64.b64encode(person.picture).decode()
        photo = f"<PHOTO><TYPE>{person.kind}</TYPE><BINVAL>{binary}</BINVAL></PHOTO>"
    return f"<vCard xmlns='{VCARD}'>{name}{photo}</vCard>"


def _item(node: str, wanted: list[str | None], person: Person) -> str | None:
    """
    The item of a picture.

    @param wanted: The ids of the items that are asked for; none: all.
    """
    picture = person.picture
    if not picture:
        return None
    id_ = hashlib.sha1(picture).hexdigest()  # noqa: S324 - as XEP-0084 4.2.1 has it
    shown = ""
    if not wanted or id_ in wanted:
        if node == METADATA:
            info = f"<info bytes='{len(picture)}' id='{id_}' type='{person.kind}'/>"
            content = f"<metadata xmlns='{METADATA}'>{info}</metadata>"
        else:
            content = f"<data xmlns='{DATA}'>{base64.b64encode(picture).decode()}</data>"
        shown = f"<item id='{id_}'>{content}</item>"
    items = f"<items node={quote_attribute(node)}>{shown}</items>"
    return f"<pubsub xmlns='{PUBSUB}'>{items}</pubsub>"
