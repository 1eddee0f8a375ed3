"""Users from an Active Directory: a domain controller of Samba, set up as the page says."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
import pytest_twisted
from attrs import asdict
from sansldap import LDAPFilter
from twisted.internet import reactor as running

from cms import faults
from cms.callbridge.config import read_config
from cms.callbridge.directories.directory import (
    AccountDisabled,
    AccountLocked,
    DirectoryError,
    PasswordExpired,
)
from cms.callbridge.ldap import groups
from cms.callbridge.ldap import sync as module
from cms.callbridge.ldap.directory import LdapDirectory
from cms.callbridge.ldap.mapping import parse_template
from cms.callbridge.ldap.settings import LdapSettings, parse_ldap_server
from cms.callbridge.ldap.sync import Sync
from cms.configuration.tomlfile import Secret
from peers.certs import Certificates
from peers.checking import run_check
from peers.contract import DOMAIN
from peers.daemons import daemon_environment, toml_text
from peers.operating import block
from peers.processes import Processes, children
from peers.sambadc import (
    BASE,
    DISABLED,
    HOST,
    NEVER_EXPIRES,
    PEOPLE,
    SambaDC,
    dn_of,
    group,
    quoted,
    user,
)
from peers.test_ldap import House
from peers.test_ldap_login import Asked, asked
from peers.tools import script

__all__ = ["asked"]

reactor: Any = running
MANY = 520  # more than a group may have here, in several pages
BUILT_IN = 3  # Administrator, Guest and krbtgt
ACCOUNT_PASSWORD = "reads-everything"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
LONG_AGO = "131000000000000000"  # in 2016 (MS-ADTS 2.2.15)
CROWD = [f"user{number:04d}" for number in range(MANY)]
NAMED = ("anna", "carl", "dora", "erik", "fred", "gerd")
PEOPLE_THERE = [
    user("cms", NEVER_EXPIRES, password=ACCOUNT_PASSWORD),
    user("anna", thumbnailPhoto=PICTURE, displayName="Anna Ähm"),
    *(user(name) for name in NAMED[1:]),
    user("bert", DISABLED),
    user("must", pwdLastSet="0"),
    user("over", accountExpires=LONG_AGO),
    user("hour", logonHours=bytes(21)),
    user("desk", userWorkstations="desk1"),
    *(user(name, password=None) for name in CROWD),
    group("team", ["anna", "carl", "bert"]),
    group("outer", ["team"]),
    group("crowd", ["anna", *CROWD[:450]]),
    group("house", CROWD),
]
USERS = MANY + BUILT_IN + len(NAMED) + 6


@pytest.fixture(scope="module")
def dc(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[SambaDC]:
    """The domain controller."""
    with children(tmp_path_factory.mktemp("ad")) as processes:
        made = SambaDC(processes, certificates, PEOPLE_THERE)
        made.start()
        yield made


def of_the_page(folder: Path, certificates: Certificates) -> list[dict[str, Any]]:
    """C{[[directory]]} as docs/directories.md has it, and the files that it names in a folder."""
    (folder / "ad-ca.pem").write_bytes(certificates.trust.read_bytes())
    (folder / "ad.password").write_text(ACCOUNT_PASSWORD)
    page = block("active-directory", page="directories.md")
    directories: list[dict[str, Any]] = tomllib.loads(page)["directory"]
    return directories


class Domain:
    """Directories that ask the domain controller, with the page's settings but for changes."""

    def __init__(self, dc: SambaDC, asked: Asked, folder: Path, certificates: Certificates) -> None:
        file = folder / "callbridge.toml"
        (folder / "cb1.secret").write_text("s3cret")
        settings = {
            "unique_name": "cb1",
            "domain": DOMAIN,
            "shared_secret_file": "cb1.secret",
            "directory": of_the_page(folder, certificates),
        }
        file.write_text(toml_text(settings))
        (self.settings,) = read_config(file).directories
        assert isinstance(self.settings, LdapSettings)
        self._asked = asked
        asked.dns = [(dc.address, 53)]

    def __call__(self, *servers: str, **changes: Any) -> LdapDirectory:
        """One that asks these servers, or those that SRV names."""
        values: dict[str, Any] = asdict(self.settings, recurse=False)
        if servers:
            values |= {"domain": "", "servers": tuple(map(parse_ldap_server, servers))}
        return self._asked(**{**values, **changes})

    async def fault(self, *servers: str, **changes: Any) -> Any:
        """Why no log-in is decided."""
        with pytest.raises(DirectoryError) as failed:
            await self(*servers, **changes).verify("anna", "word-of-anna")
        assert failed.value.fault is not None
        return failed.value.fault

    async def sync(self, directory: LdapDirectory) -> Any:
        """What became of it."""
        sync = Sync(
            *(reactor, directory, self._asked.store, self._asked.work), random=SystemRandom()
        )
        try:
            return await sync.run()
        finally:
            sync.stop()


