"""OpenLDAP's slapd (Debian's slapd) as a directory, with a schema as Active Directory has it."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

from peers.certs import Certificates, Pair
from peers.ldif import Editable, Entry, escaped
from peers.network import free_port, listens, wait_until
from peers.processes import Process, Processes
from peers.tools import require

PACKAGE = "slapd"
BASE = "dc=example,dc=com"
PEOPLE = f"ou=people,{BASE}"
READER = f"cn=reader,{BASE}"
READER_PASSWORD = "reads-everything"
ROOT = f"cn=root,{BASE}"
ROOT_PASSWORD = "may-do-everything"
ENABLED = 512  # userAccountControl: a normal account
DISABLED = 514  # the same with the bit that disables it

_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
include {directory}/directory.schema
pidfile {directory}/pid
modulepath /usr/lib/ldap
moduleload back_mdb
{tls}
threads 4
{options}
database mdb
suffix "{base}"
directory {directory}/data
maxsize 268435456
dbnosync
rootdn "{root}"
rootpw {root_password}
index objectClass,uid,sAMAccountName,mail eq
{access}
"""
_ACCESS = """\
limits dn.exact="{reader}" size={size}
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by anonymous auth by * none"""


# The names, identifiers and values of Active Directory.  Debian's msuser.schema has them without
# matching rules, so nobody could look for an account by its name.
_SCHEMA = """\
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch
  SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch
  SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.96 NAME 'pwdLastSet' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.2 NAME 'objectGUID' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.2.102 NAME 'memberOf' EQUALITY distinguishedNameMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )
attributetype ( 1.2.840.113556.1.2.141 NAME 'department' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.2.35 NAME 'thumbnailPhoto' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP organizationalPerson STRUCTURAL
  MUST ( sAMAccountName ) MAY ( userPrincipalName $ userAccountControl $ objectGUID $ memberOf $
  department $ thumbnailPhoto $ pwdLastSet $ displayName $ givenName $ mail $ uid ) )
"""

_TLS = """\
TLSCACertificateFile {trust}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}"""


def person(uid: str, password: str, name: str = "", **more: str | bytes | Sequence[str]) -> Entry:
    """An C{inetOrgPerson}; C{more} replaces or adds attributes."""
    attributes: dict[str, str | bytes | Sequence[str]] = {
        "objectClass": "inetOrgPerson",
        "uid": uid,
        "cn": name or uid,
        "sn": uid,
        "displayName": name or uid.title(),
        "mail": f"{uid}@example.com",
        "userPassword": password,
    }
    return Entry(f"uid={escaped(uid)},{PEOPLE}", {**attributes, **more})


def account(
    name: str,
    password: str,
    control: int = ENABLED,
    **more: str | bytes | Sequence[str],
) -> Entry:
    """A C{user} as Active Directory has them, with the class's own attributes."""
    attributes: dict[str, str | bytes | Sequence[str]] = {
        "objectClass": "user",
        "cn": name.title(),
        "sn": name,
        "displayName": name.title(),
        "sAMAccountName": name,
        "userPrincipalName": f"{name}@example.com",
        "userAccountControl": str(control),
        "userPassword": password,
    }
    return Entry(f"cn={escaped(name.title())},{PEOPLE}", {**attributes, **more})


def crowd(count: int, password: str = "word-of-{}") -> list[Entry]:
    """So many, from C{user00000} on; each second one as Active Directory has them."""
    made = []
    for number in range(count):
        name = f"user{number:05d}"
        kind = account if number % 2 else person
        made.append(kind(name, password.format(name)))
    return made


_TREE = [
    Entry(BASE, {"objectClass": ["dcObject", "organization"], "dc": "example", "o": "Example"}),
    Entry(PEOPLE, {"objectClass": "organizationalUnit", "ou": "people"}),
    Entry(
        READER,
        {
            "objectClass": ["organizationalRole", "simpleSecurityObject"],
            "cn": "reader",
            "userPassword": READER_PASSWORD,
        },
    ),
]


