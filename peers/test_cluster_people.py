"""
People of an LDAP directory at two real servers with a real Redis: who is in a group with whom,
names and pictures, blocking, and who is forgotten; while servers and engine come and go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from peers.api import Administration
from peers.certs import Certificates
from peers.clients import Driver, slixmpp_contact
from peers.contract import DOMAIN
from peers.daemons import XmppServer
from peers.ldif import Entry
from peers.processes import Processes, children
from peers.redis import Redis
from peers.slapd import BASE, Slapd, account
from peers.test_cluster import JOINED, House, pings

PASSWORD = "corr3ct-horse"
PATIENCE = 40.0
PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 398  # nearly all that is passed on, of 100 kB
BOARD = f"cn=Board,{BASE}"
NAMES = {"anna": "Anna Aalto", "bert": "Bert Beck", "carl": "Carl Cern"}


def at(user: str) -> str:
    """The address."""
    return f"{user}@{DOMAIN}"


def dn(user: str) -> str:
    """Whose entry."""
    return account(user, "").dn


def hears(driver: Driver, *wanted: dict[str, Any]) -> None:
    """All of these, in whatever order; what comes beside is passed over."""
    left, passed = list(wanted), list[Any]()
    while left:
        try:
            event = driver.next_event(PATIENCE)
        except AssertionError as problem:
            raise AssertionError(f"{problem}: {left}, after {passed}") from None
        passed.append(event)
        left = [each for each in left if not each.items() <= event.items()]


def came(user: str) -> dict[str, Any]:
    """Somebody is there now."""
    return {"event": "came", "sender": at(user)}


def photo(user: str) -> dict[str, Any]:
    """Presence of somebody names his picture."""
    sha = hashlib.sha1(PICTURE).hexdigest()
    return {"event": "photo", "sender": at(user), "hash": sha}


def went(user: str) -> dict[str, Any]:
    """Somebody is not any more."""
    return {"event": "went", "sender": at(user)}


def pushed(user: str, subscription: str, **more: Any) -> dict[str, Any]:
    """The roster has somebody otherwise."""
    return {"event": "pushed", "contact": at(user), "subscription": subscription, **more}


def by_name(user: str) -> dict[str, Any]:
    """Somebody is on the roster by the name that the directory has."""
    return pushed(user, "both", name=NAMES[user], groups=["Board"])


class Scene:
    """
    Two servers, a Callbridge at the first, and a directory with a group of two.

    @ivar anna_jid: Her full address, once she is there.
    """

    anna_jid: str

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes, self.certificates = processes, certificates
        self.engine = Redis(processes)
        self.engine.start()
        people = [
            account(user, PASSWORD, displayName=name, thumbnailPhoto=PICTURE)
            for user, name in NAMES.items()
        ]
        members = [dn("anna"), dn("bert")]
        board = {"objectClass": "groupOfNames", "cn": "Board", "member": members}
        self.slapd = Slapd(processes, certificates, [*people, Entry(BOARD, board)])
        self.slapd.start()
        self.house = house = House(processes, certificates, self.engine, lease=3.0, users=())
        self.one, self.two = house.servers
        for server in house.servers:
            del server.settings["callbridges"]["cb2"]  # which might have the same users
            server.settings["contacts"] = {"announce_pictures": True}
        ldap = {
            **self.slapd.settings(DOMAIN),
            "nameMapping": "$displayName$",
            "picture_attribute": "thumbnailPhoto",
            "groups_base": BASE,
            "sync_interval": 0,
        }
        house.callbridge.settings["directory"] = [ldap, {"kind": "local"}]
        self.api = Administration(house.callbridge.directory / "state")
        house.start()
        self.sync()
        self.anna, self.bert = self.client("anna", self.one), self.client("bert", self.two)

    def client(self, user: str, server: XmppServer, password: str = PASSWORD) -> Driver:
        """A slixmpp that is not connected."""
        port, trust = server.client_port, self.certificates.trust
        return slixmpp_contact(self.processes, at(user), password, port, trust)

    def add(self, user: str) -> None:
        """A local user."""
        form = {"userJid": at(user), "password": PASSWORD}
        status, told = self.api.ask("POST", "/api/v1/users", **form)
        assert status == 200, told

    def members(self, *users: str) -> None:
        """The group in the directory, and a sync."""
        lines = "\n".join(f"member: {dn(user)}" for user in users)
        self.slapd.modify(f"dn: {BOARD}\nchangetype: modify\nreplace: member\n{lines}\n")
        self.sync()

    def sync(self) -> None:
        """The Callbridge reads the directory."""
        assert self.api.sync()["numGroups"] == 1


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Scene]:
    """All are there."""
    with children(tmp_path_factory.mktemp("people")) as processes:
        yield Scene(processes, certificates)


def shows(driver: Driver, **contacts: str) -> None:
    """Its roster: the subscription to each of these."""
    driver.do("roster")
    shown = driver.expect("roster", PATIENCE)["contacts"]
    assert {user: shown.get(at(user), "") for user in contacts} == contacts


def test_group(scene: Scene) -> None:
    """
    Who are in a group at two servers see each other come and go, with name and picture; who
    leaves it in the directory, and who comes, does so at both.
    """
    anna, bert = scene.anna, scene.bert
    anna.connected(), bert.connected()
    both = (anna, bert, "bert"), (bert, anna, "anna")
    for driver, _, name in both:
        hears(driver, came(name), photo(name))
        driver.do("card", to=at(name))
        card = driver.expect("card", PATIENCE)
        assert (card["name"], card["bytes"]) == (NAMES[name], len(PICTURE))
        shows(driver, **{name: "both"})
    for driver, other, name in both:
        other.disconnect()
        hears(driver, went(name))
        scene.anna_jid = other.connected()["jid"]
        hears(driver, came(name))
    carl = scene.client("carl", scene.two)
    carl.connected()
    scene.members("anna", "carl")
    hears(anna, pushed("bert", "remove"), went("bert"), by_name("carl"), came("carl"))
    hears(bert, pushed("anna", "remove"), went("anna"))
    hears(carl, by_name("anna"), came("anna"))
    scene.members("anna", "bert")
    hears(carl, pushed("anna", "remove"), went("anna"))
    carl.process.stop()
    shows(anna, bert="both", carl="")


def test_blocked(scene: Scene) -> None:
    """Whom somebody blocks at the other server does not see him, nor reaches him, until he does."""
    anna, bert = scene.anna, scene.bert
    anna.do("block", to=at("bert"))
    hears(bert, went("anna"))
    assert bert.ping(scene.anna_jid)["condition"] == "service-unavailable"
    anna.do("block", to=at("bert"), no_more=True)
    hears(anna, photo("bert"))  # she was not told that he went
    hears(bert, came("anna"))
    pings(bert, scene.anna_jid, PATIENCE)  # the list is on the other's disk a moment later
    bert.message(at("anna"), "heard")
    assert anna.expect("message", PATIENCE)["body"] == "heard"


def test_forgotten(scene: Scene) -> None:
    """
    Local users at both servers ask, grant, and name each other, which a second program of theirs at
    the other server hears; who is deleted is gone from the rosters of both servers.
    """
    for user in ("lena", "lutz"):
        scene.add(user)
    lena, lutz = scene.client("lena", scene.one), scene.client("lutz", scene.two)
    beside = scene.client("lutz", scene.one)
    for driver in (lena, lutz, beside):
        driver.connected()
    for asks, grants, asked, granted in (
        (lena, lutz, "lutz", "lena"),
        (lutz, lena, "lena", "lutz"),
    ):
        asks.do("presence", to=at(asked), type="subscribe")
        hears(grants, {"event": "asks", "sender": at(granted)})
        grants.do("presence", to=at(granted), type="subscribed")
        hears(asks, {"event": "grants", "sender": at(asked)}, came(asked))
    hears(beside, pushed("lena", "both"), came("lena"))
    lutz.do("name", to=at("lena"), name="Lena L")
    for driver in (lutz, beside):
        hears(driver, pushed("lena", "both", name="Lena L"))
    said = scene.house.callbridge.say("user", "del", "lena")
    assert "1 contact forgotten" in said, said
    lena.expect("stream-error", PATIENCE)
    for driver in (lutz, beside):
        hears(driver, pushed("lena", "none", name="Lena L"))
    scene.add("lena")
    for server in scene.house.servers:
        next_lena = scene.client("lena", server)
        next_lena.connected()
        shows(next_lena, lutz="")
        next_lena.disconnect()
    for driver in (lutz, beside):
        driver.process.stop()


def test_server_killed(scene: Scene) -> None:
    """
    A server is killed: its users go, and come by the other.  The directory's group changes and
    somebody blocks before it is back: who comes to it then finds all that as it is.
    """
    anna, two = scene.anna, scene.two
    two.process.kill()
    hears(anna, went("bert"))
    bert = scene.client("bert", scene.one)
    bert.connected()
    hears(anna, came("bert"))
    scene.members("anna", "bert", "carl")
    anna.do("block", to=at("carl"))
    two.start()
    two.process.wait_for(JOINED, PATIENCE)
    bert.disconnect()
    hears(anna, went("bert"))
    bert, carl = scene.bert, scene.client("carl", two)
    bert.connected(), carl.connected()
    hears(anna, came("bert"))
    hears(bert, came("anna"), came("carl"))
    hears(carl, came("bert"))
    shows(bert, anna="both", carl="both")
    shows(carl, anna="both", bert="both")
    assert carl.ping(scene.anna_jid)["condition"] == "service-unavailable"
    bert.do("card", to=at("carl"))
    assert bert.expect("card", PATIENCE)["name"] == NAMES["carl"]
    carl.disconnect()
    hears(bert, went("carl"))


def test_engine_restarts(scene: Scene) -> None:
    """
    Redis is away for some seconds, while the group changes, somebody goes, and somebody blocks:
    no session ends, and both servers have the same afterwards.
    """
    anna, bert = scene.anna, scene.bert
    scene.processes.expect_error("The engine of the cluster")
    scene.engine.kill()
    bert.do("block", to=at("anna"))
    scene.members("anna", "bert")
    hears(anna, pushed("carl", "remove"))
    scene.engine.start()
    hears(anna, went("bert"))
    hears(bert, pushed("carl", "remove"))
    bert.do("block", to=at("anna"), no_more=True)
    hears(anna, came("bert"))
    hears(bert, photo("anna"))
    scene.engine.kill()
    bert.disconnect()
    scene.engine.start()
    hears(anna, went("bert"))
    bert.connected()
    hears(anna, came("bert"))
    hears(bert, came("anna"))
