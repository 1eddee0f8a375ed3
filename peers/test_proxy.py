"""Behind HAProxy: clients and components have their own addresses, by the PROXY protocol."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from peers.certs import Certificates
from peers.clients import slixmpp_client
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.haproxy import HAProxy
from peers.network import free_port
from peers.processes import Processes

ALICE = f"alice@{DOMAIN}"
FROM = "127.0.0.9"  # where the tests come from; HAProxy itself comes from 127.0.0.1


def say(port: int, text: str, *, tls: bool = False) -> int:
    """Say something from L{FROM}, and hear the end of it; the port it came from."""
    with socket.create_connection(("127.0.0.1", port), 10, source_address=(FROM, 0)) as sock:
        number: int = sock.getsockname()[1]
        end = sock
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            end = context.wrap_socket(sock)
        end.sendall(text.encode())
        try:
            while end.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return number


def proxied(server: XmppServer, kind: str) -> int:
    """Let a listener expect a proxy; its port."""
    port = free_port()
    server.settings["listen"][kind] = [f"haproxy:tcp:{port}:interface=127.0.0.1"]
    return port


def test_addresses_and_log_ins(processes: Processes, certificates: Certificates) -> None:
    """
    Clients with STARTTLS and with TLS that the proxy ends, and components, come
    through, by both versions; the server's log has their own addresses.
    """
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    kinds = ("component", "component_plain", "client", "client_direct", "client_plain")
    ports = {kind: proxied(server, kind) for kind in kinds}
    proxy = HAProxy(processes)
    client = proxy.before(ports["client"], "send-proxy-v2 check check-send-proxy inter 200ms")
    pair = certificates.issue(DOMAIN)
    ended = proxy.before(ports["client_plain"], "send-proxy", bind=f"ssl crt {pair.both}")
    direct = proxy.before(ports["client_direct"], "send-proxy")
    component = proxy.before(ports["component"], "send-proxy-v2")
    plain = proxy.before(ports["component_plain"], "send-proxy")
    server.start()
    proxy.start()
    address = f"localhost:{component}"
    callbridge = Callbridge(processes, certificates, "s3cret", server_address=address)
    callbridge.add_user(ALICE, "pencil")
    callbridge.start()
    for port, more in ((client, {}), (direct, {"direct_tls": True})):
        driver = slixmpp_client(processes, ALICE, "pencil", port, certificates.trust, **more)
        driver.connected()
    for port, tls in ((client, False), (direct, True), (ended, True), (plain, False)):
        number = say(port, "<nonsense/>", tls=tls)
        server.process.wait_for(f"{FROM} port {number}", 10)
    assert "PROXY" not in server.process.output  # nor is the proxy's own look a fault


def test_wrong_set_up(processes: Processes, certificates: Certificates) -> None:
    """Where only one side speaks the protocol, the log says so and how to mend it."""
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    listen = server.settings["listen"]
    for kind in ("api", "client_direct"):
        listen[kind] = [f"tcp:{free_port()}:interface=127.0.0.1"]
    expecting = proxied(server, "client_plain")
    kinds = ("component", "component_plain", "client", "client_direct", "api")
    proxy = HAProxy(processes)
    without = proxy.before(expecting)
    mute = {}
    for kind in kinds:
        port = int(listen[kind][0].split(":")[1])
        mute[kind] = [proxy.before(port, option) for option in ("send-proxy", "send-proxy-v2")]
    server.start()
    proxy.start()
    say(without, "<stream:stream xmlns='jabber:client'>")
    server.process.wait_for("listen.client_plain: 127.0.0.1 port", 10)
    server.process.wait_for("Let the proxy send it (HAProxy: send-proxy-v2", 10)
    times = 0
    for kind in kinds:
        for port in mute[kind]:
            times += 1
            say(port, "hello")
            text = "began with a header of the PROXY protocol, which is not awaited there."
            server.process.wait_for(f"{text} Cure: Write haproxy:", 10, times=times)


def test_unix_socket(processes: Processes, certificates: Certificates, tmp_path: Path) -> None:
    """A proxy that comes through a UNIX socket may say whom it speaks for."""
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    path = tmp_path / "c.sock"
    server.settings["listen"]["client_plain"] = [f"haproxy:unix:{path}"]
    server.start()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(b"PROXY TCP4 203.0.113.9 192.0.2.1 5 6\r\n<nonsense/>")
        while sock.recv(65536):
            pass
    server.process.wait_for("client 203.0.113.9 port 5: stream closed", 10)
