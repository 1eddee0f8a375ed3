"""
What a running daemon says of itself, over the socket in its state directory.

Only the owner of that directory, or root, can ask.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent, ResponseFailed, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from cms.admin.service import SOCKET, socket_path

PATIENCE = 3.0  # seconds for an answer
STATUS = "/api/v1/system/status"
FLOW = "/api/v1/system/signalflow"


class NotRunning(Exception):
    """No daemon uses this state directory."""


class Unreachable(Exception):
    """Whether a daemon runs is not known, or it does not answer; the text says why."""


@implementer(IAgentEndpointFactory)
class _Socket:
    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Always the socket."""
        return UNIXClientEndpoint(self._reactor, self._path, timeout=int(PATIENCE))


async def ask_daemon(reactor: Any, state_dir: Path, path: str) -> dict[str, Any]:
    """
    GET something from the daemon of a state directory.

    @raise NotRunning: there is none.
    @raise Unreachable: it cannot be asked, or does not answer.
    """
    try:
        if not (state_dir / SOCKET).exists():
            raise NotRunning
        with socket_path(state_dir) as short:
            agent = Agent.usingEndpointFactory(reactor, _Socket(reactor, short))
            asking = Deferred.fromCoroutine(_get(agent, path))
            body = await asking.addTimeout(PATIENCE, reactor)
    except (FileNotFoundError, NotADirectoryError):
        raise NotRunning from None
    except PermissionError as problem:
        raise Unreachable(f"{state_dir}: {problem.strerror}") from None
    except ConnectError as problem:
        if "Permission" in str(problem):
            raise Unreachable(str(problem)) from None
        raise NotRunning from None  # the socket of one that was killed
    except (DeferredTimeout, ResponseFailed, ConnectionClosed) as problem:
        raise Unreachable(f"the daemon does not answer ({type(problem).__name__})") from None
    try:
        answer = json.loads(body)
    except ValueError:
        raise Unreachable("the daemon's answer is no JSON") from None
    return answer if isinstance(answer, dict) else {}


async def _get(agent: Agent, path: str) -> bytes:
    headers = Headers({"Accept": ["application/json"]})
    response = await agent.request(b"GET", b"http://localhost" + path.encode(), headers)
    return await readBody(response)
