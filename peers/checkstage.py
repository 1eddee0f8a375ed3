"""
What the tests of C{cms check} have at hand: shared peers, and a stage for each case.

A L{House} lasts for a whole module, its peers are started when they are first
wanted; a L{Stage} lasts for one run of C{cms check}.
"""

from __future__ import annotations

import contextlib
import copy
import random
import signal
import ssl
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve

from cms.callbridge.directories.store import UserStore
from peers import stubs
from peers.bind import Bind
from peers.certs import Certificates, Pair
from peers.checking import STAGE_SECONDS
from peers.component import ComponentServer
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer, toml_text
from peers.dnsproxy import Treatment, dns_path
from peers.ejabberd import Ejabberd
from peers.network import free_port
from peers.pki import Authority, pem
from peers.processes import Process, Processes
from peers.prosody import Prosody
from peers.slapd import Slapd

_Foreign = TypeVar("_Foreign", Prosody, Ejabberd)

HOST, OTHER_HOST = f"xmpp1.{DOMAIN}", f"xmpp2.{DOMAIN}"
COMPONENT = f"cb1.{DOMAIN}"
SECRET = "s3cret-0f-cb1"
OFFICE = "office.example.com"  # another domain, that the certificates cover as well
BROKEN = "broken.example.com"  # a zone that BIND cannot load: SERVFAIL
ALICE, PASSWORD = f"alice@{DOMAIN}", "correct-horse"
CALL_ID, PASSCODE, CLOSED = "123456789", "4711", "987654321"  # of two spaces, one of them closed


def records(
    port: int,
    *others: str,
    component: Iterable[str] | None = None,
    client: Iterable[str] | None = None,
    hosts: Iterable[str] = ("xmpp1 A 127.0.0.1", "xmpp2 A 127.0.0.1"),
    more: Iterable[str] = (),
) -> list[str]:
    """A zone as it should be: two XMPP servers, each with both services."""
    if component is None:
        component = [f"SRV {n}0 10 {port} xmpp{n}" for n in (1, 2)]
    if client is None:
        client = [f"SRV {n}0 10 5222 xmpp{n}" for n in (1, 2)]
    return [
        *(f"_xmpp-component._tcp {record}" for record in component),
        *(f"_xmpp-client._tcp {record}" for record in client),
        *hosts,
        *others,
        *more,
    ]


