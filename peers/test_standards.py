"""
RFC 6120 and 6121 on the wire: ours, Prosody and ejabberd, asked the same.

Each case has what the RFC says; where Prosody or ejabberd do something else, the case
says what.  docs/standards.md has the table of these behaviours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from peers.certs import Certificates
from peers.component import STREAM_ERRORS
from peers.contract import DOMAIN
from peers.daemons import XmppServer
from peers.ejabberd import Ejabberd
from peers.network import wait_until
from peers.processes import Processes, children
from peers.prosody import Prosody
from peers.wire import WireClient, shape

ALICE, BOB, NOBODY = f"alice@{DOMAIN}", f"bob@{DOMAIN}", f"nobody@{DOMAIN}"
USERS = {"alice": "wonderland", "bob": "builder", "carol": "christmas"}
LANG = "{http://www.w3.org/XML/1998/namespace}lang"
ROSTER = "<query xmlns='jabber:iq:roster'/>"
PING = "<ping xmlns='urn:xmpp:ping'/>"
INFO = "http://jabber.org/protocol/disco#info"
ITEMS = "http://jabber.org/protocol/disco#items"
COMMANDS = "http://jabber.org/protocol/commands"
X = "<x xmlns='urn:x'/>"
JOIN = "<x xmlns='http://jabber.org/protocol/muc'/>"
UNAVAILABLE = "service-unavailable"

Heard = Mapping[str, list[str]]


class Place:
    """
    One server with its users.

    @ivar name: Of the server.
    """

    def __init__(self, name: str, port: int, trust: Path) -> None:
        self.name = name
        self._port, self._trust = port, trust
        self._clients: list[WireClient] = []

    def login(self, user: str, resource: str = "", attributes: str = "") -> WireClient:
        """A stream of a user, who has asked for his roster, as everybody does."""
        client = WireClient(
            *(self._port, self._trust, user, USERS[user]), resource=resource, attributes=attributes
        )
        self._clients.append(client)
        client.ask("get", ROSTER)
        return client

    def leave(self) -> None:
        """Everybody goes, and the server has taken note."""
        for client in self._clients:
            client.leave()
        self._clients.clear()


def _ours(processes: Processes, certificates: Certificates) -> int:
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    callbridge = server.callbridge()
    for user, password in USERS.items():
        callbridge.add_user(f"{user}@{DOMAIN}", password)
    server.start()
    callbridge.start()
    server.process.wait_for("decides log-ins", 10.0)
    return server.client_port


def _foreign(kind: type[Prosody] | type[Ejabberd]) -> Callable[[Processes, Certificates], int]:
    def start(processes: Processes, certificates: Certificates) -> int:
        pair = certificates.issue(DOMAIN, "localhost")
        server = kind(processes, pair, DOMAIN, {f"cb1.{DOMAIN}": "s3cret"}, USERS)
        server.start()
        return server.client_port

    return start


SERVERS = {"ours": _ours, "prosody": _foreign(Prosody), "ejabberd": _foreign(Ejabberd)}


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Certificates,
) -> Iterator[Place]:
    """Each of the three, in its turn."""
    with children(tmp_path_factory.mktemp(request.param)) as processes:
        port = SERVERS[request.param](processes, certificates)
        yield Place(request.param, port, certificates.trust)


@pytest.fixture
def place(server: Place) -> Iterator[Place]:
    """The server, with nobody there."""
    yield server
    server.leave()


@frozen
class Case:
    """
    One stanza of Bob's, and who hears what then.

    @ivar section: Of RFC 6121, unless it says so.
    @ivar hears: What the RFC wants, by L{shape}; nobody else hears anything.
    @ivar prosody: What Prosody does instead, if it does.
    @ivar ejabberd: The same of ejabberd.
    """

    section: str
    xml: str
    hears: Heard
    prosody: Heard | None = None
    ejabberd: Heard | None = None

    def of(self, server: str) -> Heard:
        """What that server is known to do."""
        other: Heard | None = getattr(self, server, None)
        return self.hears if other is None else other


def message(to: str | None, type_: str | None) -> str:
    """A message."""
    return _stanza("message", to, type_, "<body>x</body>")


def presence(to: str | None, type_: str | None = None, child: str = "") -> str:
    """Presence."""
    return _stanza("presence", to, type_, child)


def iq(to: str | None, type_: str | None, child: str) -> str:
    """An IQ."""
    return _stanza("iq", to, type_, child)


def _stanza(name: str, to: str | None, type_: str | None, child: str) -> str:
    attributes = {"to": to, "type": type_, "id": "x1"}
    written = "".join(f" {k}='{v}'" for k, v in attributes.items() if v is not None)
    return f"<{name}{written}>{child}</{name}>"


def refused(name: str, who: str, condition: str = UNAVAILABLE) -> Heard:
    """Bob gets an error from there."""
    return {"bob": [f"{name} error {who}: {condition}"]}


def to(*names: str, words: str) -> Heard:
    """Each of them hears the same from Bob."""
    name, _, rest = words.partition(": ")
    return {each: [f"{name} bob/r: {rest}".removesuffix(": ")] for each in names}


CASES = [
    # messages: table 1, and its text
    Case("8.5.2.1.1", message(ALICE, None), to("desk", words="message: body")),
    Case("8.5.2.1.1", message(ALICE, "chat"), to("desk", words="message chat: body")),
    Case(
        "8.5.2.1.1",
        message(ALICE, "headline"),
        to("desk", "phone", words="message headline: body"),
    ),
    Case("8.5.2.1.1", message(ALICE, "groupchat"), refused("message", "alice")),
    Case("8.5.2.1.1", message(ALICE, "error"), {}),
    Case(
        "8.5.3.1", message(f"{ALICE}/away", "headline"), to("away", words="message headline: body")
    ),
    Case("8.5.3.1", message(f"{ALICE}/quiet", "chat"), to("quiet", words="message chat: body")),
    Case("8.5.3.2.1", message(f"{ALICE}/gone", "chat"), to("desk", words="message chat: body")),
    Case(
        "8.5.3.2.1",
        message(f"{ALICE}/gone", None),
        refused("message", "alice/gone"),
        prosody=to("desk", words="message: body"),
        ejabberd=to("desk", words="message: body"),
    ),
    Case("8.5.3.2.1", message(f"{ALICE}/gone", "groupchat"), refused("message", "alice/gone")),
    Case("8.5.3.2.1", message(f"{ALICE}/gone", "headline"), {}),
    Case("8.5.3.2.1", message(f"{ALICE}/gone", "error"), {}),
    *(
        Case(
            "8.5.1", message(f"{NOBODY}{resource}", type_), refused("message", f"nobody{resource}")
        )
        for resource in ("", "/r")
        for type_ in (None, "chat", "groupchat")
    ),
    Case("8.5.1", message(NOBODY, "headline"), {}, ejabberd=refused("message", "nobody")),
    Case("8.5.1", message(NOBODY, "error"), {}),
    Case(
        "5.2.2",
        message(ALICE, "foo"),
        to("desk", words="message foo: body"),
        ejabberd=to("desk", words="message: body"),
    ),
    Case("RFC 6120 10.3.1", message(None, "chat"), to("bob", words="message chat: body")),
    Case(
        "RFC 6120 8.3.3.8",
        message("@", None),
        refused("message", "@", "jid-malformed"),
        ejabberd=refused("message", "@", "bad-request"),
    ),
    # presence
    Case("8.5.2.1.2", presence(ALICE), to("desk", "phone", "away", words="presence")),
    Case("8.5.3.1", presence(f"{ALICE}/phone"), to("phone", words="presence")),
    *(
        Case("8.5.1", presence(f"{who}", type_), {})
        for who in (NOBODY, f"{NOBODY}/r", f"{ALICE}/gone")
        for type_ in (None, "unavailable", "probe", "error")
    ),
    Case("4.7.1", presence(ALICE, "foo"), refused("presence", "alice", "bad-request")),
    Case("4.7.1", presence(None, "foo"), refused("presence", "-", "bad-request")),
    # IQs
    Case("8.5.2.1.3", iq(ALICE, "get", X), refused("iq", "alice")),
    Case("8.5.1", iq(NOBODY, "get", X), refused("iq", "nobody")),
    Case("8.5.3.1", iq(f"{ALICE}/quiet", "set", X), to("quiet", words="iq set: x")),
    Case("8.5.3.2.3", iq(f"{ALICE}/gone", "set", X), refused("iq", "alice/gone")),
    *(
        Case("RFC 6120 8.2.3", iq(who, type_, X), {})
        for who in (ALICE, NOBODY, f"{ALICE}/gone", DOMAIN, None)
        for type_ in ("result", "error")
    ),
    Case("RFC 6120 8.2.3", iq(DOMAIN, "foo", X), refused("iq", DOMAIN, "bad-request")),
    Case("RFC 6120 8.2.3", iq(DOMAIN, "get", ""), refused("iq", DOMAIN, "bad-request")),
    Case("RFC 6120 8.2.3", iq(DOMAIN, "get", PING + X), refused("iq", DOMAIN, "bad-request")),
    Case(
        "RFC 6120 8.2.3",
        f"<iq type='get' to='{DOMAIN}'>{PING}</iq>",
        refused("iq", DOMAIN, "bad-request"),
    ),
    Case("RFC 6120 8.3.3.19", iq(DOMAIN, "get", X), refused("iq", DOMAIN)),
    # an account of one's own and the server
    Case(
        "XEP-0030",
        iq(DOMAIN, "get", f"<query xmlns='{INFO}' node='x'/>"),
        refused("iq", DOMAIN, "item-not-found"),
    ),
    Case(
        "XEP-0030",
        iq(DOMAIN, "get", f"<query xmlns='{ITEMS}' node='x'/>"),
        refused("iq", DOMAIN, "item-not-found"),
    ),
    Case(
        "XEP-0050",
        iq(DOMAIN, "get", f"<query xmlns='{ITEMS}' node='{COMMANDS}'/>"),
        {"bob": [f"iq result {DOMAIN}: query"]},
        # They have a module for ad-hoc commands, which is not loaded here.
        prosody=refused("iq", DOMAIN, "item-not-found"),
        ejabberd=refused("iq", DOMAIN, "item-not-found"),
    ),
    Case(
        "RFC 3921 3",
        iq(DOMAIN, "set", "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"),
        {"bob": [f"iq result {DOMAIN}"]},
    ),
    # what is elsewhere
    Case(
        "XEP-0045 7.2",
        presence("room@x.example.org/n", None, JOIN),
        refused("presence", "room@x.example.org/n", "x remote-server-not-found"),
        prosody=refused("presence", "room@x.example.org/n", "not-allowed"),
    ),
    Case(
        "RFC 6120 10.4",
        iq("x.example.org", "get", X),
        refused("iq", "x.example.org", "remote-server-not-found"),
        prosody=refused("iq", "x.example.org", "not-allowed"),
    ),
    # subscriptions last: the others remember them
    *(
        Case("8.5.1", presence(who, type_), {})
        for who in (NOBODY, f"{NOBODY}/r")
        for type_ in ("unsubscribe", "unsubscribed", "subscribed")
    ),
    *(
        Case(
            "8.5.1",
            presence(who, "subscribe"),
            {},
            prosody={"bob": ["presence unavailable nobody"]},
        )
        for who in (NOBODY, f"{NOBODY}/r")
    ),
]


def test_cases(place: Place) -> None:
    """Every case, at every server."""
    clients = {"bob": place.login("bob", "r")}
    clients["bob"].send("<presence><priority>1</priority></presence>")
    for resource, priority in {"desk": 5, "phone": 0, "away": -1, "quiet": None}.items():
        clients[resource] = place.login("alice", resource)
        if priority is not None:
            clients[resource].send(f"<presence><priority>{priority}</priority></presence>")
    _hear(clients)
    wrong: list[str] = []
    for case in CASES:
        clients["bob"].send(case.xml)
        heard, wanted = _hear(clients), case.of(place.name)
        if heard != wanted:
            wrong.append(f"{case.section} {case.xml}\n    wanted {wanted}\n    heard  {heard}")
    assert not wrong, "\n".join(wrong)


def test_life_of_presence(place: Place) -> None:
    """4.2.2, 4.5.2: a resource comes and goes, before the eyes of the others and its own."""
    one, two = place.login("alice", "one"), place.login("alice", "two")
    one.send("<presence><priority>1</priority></presence>")
    assert _shapes(one) == ["presence alice/one: priority"]
    two.send("<presence><show>away</show></presence>")
    seen = {text.partition(":")[0] for text in _shapes(two)}
    if place.name == "ejabberd":  # it tells of the others in its own time, and not of the end
        assert "presence alice/two" in seen
    else:
        assert seen == {"presence alice/one", "presence alice/two"}
    assert _shapes(one) == ["presence alice/two: show"]
    two.send("<presence type='unavailable'/>")
    if place.name != "ejabberd":
        assert _shapes(two) == ["presence unavailable alice/two"]
    two.hear()
    assert _shapes(one) == ["presence unavailable alice/two"]


@pytest.mark.parametrize("end", ["<presence type='unavailable'/>", "</stream:stream>", ""])
def test_directed_presence(place: Place, end: str) -> None:
    """4.6.3: whoever was sent presence is told of the end, whatever way it came."""
    bob, alice = place.login("bob", "r"), place.login("alice", "one")
    alice.send(f"<presence to='{BOB}/r'/>")
    alice.hear()
    assert _shapes(bob) == ["presence alice/one"]
    if end:
        alice.send(end)
    else:
        alice.close()
    heard: list[str] = []

    def hears() -> bool:
        heard.extend(_shapes(bob))
        return bool(heard)

    wait_until(hears, 10.0, "the end")
    assert [text.partition(":")[0] for text in heard] == ["presence unavailable alice/one"]


def test_language(place: Place) -> None:
    """RFC 6120 8.1.5: a stanza without a language has that of the stream."""
    alice, carol = place.login("alice", "one"), place.login("carol", "r", " xml:lang='cs'")
    address = f"to='{ALICE}/one'"
    carol.send(f"<message {address}/><message {address} xml:lang='de'/><presence {address}/>")
    carol.hear()
    assert [stanza.get(LANG) for stanza in alice.hear()] == ["cs", "de", "cs"]


def test_conflict(place: Place) -> None:
    """RFC 6120 7.7.2.2: the resource belongs to who binds it last."""
    older, newer = place.login("carol", "r"), place.login("carol", "r")
    assert older.jid == newer.jid == f"carol@{DOMAIN}/r"
    (error,) = older.rest()
    assert next(child.tag for child in error) == f"{{{STREAM_ERRORS}}}conflict"
    assert newer.ask("get", PING, DOMAIN).get("type") == "result"


@pytest.mark.parametrize(
    ("asked", "bound"),
    [
        ("desk", "desk"),
        ("x" * 1023, "x" * 1023),
        ("a/b@c", "a/b@c"),
        ("\uff21b", "Ab"),  # RFC 6122 B: compatibility forms are one
    ],
)
def test_binding(place: Place, asked: str, bound: str) -> None:
    """RFC 6120 7.7: the resource that was asked for, prepared."""
    if place.name == "ejabberd" and asked != bound:
        bound = asked  # it does not prepare it
    assert place.login("carol", asked).jid == f"carol@{DOMAIN}/{bound}"


def test_binding_refused(place: Place) -> None:
    """RFC 6120 7.7.2.1: what cannot be prepared is refused, or replaced by the server's own."""
    for asked in ("x" * 1024, "&#x9;", "\u00e9" * 600):
        if place.name == "prosody":
            assert 0 < len(place.login("carol", asked).jid) < 40
        else:
            with pytest.raises(AssertionError, match=r"^iq error"):
                place.login("carol", asked)


