"""BIND (Debian's bind9) as an authoritative server on loopback."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping

from peers.network import free_port, has_ipv6
from peers.processes import Process, Processes
from peers.tools import require

_OPTIONS = """\
options {{
    directory "{directory}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {v6};
    pid-file none;
    lock-file none;
    session-keyfile none;
    recursion no;
    dnssec-validation no;
    empty-zones-enable no;
    notify no;
    check-names primary ignore;
    allow-query {{ any; }};
}};
controls {{ }};
"""

_ZONE = 'zone "{name}" {{ type primary; file "{name}.zone"; }};\n'

_HEAD = """\
$TTL 1
@ IN SOA ns.invalid. hostmaster.invalid. {serial} 60 60 60 1
@ IN NS ns.invalid.
"""


class Bind:
    """
    One C{named}.

    A name outside its zones is answered REFUSED; a zone without records is
    broken on purpose and answered SERVFAIL; a name that its zone does not hold
    is NXDOMAIN.  Stop it with C{process.signal(SIGSTOP)} to have a server that
    is silent.

    @ivar port: On C{127.0.0.1}, and on C{::1} where there is one.
    """

    def __init__(self, processes: Processes, zones: Mapping[str, Iterable[str]]) -> None:
        """@param zones: For each zone its records, lines of a zone file without SOA and NS."""
        self._processes = processes
        self._directory = processes.make_directory("named")
        self._serial = 0
        self._reloads = 0
        self.port = free_port()
        self._zones = {name: list(records) for name, records in zones.items()}
        self.process: Process | None = None

    @property
    def address(self) -> str:
        """What goes into C{[dns] servers}."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Process:
        """Start it, and wait until it answers."""
        named = require("named", "bind9")
        self._write()
        config = self._directory / "named.conf"
        # -g: in the foreground, the log on standard error; -n: one thread.
        command = [named, "-g", "-n", "1", "-c", str(config)]
        self.process = self._processes.start("named", command, cwd=self._directory)
        self.process.wait_for(" running\n", 20.0)
        return self.process

    def change(self, zone: str, records: Iterable[str]) -> None:
        """Give a zone new records, and wait until they are served."""
        assert self.process is not None
        self._zones[zone] = list(records)
        self._write()
        self._reloads += 1
        self.process.signal(signal.SIGHUP)
        self.process.wait_for("all zones loaded", 20.0, times=self._reloads + 1)

    def _write(self) -> None:
        self._serial += 1
        v6 = f"port {self.port} {{ ::1; }}" if has_ipv6() else "{ none; }"
        config = _OPTIONS.format(directory=self._directory, port=self.port, v6=v6)
        for name, records in self._zones.items():
            config += _ZONE.format(name=name)
            text = _HEAD.format(serial=self._serial) + "\n".join(records) + "\n"
            (self._directory / f"{name}.zone").write_text(text if records else "broken\n")
        (self._directory / "named.conf").write_text(config)