class House:
    """
    The peers that a module's cases share.

    @ivar root: A CA that C{cms check} trusts, beside the one of C{certificates}.
    @ivar directories: The LDAP directories that cases have started, by name.
    """

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes = processes
        self.certificates = certificates
        self.directory = processes.make_directory("check")
        self.directories: dict[str, Slapd] = {}
        self.root = Authority("Root of the tests")
        self.intermediate = Authority("Intermediate of the tests", self.root)
        self.trust = self._file("trust.pem", certificates.trust.read_bytes())
        with self.trust.open("ab") as bundle:
            bundle.write(pem(self.root.certificate))
        self.secret = self._file("cb1.secret", SECRET.encode())
        self.good = certificates.issue(DOMAIN, HOST, OTHER_HOST, "localhost", OFFICE)

    @cached_property
    def strict(self) -> XmppServer:
        """Our XMPP server, which wants a certificate of every Callbridge."""
        server = self.make_server("strict")
        server.settings["tls"]["callbridge_certificates"] = "required"
        server.start()
        return server

    def _file(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    @cached_property
    def dns(self) -> Bind:
        """BIND."""
        dns = Bind(self.processes, {DOMAIN: records(5223), BROKEN: []})
        dns.start()
        return dns

    @cached_property
    def server(self) -> XmppServer:
        """
        Our XMPP server; nobody is registered with it.  C{direct_port} is for clients, too, and
        C{idle_web_port} for browsers.
        """
        server = self.make_server("idle")
        _, self.idle_web_port = server.listen_web()
        self.direct_port = free_port()
        server.settings["listen"]["client_direct"] = [f"tcp:{self.direct_port}:interface=127.0.0.1"]
        server.start()
        return server

    def make_server(self, name: str) -> XmppServer:
        """Our XMPP server, not started."""
        secrets = {"cb1": SECRET, "cb3": "s3cret-0f-cb3"}
        server = XmppServer(self.processes, self.certificates, secrets, name)
        server.hostname = HOST
        server.settings["hostname"] = HOST
        server.settings["tls"].update(
            certificate=str(self.good.certificate), key=str(self.good.key), trust=str(self.trust)
        )
        return server

    @cached_property
    def linked(self) -> tuple[XmppServer, Callbridge]:
        """
        Our XMPP server with our Callbridge on it, alice among its users, and two spaces.

        Its pages are at C{web_port} with TLS, at C{web_plain_port} for a proxy that writes
        X-Forwarded-For, and at C{web_haproxy_port} for one that speaks the PROXY protocol.
        """
        server = self.make_server("linked")
        self.web_port, self.web_plain_port = server.listen_web()
        self.web_haproxy_port = free_port()
        listen = server.settings["listen"]
        listen["web_plain"].append(f"haproxy:tcp:{self.web_haproxy_port}:interface=127.0.0.1")
        listen["forwarded_for"] = True
        server.start()
        callbridge = Callbridge(
            self.processes,
            self.certificates,
            SECRET,
            server_address=f"localhost:{server.component_port}",
        )
        callbridge.settings["tls"]["trust"] = str(self.trust)
        callbridge.add_user(ALICE, PASSWORD)
        callbridge.space("add", "Sales", "--call-id", CALL_ID, "--passcode", PASSCODE)
        callbridge.space("add", "Board", "--call-id", CLOSED, "--members-only")
        callbridge.start()
        server.process.wait_for("decides log-ins", 10.0)
        return server, callbridge

    @cached_property
    def closed(self) -> int:
        """The port of a server whose door is closed."""
        server = self.make_server("closed")
        _, port = server.listen_web()
        server.settings["web"] = {"enabled": False}
        server.start()
        return port

    @cached_property
    def disabled_user(self) -> str:
        """A user of the linked Callbridge who may not log in."""
        _, callbridge = self.linked
        jid = f"mallory@{DOMAIN}"
        callbridge.add_user(jid, PASSWORD)
        UserStore(callbridge.directory / "state").set_disabled("mallory", disabled=True)
        return jid

    @cached_property
    def prosody(self) -> Prosody:
        """Prosody, whose component port has no TLS."""
        return self._foreign(Prosody)

    @cached_property
    def ejabberd(self) -> Ejabberd:
        """ejabberd."""
        return self._foreign(Ejabberd)

    def _foreign(self, kind: Callable[..., _Foreign]) -> _Foreign:
        components, users = {COMPONENT: SECRET}, {"carol": "password"}
        server = kind(self.processes, self.good, DOMAIN, components, users)
        server.start()
        return server


class Stage(contextlib.ExitStack):
    """
    Where one case is set up; whatever it needs is gone afterwards.

    Its methods give the arguments of C{cms check}.
    """

    def __init__(self, house: House) -> None:
        super().__init__()
        self.house = house
        self.directory = house.processes.make_directory("check")

    @property
    def pages(self) -> House:
        """The house, with the ports of the linked server's pages."""
        _ = self.house.linked
        return self.house

    @property
    def idle_web_port(self) -> int:
        """Where browsers reach the server on which nobody is registered."""
        _ = self.house.server
        return self.house.idle_web_port

    # DNS

    def zone(self, *lines: str) -> None:
        """What the DNS server holds for the domain."""
        self.house.dns.change(DOMAIN, lines)

    def dns_path(self, treat: Treatment) -> str:
        """A bad path to the DNS server: what C{--dns} gets."""
        return self.enter_context(dns_path(self.house.dns.port, treat))

    # servers

    def serve(self, trouble: stubs.Trouble, host: str = "127.0.0.1", port: int = 0) -> int:
        """A stub on a port of loopback."""
        return self.enter_context(stubs.server(trouble, host, port))

    def component(
        self,
        pair: Pair | None = None,
        adjust: Callable[[ssl.SSLContext], None] | None = None,
        **settings: Any,
    ) -> int:
        """A component server with TLS and this certificate, right unless C{settings} say not."""
        server = ComponentServer({COMPONENT: SECRET}, **settings)
        return self.serve(stubs.tls(pair or self.house.good, server, adjust=adjust))

    def own_address(self) -> str:
        """An address of loopback that nobody else uses, so that every port of it is free."""
        return ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])

    # arguments

    def configured(self, address: str, pair: Pair | None = None, **settings: Any) -> list[str]:
        """
        A check with a configuration file.

        @param pair: The Callbridge's certificate.
        """
        tls = {"trust": str(self.house.trust)}
        if pair is not None:
            tls |= {"certificate": str(pair.certificate), "key": str(pair.key)}
        text = toml_text(
            {
                "unique_name": "cb1",
                "domain": DOMAIN,
                "server_address": address,
                "shared_secret": SECRET,
                "tls": tls,
                "dns": {"servers": [self.house.dns.address]},
                "link": {"stage": STAGE_SECONDS},
                **settings,
            }
        )
        return ["--config", str(self.file("callbridge.toml", text.encode()))]

    def asks(
        self,
        address: str = "",
        *,
        domain: str | None = DOMAIN,
        dns: str | None = None,
        registers: bool = True,
        **more: object,
    ) -> list[str]:
        """
        The arguments of a check as a Callbridge.

        @param address: The server address; empty means SRV.
        @param dns: The DNS server; ours unless given.
        @param registers: Whether with ID and secret.
        @param more: Further options, such as C{secret_file}; C{None} leaves one out.
        """
        options: dict[str, object] = {
            "domain": domain,
            "server_address": address or None,
            "dns": dns or self.house.dns.address,
            "trust": self.house.trust,
            "unique_name": "cb1" if registers else None,
            "secret_file": self.house.secret if registers else None,
            **more,
        }
        return [
            text
            for key, value in options.items()
            if value is not None
            for text in (f"--{key.replace('_', '-')}", str(value))
        ]

    def against(self, port: int, host: str = HOST, **more: Any) -> list[str]:
        """A check of one configured address, in a domain whose DNS is as it should be."""
        self.zone(*records(port))
        return self.asks(f"{host}:{port}", **more)

    def found(self, port: int, **zone: Any) -> list[str]:
        """A check by SRV."""
        self.zone(*records(port, **zone))
        return self.asks()

    def logs_in(self, port: int, user: str = ALICE) -> list[str]:
        """A log-in at the client port that DNS names."""
        self.zone(*records(5223, client=[f"SRV {n}0 10 {port} xmpp{n}" for n in (1, 2)]))
        options = self.asks(domain=None, registers=False)
        return ["--login", user, "--password-stdin", *options]

    def file(self, name: str, content: bytes) -> Path:
        """A file for this case."""
        path = self.directory / name
        path.write_bytes(content)
        return path

    def changed_server(self, **tls: str) -> XmppServer:
        """
        The server with a Callbridge on it, whose configuration somebody has changed since.

        @param tls: What changed in its C{[tls]}.
        """
        running, _ = self.house.linked
        changed = copy.copy(running)
        changed.settings = copy.deepcopy(running.settings)
        changed.settings["tls"].update(tls)
        changed.settings["state_dir"] = str(running.directory / "state")
        changed.file = self.directory / "xmpp.toml"
        return changed

    def mismatched(self) -> Pair:
        """A certificate with the key of another."""
        other = self.house.root.issue([DOMAIN]).write(self.directory)
        return evolve(self.house.good, key=other.key)

    def frozen_process(self, process: Process) -> None:
        """It stops without a word, until the case is over."""
        process.signal(signal.SIGSTOP)
        self.callback(process.signal, signal.SIGCONT)
