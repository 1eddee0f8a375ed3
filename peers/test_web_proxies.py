"""Browsers behind nginx, Caddy and HAProxy, each as docs/operate.md sets it up."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path
from typing import get_args

import pytest
from selenium.webdriver.common.keys import Keys
from websockets.frames import Frame, Opcode

from peers.browser import browsing
from peers.checking import run_check
from peers.checkstage import CALL_ID, HOST, PASSCODE, Stage
from peers.contract import DOMAIN
from peers.faultcases.meeting import OWN_CA, by_name
from peers.processes import Processes
from peers.webproxies import Kind, WebProxy

FROM, LIE = "127.0.0.9", "203.0.113.7"


def port_behind(stage: Stage, kind: Kind) -> int:
    """The listener that awaits what this proxy says of its clients."""
    house = stage.pages
    return house.web_haproxy_port if kind == "haproxy" else house.web_plain_port


def asks(port: int, name: str, lines: str, body: str = "", frame: str = "") -> str:
    """
    A request over TLS from L{FROM}, with a lie about who sends it; the head of the answer.

    @param frame: Sent after it, on what has become a WebSocket.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    head = f"{lines}\r\nHost: {name}:{port}\r\nX-Forwarded-For: {LIE}\r\n"
    head += f"Content-Length: {len(body)}\r\n" if body else ""
    with (
        socket.create_connection(("127.0.0.1", port), 10, source_address=(FROM, 0)) as sock,
        context.wrap_socket(sock, server_hostname=name) as end,
    ):
        end.sendall(f"{head}\r\n{body}".encode())
        answer = end.recv(65536).decode("latin-1")
        if frame:
            end.sendall(Frame(Opcode.TEXT, frame.encode()).serialize(mask=True))
            end.recv(65536)
        return answer


@pytest.mark.parametrize("kind", get_args(Kind))
def test_meeting(kind: Kind, stage: Stage, processes: Processes) -> None:
    """A guest comes in, and the server knows his address, whatever he writes about it."""
    proxy = WebProxy(processes, kind, stage.house.good, port_behind(stage, kind))
    stage.callback(proxy.start().stop)
    arguments = by_name(stage, "https", proxy.port, "--passcode-stdin")
    checked = run_check(processes, arguments, text=PASSCODE)
    assert not checked.failures, checked.report
    assert {one.fault for one in checked.warnings} == OWN_CA
    log = stage.house.linked[0].process
    wish = json.dumps({"callId": CALL_ID, "passcode": "0000", "name": "x"})
    kind_line = "Content-Type: application/json"
    refused = asks(proxy.port, HOST, f"POST /join HTTP/1.1\r\n{kind_line}", wish)
    assert refused.startswith("HTTP/1.1 403"), refused
    log.wait_for(f'POST for "/join" (from {FROM}, by -): 403', 10)
    upgrade = "GET /xmpp-websocket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    upgrade += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    upgrade += "Sec-WebSocket-Protocol: xmpp"
    opened = asks(proxy.port, HOST, upgrade, frame="<nonsense xmlns='x'/>")
    assert opened.startswith("HTTP/1.1 101"), opened
    log.wait_for(f"client {FROM} port", 10)
    assert LIE not in log.output


def test_address_not_read(stage: Stage, processes: Processes) -> None:
    """A server that was not told of its proxy says so, and goes on."""
    proxy = WebProxy(processes, "nginx", stage.house.good, stage.idle_web_port)
    stage.callback(proxy.start().stop)
    for _ in range(2):
        asks(proxy.port, DOMAIN, "GET /.well-known/host-meta HTTP/1.1")
    log = stage.house.server.process
    said = "listen.web_plain: 127.0.0.1 names its clients in X-Forwarded-For, which is not read"
    log.wait_for(said, 10)
    log.wait_for("set listen.forwarded_for", 10)
    assert log.output.count(said) == 1


@pytest.mark.parametrize("kind", get_args(Kind))
def test_browser(kind: Kind, stage: Stage, processes: Processes, tmp_path: Path) -> None:
    """Chromium, which speaks HTTP/2 to the proxy, comes into the room and is heard there."""
    proxy = WebProxy(processes, kind, stage.house.good, port_behind(stage, kind))
    stage.callback(proxy.start().stop)
    with browsing(tmp_path) as browser:
        # A name that browsers look for on their own host, and the server takes for one of DNS.
        browser.driver.get(f"https://meet.localhost:{proxy.port}/meeting/{CALL_ID}")
        browser.find("form")
        protocol = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert browser.run(protocol) == "h2"
        browser.fill("#passcode", PASSCODE)
        browser.fill("#name", "Guest")
        browser.press(Keys.ENTER)
        browser.find(".room")
        browser.fill("#text", "hello")
        browser.press(Keys.ENTER)
        browser.wait_for(".said", "hello")
        assert browser.complaints() == []
