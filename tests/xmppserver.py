"""An XMPP server in memory, for tests: policies wired as the service wires them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.python.failure import Failure

from cms.configuration.tomlfile import Secret
from cms.linkprotocol import login as lp
from cms.linkprotocol import people
from cms.process.threads import SlowWork
from cms.protection.guessing import Guesses
from cms.xmlstream import ns
from cms.xmlstream.replies import result_reply
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import XMLStream
from cms.xmlstream.textiq import written_result
from cms.xmpp import clientstates, componentstates
from cms.xmpp.broadcast import Broadcast
from cms.xmpp.carbons import Carbons
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.componentpolicy import ComponentPolicy
from cms.xmpp.contacts.cards import Cards
from cms.xmpp.contacts.changes import Changes
from cms.xmpp.contacts.people import People
from cms.xmpp.contacts.service import Contacts
from cms.xmpp.contacts.settings import ContactSettings
from cms.xmpp.contacts.store import ContactStore
from cms.xmpp.flowrecord import ServerFlow
from cms.xmpp.links import Links
from cms.xmpp.local import LocalServices
from cms.xmpp.loginrelay import NOTICE_DELAY, LoginRelay
from cms.xmpp.metrics import ServerCounters
from cms.xmpp.reconnecting import Reconnecting
from cms.xmpp.registry import Registry
from cms.xmpp.resumption import Resumptions
from cms.xmpp.router import Router
from cms.xmpp.sessions import Sessions
from cms.xmpp.sessionservice import SessionService
from cms.xmpp.waitingroom import WaitingRoom
from tests.support import MemoryTransport, TwoClocks, header, stanzas

DOMAIN = "meet.example.com"
SECRETS = {"cb1": "one", "cb2": "two", "echo": "three"}


def mechanisms(features: str, namespace: str = ns.SASL) -> list[str]:
    """What is offered in one of the two ways, in its order."""
    offered = features.partition(f" xmlns='{namespace}'>")[2].partition("<inline>")[0]
    return re.findall("<mechanism>([^<]*)</mechanism>", offered.partition("</mechanisms>")[0])


class Threads:
    """A reactor whose threads have done what they were given before it is given back."""

    def getThreadPool(self) -> Threads:
        """From C{deferToThreadPool}."""
        return self

    def callFromThread(self, f: Callable[..., object], *args: object) -> None:
        """At once."""
        f(*args)

    def callInThreadWithCallback(
        self, result: Callable[[bool, object], None], f: Callable[[], object]
    ) -> None:
        """The same."""
        try:
            answer = f()
        except Exception:  # noqa: BLE001 - as a thread does
            result(False, Failure())
        else:
            result(True, answer)


class Server:
    """The parts of an XMPP server, without listeners."""

    def __init__(
        self,
        *,
        wait: float = 8.0,
        most_waiting: int = 3,
        resume: float = 60.0,
        clock: TwoClocks | None = None,
        contacts: Path | None = None,
        maker: str = "",
        settings: ContactSettings = ContactSettings(),  # noqa: B008 - it is frozen
    ) -> None:
        """
        @param contacts: The folder of the users' contacts, if they have any.
        @param maker: The name of the server in a cluster.
        """
        self.clock = clock or TwoClocks()
        self.links = Links()
        self.sessions = Sessions()
        self.counters = ServerCounters()
        self.registry = registry = Registry(
            {f"{name}.{DOMAIN}": [Secret(value)] for name, value in SECRETS.items()}
        )
        broadcast = Broadcast(self.clock)
        carbons = Carbons(self.sessions, broadcast)
        self.router = Router(DOMAIN, self.links, self.sessions, registry, carbons)
        local = LocalServices(self.router, self.links, self.sessions, broadcast)
        self.router.local = local
        if contacts is not None:
            store = ContactStore(contacts, self.clock.wall_seconds, maker)
            self.offer_contacts(store, broadcast, local)
        self.people = People(self.clock, DOMAIN, self.links)
        self.cards = Cards(self.people, self.router, getattr(self, "contacts", None), settings)
        local.introduce(self.cards)
        self.relay = LoginRelay(self.clock, DOMAIN, self.links, wait=wait)
        self.flow = ServerFlow(self.clock, self.counters.registration_step)
        service = SessionService(
            *(self.clock, self.sessions, self.links, local, self.relay),
            flow=self.flow,
            carbons=carbons,
            reconnecting=Reconnecting(self.clock, self.router),
        )
        self.waiting_room = WaitingRoom(
            *(self.clock, self.relay, lambda: bool(registry.secrets)),
            seconds=wait,
            most=most_waiting,
        )
        self.components = ComponentPolicy(
            self.clock, DOMAIN, registry, self.links, self.router, Guesses(self.clock), self.flow
        )
        self.clients = ClientPolicy(
            self.clock,
            DOMAIN,
            self.router,
            self.sessions,
            service,
            self.relay,
            self.waiting_room,
            self.counters,
            Resumptions(self.clock, resume),
        )

    def offer_contacts(
        self, store: ContactStore, broadcast: Broadcast, local: LocalServices
    ) -> None:
        """Users have them."""
        self.changes = Changes(self.clock, store, SlowWork(Threads()))
        self.contacts = Contacts(self.changes, self.router, broadcast)
        local.offer(self.contacts, self.registry)
        assert local.groups is not None
        self.contacts_groups = local.groups

    def component(self, host: str = "192.0.2.7") -> Peer:
        """A connection to the component port."""
        stream = XMLStream(self.components.clock, componentstates.begin(self.components, None))
        return Peer(stream, host, ns.COMPONENT)

    def client(self, tls: object = None, **options: Any) -> Peer:
        """A connection to a client port, plain unless C{tls} is given."""
        negotiation = clientstates.begin(self.clients, tls, **options)  # type: ignore[arg-type]
        return Peer(XMLStream(self.clients.clock, negotiation), "198.51.100.9", ns.CLIENT)

    def register(self, name: str = "cb1") -> Peer:
        """A registered component."""
        peer = self.component()
        peer.register(f"{name}.{DOMAIN}", SECRETS[name], self.settle)
        return peer

    def settle(self) -> None:
        """Let time pass until others know what this server knows, if there are any."""

    def callbridge(self, name: str = "cb1", mechanisms: tuple[str, ...] = ("PLAIN",)) -> Peer:
        """A registered Callbridge that decides these mechanisms."""
        peer = self.register(name)
        (question,) = peer.received()
        peer.answer(question, lp.Mechanisms(mechanisms))
        return peer

    def logged_in(self, callbridge: Peer, user: str = "alice", **header: str) -> Peer:
        """
        A client that has logged in through a Callbridge and has bound nothing.

        @param header: More of its stream header.
        """
        client = self.client()
        client.open(**header)
        client.authenticate()
        asked = callbridge.received()
        for ping in asked:  # it may be time for one
            if ping.child is not None and ping.child.name == "ping":
                callbridge.say(result_reply(ping).raw.decode())
        (start,) = [each for each in asked if each.child is None or each.child.name != "ping"]
        message = lp.parse(start.element.firstChildElement())
        assert isinstance(message, lp.Start), message
        callbridge.answer(start, lp.Success(message.exchange, f"{user}@{DOMAIN}"))
        client.heard()
        client.offered = client.open(**header)
        return client

    def bound(
        self, callbridge: Peer, user: str = "alice", resource: str = "r", **header: str
    ) -> Peer:
        """A client that has logged in through a Callbridge; more of its stream header."""
        client = self.logged_in(callbridge, user, **header)
        client.say(
            f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'>"
            f"<resource>{resource}</resource></bind></iq>"
        )
        (told,) = callbridge.received()
        notice = lp.parse(told.child)
        self.told = list(notice.notices) if isinstance(notice, lp.Sessions) else [notice]
        callbridge.say(result_reply(told).raw.decode())
        client.transport.take()
        return client


class Peer:
    """
    The other end of a connection to the server.

    @ivar stream: The server's end.
    @ivar stream_id: What its header said.
    """

    def __init__(self, stream: XMLStream, host: str, content: str) -> None:
        self.stream = stream
        self._handler: Any = stream.handler
        self.content = content
        self.offered = ""  # the features after the log-in
        self.transport = MemoryTransport(host)
        self.transport.connect(stream)

    @property
    def handler(self) -> Any:
        """What the stream's events mean, or meant until it was lost."""
        if not self.transport.lost:
            self._handler = self.stream.handler
        return self._handler

    def say(self, xml: str | bytes) -> None:
        """Send bytes to the server."""
        self._handler = self.handler
        self.stream.dataReceived(xml.encode() if isinstance(xml, str) else xml)

    def heard(self) -> str:
        """What the server sent since the last time, and what it would have said soon."""
        clock: Any = self.stream.clock
        clock.advance(NOTICE_DELAY)
        return self.transport.take()

    def writes(self) -> list[bytes]:
        """What the server gives to the connection from now on, each time that it does."""
        written: list[bytes] = []
        write: Any = self.transport.write

        def note(data: bytes) -> None:
            written.append(data)
            write(data)

        self.transport.write = note  # type: ignore[method-assign]
        return written

    def received(self) -> list[Stanza]:
        """The same as stanzas."""
        return stanzas(self.heard(), self.content)

    @property
    def lost(self) -> bool:
        """Whether the server has ended the connection."""
        return self.transport.lost

    def open(self, **attributes: str) -> str:
        """Send a stream header; what the server answers."""
        attributes = {"to": DOMAIN, "version": "1.0"} | attributes
        rest = "".join(f" {key}='{value}'" for key, value in attributes.items() if value)
        self.say(header(self.content, rest))
        heard = self.heard()
        found = re.search(" id='([^']*)'", heard)
        self.stream_id = "" if found is None else found[1]
        return heard

    def register(self, address: str, secret: str, settle: Callable[[], None] = lambda: None) -> str:
        """XEP-0114: header and handshake; what the server answers to the latter."""
        self.open(to=address, version="")
        digest = hashlib.sha1((self.stream_id + secret).encode()).hexdigest()
        self.say(f"<handshake>{digest}</handshake>")
        settle()
        heard = self.heard()
        assert heard.startswith("<handshake/>"), heard
        self.transport.write(heard.removeprefix("<handshake/>").encode())
        return heard

    def answer(self, question: Stanza, message: lp.Message | people.Message) -> None:
        """Answer a request with a message of the log-in protocol."""
        self.say(written_result(question, message.to_xml()).raw.decode())

    def authenticate(self, mechanism: str = "PLAIN", payload: bytes = b"\0alice\0x") -> None:
        """Send an C{auth} element."""
        text = base64.b64encode(payload).decode()
        self.say(f"<auth xmlns='{ns.SASL}' mechanism='{mechanism}'>{text}</auth>")
