"""
What the Callbridge answers on its link.

L{LinkTraffic} passes log-ins to L{LoginHandler} and runs wokkel's C{XMPPHandler}s over
our own stream: it gives them the event dispatcher that they observe, and sends what they
send.  Unlike wokkel's C{StreamManager} it queues nothing while the link is down, and
accepts answers to our requests only from the party that was asked
(docs/design/wokkel.md).  Log-ins go first.  Other stanzas wait in an
L{Inbox<cms.callbridge.link.inbox.Inbox>}, so that no sender can occupy the Callbridge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish.domish import Element
from twisted.words.xish.utility import EventDispatcher
from wokkel.subprotocols import IQHandlerMixin, XMPPHandler

import cms
from cms.callbridge.directories.people import People
from cms.callbridge.link.inbox import Inbox, share_of
from cms.callbridge.login.authority import Authority
from cms.callbridge.login.endings import Endings
from cms.callbridge.login.groups import GroupTeller
from cms.linkprotocol import join, people
from cms.linkprotocol import login as lp
from cms.process.cleanup import call_all
from cms.process.logs import Logger
from cms.xmlstream import disco, ns
from cms.xmlstream.replies import error_reply, is_join
from cms.xmlstream.requests import Requests
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_error, written_result

_MUC = ns.MUC.encode()


class NotConnected(Exception):
    """There is no active link to send over."""


class Carrier(Protocol):
    """The stream of an active link, as far as it is used here."""

    requests: Requests
    link_id: str

    @property
    def waiting_bytes(self) -> int:
        """How much waits for the server to read."""
        ...

    def send(self, stanza: Stanza) -> None:
        """Send a stanza to the server, before everything that waits."""

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """See L{Party.deliver<cms.xmlstream.flow.Party.deliver>}."""


class HandlerStream(EventDispatcher):
    """The C{xmlstream} that wokkel's handlers see."""

    def __init__(self, send: Callable[[Stanza], object]) -> None:
        super().__init__()
        self._send = send

    def send(self, element: Element) -> None:
        """Send an element over the link, in the lane of its receiver."""
        self._send(Stanza(element))


class RoomTraffic(Protocol):
    """The rooms of the Callbridge: L{cms.callbridge.rooms.service.Rooms}."""

    def link_up(self, link: Carrier, answer: Callable[[Stanza], object]) -> None:
        """The link is active; C{answer} sends to whom a stanza is for, in his turn."""

    def link_down(self) -> None:
        """The link has ended; sessions are still known."""

    def take(self, stanza: Stanza) -> bool:
        """Handle what is for a room; C{False} for anything else."""
        ...

    def spaces_of(self, address: str) -> Deferred[Sequence[tuple[str, str, str]]]:
        """Address, name and call ID of each room that somebody may enter as a member."""
        ...


class Door(Protocol):
    """Admits guests: L{cms.callbridge.rooms.doorkeeper.Doorkeeper}."""

    def decide(self, asked: join.Admit) -> Deferred[join.Answer]:
        """Whether somebody is admitted."""
        ...

    def elsewhere(self, id_: str) -> None:
        """Another Callbridge has the space of a question."""


