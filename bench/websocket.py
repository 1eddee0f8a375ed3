"""
C{python -m bench.websocket}: what a WebSocket costs beside TCP.

The CPU time of the server for a message of 150 bytes from one client to another, when each
comes alone and when 20 come at once, and the memory of a session that is silent.  Without
TLS, or with C{--tls} from the first byte; server on core 0, clients on core 1; the ways in
turn, the median of the rounds.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import socket
import ssl
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.servers import GENERATOR_CORE, SECRET, SERVER_CORE, Pinned
from cms.websocket.incoming import FRAMING
from cms.xmlstream import ns
from peers.certs import Certificates
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.network import free_port
from tests.websocketpeer import masked, request

SIZE = 150  # bytes of a message
AT_ONCE = 20
SECONDS = 30.0  # for any answer
_TICKS = os.sysconf("SC_CLK_TCK")


class Client:
    """
    One that is logged in, over TCP or a WebSocket.

    @ivar jid: Its address.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None, *, web: bool) -> None:
        self.web = web
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="127.0.0.1")
        self._heard = b""
        if web:
            self._socket.sendall(request(Host=f"127.0.0.1:{port}"))
            self.until(b"\r\n\r\n")
        self._open()
        plain = base64.b64encode(b"\0alice\0pass").decode()
        self.say(f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>{plain}</auth>")
        self.until(b"<success")
        self._open()
        self.say(f"<iq type='set' id='b'{self.declared}><bind xmlns='{ns.BIND}'/></iq>")
        answer = self.until(b"</iq>").decode("latin-1")
        found = re.search("<jid>(.*)</jid>", answer)
        assert found is not None, answer
        self.jid = found[1]

    @property
    def declared(self) -> str:
        """What a stanza declares."""
        return f" xmlns='{ns.CLIENT}'" if self.web else ""

    def _open(self) -> None:
        if self.web:
            self.say(f"<open xmlns='{FRAMING}' to='{DOMAIN}' version='1.0'/>")
        else:
            declared = f"xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'"
            self.say(f"<stream:stream {declared} to='{DOMAIN}' version='1.0'>")
        self.until(b"</stream:features>")

    def encoded(self, xml: str) -> bytes:
        """As it is sent."""
        return masked(xml.encode()) if self.web else xml.encode()

    def say(self, xml: str) -> None:
        """Send an element."""
        self.send(self.encoded(xml))

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def until(self, words: bytes, times: int = 1) -> bytes:
        """Read until these words have come so often."""
        heard = self._heard
        while heard.count(words) < times:
            data = self._socket.recv(65_536)
            assert data, heard
            heard += data
        self._heard = b""
        return heard


class Stage:
    """A server with a Callbridge and a user."""

    def __init__(self, directory: Path, *, tls: bool) -> None:
        (directory / "certificates").mkdir()
        certificates = Certificates(directory / "certificates")
        self.processes = Pinned(directory, SERVER_CORE)
        self.server = XmppServer(self.processes, certificates, {"cb1": SECRET})
        pair = certificates.issue(DOMAIN, self.server.hostname, "127.0.0.1")
        files = {"certificate": str(pair.certificate), "key": str(pair.key)}
        self.server.settings["tls"].update(files)
        self.server.settings["clients"] = {"most_resources": 10_000}
        web = self.server.listen_web()[0 if tls else 1]
        port = free_port()
        kind = "client_direct" if tls else "client_plain"
        self.server.settings["listen"][kind] = [f"tcp:{port}:interface=127.0.0.1"]
        self.ports = {"TCP": port, "WebSocket": web}
        self._tls = ssl.create_default_context(cafile=str(certificates.trust)) if tls else None
        here = f"127.0.0.1:{self.server.component_port}"
        self._callbridge = Callbridge(self.processes, certificates, SECRET, server_address=here)
        self._callbridge.add_user(f"alice@{DOMAIN}", "pass")
        self.server.start()
        self._callbridge.start()
        self.server.process.wait_for("decides log-ins", 10.0)

    def client(self, way: str) -> Client:
        """One more."""
        return Client(self.ports[way], self._tls, web=way == "WebSocket")

    def cpu(self) -> float:
        """Seconds that the server has worked."""
        fields = Path(f"/proc/{self.server.process.pid}/stat").read_text().rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / _TICKS

    def memory(self) -> int:
        """Bytes that it has."""
        time.sleep(1.5)  # what is freed late
        rollup = Path(f"/proc/{self.server.process.pid}/smaps_rollup").read_text()
        found = re.search(r"^Private_Dirty:\s+(\d+) kB", rollup, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


def _message_cost(stage: Stage, way: str, at_once: int, seconds: float) -> float:
    """Microseconds of the server's CPU for each message."""
    alice, bob = stage.client(way), stage.client(way)
    start = f"<message{alice.declared} to='{bob.jid}' type='chat' id='m'><body>"
    text = f"{start}{'x' * (SIZE - len(start) - 17)}</body></message>"
    data = alice.encoded(text) * at_once
    count = 0
    began, until = stage.cpu(), time.monotonic() + seconds
    while time.monotonic() < until:
        alice.send(data)
        bob.until(b"</message>", at_once)
        count += at_once
    return (stage.cpu() - began) / count * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.websocket", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {GENERATOR_CORE})
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(Path(directory), tls=options.tls)
        try:
            for at_once in (1, AT_ONCE):
                costs: dict[str, list[float]] = {way: [] for way in stage.ports}
                for _ in range(options.rounds):
                    for way, seen in costs.items():
                        seen.append(_message_cost(stage, way, at_once, options.seconds))
                tcp, web = (median(seen) for seen in costs.values())
                print(
                    f"{at_once:3} at once: {tcp:.1f} us by TCP, {web:.1f} by WebSocket"
                    f" ({web / tcp:.2f})",
                    flush=True,
                )
            kept = []
            for way in stage.ports:
                kept += [stage.client(way) for _ in range(50)]  # what the first ones cost once
                before = stage.memory()
                kept += [stage.client(way) for _ in range(options.sessions)]
                each = (stage.memory() - before) / options.sessions
                print(f"an idle session by {way}: {each / 1024:.1f} KiB", flush=True)
        finally:
            stage.processes.stop_all()


if __name__ == "__main__":
    main()