@pytest.fixture
def domain(dc: SambaDC, asked: Asked, tmp_path: Path, certificates: Certificates) -> Domain:
    """Makes directories."""
    return Domain(dc, asked, tmp_path, certificates)


@pytest_twisted.ensureDeferred
async def test_ways(domain: Domain) -> None:
    """By SRV and STARTTLS, by TLS, at the global catalogue, and by other names than the DN."""
    ways = [
        domain(),
        domain(f"ldaps://{HOST}"),
        domain(f"ldaps://{HOST}:3269"),
        domain(f"ldap://{HOST}:3268", base=""),
        domain(bind_as=parse_template("$userPrincipalName$")),
        domain(bind_as=parse_template("AD\\$sAMAccountName$")),
        domain(bind_name=dn_of("cms")),
    ]
    for directory in ways:
        user = await directory.find("anna", reactor.seconds() + 5)
        assert user is not None
        assert user.password.startswith("pwdLastSet 1")
        assert user.identity
        assert await directory.verify("anna", "word-of-anna") is True
        assert await directory.verify("anna", "wrong") is False
        assert await directory.verify("nobody", "word-of-anna") is None
        assert await directory.verify("dc1$", "word-of-anna") is None
        assert await directory.verify("anna", "word-of-anna") is True  # it is not locked


@pytest_twisted.ensureDeferred
async def test_closed(domain: Domain, dc: SambaDC) -> None:
    """Who may not log in is told why, but by the right password alone; a lock is told to nobody."""
    directory = domain()
    closed = {
        "bert": "",
        "over": "the account has expired",
        "hour": "the account may not log in at this hour",
        "desk": "the account may not log in from here (userWorkstations)",
        "must": "the password must be changed first",
    }
    for name, told in closed.items():
        with pytest.raises(AccountDisabled) as refused:
            await directory.verify(name, f"word-of-{name}")
        assert str(refused.value) == told
        assert isinstance(refused.value, PasswordExpired) == (name == "must")
        assert await directory.verify(name, "wrong") is False
    dc.lock("fred")
    for password in ("wrong", "word-of-fred"):
        with pytest.raises(AccountLocked):
            await directory.verify("fred", password)


@pytest_twisted.ensureDeferred
async def test_filters(domain: Domain) -> None:
    """Rules that only Active Directory has: no disabled accounts, members of a group alone."""
    enabled = "(!(userAccountControl:1.2.840.113556.1.4.803:=2))"
    nested = f"(memberOf:1.2.840.113556.1.4.1941:={dn_of('outer')})"
    directory = domain(
        search_filter=LDAPFilter.from_string(f"(&(objectClass=user){enabled}{nested})")
    )
    assert await directory.verify("carl", "word-of-carl") is True
    assert await directory.verify("bert", "word-of-bert") is None
    assert await directory.verify("dora", "word-of-dora") is None


