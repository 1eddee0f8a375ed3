"""C{[[directory]]} of F{callbridge.toml}: where users are looked up, in order."""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

from attrs import frozen
from sansldap import LDAPFilter

from cms.callbridge.ldap.mapping import ATTRIBUTE, Template, parse_template
from cms.configuration.kinds import (
    Count,
    Flag,
    Many,
    Parsed,
    Part,
    PathTo,
    Seconds,
    SecretOf,
    Text,
    Variants,
)
from cms.configuration.section import setting
from cms.configuration.tomlfile import Secret
from cms.discovery.address import ascii_domain, parse_address

LDAP_PORT, LDAPS_PORT = 389, 636
MOST_DEPTH = 50  # of a filter
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SERVER_CURE = "Write ldaps://host, or ldap://host for STARTTLS, with :port where it is another."


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f'"{text}" is no name of small letters, digits and hyphens')
    return text


NAME = Parsed(_name, "Write a short name, such as staff.")


@frozen
class LdapServer:
    """
    An LDAP server.

    @ivar host: In A-labels, or an IP address.
    @ivar tls_first: TLS from the first byte, as C{ldaps://} says; else STARTTLS, without
        which nothing is asked (RFC 4511 4.14).
    @ivar source: The record that named it, or "configured".
    """

    host: str
    port: int
    is_ip: bool
    tls_first: bool
    source: str = "configured"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.tls_first else 'ldap'}://{host}:{self.port}"


def parse_ldap_server(text: str) -> LdapServer:
    """
    @raise ValueError: with a plain sentence, when it is no such address.
    """
    scheme, mark, rest = text.strip().rstrip("/").partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in ("ldap", "ldaps"):
        raise ValueError(f'"{text}" begins with neither ldaps:// nor ldap://')
    address = parse_address(rest, LDAPS_PORT if scheme == "ldaps" else LDAP_PORT)
    return LdapServer(address.host, address.port, address.is_ip, scheme == "ldaps")


def _filter(text: str) -> LDAPFilter:
    depth = max(accumulate((each == "(") - (each == ")") for each in text), default=0)
    if depth > MOST_DEPTH:  # what is read so deep cannot be written again
        raise ValueError(f"it has brackets in {depth} layers, more than {MOST_DEPTH}")
    try:
        return LDAPFilter.from_string(text)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"it is no filter of RFC 4515: {problem}") from None


def _attribute(text: str) -> str:
    if not ATTRIBUTE.fullmatch(text):
        raise ValueError(f'"{text}" is no name of an attribute')
    return text


def _address(text: str) -> Template:
    template = parse_template(text)
    if "" in template.parts[2:-1:2]:
        raise ValueError(f'"{text}" has two attributes with nothing between them')
    if "@" not in "".join(template.parts[0::2]) and len(template.attributes) != 1:
        raise ValueError(f'"{text}" makes no address: it lacks the @')
    return template


def _maybe(text: str) -> Template | None:
    return parse_template(text) if text else None


ANYTHING = LDAPFilter.from_string("(objectClass=*)")
_GROUPS = "(|(member=*)(uniqueMember=*)(memberUid=*))"
_MAPPING = "Write text with attributes between dollar signs, such as $sAMAccountName$@example.com."


@frozen(kw_only=True)
class LocalSettings:
    """C{kind = "local"}: the users of C{cms callbridge user}."""

    kind: ClassVar[str] = "local"

    name: str = "local"

    def problem(self) -> tuple[str, str, str] | None:
        """See L{Variant.problem<cms.configuration.kinds.Variant.problem>}."""
        return None


