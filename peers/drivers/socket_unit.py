"""
Starts a program as a systemd socket unit does: with its listening sockets from
descriptor 3 on.

    python -m peers.drivers.socket_unit NAME=HOST:PORT NAME=/PATH ... -- PROGRAM ...
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys

_FIRST = 3
_OUT_OF_THE_WAY = 100


def listen(where: str) -> int:
    """A listening socket's descriptor."""
    if where.startswith("/"):
        one = socket.socket(socket.AF_UNIX)
        one.bind(where)
    else:
        host, _, port = where.rpartition(":")
        one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((host, int(port)))
    one.listen()
    return fcntl.fcntl(one.detach(), fcntl.F_DUPFD, _OUT_OF_THE_WAY)


def main() -> None:
    """Open, hand over, become the program."""
    split = sys.argv.index("--")
    units = [unit.partition("=") for unit in sys.argv[1:split]]
    for number, descriptor in enumerate([listen(where) for _, _, where in units]):
        os.dup2(descriptor, _FIRST + number, inheritable=True)
        os.close(descriptor)
    os.environ.update(
        LISTEN_PID=str(os.getpid()),
        LISTEN_FDS=str(len(units)),
        LISTEN_FDNAMES=":".join(name for name, _, _ in units),
    )
    program = sys.argv[split + 1 :]
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