def test_binding_by_the_server(place: Place) -> None:
    """RFC 6120 7.6: without a wish the server chooses, and never the same."""
    jids = {place.login("carol").jid for _ in range(3)}
    assert len(jids) == 3
    assert all(len(jid) > len(f"carol@{DOMAIN}/") + 8 for jid in jids)


@pytest.mark.parametrize(
    ("said", "condition", "others"),
    [
        ("<foo/>", "unsupported-stanza-type", {"ejabberd": None}),
        ("<message xmlns='jabber:server'/>", "unsupported-stanza-type", {"ejabberd": None}),
        (f"<message from='{ALICE}' to='{BOB}'/>", "invalid-from", {"prosody": None}),
        ("<message></iq>", "not-well-formed", {}),
        ("<message><body>\udcff\udcfe</body></message>", "not-well-formed", {}),
        (
            "<message>&foo;</message>",
            "restricted-xml",
            {"prosody": "not-well-formed", "ejabberd": "not-well-formed"},
        ),
        ("<!-- x -->", "restricted-xml", {"prosody": "not-well-formed", "ejabberd": None}),
        ("<?x y?>", "restricted-xml", {"prosody": "not-well-formed", "ejabberd": None}),
    ],
)
def test_stream_errors(
    place: Place, said: str, condition: str, others: Mapping[str, str | None]
) -> None:
    """RFC 6120 4.9.3: each has its condition; the stream is closed."""
    carol = place.login("carol")
    carol.send(said)
    known = others.get(place.name, condition)
    if known is None:  # passed over
        assert carol.ask("get", PING, DOMAIN).get("type") == "result"
        return
    (error,) = carol.rest()
    assert error[0].tag == f"{{{STREAM_ERRORS}}}{known}"


def test_error_of_the_client(place: Place) -> None:
    """RFC 6120 4.9.1.1: a stream error ends the stream, and none answers it."""
    carol = place.login("carol")
    carol.send(f"<stream:error><bad-format xmlns='{STREAM_ERRORS}'/></stream:error>")
    assert carol.rest() == []


def _shapes(client: WireClient) -> list[str]:
    return [shape(element) for element in client.hear()]


def _hear(clients: Mapping[str, WireClient]) -> dict[str, list[str]]:
    """Who has heard what, but for the roster pushes of those that have rosters."""
    heard = {
        name: [shape(e) for e in client.hear() if not _is_push(e)]
        for name, client in clients.items()
    }
    return {name: shapes for name, shapes in heard.items() if shapes}


def _is_push(element: Any) -> bool:
    return element.get("type") == "set" and any(
        child.tag == "{jabber:iq:roster}query" for child in element
    )