class LinkTraffic:
    """
    Passes the stanzas of the link to the handlers, and answers those that no handler took
    with an error (RFC 6120 8.3, 8.4).
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        handlers: Iterable[XMPPHandler],
        logins: LoginHandler | None = None,
        rooms: RoomTraffic | None = None,
    ) -> None:
        self._rooms = rooms
        self._inbox = Inbox(clock, self._handle, self._constrained, self._share)
        self._handlers = list(handlers)
        self._logins = logins
        self._stream: Carrier | None = None
        self._dispatcher: HandlerStream | None = None
        for handler in self._handlers:
            handler.parent = self

    # from the link

    def sent_before(self, stream: Carrier, stanzas: Sequence[bytes]) -> None:
        """
        The link before this one ended with these, which the server never got: send them in
        their order, and in the lanes that they had.
        """
        for raw in stanzas:
            stanza = of_bytes(raw)
            room = (stanza.sender or "").partition("/")[0]
            stream.deliver((raw,), room if "@" in room else self._share(stanza.to))

    def link_up(self, stream: Carrier) -> None:
        """The link is active."""
        self._stream = stream
        self._dispatcher = HandlerStream(partial(self._deliver, stream))
        if self._logins is not None:
            self._logins.link_up(stream)
        if self._rooms is not None:
            self._rooms.link_up(stream, partial(self._deliver, stream))
        for handler in self._handlers:
            handler.makeConnection(self._dispatcher)
        for handler in self._handlers:
            handler.connectionInitialized()

    def link_down(self) -> None:
        """The link has ended; what it brought is handled, since the server was told so."""
        call_all(self.log, [self._inbox.finish])
        self._stream = self._dispatcher = None
        ends: list[Callable[[Failure], object]] = [
            handler.connectionLost for handler in self._handlers
        ]
        rooms = self._rooms
        if rooms is not None:
            ends.append(lambda _: rooms.link_down())
        if self._logins is not None:
            ends.append(self._logins.link_down)
        call_all(self.log, ends, Failure(ConnectionDone()))

    def received(self, stanza: Stanza) -> None:
        """A stanza arrived."""
        stream, logins = self._stream, self._logins
        if stream is None:
            return
        if logins is None or not logins.take(stanza, stream):
            self._inbox.put(stanza)

    def _handle(self, stanza: Stanza) -> None:
        stream = self._stream
        if self._dispatcher is None or stream is None:
            return
        if stanza.is_request and stanza.only_child is None:
            self._refuse(stanza, stream, "bad-request")  # RFC 6120 8.2.3
            return
        if self._rooms is not None and self._rooms.take(stanza):
            return
        taken = self._dispatcher.dispatch(stanza.element)
        if not taken and not getattr(stanza.element, "handled", False):
            self._refuse(stanza, stream, "service-unavailable")

    def _refuse(self, stanza: Stanza, stream: Carrier, condition: str) -> None:
        joins = is_join(stanza)
        if not stanza.is_stanza or (stanza.name == "presence" and not joins):
            return
        if joins:
            condition = "item-not-found"  # of the rooms that might be here (XEP-0045 7.2)
        reply = error_reply(stanza, StanzaError(condition))
        if reply is not None:
            self._deliver(stream, reply)

    def _constrained(self, stanza: Stanza) -> None:
        """Refuse a stanza: too many of its sender wait already."""
        if stanza.name == "presence":
            if _MUC in stanza.raw and is_join(stanza) and self._stream is not None:
                error = StanzaError("resource-constraint", type="wait")
                refused = error_reply(stanza, error)
                if refused is not None:
                    self._deliver(self._stream, refused)
            return
        reply = written_error(stanza, "wait", "resource-constraint")
        if reply is not None and self._stream is not None:
            self._deliver(self._stream, reply)

    # for handlers

    def send(self, element: Element) -> None:
        """
        @raise NotConnected: nothing is queued while the link is down.
        """
        if self._stream is None:
            raise NotConnected
        self._deliver(self._stream, Stanza(element))

    def request(self, request: Any) -> Deferred[Element]:
        """From wokkel: send a C{generic.Request} and wait for its answer."""
        if self._stream is None:
            raise NotConnected
        asked = self._stream.requests.ask(Stanza(request.toElement()), request.timeout or 30)
        return asked.addCallback(lambda answer: answer.element)

    def _deliver(self, stream: Carrier, stanza: Stanza) -> None:
        """
        Send in the lane of the receiver.  If the lane is full, drop the stanza: nobody here
        could be told.
        """
        stream.deliver((stanza.raw,), self._share(stanza.to))

    def _share(self, address: str | None) -> str:
        return share_of(address, self._domain)

    @property
    def _domain(self) -> str:
        return "" if self._logins is None else self._logins.domain


def _observe(handler: Any, queries: Iterable[str]) -> None:
    for query in queries:
        handler.xmlstream.addObserver(query, handler.handleRequest)


class CallbridgeHandler(XMPPHandler, IQHandlerMixin):
    """
    Ping (XEP-0199), service discovery (XEP-0030) and version (XEP-0092).

    @param rooms: What is found below us, if there are rooms.
    @param find: Gives the space of a call ID, for whoever asks.
    """

    def __init__(
        self,
        rooms: RoomTraffic | None = None,
        find: Callable[[str, str], Deferred[Element]] | None = None,
    ) -> None:
        super().__init__()
        self._rooms = rooms
        self._find = find

    iqHandlers = {
        f"/iq[@type='get']/ping[@xmlns='{ns.PING}']": "onPing",
        f"/iq[@type='get']/query[@xmlns='{ns.DISCO_INFO}']": "onInfo",
        f"/iq[@type='get']/query[@xmlns='{ns.DISCO_ITEMS}']": "onItems",
        f"/iq[@type='get']/query[@xmlns='{ns.VERSION}']": "onVersion",
        f"/iq[@type='get']/find[@xmlns='{join.NS}']": "onFind",
    }

    def connectionInitialized(self) -> None:
        """Observe the new link."""
        _observe(self, self.iqHandlers)

    def onPing(self, iq: Element) -> None:
        """Answer with an empty result."""

    def onInfo(self, iq: Element) -> Element:
        """Answer with our identity and features."""
        features: tuple[str, ...] = (ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, ns.VERSION)
        if self._rooms is None:
            return disco.info(iq.query, "component", "generic", "Callbridge", features)
        features = (*features, ns.MUC, *(() if self._find is None else (join.NS,)))
        return disco.info(iq.query, "conference", "text", "Callbridge", features)

    def onItems(self, iq: Element) -> Element | Deferred[Element]:
        """Answer with the rooms that the asking account is a member of, and nobody else's."""
        answer = disco.items(iq.query)
        if self._rooms is None or answer.hasAttribute("node"):
            return answer
        return self._rooms.spaces_of(iq.getAttribute("from") or "").addCallback(_named, answer)

    def onFind(self, iq: Element) -> Deferred[Element]:
        """Answer with the space of a call ID, if whoever asks may enter it."""
        if self._find is None:
            raise StanzaError("service-unavailable")
        return self._find(iq.getAttribute("from") or "", iq.find.getAttribute("callId") or "")

    def onVersion(self, iq: Element) -> Element:
        """Answer with the name and version of this program."""
        query = Element((ns.VERSION, "query"))
        query.addElement("name", content="cms-callbridge")
        query.addElement("version", content=cms.__version__)
        return query


