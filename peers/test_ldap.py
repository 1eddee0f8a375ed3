"""Users from a directory, with OpenLDAP's slapd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cms import faults
from peers.api import Administration
from peers.certs import Certificates
from peers.clients import Driver, slixmpp_client, slixmpp_contact
from peers.contract import DOMAIN
from peers.daemons import XmppServer, daemon_environment
from peers.ldif import Entry
from peers.network import wait_until
from peers.processes import Processes
from peers.realclients import Account, Profanity
from peers.slapd import (
    BASE,
    DISABLED,
    ENABLED,
    READER,
    READER_PASSWORD,
    Slapd,
    account,
    crowd,
    person,
)
from peers.terminal import Terminals
from peers.test_contacts import shown_as
from peers.tools import require, script

MANY = 10_000


def found(slapd: Slapd, certificates: Certificates, filter_: str, *options: str) -> tuple[int, str]:
    """The status of OpenLDAP's own client, and the DNs that it found over STARTTLS."""
    command = [require("ldapsearch", "ldap-utils"), "-x", "-ZZ", "-LLL", "-b", BASE]
    command += ["-H", f"ldap://127.0.0.1:{slapd.port}", "-D", READER, "-w", READER_PASSWORD]
    environment = {"LDAPTLS_CACERT": str(certificates.trust)}
    return slapd.processes.run("ldapsearch", [*command, *options, filter_, "1.1"], env=environment)


@pytest.mark.parametrize(("size", "status"), [("unlimited", 0), ("500", 4)])
def test_the_directory_is_as_the_tests_take_it_for(
    processes: Processes, certificates: Certificates, size: str, status: int
) -> None:
    """
    All are there, page by page; an account of Active Directory's kind is found by its name; and
    a reader whose number of entries is limited gets no more than that.
    """
    gone = account("gone", "word", DISABLED)
    slapd = Slapd(processes, certificates, [*crowd(MANY), gone], size=size)
    slapd.start()

    paged = found(slapd, certificates, "(|(uid=*)(sAMAccountName=*))", "-E", "pr=500/noprompt")
    assert (paged[0], paged[1].count("dn:")) == (status, 500 if status else MANY + 1)
    one = found(slapd, certificates, f"(&(sAMAccountName=GONE)(userAccountControl={DISABLED}))")
    assert one == (0, f"dn: {gone.dn}\n\n")


def test_the_data_changes_and_survives_an_end(
    processes: Processes, certificates: Certificates
) -> None:
    """Values are replaced, entries added and deleted; it is killed, and comes back with them."""
    anna = account("anna", "word")
    slapd = Slapd(processes, certificates, [anna])
    slapd.start()
    slapd.replace(anna.dn, "displayName", "Änna <a:b>")
    slapd.add(account("bert,o", "word"))
    slapd.kill()
    slapd.start()

    assert found(slapd, certificates, "(displayName=Änna <a:b>)") == (0, f"dn: {anna.dn}\n\n")
    assert found(slapd, certificates, "(sAMAccountName=bert,o)")[1].count("dn:") == 1
    slapd.delete(anna.dn)
    assert found(slapd, certificates, "(displayName=Änna <a:b>)") == (0, "")


class House:
    """Our pair, whose users are in a directory."""

    def __init__(
        self,
        processes: Processes,
        certificates: Certificates,
        *servers: str,
        **changes: Any,
    ) -> None:
        """@param servers: Of its C{[[directory]]}; none: it has the local store alone."""
        self.processes = processes
        self.certificates = certificates
        self.server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        self.callbridge = self.server.callbridge()
        secret = self.callbridge.directory / "bind-password"
        secret.write_text(READER_PASSWORD)
        if servers:
            self.callbridge.settings["directory"] = [
                {
                    "kind": "ldap",
                    "servers": list(servers),
                    "trust": str(certificates.trust),
                    "bind_name": READER,
                    "bind_password_file": str(secret),
                    "base": BASE,
                    "jidMapping": f"$cn$@{DOMAIN}",
                    "timeout": 1.0,
                    **changes,
                }
            ]
        self.api = Administration(self.callbridge.directory / "state")

    def start(self) -> None:
        """Start both, and wait for the link."""
        self.server.start()
        self.callbridge.start()
        self.server.process.wait_for("decides log-ins", 10.0)

    def client(self, user: str, password: str) -> Driver:
        """A client that has begun to log in."""
        made = slixmpp_client(
            *(self.processes, f"{user}@{DOMAIN}", password, self.server.client_port),
            self.certificates.trust,
        )
        made.connect()
        return made

    def refused(self, user: str, password: str) -> str:
        """Why somebody is not let in: a condition of RFC 6120 6.5."""
        return str(self.client(user, password).expect("refused")["condition"])

    def post(self, path: str, **form: str) -> str:
        """The id of what was made."""
        status, body = self.api.ask("POST", f"/api/v1/{path}", **form)
        assert status == 200, body
        (listed,) = [each for each in self.listed(path) if each["source"] == "api"]
        return str(listed["id"])

    def listed(self, path: str) -> list[dict[str, Any]]:
        """All of a kind."""
        found: list[dict[str, Any]] = self.api.get(path)[path][path.removesuffix("s")]
        return found

    def sync(self, **form: str) -> dict[str, Any]:
        """Sync, and wait for its end."""
        return self.api.sync(**form)


