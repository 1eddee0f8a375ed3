"""
Log-ins through LDAP: the same servers, which ask one slapd for each password.

The slapd stands on the generator's core, so that a server's CPU time is its own.  Each server
searches by the name of the user and binds as the entry that it found, with TLS, and none
remembers a password from one log-in to the next.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench.cases import LDAP_CASES
from bench.harness import Bench
from bench.servers import PASSWORD, USERS, FastEjabberd, FastProsody, Ours, Server
from peers.certs import Certificates
from peers.processes import Processes
from peers.slapd import BASE, PEOPLE, READER, READER_PASSWORD, Slapd, crowd, person

OTHERS = 10_000
"""Entries of people who do not log in."""


def directory(processes: Processes, certificates: Certificates) -> Slapd:
    """The slapd, with everybody."""
    users = [person(f"u{number}", PASSWORD) for number in range(USERS)]
    return Slapd(processes, certificates, [*users, *crowd(OTHERS)])


class OursByLdap(Ours):
    """The Callbridge asks the directory; C{remember_passwords} is off."""

    def __init__(self, processes: Processes, certificates: Certificates, slapd: Slapd) -> None:
        super().__init__(processes, certificates)
        settings = self.callbridge.settings
        secret = self.callbridge.directory / "bind-password"
        secret.write_text(READER_PASSWORD)
        settings["remember_passwords"] = 0
        settings["directory"] = [
            {
                "kind": "ldap",
                "servers": [slapd.tls_address],
                "trust": str(certificates.trust),
                "bind_name": READER,
                "bind_password_file": str(secret),
                "base": PEOPLE,
                "jidMapping": "$uid$@meet.example.com",
            }
        ]


class ProsodyByLdap(FastProsody):
    """
    C{mod_auth_ldap} of prosody-modules.  It knows TLS by STARTTLS alone, keeps one connection
    for its searches, and makes a new one for each bind.
    """

    def __init__(self, processes: Processes, certificates: Certificates, slapd: Slapd) -> None:
        super().__init__(processes, certificates)
        self.peer.replace(
            'authentication = "internal_hashed"',
            f'authentication = "ldap"\nldap_server = "127.0.0.1:{slapd.port}"\n'
            f'ldap_rootdn = "{READER}"\nldap_password = "{READER_PASSWORD}"\n'
            f'ldap_base = "{BASE}"\nldap_tls = true',
        )
        self.peer.environment["LDAPTLS_CACERT"] = str(certificates.trust)


class EjabberdByLdap(FastEjabberd):
    """C{auth_method: ldap}, whose cache is off, over C{ldaps}."""

    def __init__(self, processes: Processes, certificates: Certificates, slapd: Slapd) -> None:
        super().__init__(processes, certificates)
        self.peer.configure(
            auth_method=["ldap"],
            auth_use_cache=False,
            ldap_servers=["localhost"],
            ldap_port=slapd.tls_port,
            ldap_encrypt="tls",
            ldap_tls_verify="hard",
            ldap_tls_cacertfile=str(certificates.trust),
            ldap_rootdn=READER,
            ldap_password=READER_PASSWORD,
            ldap_base=BASE,
            ldap_uids=["uid"],
        )


KINDS = {kind.name: kind for kind in (OursByLdap, ProsodyByLdap, EjabberdByLdap)}


def measure_ldap(bench: Bench) -> None:
    """Log-ins by PLAIN, whose passwords the directory checks, each server in its turn."""
    names = [name for name in bench.options.servers if name in KINDS]
    with ExitStack() as stack:
        stack.callback(bench.generators.stop_all)
        slapd = directory(bench.generators, bench.certificates)
        slapd.start("0")
        servers: list[Server] = []
        for name in names:
            processes = bench.processes(f"{name}-ldap")
            stack.callback(processes.stop_all)
            server: Server = KINDS[name](processes, bench.certificates, slapd)
            server.start()
            servers.append(server)
        bench.run_rounds(LDAP_CASES, [], servers)
