"""
slixmpp's own integration tests, as they are in its source distribution, for any server.

    slixmpp_suite.py SOURCES ADDRESS COMPONENT SECRET MODULE...

They want a host by the name of the domain, with the standard ports: every name is
looked up as ADDRESS here.  The component that they register is COMPONENT with SECRET.
Accounts come from the environment, as slixmpp's own CI has them.
"""

from __future__ import annotations

import os
import socket
import sys
import unittest
from importlib import import_module
from typing import Any


def main() -> bool:
    """Run the modules; whether all tests passed, none of them skipped."""
    sources, address, component, secret, *modules = sys.argv[1:]
    sys.path.append(sources)  # at the end: slixmpp itself is the one that is installed
    sys.modules["aiodns"] = None  # type: ignore[assignment]  # or it asks DNS past the next lines
    look_up = socket.getaddrinfo

    def as_told(host: Any, *rest: Any, **more: Any) -> Any:
        return look_up(address, *rest, **more)

    socket.getaddrinfo = as_told
    os.environ["CI"] = "woodpecker"  # else its component is skipped
    suite = unittest.TestSuite()
    for name in modules:
        module: Any = import_module(f"itests.{name}")
        if name == "test_component":
            module.CI_JID, module.CI_SECRET = component, secret
            module.CI_SERVER = component.partition(".")[2]
        suite.addTests(module.suite)
    result = unittest.TextTestRunner(sys.stdout, verbosity=2).run(suite)
    return result.wasSuccessful() and result.testsRun > 0 and not result.skipped


if __name__ == "__main__":
    sys.exit(not main())