def _named(found: Sequence[tuple[str, str, str]], answer: Element) -> Element:
    for address, name, call_id in found:
        item = answer.addElement("item")
        item["jid"], item["name"], item[join.NS, "callId"] = address, name, call_id
    return answer


class LoginHandler:
    """
    Log-in requests from the XMPP server (docs/login-protocol.md).

    They count only from the XMPP domain itself, because a client could send the same
    elements.  A log-in has four of them, so they do not pass through wokkel's handlers,
    each of which would examine every stanza.

    @ivar domain: The XMPP domain.
    @param door: Admits guests, if there is one.
    @param endings: Ends sessions, if they are to end.
    @param people: Says who users are, if it is asked.
    @param groups: Tells of groups of directories, if there are any.
    """

    log = Logger()

    def __init__(
        self,
        authority: Authority,
        domain: str,
        door: Door | None = None,
        endings: Endings | None = None,
        people: People | None = None,
        *,
        groups: GroupTeller | None = None,
    ) -> None:
        self._door = door
        self._endings = endings
        self._people = people
        self._groups = groups
        self._naming = False  # what this Callbridge decides is on its way to the server
        self.serve(authority, domain)

    def serve(self, authority: Authority, domain: str) -> None:
        """Use another authority; only while no link is up."""
        self._authority = authority
        self.domain = domain

    def link_up(self, stream: Carrier) -> None:
        """The link is active."""
        self._authority.link_id = stream.link_id
        if self._endings is not None:
            self._endings.link_up(stream)
        if self._groups is not None:
            self._groups.link_up(stream)

    def link_down(self, reason: Failure) -> None:
        """Exchanges and sessions belong to the link."""
        if self._endings is not None:
            self._endings.link_down()
        if self._groups is not None:
            self._groups.link_down()
        self._authority.link_lost()

    def take(self, stanza: Stanza, stream: Carrier) -> bool:
        """Answer a request of the protocol; C{False} for anything else."""
        if not stanza.is_request or stanza.payload not in _QUESTIONS:
            return False
        try:
            answer = self._answer(stanza)
        except StanzaError as error:
            self._refuse(stanza, stream, error)
            return True
        except Exception:  # noqa: BLE001 - the server must have an answer, and the link go on
            self._failed(Failure(), stanza, stream)
            return True
        if isinstance(answer, Deferred):
            answer.addCallback(
                lambda message: stream.send(written_result(stanza, message.to_xml()))
            )
            answer.addErrback(self._failed, stanza, stream)
        else:
            stream.send(written_result(stanza, answer))
            if self._naming:
                self._naming = False
                self._named()
        return True

    def _named(self) -> None:
        """The server knows what this Callbridge decides, and believes it from now on."""
        if self._endings is not None:
            self._endings.on_named()
        if self._groups is not None:
            self._groups.named()

    def _answer(self, stanza: Stanza) -> Deferred[Any] | str:
        """
        Decide a log-in, or whether a guest is admitted, or take note of a session.

        @return: The content of the result.
        @raise StanzaError: it is not from the server, or malformed.
        """
        if stanza.sender != self.domain:
            raise StanzaError("forbidden", text="only the XMPP server may ask this")
        child = stanza.only_child
        if child is None:
            raise StanzaError("bad-request", text="a request has one child")  # RFC 6120 8.2.3
        try:
            message = _PARSERS[child.uri](child)
        except lp.MalformedLogin as problem:
            raise StanzaError("bad-request", text=str(problem)) from None
        authority = self._authority
        if isinstance(message, join.Admit | people.Ask):
            return self._admit(message) if isinstance(message, join.Admit) else self._say(message)
        if isinstance(message, lp.AskMechanisms):
            self._naming = True
            able = self._admits, self._people is not None
            return lp.Mechanisms(authority.mechanisms, *able).to_xml()
        if isinstance(message, lp.Start):
            return authority.start(message)
        if isinstance(message, lp.Response):
            return authority.respond(message)
        if isinstance(message, lp.Abort):
            authority.abort(message)
        elif isinstance(message, lp.SessionBegin | lp.SessionEnd):
            authority.note(message)
        elif isinstance(message, lp.Sessions):
            for notice in message.notices:
                authority.note(notice)
        else:
            self._go_elsewhere(message)
        return ""

    def _go_elsewhere(self, message: lp.Message | join.Message | people.Message) -> None:
        if not isinstance(message, join.Elsewhere):
            raise StanzaError("bad-request")
        if self._door is not None:
            self._door.elsewhere(message.id)

    @property
    def _admits(self) -> bool:
        return self._door is not None and self._authority.admits

    def _admit(self, asked: join.Admit) -> Deferred[join.Answer]:
        if self._door is None or not self._admits:
            raise StanzaError("service-unavailable")
        return self._door.decide(asked)

    def _say(self, asked: people.Ask) -> Deferred[people.Answer]:
        if self._people is None:
            raise StanzaError("service-unavailable")
        return self._people.answer(asked)

    def _failed(self, failure: Failure, stanza: Stanza, stream: Carrier) -> None:
        self.log.failure("unexpected error in a log-in", failure)
        self._refuse(stanza, stream, StanzaError("internal-server-error"))

    def _refuse(self, stanza: Stanza, stream: Carrier, error: StanzaError) -> None:
        reply = error_reply(stanza, error)
        if reply is not None:
            stream.send(reply)


_PARSERS: dict[str, Callable[[Element], lp.Message | join.Message | people.Message]] = {
    lp.NS: lp.parse,
    join.NS: join.parse,
    people.NS: people.parse,
}
_QUESTIONS = frozenset(
    (lp.NS, name)
    for name in (
        *("mechanisms", "start", "response", "abort"),
        *("session-begin", "session-end", "sessions"),
    )
) | {(join.NS, "admit"), (join.NS, "elsewhere"), (people.NS, "ask")}