def named(name: str, **more: str | Sequence[str]) -> Entry:
    """Somebody whose C{cn} is his name."""
    return account(name, f"word-of-{name}", ENABLED, **more)


def test_log_ins(processes: Processes, certificates: Certificates) -> None:
    """
    Ten thousand are synced. Users log in over STARTTLS and, once that server has died, over
    C{ldaps}; a wrong password is told apart from a directory that is away, except to guessers.
    """
    people = [*crowd(MANY), named("anna")]
    first = Slapd(processes, certificates, people, name="first")
    second = Slapd(processes, certificates, people, name="second")
    first.start()
    second.start()
    house = House(processes, certificates, first.address, second.tls_address)
    house.start()
    house.callbridge.process.wait_for(f"directory ldap: {MANY + 1} users", 20.0)

    house.client("anna", "word-of-anna").expect("online")
    house.client("user00001", "word-of-user00001").expect("online")
    assert house.refused("anna", "wrong") == "not-authorized"
    assert house.refused("nobody", "word-of-anna") == "not-authorized"
    for name in ("*", "anna)(cn=*", r"an\2ana", "anna,ou=people"):
        assert house.refused(name, "word-of-anna") == "not-authorized"

    first.kill()
    house.client("user00002", "word-of-user00002").expect("online")
    second.freeze()
    for password in ("word-of-user00003", "wrong"):
        ended = house.client("user00003", password).expect("stream-error")
        assert ended["condition"] == "remote-connection-failed"  # clients try again after that
        assert "cannot answer now" in ended["text"]
    told = house.callbridge.process.output
    assert "did not answer within 1 s" in told
    assert "word-of" not in told
    assert READER_PASSWORD not in told
    recorded = house.api.get("system/log")["log"]["entry"]
    reasons = {each["reason"] for each in recorded if each.get("reason")}
    assert reasons == {"wrong-password", "no-such-user", "directory"}

    second.thaw()
    house.callbridge.process.wait_for(f"{second.tls_address} works again", 20.0)
    house.client("user00003", "word-of-user00003").expect("online")


def test_gone(processes: Processes, certificates: Certificates) -> None:
    """
    Who is disabled cannot log in, and his session ends with the next sync; one that finds
    nobody ends nothing.
    """
    anna, bert, carl, dora = (named(name) for name in ("anna", "bert", "carl", "dora"))
    slapd = Slapd(processes, certificates, [anna, bert, carl, dora, *crowd(20)])
    slapd.start()
    house = House(processes, certificates, slapd.tls_address, sync_interval=0)
    house.start()
    assert house.sync()["numUsers"] == 24
    clients = {name: house.client(name, f"word-of-{name}") for name in ("anna", "bert", "carl")}
    for client in clients.values():
        client.expect("online")

    slapd.replace(anna.dn, "userAccountControl", str(DISABLED))
    slapd.delete(bert.dn)
    assert house.refused("anna", "word-of-anna") == "account-disabled"
    assert house.refused("anna", "wrong") == "not-authorized"
    assert house.refused("bert", "word-of-bert") == "not-authorized"
    synced = house.sync()
    assert (synced["state"], synced["numRemoved"], synced["numDisabled"]) == ("complete", 1, 1)
    for name in ("anna", "bert"):
        clients[name].expect("disconnected")
    slapd.replace(anna.dn, "userAccountControl", str(ENABLED))
    house.client("anna", "word-of-anna").expect("online")

    # The reader sees nobody any more, as after a slip in the rules of access.
    house.callbridge.expect_error("found no user")
    for entry in (anna, carl, dora, *crowd(20)):
        slapd.delete(entry.dn)
    synced = house.sync()
    assert (synced["state"], synced["problem"]["fault"]) == ("failed", faults.SYNC_EMPTY.name)
    clients["carl"].ping(DOMAIN)


