"""HAProxy, before listeners of ours."""

from __future__ import annotations

from peers.network import free_port, listens, wait_until
from peers.processes import Processes
from peers.tools import require

_HEAD = """\
global
    log stdout format raw local0
defaults
    mode tcp
    log global
    timeout connect 5s
    timeout client 60s
    timeout server 60s
"""


class HAProxy:
    """
    One proxy.

    @ivar process: Once it was started.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._text = _HEAD

    def before(self, port: int, options: str = "", *, bind: str = "", more: str = "") -> int:
        """
        A port whose connections go to C{port}.

        @param options: Of the C{server} line, such as C{send-proxy-v2}.
        @param bind: Of the C{bind} line, such as C{ssl crt FILE}.
        @param more: A line for itself, such as C{mode http}.
        """
        own = free_port()
        self._text += f"listen on{own}\n    bind 127.0.0.1:{own} {bind}\n    {more}\n"
        self._text += f"    server one 127.0.0.1:{port} {options}\n"
        self._first = own
        return own

    def start(self) -> None:
        """Start it, and wait until it listens."""
        directory = self._processes.make_directory("haproxy")
        file = directory / "haproxy.cfg"
        file.write_text(self._text)
        command = [require("haproxy", "haproxy"), "-db", "-f", str(file)]
        self.process = self._processes.start("haproxy", command, cwd=directory)
        wait_until(lambda: listens(self._first), 10, "HAProxy to listen")
