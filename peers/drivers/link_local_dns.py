"""
A DNS server on a link-local address of loopback, which knows no name at all; and beside
it the command that is given.  It runs in a network namespace of its own.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

ADDRESS = "fe80::53%lo"


def main() -> int:
    """Serve until the command has ended."""
    family, kind, _, _, where = socket.getaddrinfo(ADDRESS, 53, type=socket.SOCK_DGRAM)[0]
    server = socket.socket(family, kind)
    server.bind(where)

    def serve() -> None:
        while True:
            question, peer = server.recvfrom(4096)
            server.sendto(question[:2] + b"\x81\x83" + question[4:], peer)

    threading.Thread(target=serve, daemon=True).start()
    return subprocess.call(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