def test_new_password(processes: Processes, certificates: Certificates) -> None:
    """
    Another password ends the sessions of before, at his next log-in or at a sync.  A server
    that takes no groups is told of.
    """
    anna, bert = (named(name, pwdLastSet="133000000000000000") for name in ("anna", "bert"))
    both = {"objectClass": "groupOfNames", "cn": "Both", "member": [anna.dn, bert.dn]}
    slapd = Slapd(processes, certificates, [anna, bert, Entry(f"cn=Both,{BASE}", both)])
    slapd.start()
    only = {"filter": "(objectClass=user)", "groups_base": BASE}
    house = House(processes, certificates, slapd.tls_address, sync_interval=0, **only)
    house.server.settings["contacts"] = {"most_groups": 0}
    house.start()
    assert house.sync()["numUsers"] == 2
    house.callbridge.process.wait_for("does not take 1 group of directories", 10.0)
    clients = {name: house.client(name, f"word-of-{name}") for name in ("anna", "bert")}
    for client in clients.values():
        client.expect("online")
    for entry in (anna, bert):
        slapd.replace(entry.dn, "userPassword", "new-word")
        slapd.replace(entry.dn, "pwdLastSet", "133000000000000001")
    again = house.client("anna", "new-word")
    again.expect("online")
    clients["anna"].expect("disconnected")
    synced = house.sync()
    assert (synced["numChanged"], synced["numSessionsEnded"]) == (1, 1)
    clients["bert"].expect("disconnected")
    again.ping(DOMAIN)


def test_groups(processes: Processes, certificates: Certificates) -> None:
    """
    Who is in a group of the directory with somebody sees him on his roster, come and go, without
    asking; a person takes nobody out, the directory does.  Who is kicked is back soon, who is
    disabled in the directory is not: all that his screen says is that he is offline.
    """
    anna, bert, carl = (
        named("anna", displayName="Anna Aalto"),
        named("bert"),
        named("carl", uid="c4"),
    )
    board = {"objectClass": "groupOfNames", "cn": "Board", "member": [anna.dn.upper(), carl.dn]}
    choir = {"objectClass": "posixGroup", "cn": "Choir", "gidNumber": "7", "memberUid": ["c4"]}
    slapd = Slapd(
        *(processes, certificates),
        [anna, bert, carl, Entry(f"cn=Board,{BASE}", board), Entry(f"cn=Choir,{BASE}", choir)],
    )
    slapd.start()
    house = House(
        *(processes, certificates, slapd.tls_address),
        groups_base=BASE,
        sync_interval=0,
        filter="(objectClass=user)",
        nameMapping="$displayName$",
    )
    house.start()
    port, trust = house.server.client_port, certificates.trust
    anna_there, carl_there = f"anna@{DOMAIN}", f"carl@{DOMAIN}"
    contact = slixmpp_contact(processes, anna_there, "word-of-anna", port, trust)
    contact.connected()
    pair = certificates.issue(DOMAIN)
    account = Account(carl_there, "word-of-carl", "127.0.0.1", port, trust, pair)
    profanity = Profanity(processes, Terminals(processes), account, "reconnect=1\n", level="DEBUG")
    profanity.start()
    screen = profanity.terminal

    def sees(text: str, times: int = 1) -> None:
        wait_until(lambda: screen.screen.count(text) == times, 30.0, f"{text} on {screen.screen}")

    sees("logged in successfully")
    synced = house.sync()
    assert (synced["numUsers"], synced["numGroups"], synced["numLeftOut"]) == (3, 1, 0)
    assert contact.expect("came", 30.0)["sender"] == carl_there
    contact.do("roster")
    assert contact.expect("roster", 30.0)["contacts"][carl_there] == "both"
    wait_until(lambda: shown_as(screen.screen, "Anna Aalto") == "Online", 30.0, "Anna to be online")
    screen.type(f"/roster remove {anna_there}")
    screen.type("/roster")
    contact.disconnect()
    wait_until(lambda: shown_as(screen.screen, "Anna Aalto") == "Offline", 30.0, "Anna to go")
    contact.connected()
    assert contact.expect("came", 30.0)["sender"] == carl_there
    wait_until(lambda: shown_as(screen.screen, "Anna Aalto") == "Online", 30.0, "Anna to be back")
    kick = [*script("cms"), "xmpp", "client", "kick", "carl", "--config", str(house.server.file)]
    status, output = processes.run("kick", kick, env=daemon_environment())
    assert (status, "1 session of carl ended" in output) == (0, True), output
    sees("Lost connection.")
    assert contact.expect("went", 30.0)["sender"] == carl_there
    sees("Connection re-established.")
    wait_until(lambda: shown_as(screen.screen, "Anna Aalto") == "Online", 30.0, "Anna once more")
    assert contact.expect("came", 30.0)["sender"] == carl_there
    slapd.replace(f"cn=Board,{BASE}", "member", anna.dn)
    assert house.sync()["numGroups"] == 0
    assert contact.expect("went", 30.0)["sender"] == carl_there
    wait_until(lambda: shown_as(screen.screen, "Anna Aalto") == "", 30.0, "Anna to be no contact")
    slapd.replace(carl.dn, "userAccountControl", str(DISABLED))
    assert house.sync()["numSessionsEnded"] == 1
    sees("Lost connection.", 2)
    house.server.process.wait_for("refused (account-disabled)", 30.0)  # it tries again
    sees("[offline]")
    sees("logged in successfully", 2)


