"""Peers that are no XMPP server, or no XMPP client: the catalogue's entry for what they said."""

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
    Step 7: what a server is that does not speak TLS.

    @param data: What it said first.
    @return: C{None} when it said nothing, or TLS.
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
    Step 9: what a server is that does not answer with a stream.

    @return: C{None} when nobody can know.
    """
    heard = recognise(data)
    if heard is None or heard.kind not in ("http", "tls", "other"):
        return None
    fault = faults.REGISTER_HTTP if heard.kind == "http" else faults.REGISTER_OTHER_SERVICE
    service = _WITH_TLS if heard.kind == "tls" else heard.what
    return fault.error(peer=peer, heard=heard.shown, service=service)


def peer_without_tls(data: bytes, *, peer: str) -> StepError | None:
    """What a peer sent to a listener that wants TLS, C{None} if it was TLS, or nothing."""
    heard = recognise(data)
    if heard is None or heard.kind == "tls":
        return None
    return faults.PEER_NOT_TLS.error(peer=peer, heard=heard.shown, service=heard.what)


def peer_without_xmpp(data: bytes, *, peer: str) -> StepError | None:
    """What a peer sent to a listener that wants XMPP, C{None} if nobody can know."""
    heard = recognise(data)
    if heard is None or heard.kind not in ("http", "tls", "other"):
        return None
    return faults.PEER_OTHER_PROTOCOL.error(peer=peer, heard=heard.shown, service=heard.what)
