"""Samba (Debian's samba-ad-dc) as a domain controller of an Active Directory."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from peers.certs import Certificates
from peers.ldif import Editable, Entry, escaped
from peers.network import listens, wait_until
from peers.processes import Process, Processes
from peers.tools import require

PACKAGES = "samba-ad-dc samba-ad-provision"
REALM = "ad.example.com"
HOST = f"dc1.{REALM}"
BASE = "dc=ad,dc=example,dc=com"
PEOPLE = f"ou=people,{BASE}"
NORMAL, DISABLED, NEVER_EXPIRES = 0x200, 0x202, 0x10200  # userAccountControl (MS-ADTS 2.2.16)
LOCKED_AFTER = 3  # wrong passwords
_PORTS = (53, 389, 636, 3268, 3269)  # those of LDAP are fixed in Samba
_ADMINISTRATOR, _PASSWORD = f"Administrator@{REALM}", "Adm1n-may-everything"
_PROVISION = Path(__file__).parent / "drivers" / "samba_provision.py"

# It says how to write all of its files into its own directory; and that no program of the
# network but LDAP and DNS is served, so that nothing is sent to the network.
_CONFIG = """\
[global]
netbios name = DC1
realm = {realm}
workgroup = AD
server role = active directory domain controller
server services = ldap, dns
interfaces = {address}/8
bind interfaces only = yes
private dir = {directory}/private
state directory = {directory}/state
cache directory = {directory}/cache
lock directory = {directory}/lock
pid directory = {directory}/pid
binddns dir = {directory}/bind-dns
ncalrpc dir = {directory}/ncalrpc
log file = {directory}/log
dns forwarder =
tls certfile = {certificate}
tls keyfile = {key}
tls cafile = {trust}
[sysvol]
path = {directory}/sysvol
[netlogon]
path = {directory}/sysvol/scripts
"""

# Passwords of any kind, and a lock after a few wrong ones.
_POLICY = f"""\
dn: {BASE}
changetype: modify
replace: pwdProperties
pwdProperties: 0
-
replace: minPwdLength
minPwdLength: 0
-
replace: minPwdAge
minPwdAge: 0
-
replace: pwdHistoryLength
pwdHistoryLength: 0
-
replace: lockoutThreshold
lockoutThreshold: {LOCKED_AFTER}

"""


def quoted(password: str) -> bytes:
    """A password as C{unicodePwd} takes it (MS-ADTS 3.1.1.3.1.5.1)."""
    return f'"{password}"'.encode("utf-16-le")


def user(
    name: str,
    control: int = NORMAL,
    *,
    password: str | None = "word-of-{}",
    **more: str | bytes | Sequence[str],
) -> Entry:
    """A C{user}; C{more} replaces or adds attributes.  Without a password it costs less."""
    attributes: dict[str, str | bytes | Sequence[str]] = {
        "objectClass": "user",
        "displayName": name.title(),
        "sAMAccountName": name,
        "userPrincipalName": f"{name}@{REALM}",
        "userAccountControl": str(control if password else control | 0x20),
    }
    if password:
        attributes["unicodePwd"] = quoted(password.format(name))
    return Entry(dn_of(name), {**attributes, **more})


def dn_of(name: str) -> str:
    """The DN of an entry of L{user} or L{group}."""
    return f"cn={escaped(name.title())},{PEOPLE}"


def group(name: str, members: Iterable[str]) -> Entry:
    """A group of users, by their names."""
    found = [dn_of(member) for member in members]
    return Entry(dn_of(name), {"objectClass": "group", "sAMAccountName": name, "member": found})


class SambaDC(Editable):
    """
    One domain controller with its own DNS, at an address of loopback.

    Its ports are those of Active Directory, so it needs root, or a host whose
    C{net.ipv4.ip_unprivileged_port_start} is 53.  It needs no other right and no extended
    attributes, and writes into its own directory alone.

    @ivar address: As F{127.1.2.3}.
    @ivar process: Once it was started.
    """

    def __init__(
        self, processes: Processes, certificates: Certificates, entries: Iterable[Entry]
    ) -> None:
        """@param entries: Who is in it, below C{PEOPLE}."""
        self.processes = processes
        self.address = _free_address()
        self.process: Process | None = None
        directory = processes.make_directory("samba")
        pair = certificates.issue(HOST)
        self._file = directory / "smb.conf"
        self._file.write_text(
            _CONFIG.format(
                realm=REALM.upper(),
                address=self.address,
                directory=directory,
                certificate=pair.certificate,
                key=pair.key,
                trust=certificates.trust,
            )
        )
        people = Entry(PEOPLE, {"objectClass": "organizationalUnit"})
        data = directory / "people.ldif"
        data.write_text(_POLICY + "\n".join(each.added for each in (people, *entries)))
        self._provision(data)

    def _provision(self, data: Path) -> None:
        require("samba", PACKAGES)
        command = ["/usr/bin/python3", str(_PROVISION), str(self._file), self.address]
        # Nothing has to survive the machine.
        environment = {**os.environ, "TDB_NO_FSYNC": "1"}
        environment.pop("PYTHONPATH", None)
        status, output = self.processes.run(
            "samba-provision", [*command, _PASSWORD, str(data)], env=environment
        )
        assert status == 0, output

    @property
    def dns(self) -> str:
        """What goes into C{[dns] servers}."""
        return f"{self.address}:53"

    def start(self, *, tls: bool = True) -> Process:
        """Start it, perhaps again, and wait until it listens."""
        command = [require("samba", PACKAGES), "--interactive", "--model=single", "--debug-stdout"]
        command += [f"--option=tls enabled={'yes' if tls else 'no'}"]
        self.process = self.processes.start(
            "samba",
            [*command, f"--configfile={self._file}"],
            env={**os.environ, "TDB_NO_FSYNC": "1"},
        )
        ports = _PORTS if tls else _PORTS[:2]
        wait_until(
            lambda: all(listens(port, self.address) for port in ports), 60, "Samba to listen"
        )
        return self.process

    def modify(self, ldif: str) -> None:
        """See L{Editable.modify}."""
        status, output = self._as(_ADMINISTRATOR, _PASSWORD, "ldapmodify", text=ldif)
        assert status == 0, output

    def lock(self, name: str) -> None:
        """Lock an account by wrong passwords."""
        for _ in range(LOCKED_AFTER):
            status, output = self._as(f"{name}@{REALM}", "wrong", "ldapwhoami")
            assert status == 49, output

    def _as(self, name: str, password: str, tool: str, text: str = "") -> tuple[int, str]:
        """Status and output of one of OpenLDAP's tools."""
        command = [require(tool, "ldap-utils"), "-x", "-ZZ", "-H", f"ldap://{self.address}"]
        environment = {**os.environ, "LDAPTLS_REQCERT": "never"}  # it is connected to by address
        return self.processes.run(
            f"samba-{tool}", [*command, "-D", name, "-w", password], text=text, env=environment
        )


def _free_address() -> str:
    """An address of loopback at which nobody listens at the ports of a domain controller."""
    drawn = random.SystemRandom()
    while True:
        address = f"127.{drawn.randint(1, 254)}.{drawn.randint(0, 255)}.{drawn.randint(1, 254)}"
        try:
            for port in _PORTS:
                with socket.socket() as attempt:
                    attempt.bind((address, port))
        except PermissionError:
            pytest.fail(
                f"a domain controller listens at port {port}: run this as root, or after"
                " sysctl net.ipv4.ip_unprivileged_port_start=53"
            )
        except OSError:
            continue
        return address