def test_taken_out(processes: Processes, certificates: Certificates) -> None:
    """
    A Callbridge that is started without its directory, while the server is away: as soon as that
    is back it forgets the groups.
    """
    anna, bert = named("anna"), named("bert")
    both = {"objectClass": "groupOfNames", "cn": "Both", "member": [anna.dn, bert.dn]}
    slapd = Slapd(processes, certificates, [anna, bert, Entry(f"cn=Both,{BASE}", both)])
    slapd.start()
    only = {"filter": "(objectClass=user)", "groups_base": BASE}
    house = House(processes, certificates, slapd.tls_address, sync_interval=0, **only)
    house.start()
    assert house.sync()["numGroups"] == 1
    told = "the server was told of 1 group of directories"
    house.callbridge.process.wait_for(told, 10.0)
    port, jid = house.server.client_port, f"anna@{DOMAIN}"
    contact = slixmpp_contact(processes, jid, "word-of-anna", port, certificates.trust)

    def bert_is() -> str | None:
        contact.connected()
        contact.do("roster")
        found: dict[str, str] = contact.expect("roster", 30.0)["contacts"]
        return found.get(f"bert@{DOMAIN}")

    assert bert_is() == "both"
    contact.disconnect()
    house.callbridge.process.stop()
    house.server.process.stop()
    del house.callbridge.settings["directory"]
    for name in ("anna", "bert"):
        house.callbridge.add_user(f"{name}@{DOMAIN}", f"word-of-{name}")
    house.callbridge.launch()
    house.server.start()
    house.callbridge.process.wait_for(told, 20.0)
    assert bert_is() is None


def test_made_by_the_api(processes: Processes, certificates: Certificates) -> None:
    """
    A source that the API makes is one at once, and after a restart; when it is deleted the
    sessions of its users end, and the server hears that its groups are gone. The local users stay.
    """
    anna, bert = (person(name, f"word-of-{name}") for name in ("anna", "bert"))
    both = {"objectClass": "groupOfNames", "cn": "Both", "member": [anna.dn, bert.dn]}
    slapd = Slapd(processes, certificates, [anna, bert, Entry(f"cn=Both,{BASE}", both)])
    slapd.start()
    house = House(processes, certificates)
    house.callbridge.add_user(f"local@{DOMAIN}", "here")
    house.start()
    server = house.post(
        "ldapServers",
        address="localhost",
        portNumber=str(slapd.port),
        secure="false",
        username=READER,
        password=READER_PASSWORD,
        trust=certificates.trust.read_text(),
    )
    mapping = house.post("ldapMappings", jidMapping=f"$uid$@{DOMAIN}", nameMapping="$cn$")
    assert house.refused("anna", "word-of-anna") == "not-authorized"
    groups = {"groupsBaseDn": BASE, "groupsFilter": "(cn=Both)"}
    source = house.post("ldapSources", server=server, mapping=mapping, baseDn=BASE, **groups)
    house.client("anna", "word-of-anna").expect("online")
    assert READER_PASSWORD not in str(house.listed("ldapServers"))
    synced = house.sync(ldapSource=source)
    assert (synced["numUsers"], synced["numGroups"]) == (2, 1)
    house.callbridge.process.wait_for("the server was told of 1 group of directories", 10.0)

    house.callbridge.process.stop()
    house.callbridge.start()
    client = house.client("anna", "word-of-anna")
    client.expect("online")
    house.client("local", "here").expect("online")
    status, body = house.api.ask("DELETE", f"/api/v1/ldapSources/{source}")
    assert status == 200, body
    client.expect("disconnected")
    house.callbridge.process.wait_for("the server was told of 1 group of directories", 10.0)
    assert house.refused("anna", "word-of-anna") == "not-authorized"
    house.client("local", "here").expect("online")
