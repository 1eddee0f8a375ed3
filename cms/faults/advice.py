"""Parts of cures, by the condition that a peer answered with."""

from __future__ import annotations

# What a stream error before the registration asks for (RFC 6120 4.9.3).
_STARTING = "The server is starting or stopping: this passes by itself within seconds."
_OTHER_PORT = "Connect to the component port (5223): this port is not for components."
_OTHER_PROGRAM = (
    "Look at what answers there: it may be another program, or a proxy before the server."
)
_VERSION = "Bring both sides to a version that speaks XEP-0114 the same way."
STREAM_ADVICE: dict[str, str] = {
    "bad-format": _OTHER_PROGRAM,
    "bad-namespace-prefix": _VERSION,
    "connection-timeout": "The server waited for this side in vain: look at the network between.",
    "host-gone": "The server served this address and does not any more: add the Callbridge there.",
    "improper-addressing": "Correct unique_name, domain or component_address: the server cannot use"
    " this address.",
    "internal-server-error": "If the server is still starting, this passes by itself; otherwise"
    " look at its log.",
    "invalid-from": "Correct component_address: the server wants another address here.",
    "invalid-namespace": _OTHER_PORT,
    "invalid-xml": _OTHER_PROGRAM,
    "not-well-formed": _OTHER_PROGRAM,
    "policy-violation": "The server forbids it by a rule of its own: its log names the rule.",
    "remote-connection-failed": "Something that the server needs (its directory, its cluster) does"
    " not answer it: look at its log.",
    "reset": _STARTING,
    "resource-constraint": "The server is overloaded or at a limit: look at its load and limits.",
    "restricted-xml": _OTHER_PROGRAM,
    "see-other-host": "The server sends this Callbridge to another host, which it does not follow:"
    " name that host in server_address or in DNS.",
    "system-shutdown": _STARTING,
    "unsupported-encoding": _VERSION,
    "unsupported-feature": _VERSION,
    "unsupported-stanza-type": _OTHER_PORT,
    "unsupported-version": _VERSION,
}
STREAM_OTHERWISE = (
    "If the server is still starting, this passes by itself; otherwise look at its log."
)

# What helps whom a Callbridge refuses (RFC 6120 6.5).
_CREDENTIALS = (
    "Check the user name and the password; cms log --user on the Callbridge's host says which is"
    " wrong."
)
LOGIN_ADVICE: dict[str, str] = {
    "account-disabled": "Enable the account where it is: in the directory, or on the Callbridge's"
    " host with cms callbridge user enable.",
    "credentials-expired": "Set another password where the account is: in the directory, or on the"
    " Callbridge's host with cms callbridge user passwd.",
    "not-authorized": _CREDENTIALS,
    "invalid-authzid": "Let the client act as nobody but the user who logs in (no authzid).",
    "invalid-mechanism": "Let the client choose one of the mechanisms that are offered.",
    "mechanism-too-weak": "Let the client choose a stronger one of the mechanisms offered.",
    "malformed-request": "Look at the client: what it sends is no step of its mechanism.",
    "incorrect-encoding": "Look at the client: what it sends is not base64.",
    "temporary-auth-failure": "Ask cms log --user on that Callbridge's host: after too many wrong"
    " passwords the right one is not looked at for some minutes (cms callbridge lock clear), or its"
    " user directory does not answer (cms callbridge directory status).",
}
LOGIN_OTHERWISE = "Look at that Callbridge's log for this time: it says why."


def of_stream_error(condition: str) -> str:
    """What a stream error before the registration asks for."""
    return STREAM_ADVICE.get(condition, STREAM_OTHERWISE)


def of_sasl_failure(condition: str) -> str:
    """What helps whom a Callbridge refuses with this condition."""
    return LOGIN_ADVICE.get(condition, LOGIN_OTHERWISE)
