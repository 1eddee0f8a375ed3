"""The fault catalogue brought about for real: what is wrong, and what must be said of it."""

from peers.faultcases import (
    directory,
    discovery,
    login,
    meeting,
    refusals,
    registration,
    server,
    trust,
)
from peers.faultcases.case import Case

__all__ = ["CASES", "EXCEPTIONS", "Case"]

CASES: list[Case] = [
    *discovery.CASES,
    *trust.CASES,
    *refusals.CASES,
    *registration.CASES,
    *login.CASES,
    *meeting.CASES,
    *server.CASES,
    *directory.CASES,
]

_DIRECTORY = "the Callbridge says it of a directory: peers/test_ldap_login.py, tests/test_ldap_*.py"
_SYNC = "the Callbridge says it: peers/test_ldap_login.py, tests/test_ldap_sync.py"
_SYNC += " and tests/test_directories.py"
_START = "it stops the start of a daemon: peers/test_start_errors.py"
_OTHER_SIDE = "the XMPP server says it of a peer, in its own log: peers/test_faults.py and"
_OTHER_SIDE += " tests/test_xmpp_component.py"
_CLUSTER = "the XMPP server says it in its log, of its cluster: peers/test_cluster_engine.py"
_CLUSTER_CHECK = "cms check --server says it: peers/test_cluster_check.py"
_RELAY = "the XMPP server says it in its log, and a client sees login-temporary or login-denied"

EXCEPTIONS: dict[str, str] = {
    "ldap-busy": _DIRECTORY,
    **dict.fromkeys(
        (
            *("sync-broken", "sync-cut", "sync-empty", "sync-removes", "sync-too-many"),
            "sync-left-out",
            *("mechanism-partial", "mechanism-without-keys"),
        ),
        _SYNC,
    ),
    "groups-refused": "a Callbridge says it in its log: tests/test_ldap_groups.py",
    **dict.fromkeys(
        ("contacts-stay", "contacts-later"),
        "a command says it of contacts that it is to have forgotten: tests/test_forgetting.py",
    ),
    "state-newer": "a command or the log says it of a file: tests/test_stores.py",
    "internal": "a bug of ours",
    "check-unfinished": "a backstop: each stage ends before it, as the black holes show",
    "own-listener-local": "it takes an address beyond loopback: tests/test_audit_owndns.py",
    "listen-failed": _START,
    "files-run-out": "it takes a daemon with few files: peers/test_places.py",
    "files-few": "it takes a daemon with few files: peers/test_places.py",
    **dict.fromkeys(
        (
            *("state-full", "state-read-only", "state-forbidden", "state-busy"),
            *("state-damaged", "state-unusable", "state-unsafe"),
        ),
        "a command or the API says it: peers/test_bad_days.py, tests/test_database.py",
    ),
    **dict.fromkeys(
        (
            *("engine-unreachable", "engine-tls", "engine-refused", "engine-old", "engine-evicts"),
            *("engine-full", "engine-not-master", "engine-of-others"),
            *("cluster-name-taken", "cluster-other-domain", "cluster-other-protocol"),
            "cluster-bad-entry",
        ),
        _CLUSTER,
    ),
    **dict.fromkeys(
        (
            *("engine-alone", "engine-unsaved", "engine-rights", "cluster-versions"),
            *("sentinel-unreachable", "sentinel-knows-not", "sentinels-no-quorum"),
            "sentinels-disagree",
        ),
        _CLUSTER_CHECK,
    ),
    **dict.fromkeys(
        ("cluster-other-secret", "cluster-bad-callbridge"),
        "the XMPP server says it in its log: tests/test_cluster_shared.py",
    ),
    **dict.fromkeys(
        ("sessions-stay", "sessions-later"),
        "a command says it of sessions that it is to end: tests/test_ended_sessions.py",
    ),
    **dict.fromkeys(
        ("cluster-not-yet", "cluster-cut-off"),
        "a state and no setting: tests/test_cluster_nodes.py",
    ),
    "server-draining": "a state and no setting: tests/test_drain_shown.py",
    "already-connected": "to a check no fault but a proof: test_already_connected",
    "link-stalled": "a check never has so much to say: tests/test_flow_control.py",
    **dict.fromkeys(
        ("proxy-missing", "proxy-untrusted", "proxy-unexpected", "forwarded-unread"),
        "a listener says it of who connects: peers/test_proxy.py and tests/test_proxied.py",
    ),
    **dict.fromkeys(
        ("join-refused", "join-slowed", "join-crowded", "join-undecided", "join-unsupported"),
        "the daemons say it of a guest, who is told join-denied or join-delayed:"
        " tests/test_guests.py, tests/test_joining.py",
    ),
    "reentry-over": "a check never comes back: tests/test_guests.py",
    "no-authority": "it takes a wrong domain on purpose: peers/test_faults.py",
    "domain-not-served": "the check is not let in: peers/test_faults.py",
    **dict.fromkeys(
        (
            *("link-outside-domain", "link-no-authority", "peer-other-domain"),
            *("peer-silent", "peer-certificate", "peer-wrong-namespace", "peer-bad-header"),
            *("peer-not-tls", "peer-other-protocol"),
            *("peer-bad-xml", "peer-unknown-id", "peer-wrong-secret", "peer-unregistered"),
            *("peer-conflict", "peer-refused", "peer-lied", "link-deleted", "link-secret-expired"),
        ),
        _OTHER_SIDE,
    ),
    **dict.fromkeys(
        (
            *("login-link-lost", "login-silent", "login-bad-answer", "login-refused"),
            "login-undecided",
            "login-unusable",
        ),
        _RELAY,
    ),
}
"""Faults that C{cms check} does not meet, and where they are brought about instead."""
