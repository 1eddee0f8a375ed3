"""nginx, Caddy and HAProxy before the pages, set up as docs/operate.md says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from peers.certs import Pair
from peers.contract import DOMAIN, ROOT
from peers.network import free_port, listens, wait_until
from peers.processes import Process, Processes
from peers.tools import SEARCH, require

Kind = Literal["nginx", "caddy", "haproxy"]

# What a distribution's own files have around what the page says.
_NGINX = """\
pid {folder}/nginx.pid;
error_log stderr;
daemon off;
worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{text}
}}
"""
_CADDY = """\
{{
    admin off
    auto_https disable_redirects
    storage file_system {folder}
}}
{text}
"""
_HAPROXY = """\
global
    log stdout format raw local0
{text}
"""
_AROUND = {"nginx": _NGINX, "caddy": _CADDY, "haproxy": _HAPROXY}
_START = {
    "nginx": ["-c"],
    "caddy": ["run", "--adapter", "caddyfile", "--config"],
    "haproxy": ["-db", "-f"],
}


def text_of(kind: Kind) -> str:
    """What docs/operate.md says of it."""
    text = (ROOT / "docs" / "operate.md").read_text()
    found = re.search(rf"<!-- tested: {kind} -->\n```(?:\w*)\n(.*?)```", text, re.DOTALL)
    assert found is not None, kind
    return found[1]


class WebProxy:
    """
    One proxy, on a port of its own.

    @param pair: The certificate that it shows.
    @param behind: The port of C{listen.web_plain}.
    @ivar port: Where browsers connect to.
    """

    def __init__(self, processes: Processes, kind: Kind, pair: Pair, behind: int) -> None:
        self.kind = kind
        self.port = free_port()
        self._processes = processes
        site = f"{DOMAIN} {{\n"
        here = f"https://:{self.port} {{\n    bind 127.0.0.1\n"
        # This host has another certificate, and no port 443 for tests.
        self._changes = {
            "nginx": {
                "    listen [::]:443 ssl http2;\n": "",
                "listen 443": f"listen 127.0.0.1:{self.port}",
                "/etc/letsencrypt/live/meet.example.com/fullchain.pem": str(pair.certificate),
                "/etc/letsencrypt/live/meet.example.com/privkey.pem": str(pair.key),
            },
            "caddy": {site: f"{here}    tls {pair.certificate} {pair.key}\n"},
            "haproxy": {
                "bind :443": f"bind 127.0.0.1:{self.port}",
                "/etc/haproxy/meet.pem": str(pair.both),
            },
        }[kind] | {"127.0.0.1:5280": f"127.0.0.1:{behind}"}

    def start(self, mistakes: Mapping[str, str] | None = None) -> Process:
        """
        Start it, and wait until it listens.

        @param mistakes: What somebody wrote in place of what.
        """
        folder = self._processes.make_directory(self.kind)
        text = text_of(self.kind)
        for changes in (mistakes or {}, self._changes):
            for written, instead in changes.items():
                assert written in text, written
                text = text.replace(written, instead)
        file = folder / "proxy.conf"
        file.write_text(_AROUND[self.kind].format(folder=folder, text=text))
        command = [require(self.kind, self.kind), *_START[self.kind], str(file)]
        env = {"HOME": str(folder), "PATH": SEARCH}
        process = self._processes.start(self.kind, command, cwd=folder, env=env)
        wait_until(lambda: listens(self.port), 15, f"{self.kind} to listen")
        return process