@frozen(kw_only=True)
class LdapSettings:
    """
    C{kind = "ldap"}: the users of an LDAP directory or an Active Directory.

    @ivar search_filter: Which entries are users.
    @ivar jid: Makes the address of an entry, C{jidMapping}.
    """

    kind: ClassVar[str] = "ldap"

    name: str = setting(NAME, "as logs and commands call it; each name once", default="ldap")
    servers: tuple[LdapServer, ...] = setting(
        Many(Parsed(parse_ldap_server, _SERVER_CURE), "servers"),
        '`["ldaps://dc1.example.com", "ldap://dc2.example.com"]`, the preferred first. `ldaps` is'
        " TLS from the first byte (port 636), `ldap` is STARTTLS (port 389); nothing is ever asked"
        " without TLS",
        default=(),
        shown="those of `domain`",
    )
    domain: str = setting(
        Parsed(ascii_domain, "Write a domain name."),
        "without `servers`: the domain whose SRV record `_ldap._tcp.<domain>` names them; STARTTLS,"
        " but at port 636",
        default="",
    )
    trust: Path | None = setting(
        PathTo(),
        "the CAs that the servers' certificates are checked against, as PEM; a certificate has to"
        " name the host that was connected to",
        default=None,
        shown="the system's CAs",
    )
    bind_name: str = setting(
        Text(),
        "the DN (Active Directory: or `user@domain`) of the account that searches; empty: nobody's",
        default="",
    )
    bind_password: Secret | None = setting(
        SecretOf("Give the password of bind_name."),
        "its password",
        default=None,
        shown="one of them, with `bind_name`",
    )
    base: str = setting(Text(), "the DN below which the users are")
    search_filter: LDAPFilter = setting(
        Parsed(_filter, "Write a filter such as (objectClass=person); brackets come in pairs."),
        "which entries below it are users (RFC 4515)",
        name="filter",
        default=LDAPFilter.from_string("(objectClass=person)"),
        shown="`(objectClass=person)`",
    )
    jid: Template = setting(
        Parsed(_address, _MAPPING),
        'makes the address of a user: `"$sAMAccountName$@meet.example.com"`; entries whose address'
        " is not of this Callbridge's `domain` are left out",
        name="jidMapping",
    )
    shown_name: Template = setting(
        Parsed(parse_template, _MAPPING),
        "makes the name that people read",
        name="nameMapping",
        default=parse_template("$cn$"),
        shown="`$cn$`",
    )
    picture_attribute: str = setting(
        Parsed(_attribute, "Write one name, such as jpegPhoto or thumbnailPhoto."),
        "an attribute with the user's picture, JPEG or PNG of at most 100 kB, which clients of his"
        " contacts are shown; it is read when one asks, over a connection of its own",
        default="",
        why="not everybody has agreed to show what is in the directory",
    )
    bind_as: Template | None = setting(
        Parsed(_maybe, _MAPPING),
        "makes the name under which a user's password is checked, such as"
        ' `"$userPrincipalName$"`; empty: the DN of the entry',
        name="authenticationMapping",
        default=None,
        shown='`""`',
    )
    keys_attribute: str = setting(
        Parsed(_attribute, "Write one name, such as authPassword."),
        "an attribute with SCRAM keys as RFC 5803 writes them, so that SCRAM log-ins are offered",
        default="",
    )
    keep_keys: bool = setting(
        Flag(),
        "whether a right PLAIN log-in leaves SCRAM keys in `state_dir`, so that SCRAM log-ins are"
        " offered ([directories.md](directories.md#plain-and-scram))",
        default=False,
        why="whoever steals the keys can guess at the passwords of the whole house",
    )
    timeout: float = setting(
        Seconds(0.1, 5),
        "that a server has to be connected to, and for each answer at a log-in; then the next"
        " server is tried, as long as `login.directory_timeout` lasts",
        default=2.0,
        why="a second server must fit into the time of a log-in",
    )
    most_connections: int = setting(
        Count(1, 100),
        "connections for searches, and as many for checking passwords",
        default=4,
        why="a server checks four passwords at the same time, and each connection costs it one",
    )
    most_waiting: int = setting(
        Count(1, 100_000),
        "log-ins that wait for such a connection; the next one is told to try again",
        default=200,
        why="as many as wait for PBKDF2",
    )
    idle: float = setting(
        Seconds(1, 3600),
        "after which a connection that is not needed is closed",
        default=60.0,
        why="Active Directory closes them after 900 s, firewalls earlier and without a word",
    )
    sync_interval: float = setting(
        Seconds(0, 604_800),
        "between two syncs, plus or minus a tenth at random; 0: only on demand",
        default=3600.0,
        why="who is gone is refused at the next log-in anyway; a sync ends the sessions",
    )
    sync_timeout: float = setting(
        Seconds(1, 600), "that a server has for each page of a sync", default=30.0
    )
    page_size: int = setting(
        Count(1, 100),
        "entries in a page (RFC 2696); of groups at most 15",
        default=100,
        why="reading one takes some 8 ms, in which nobody else is served",
    )
    most_users: int = setting(
        Count(1, 1_000_000),
        "that a sync takes; more is an error, and changes nothing",
        default=100_000,
    )
    most_removed: float = setting(
        Part(),
        "of the users: the part that one sync may remove or disable; beyond, it changes nothing"
        " until it is told to",
        default=0.2,
        why="a wrong filter or base must not throw everybody out",
    )
    groups_base: str = setting(
        Text(),
        "the DN below which groups are whose members are contacts of each other, without asking"
        " ([directories.md](directories.md#groups-as-contacts)); empty: there are none",
        default="",
        why="who sees whom is for people to say, unless a house wants it otherwise",
    )
    groups_filter: LDAPFilter = setting(
        Parsed(_filter, "Write a filter such as (objectClass=groupOfNames)."),
        "which entries below it are such groups (RFC 4515)",
        default=LDAPFilter.from_string(_GROUPS),
        shown=f"`{_GROUPS}`",
    )
    new_password_ends: bool = setting(
        Flag(),
        "whether another password in the directory (`pwdLastSet`, `pwdChangedTime`,"
        " `shadowLastChange`) ends the sessions that began before, as a local user's does",
        default=True,
        why="somebody else may have had the old one",
    )

    def problem(self) -> tuple[str, str, str] | None:
        """See L{Variant.problem<cms.configuration.kinds.Variant.problem>}."""
        if not self.servers and not self.domain:
            return "servers", "neither servers nor domain are given", "Give one of them."
        if self.servers and self.domain:
            return "domain", "servers are given as well", "Give one of them."
        if bool(self.bind_name) != (self.bind_password is not None):
            missing = "bind_password_file" if self.bind_name else "bind_name"
            return missing, "it is missing", "Give bind_name and its password, or neither."
        if self.keep_keys and self.keys_attribute:
            return "keep_keys", "keys_attribute is given as well", "Choose one of them."
        return None


Settings = LocalSettings | LdapSettings
DIRECTORY: Variants[Settings] = Variants({"local": LocalSettings, "ldap": LdapSettings})


def warnings_of(settings: Settings, domain: str) -> tuple[str, ...]:
    """What will not work, though it can be read."""
    if not isinstance(settings, LdapSettings):
        return ()
    _, at, made = settings.jid.parts[-1].rpartition("@")
    if not at or made.lower() == domain.lower():
        return ()
    warning = (
        f"directory {settings.name}: jidMapping makes addresses of {made}, and this Callbridge"
        f" serves {domain}: nobody of it can log in"
    )
    return (warning,)