@pytest_twisted.ensureDeferred
async def test_sync(domain: Domain, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    All users, in pages, and groups, some with members by ranges.  Parts of the tree that are
    elsewhere, as at the root of each domain, are no harm.
    """
    directory = domain(groups_base=PEOPLE, picture_attribute="thumbnailPhoto")
    page = await directory.search(
        directory.settings.search_filter, reactor.seconds() + 5, most=2_000
    )
    assert page.references > 0
    outcome = await domain.sync(directory)
    assert (outcome.users, outcome.disabled, outcome.groups) == (USERS, 4, 2)
    people = {person.name: person for person in asked.store.users("ad")}
    assert {name for name in people if people[name].disabled} == {"bert", "over", "guest", "krbtgt"}
    assert people["anna"].dn.lower() == dn_of("anna").lower()
    found = {each.name: each.members for each in asked.store.groups(["ad"])}
    assert found == {"Team": ("anna", "carl"), "Crowd": ("anna", *CROWD[:450])}
    (left_out,) = asked.store.left_out("ad")
    assert left_out.reason == f"the group has {MANY} members, and at most 500 are taken"
    person = await directory.person("anna")
    assert person is not None
    assert (person.name, person.picture) == ("Anna Ähm", PICTURE)

    # Samba sends ranges to who asks for one, Microsoft to everybody.
    ranged = tuple("member;range=0-99" if each == "member" else each for each in groups.ATTRIBUTES)
    monkeypatch.setattr(module, "ATTRIBUTES", ranged)
    assert (await domain.sync(directory)).groups == 2
    assert found == {each.name: each.members for each in asked.store.groups(["ad"])}


@pytest_twisted.ensureDeferred
async def test_refusals(domain: Domain, dc: SambaDC) -> None:
    """Each wrong setting is its own fault, with a cure that helps."""
    ldap, secret = f"ldap://{HOST}", {"bind_password": Secret("other")}
    fault = await domain.fault(trust=None)
    assert fault.fault == faults.LDAP_UNTRUSTED.name
    fault = await domain.fault(f"ldaps://{dc.address}")
    assert fault.fault == faults.LDAP_CERTIFICATE_NAME.name
    assert f"names DNS:{HOST}" in fault.cause
    fault = await domain.fault(**secret)
    assert fault.fault == faults.LDAP_ACCOUNT_REFUSED.name
    assert fault.cause.endswith("(name or password is wrong).")
    fault = await domain.fault(
        bind_name="bert@ad.example.com", bind_password=Secret("word-of-bert")
    )
    assert fault.cause.endswith("(the account is disabled).")
    for base in ("ou=nowhere," + BASE, "dc=other,dc=example,dc=com", "no DN"):
        fault = await domain.fault(base=base)
        assert fault.fault == faults.LDAP_BASE_MISSING.name, fault
    fault = await domain.fault(bind_name="", bind_password=None)
    assert fault.fault == faults.LDAP_REFUSED.name
    assert "without bind_name give one" in fault.cure
    assert dc.process is not None
    dc.process.stop()
    try:
        dc.start(tls=False)
        fault = await domain.fault(ldap)
        assert fault.fault == faults.LDAP_NO_STARTTLS.name
    finally:
        assert dc.process is not None
        dc.process.stop()
        dc.start()


def test_the_page(processes: Processes, certificates: Certificates, dc: SambaDC) -> None:
    """
    The page's settings as they stand, with both daemons: who may log in does, each other one is
    told the true thing, and so is the operator; what changes there ends sessions here.
    """
    house = House(processes, certificates)
    settings = house.callbridge.settings
    settings["directory"] = of_the_page(house.callbridge.directory, certificates)
    settings["dns"] = {"servers": [dc.dns]}
    house.start()
    assert house.sync()["numUsers"] == USERS
    clients = {name: house.client(name, f"word-of-{name}") for name in ("carl", "dora", "erik")}
    for client in clients.values():
        client.expect("online")

    over = house.client("over", "word-of-over").expect("refused")
    assert (over["condition"], over["text"]) == ("account-disabled", "the account has expired")
    must = house.client("must", "word-of-must").expect("refused")
    assert must["condition"] == "credentials-expired"
    dc.lock("gerd")
    locked = house.client("gerd", "word-of-gerd").expect("refused")
    assert (locked["condition"], locked["text"]) == ("not-authorized", "")
    command = [*script("cms"), "log", "--config", str(house.callbridge.file)]
    status, told = processes.run("log", command, env=daemon_environment())
    assert status == 0, told
    for name, why in {
        "over": "the account is disabled: the account has expired",
        "must": "the password is too old: the password must be changed first",
        "gerd": "the directory has locked the account, and looks at no password",
    }.items():
        assert f"log-in of {name} from 127.0.0.1 (PLAIN) failed: {why} [" in told, told
    for name, why in {"gerd": "is locked after", "must": "has to get another password"}.items():
        arguments = ["--config", str(house.callbridge.file), "--user", name]
        checked = run_check(processes, arguments, seconds=10.0)
        (failure,) = checked.failures
        assert failure.fault == faults.LDAP_USER_DISABLED.name, failure
        assert f"CN={name.title()}" in failure.cause
        assert why in failure.cause

    dc.replace(dn_of("carl"), "sAMAccountName", "karl")
    dc.replace(dn_of("dora"), "unicodePwd", quoted("new-word"))
    dc.replace(dn_of("erik"), "accountExpires", LONG_AGO)
    synced = house.sync()
    found = {key: synced[key] for key in ("numAdded", "numRemoved", "numSessionsEnded")}
    assert found == {"numAdded": 1, "numRemoved": 1, "numSessionsEnded": 3}
    for client in clients.values():
        client.expect("disconnected")
    house.client("karl", "word-of-carl").expect("online")
    house.client("dora", "new-word").expect("online")
