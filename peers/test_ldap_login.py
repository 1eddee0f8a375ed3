"""Log-ins by bind, and syncs, with OpenLDAP's slapd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from sansldap import LDAPFilter
from twisted.internet import reactor as running

from cms import faults
from cms.callbridge.directories.directory import AccountDisabled, DirectoryError
from cms.callbridge.directories.synced import SyncStore
from cms.callbridge.ldap.directory import LdapDirectory
from cms.callbridge.ldap.mapping import parse_template
from cms.callbridge.ldap.pictures import Pictures
from cms.callbridge.ldap.servers import Servers, TcpConnector
from cms.callbridge.ldap.settings import LdapSettings, parse_ldap_server
from cms.callbridge.ldap.sync import Sync
from cms.configuration.tomlfile import Secret
from cms.discovery.lookup import Finder
from cms.discovery.resolver import make_dns
from cms.process.threads import SlowWork
from cms.signalflow import StepError
from cms.trust.files import PEMFiles
from peers.certs import Certificates
from peers.clients import Driver, slixmpp_client
from peers.contract import DOMAIN
from peers.daemons import XmppServer, daemon_environment
from peers.processes import Processes
from peers.slapd import BASE, DISABLED, READER, READER_PASSWORD, Slapd, account, crowd
from peers.tools import script

reactor: Any = running
PASSWORD = "corr3ct-horse"


@define
class Asked:
    """
    Directories that a test made; they are closed with it.

    @ivar dns: Addresses and ports of the DNS servers that they ask.
    """

    certificates: Certificates
    store: SyncStore
    work: SlowWork
    made: list[LdapDirectory] = field(factory=list)
    dns: Sequence[tuple[str, int]] = ()

    def __call__(self, *servers: str, **changes: Any) -> LdapDirectory:
        """One that asks these servers."""
        values: dict[str, Any] = {
            "servers": tuple(map(parse_ldap_server, servers)),
            "trust": self.certificates.trust,
            "bind_name": READER,
            "bind_password": Secret(READER_PASSWORD),
            "base": BASE,
            "jid": parse_template(f"$sAMAccountName$@{DOMAIN}"),
            "timeout": 1.0,
        }
        settings = LdapSettings(**{**values, **changes})
        random = SystemRandom()
        finder = Finder(make_dns(reactor, self.dns), random)
        files = PEMFiles("callbridge.toml", settings.trust, None, None)

        def found() -> Servers:
            connector = TcpConnector(reactor, finder, files)
            return Servers(reactor, settings, connector, finder, random=random)

        pictures = None
        if settings.picture_attribute:
            pictures = Pictures(reactor, settings, found(), lambda: DOMAIN)
        directory = LdapDirectory(
            *(reactor, settings, found()),
            pictures=pictures,
            domain=lambda: DOMAIN,
            store=self.store,
            work=self.work,
            random=random,
            seconds=4.5,
        )
        self.made.append(directory)
        return directory


@pytest.fixture
def asked(certificates: Certificates, tmp_path: Path) -> Iterator[Asked]:
    """Makes directories."""
    (tmp_path / "state").mkdir(mode=0o700)
    kept = Asked(certificates, SyncStore(tmp_path / "state"), SlowWork(reactor, at_once=1))
    yield kept
    for each in kept.made:
        each.close()


@pytest_twisted.ensureDeferred
async def test_bind(processes: Processes, certificates: Certificates, asked: Asked) -> None:
    """Right, wrong, nobody, disabled; by STARTTLS and by TLS from the first byte."""
    people = [account("anna", "right"), account("bert", "right", DISABLED)]
    slapd = Slapd(processes, certificates, people)
    slapd.start()
    for address in (slapd.address, slapd.tls_address):
        directory = asked(address)
        assert await directory.verify("anna", "right") is True
        assert await directory.verify("anna", "wrong") is False
        assert await directory.verify("nobody", "right") is None
        assert await directory.verify("*", "right") is None
        with pytest.raises(AccountDisabled):
            await directory.verify("bert", "right")
        assert await directory.verify("bert", "wrong") is False


@pytest_twisted.ensureDeferred
async def test_failover(processes: Processes, certificates: Certificates, asked: Asked) -> None:
    """The first server dies or freezes, and the second decides, within the time of a log-in."""
    people = [account("anna", "right")]
    first = Slapd(processes, certificates, people, name="first")
    second = Slapd(processes, certificates, people, name="second")
    first.start()
    second.start()
    directory = asked(first.address, second.tls_address)
    assert await directory.verify("anna", "right") is True
    first.freeze()
    assert await directory.verify("anna", "right") is True
    second.kill()
    with pytest.raises(DirectoryError) as failed:
        await directory.verify("anna", "right")
    assert failed.value.fault is not None
    assert failed.value.fault.fault == faults.LDAP_UNREACHABLE.name
    first.thaw()


@pytest_twisted.ensureDeferred
async def test_refusals(processes: Processes, certificates: Certificates, asked: Asked) -> None:
    """Each wrong setting is its fault, and no log-in is decided by it."""
    slapd = Slapd(processes, certificates, [account("anna", "right")], host="ldap.example.com")
    right = certificates.issue("localhost", "127.0.0.1")
    good = Slapd(processes, certificates, [account("anna", "right")], name="good", pair=right)
    slapd.start()
    good.start()
    system: dict[str, Any] = {"trust": None}
    name = slapd.address
    cases: list[tuple[faults.Fault, str, dict[str, Any]]] = [
        (faults.LDAP_UNTRUSTED, good.address, system),
        (faults.LDAP_CERTIFICATE_NAME, name, {}),
        (faults.LDAP_ACCOUNT_REFUSED, good.address, {"bind_password": Secret("other")}),
        (faults.LDAP_BASE_MISSING, good.address, {"base": "dc=example,dc=org"}),
    ]
    for fault, address, changes in cases:
        with pytest.raises(DirectoryError) as failed:
            await asked(address, **changes).verify("anna", "right")
        assert failed.value.fault is not None
        assert failed.value.fault.fault == fault.name, failed.value


@pytest_twisted.ensureDeferred
async def test_sync(processes: Processes, certificates: Certificates, asked: Asked) -> None:
    """Ten thousand and one by pages; somebody goes, somebody is disabled; then it dies."""
    many = 10_000
    slapd = Slapd(processes, certificates, [*crowd(many), account("anna", "right")])
    slapd.start()
    directory = asked(
        slapd.address,
        jid=parse_template(f"$cn$@{DOMAIN}"),
        search_filter=LDAPFilter.from_string("(objectClass=person)"),
    )
    ended: list[tuple[tuple[str, ...], str]] = []

    def end(names: tuple[str, ...], reason: str) -> int:
        if names:
            ended.append((names, reason))
        return len(names)

    sync = Sync(*(reactor, directory, asked.store, asked.work), random=SystemRandom(), ended=end)
    try:
        outcome = await sync.run()
        assert (outcome.users, outcome.left_out) == (many + 1, 0)
        slapd.delete(account("anna", "right").dn)
        slapd.replace(account("user00001", "").dn, "userAccountControl", str(DISABLED))
        ended.clear()
        outcome = await sync.run()
        assert (outcome.users, outcome.removed) == (many, 1)
        assert ended == [(("anna",), "deleted"), (("user00001",), "disabled")]
        slapd.kill()
        with pytest.raises(StepError):
            await sync.run()
        assert len(asked.store.users("ldap")) == many
    finally:
        sync.stop()


@pytest_twisted.ensureDeferred
async def test_cut_sync(processes: Processes, certificates: Certificates, asked: Asked) -> None:
    """A server that gives no more than 500 entries changes nothing."""
    slapd = Slapd(processes, certificates, crowd(600), size="500")
    slapd.start()
    directory = asked(slapd.tls_address, jid=parse_template(f"$cn$@{DOMAIN}"))
    sync = Sync(*(reactor, directory, asked.store, asked.work), random=SystemRandom())
    try:
        with pytest.raises(StepError) as failed:
            await sync.run()
        assert failed.value.fault == faults.SYNC_CUT.name
        assert asked.store.users("ldap") == []
    finally:
        sync.stop()


def test_whole(processes: Processes, certificates: Certificates) -> None:
    """
    With both daemons: somebody of the directory logs in, is gone from it and loses his session;
    while it is frozen, that is told as a failure for now, and local users log in.
    """
    slapd = Slapd(processes, certificates, [account(name, PASSWORD) for name in ("anna", "bert")])
    slapd.start()
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    server.start()
    callbridge = server.callbridge()
    callbridge.settings["directory"] = [slapd.settings(DOMAIN), {"kind": "local"}]
    callbridge.settings["login"] = {"directory_timeout": 3}
    callbridge.add_user(f"local@{DOMAIN}", PASSWORD)
    callbridge.start()

    def client(user: str, password: str = PASSWORD) -> Driver:
        return slixmpp_client(
            *(processes, f"{user}@{DOMAIN}", password, server.client_port, certificates.trust)
        )

    def directory(*arguments: str) -> str:
        command = [*script("cms"), "callbridge", "directory", *arguments]
        command += ["--config", str(callbridge.file)]
        status, output = processes.run("directory", command, env=daemon_environment())
        assert status == 0, output
        return output

    anna = client("anna")
    anna.connected()
    for user, password in (("bert", "wrong"), ("nobody", PASSWORD)):
        other = client(user, password)
        other.connect()
        assert other.expect("refused")["condition"] == "not-authorized"
    directory("sync", "ldap")
    slapd.delete(account("anna", PASSWORD).dn)
    directory("sync", "ldap")
    assert anna.expect("stream-error")["condition"] == "not-authorized"
    assert "Users     : 1" in directory("status"), directory("status")

    slapd.freeze()
    client("local").connected()
    bert = client("bert")
    bert.connect()
    assert bert.expect("stream-error")["condition"] == "remote-connection-failed"
    slapd.thaw()
    log = callbridge.process.output
    assert "did not answer within 2 s" in log, log
    assert PASSWORD not in log
    assert READER_PASSWORD not in log