class Slapd(Editable):
    """
    One slapd on loopback, with its own database.

    @ivar processes: Where it was started, for more commands.
    @ivar port: Plain, with STARTTLS.
    @ivar tls_port: TLS from the first byte.
    @ivar process: Once it was started.
    """

    def __init__(
        self,
        processes: Processes,
        certificates: Certificates,
        entries: Iterable[Entry],
        *options: str,
        name: str = "slapd",
        host: str = "localhost",
        pair: Pair | None = None,
        tls: bool = True,
        size: str = "unlimited",
        access: str = "",
    ) -> None:
        """
        @param entries: Who is in it, below C{PEOPLE} or wherever their DNs say.
        @param options: More lines of its file, for all databases.
        @param host: For whom its certificate is.
        @param pair: Its certificate instead of one for C{host}.
        @param tls: Whether it has a certificate at all.
        @param size: C{sizelimit} of the reader.
        @param access: Lines of its file that say who may what; else the reader may read all.
        """
        self.processes = processes
        self.name = name
        self.port = free_port()
        self.tls_port = free_port()
        self._has_tls = tls
        self._trust = certificates.trust
        self.process: Process | None = None
        self._directory = processes.make_directory(name)
        (self._directory / "data").mkdir()
        (self._directory / "directory.schema").write_text(_SCHEMA)
        pair = pair or certificates.issue(host, "127.0.0.1")
        self._file = self._directory / "slapd.conf"
        self._file.write_text(
            _CONFIG.format(
                directory=self._directory,
                tls=_TLS.format(
                    trust=certificates.trust, certificate=pair.certificate, key=pair.key
                )
                if tls
                else "",
                options="\n".join(options),
                base=BASE,
                root=ROOT,
                root_password=ROOT_PASSWORD,
                access=access or _ACCESS.format(reader=READER, size=size),
            )
        )
        data = self._directory / "people.ldif"
        data.write_text("\n".join(entry.ldif for entry in (*_TREE, *entries)))
        self._load(data)

    def _load(self, data: Path) -> None:
        command = [require("slapadd", PACKAGE), "-q", "-f", str(self._file), "-l", str(data)]
        status, output = self.processes.run(f"{self.name}-slapadd", command)
        assert status == 0, output

    @property
    def address(self) -> str:
        """C{ldap:} with STARTTLS."""
        return f"ldap://localhost:{self.port}"

    @property
    def tls_address(self) -> str:
        """C{ldaps:}."""
        return f"ldaps://localhost:{self.tls_port}"

    def settings(self, domain: str) -> dict[str, object]:
        """A C{[[directory]]} of a Callbridge, for its people as Active Directory has them."""
        found = {"kind": "ldap", "servers": [self.address], "trust": str(self._trust)}
        found |= {"bind_name": READER, "bind_password": READER_PASSWORD, "base": BASE}
        jid = f"$sAMAccountName$@{domain}"
        return {**found, "jidMapping": jid, "filter": "(objectClass=user)"}

    def start(self, level: str = "stats") -> Process:
        """Start it, perhaps again, and wait until it listens; C{level} as slapd's C{-d} has it."""
        ports = {self.port: "ldap"} | ({self.tls_port: "ldaps"} if self._has_tls else {})
        listeners = " ".join(f"{kind}://127.0.0.1:{port}/" for port, kind in ports.items())
        command = [require("slapd", PACKAGE), "-d", level, "-f", str(self._file), "-h", listeners]
        self.process = self.processes.start(self.name, command, cwd=self._directory)
        wait_until(lambda: all(map(listens, ports)), 30, "slapd to listen")
        return self.process

    def modify(self, ldif: str) -> None:
        """Change entries, as C{ldapmodify} reads them (RFC 2849), with all rights."""
        command = [require("ldapmodify", "ldap-utils"), "-x", "-H", f"ldap://127.0.0.1:{self.port}"]
        command += ["-D", ROOT, "-w", ROOT_PASSWORD]
        status, output = self.processes.run(f"{self.name}-modify", command, text=ldif)
        assert status == 0, output

    def kill(self) -> None:
        """End it at once."""
        assert self.process is not None
        self.process.kill()

    def freeze(self) -> None:
        """Stop its process: it accepts connections, and says nothing."""
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.signal(signal.SIGCONT)
