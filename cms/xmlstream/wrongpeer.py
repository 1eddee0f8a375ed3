"""Peers that do not speak XMPP or TLS: the catalogue's entry for what they sent."""

from __future__ import annotations

from cms import faults
from cms.signalflow import StepError
from cms.xmlstream.otherprotocols import recognise

_PORTS = {
    "component": faults.TLS_PLAIN_COMPONENT,
    "client": faults.TLS_CLIENT_PORT,
    "server": faults.TLS_SERVER_PORT,
    "stream": faults.TLS_CLIENT_PORT,
    "http": faults.TLS_HTTP,
    "other": faults.TLS_OTHER_SERVICE,
}
_WITH_TLS = "a port with TLS from the first byte"


def server_without_tls(data: bytes, *, peer: str) -> StepError | None:
    """
    Step 7: the fault of a server that does not speak TLS.

    @param data: Its first bytes.
    @return: C{None} if it sent nothing, or TLS.
    """
    heard = recognise(data)
    if heard is None or heard.kind == "tls":
        return None
    seen = {"peer": peer, "heard": heard.shown, "service": heard.what}
    if heard.kind == "unknown":
        return faults.TLS_NOT_SPOKEN.error(problem=f'it said "{heard.shown}"', **seen)
    return _PORTS[heard.kind].error(**seen)


def server_without_xmpp(data: bytes, *, peer: str) -> StepError | None:
    """
    Step 9: the fault of a server that does not answer with a stream.

    @return: C{None} if its bytes do not tell.
    """
    heard = recognise(data)
    if heard is None or heard.kind not in ("http", "tls", "other"):
        return None
    fault = faults.REGISTER_HTTP if heard.kind == "http" else faults.REGISTER_OTHER_SERVICE
    service = _WITH_TLS if heard.kind == "tls" else heard.what
    return fault.error(peer=peer, heard=heard.shown, service=service)


def peer_without_tls(data: bytes, *, peer: str) -> StepError | None:
    """The fault of a peer at a listener with TLS; C{None} if it sent TLS, or nothing."""
    heard = recognise(data)
    if heard is None or heard.kind == "tls":
        return None
    return faults.PEER_NOT_TLS.error(peer=peer, heard=heard.shown, service=heard.what)


def peer_without_xmpp(data: bytes, *, peer: str) -> StepError | None:
    """The fault of a peer at an XMPP listener; C{None} if its bytes do not tell."""
    heard = recognise(data)
    if heard is None or heard.kind not in ("http", "tls", "other"):
        return None
    return faults.PEER_OTHER_PROTOCOL.error(peer=peer, heard=heard.shown, service=heard.what)
