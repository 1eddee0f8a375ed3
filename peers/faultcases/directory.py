"""Users from a directory: C{cms check} with a C{[[directory]]}, and C{--user}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peers import stubs
from peers.certs import Certificates
from peers.checkstage import HOST, Stage, records
from peers.contract import DOMAIN
from peers.faultcases.case import Cases
from peers.ldif import Entry
from peers.network import free_port
from peers.slapd import (
    BASE,
    DISABLED,
    PEOPLE,
    READER,
    READER_PASSWORD,
    Slapd,
    account,
    crowd,
    person,
)

CASES = Cases()


def people() -> list[Entry]:
    """Who is in the directory of these cases, beside a crowd."""
    return [
        person("anna", "word", givenName="anna"),
        account("bert", "word", DISABLED),
        person("carl", "word", employeeType="guest"),
        *(
            person(f"dora{number}", "word", mail="dora@example.com", givenName="dora")
            for number in (1, 2)
        ),
        person("a b", "word"),
        person("gerd", "word", cn=["gerd", *(f"{number:04d}" for number in range(1_001))]),
        *crowd(40),
    ]


def slapd(stage: Stage, name: str = "usual", *options: str, **more: Any) -> Slapd:
    """A directory of the house; started once."""
    made = stage.house.directories
    if name not in made:
        house = stage.house
        made[name] = Slapd(
            house.processes,
            house.certificates,
            people(),
            *options,
            **{"name": f"slapd-{name}", "pair": house.good, **more},
        )
        made[name].start()
    return made[name]


def asks(stage: Stage, *servers: str, **changes: Any) -> list[str]:
    """A check of a Callbridge that has one directory; a change to C{None} leaves a key out."""
    component = stage.house.server.component_port
    stage.zone(*records(component), *changes.pop("zone", ()))
    secret = stage.file("bind-password", READER_PASSWORD.encode())
    user = changes.pop("user", None)
    directory = {
        "kind": "ldap",
        "servers": list(servers) or None,
        "trust": str(stage.house.trust),
        "bind_name": READER,
        "bind_password_file": str(secret),
        "base": BASE,
        "filter": "(|(objectClass=user)(uid=anna))",
        "jidMapping": f"$cn$@{DOMAIN}",
        **changes,
    }
    configured = stage.configured(f"{HOST}:{component}", directory=[directory])
    return [*configured, *(["--user", user] if user else [])]


def changed(**changes: Any) -> Callable[[Stage], list[str]]:
    """The usual directory, configured another way."""
    return lambda stage: asks(stage, slapd(stage).address, **changes)


# servers


@CASES.case(
    "ldap-broken",
    12,
    "refused the connection",
    "whether it runs",
    name="ldap-nobody-listens",
)
def nobody_listens(stage: Stage) -> list[str]:
    """A port on which nobody listens."""
    return asks(stage, f"ldaps://localhost:{free_port()}")


@CASES.case("ldap-broken", 12, "nowhere", "whether its name", name="ldap-no-such-host")
def no_such_host(stage: Stage) -> list[str]:
    """A name that DNS does not know."""
    return asks(stage, f"ldap://nowhere.{DOMAIN}")


@CASES.case("ldap-unreachable", 12, f"_ldap._tcp.{DOMAIN}", "domain")
def no_srv(stage: Stage) -> list[str]:
    """A domain that names no LDAP server."""
    return asks(stage, domain=DOMAIN)


@CASES.case("ldap-silent", 12, "did not answer within 1 s", "load")
def frozen(stage: Stage) -> list[str]:
    """Its process stands still: the kernel takes the connection, and nobody answers."""
    kept = slapd(stage)
    assert kept.process is not None
    stage.frozen_process(kept.process)
    return asks(stage, kept.address)


@CASES.case("ldap-broken", 12, "no LDAP", "speaks LDAP")
def no_ldap(stage: Stage) -> list[str]:
    """A mail server."""
    port = stage.serve(stubs.says(b"220 mail.example.com ESMTP\r\n"))
    return asks(stage, f"ldap://localhost:{port}")


@CASES.case("ldap-broken", 12, "TLS", "ldap:// is STARTTLS", name="ldap-tls-at-plain-port")
def tls_at_plain_port(stage: Stage) -> list[str]:
    """C{ldaps:} where STARTTLS is spoken."""
    return asks(stage, f"ldaps://localhost:{slapd(stage).port}")


@CASES.case("ldap-no-starttls", 12, "does not do STARTTLS", "certificate and key")
def no_starttls(stage: Stage) -> list[str]:
    """It has no certificate."""
    return asks(stage, slapd(stage, "plain", tls=False).address)


@CASES.case("ldap-untrusted", 12, "TLS with ldap://localhost", "Put the CA")
def untrusted(stage: Stage) -> list[str]:
    """Its certificate is of another CA."""
    folder = stage.house.directory / "strange"
    folder.mkdir(exist_ok=True)
    pair = Certificates(folder, "Strange CA").issue("localhost")
    return asks(stage, slapd(stage, "strange", pair=pair).address)


@CASES.case("ldap-certificate-name", 12, "names DNS:other.example.com", "DNS:localhost")
def other_name(stage: Stage) -> list[str]:
    """Its certificate is for another host."""
    pair = stage.house.certificates.issue("other.example.com")
    return asks(stage, slapd(stage, "other", pair=pair).tls_address)


@CASES.case("ldap-server-fails", 12, "another server", "See whether its name", warns=True)
def one_of_two(stage: Stage) -> list[str]:
    """The first of two is down."""
    return asks(stage, f"ldap://localhost:{free_port()}", slapd(stage).address)


# the account, base, filter


@CASES.case("ldap-account-refused", 2, "invalidCredentials", "bind_password_file")
def wrong_password(stage: Stage) -> list[str]:
    """Its password was changed."""
    secret = stage.file("wrong-password", b"not the password")
    return asks(stage, slapd(stage).address, bind_password_file=str(secret))


CASES.add(
    "ldap-account-refused",
    2,
    "invalidCredentials",
    "Correct bind_name",
    changed(bind_name=f"cn=nobody,{BASE}"),
    name="ldap-account-unknown",
)
CASES.add(
    "configuration-value",
    2,
    "bind_password_file",
    "this user can read",
    changed(bind_password_file="/nonexistent/bind-password"),
    name="ldap-password-file",
)
CASES.add("ldap-base-missing", 2, "ou=nowhere", "Correct base", changed(base=f"ou=nowhere,{BASE}"))
CASES.add(
    *("ldap-base-missing", 2, "no DN", "Correct base", changed(base="no DN")),
    name="ldap-base-no-dn",
)
CASES.add(
    *("ldap-nobody", 2, "(uid=nobody)", "filter or base", changed(filter="(uid=nobody)")),
)
CASES.add(
    "configuration-value",
    2,
    "filter",
    "brackets",
    changed(filter="(&(uid=anna)"),
    name="ldap-filter-malformed",
)


@CASES.case("ldap-refused", 12, "authentication required", "bind_name")
def authentication_required(stage: Stage) -> list[str]:
    """It answers nobody who has not said who he is."""
    strict = slapd(stage, "strict", "require authc")
    return asks(stage, strict.address, bind_name=None, bind_password_file=None)


@CASES.case("ldap-referral", 2, "not followed", "global catalogue")
def referral(stage: Stage) -> list[str]:
    """Another server has the tree below base."""
    refers = slapd(stage, "refers", "referral ldap://other.example.com")
    return asks(stage, refers.address, base="dc=other,dc=example")


@CASES.case("ldap-size-limit", 2, "breaks off after 30 entries", "size.prtotal")
def size_limit(stage: Stage) -> list[str]:
    """The account may see thirty entries."""
    small = slapd(stage, "small", size="30")
    return asks(stage, small.address, filter="(objectClass=person)", page_size=10)


# mappings


CASES.add(
    "ldap-attribute-absent",
    2,
    "has the attribute sAMAccountNam, which jidMapping names",
    "sAMAccountName",
    changed(jidMapping=f"$sAMAccountNam$@{DOMAIN}"),
)
CASES.add(
    "ldap-addresses-unusable",
    2,
    "example.org",
    f"$sAMAccountName$@{DOMAIN}",
    changed(jidMapping="$cn$@example.org"),
)
CASES.add(
    "ldap-no-groups",
    2,
    f"below ou=nowhere,{BASE}",
    "groups_base",
    changed(groups_base=f"ou=nowhere,{BASE}"),
    warns=True,
)
CASES.add(
    "ldap-left-out",
    2,
    "uid=a b",
    "Mend these entries",
    changed(filter="(|(uid=a b)(uid=anna))"),
    warns=True,
)
CASES.add(
    "ldap-left-out",
    2,
    f"dora@{DOMAIN} (2 entries)",
    "Mend these entries",
    changed(
        filter="(|(mail=dora@example.com)(uid=anna))",
        jidMapping=f"$givenName$@{DOMAIN}",
    ),
    warns=True,
    name="ldap-address-twice",
)

# one user


CASES.add(
    "ldap-user-absent",
    12,
    f"nobody@{DOMAIN}",
    "below base",
    changed(user="nobody"),
)
CASES.add(
    "ldap-user-filtered",
    12,
    f"uid=carl,{PEOPLE}",
    "widen the filter",
    changed(user=f"Carl@{DOMAIN}"),
)
CASES.add(
    "ldap-user-disabled",
    12,
    f"cn=Bert,{PEOPLE}",
    "enable or unlock the account",
    changed(user="bert"),
)
CASES.add(
    "ldap-entry-too-large",
    12,
    f"uid=gerd,{PEOPLE}",
    "what is too much",
    changed(filter="(|(uid=anna)(uid=gerd))", user="gerd"),
    also=["ldap-left-out"],
)
CASES.add(
    "ldap-ambiguous",
    12,
    f"dora@{DOMAIN}",
    "each person has for himself",
    changed(
        filter="(|(mail=dora@example.com)(uid=anna))",
        jidMapping=f"$givenName$@{DOMAIN}",
        user="dora",
    ),
    also=["ldap-left-out"],
)
