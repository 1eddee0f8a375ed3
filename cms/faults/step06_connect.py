"""Step 6, connect: TCP to address and port."""

from __future__ import annotations

from cms.faults.kinds import ConnectError, Fault, Side, StepWarning
from cms.signalflow import Step, StepError

# The PROXY protocol.

PROXY_MISSING = Fault(
    "proxy-missing",
    StepError,
    Step.CONNECT,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "behind HAProxy nothing works",
        "sent no header of the PROXY protocol",
    ),
    cause=(
        "{key}: {peer} sent no header of the PROXY protocol, which haproxy: awaits there"
        " ({problem})."
    ),
    cure=(
        "Let the proxy send it (HAProxy: send-proxy-v2; nginx: proxy_protocol on), or write the"
        " endpoint without haproxy: if clients connect themselves."
    ),
    mend="server xmpp1 127.0.0.1:5222 send-proxy-v2",
)
PROXY_UNTRUSTED = Fault(
    "proxy-untrusted",
    StepError,
    Step.CONNECT,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "behind HAProxy connections are closed at once",
        "may not say who its clients are",
    ),
    cause="{key}: {peer} may not say who its clients are, so its connection was closed.",
    cure=(
        "If it is your proxy, add its address to listen.proxies; clients belong on a listener"
        " without haproxy:."
    ),
    mend='[listen]\nproxies = ["192.0.2.10"]',
)
PROXY_UNEXPECTED = Fault(
    "proxy-unexpected",
    StepError,
    Step.CONNECT,
    on=Side.REGISTRATION | Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "not-well-formed or wrong version number behind HAProxy",
        "began with a header of the PROXY protocol",
    ),
    cause="{peer} began with a header of the PROXY protocol, which is not awaited there.",
    cure=(
        "Write haproxy: before the endpoint of that listener, such as haproxy:tcp:5223, or let the"
        " proxy send no header."
    ),
    mend='[listen]\nclient = ["haproxy:tcp:5222"]',
)
FORWARDED_UNREAD = Fault(
    "forwarded-unread",
    StepWarning,
    Step.CONNECT,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "behind nginx all guests are slowed for the wrong passcodes of one",
        "every request in the log comes from 127.0.0.1 or from local",
        "X-Forwarded-For",
    ),
    cause=(
        "{key}: {peer} names its clients in X-Forwarded-For, which is not read: for limits and the"
        " log, all of them are one address."
    ),
    cure=(
        "If this is your proxy, and it replaces or extends the header that clients send, set"
        " listen.forwarded_for; with HAProxy the PROXY protocol is the other way."
    ),
    mend="[listen]\nforwarded_for = true",
)
# The connection.

CONNECT_REFUSED = Fault(
    "connect-refused",
    ConnectError,
    Step.CONNECT,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "Connection refused",
        "ECONNREFUSED 5223",
        "xmpp enable: FAILURE, or the service was not restarted after a change",
    ),
    cause="{address} refused the connection: nothing listens on port {port} there.",
    cure="Start the XMPP server, or correct the port (components use 5223).",
    mend="ss -ltnp 'sport = :{port}'        # on the server\nsystemctl restart cms-xmpp",
)
CONNECT_TIMEOUT = Fault(
    "connect-timeout",
    ConnectError,
    Step.CONNECT,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "Connection timed out",
        "no answer on port 5223: the firewall drops it",
        "No route to host, ETIMEDOUT",
    ),
    cause="{address} did not answer on port {port} within {seconds} s.",
    cure="Open TCP port {port} in the firewall between this host and {address}.",
    mend="nc -vz {address} {port}",
)
CONNECT_UNREACHABLE = Fault(
    "connect-unreachable",
    ConnectError,
    Step.CONNECT,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "Network is unreachable",
        "No route to host",
    ),
    cause="{address} cannot be reached: {problem}.",
    cure="Mend the route to {address}, or the address in DNS.",
    mend="ip route get {address}",
)
WEB_UNREACHABLE = Fault(
    "web-unreachable",
    ConnectError,
    Step.CONNECT,
    on=Side.CHECK,
    symptoms=(
        "ERR_CONNECTION_REFUSED in the browser",
        "this site can't be reached",
        "the link to the meeting opens nothing",
    ),
    cause="{url} cannot be reached: {problem}",
    cure=(
        "Open listen.web, or start the proxy before it, and let TCP port {port} through the"
        " firewall."
    ),
    mend='web = ["tcp:{port}"]     # xmpp.toml, [listen]\nnc -vz {host} {port}',
)
# What an audit finds out about one's own set-up.

OWN_LISTENER_DEAD = Fault(
    "own-listener-dead",
    ConnectError,
    Step.CONNECT,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "the server runs but its port does not answer",
        "listener up, firewall closed",
    ),
    cause=(
        "The listener {endpoint} (listen.{kind}) of the running server cannot be reached at"
        " {address}: {problem}."
    ),
    cure="Look whether the server runs, and at the firewall of this host.",
    mend="ss -ltnp\nnft list ruleset",
)
# Warnings.

ADDRESS_DEAD = Fault(
    "address-dead",
    StepWarning,
    Step.CONNECT,
    on=Side.CHECK,
    symptoms=(
        "connecting is slow: one of several addresses does not answer",
        "works sometimes (round robin DNS)",
    ),
    cause=(
        "{host} has the address {address}, which cannot be connected to ({problem}); another one"
        " can."
    ),
    cure="Mend the way to {address}, or remove it from DNS: it costs time at each attempt.",
    mend="nc -vz {address} 5223",
)
TARGET_FAILS = Fault(
    "target-fails",
    StepWarning,
    Step.CONNECT,
    on=Side.CHECK,
    symptoms=(
        "one of several XMPP servers is down",
        "no failover left: the other SRV targets do not work",
    ),
    cause="{peer} fails, and another target works: {problem}",
    cure="{mend}",
    mend="cms explain {fault}",
)
IPV6_DEAD = Fault(
    "ipv6-dead",
    StepWarning,
    Step.CONNECT,
    on=Side.CHECK,
    symptoms=(
        "connecting takes longer than it should: IPv6 does not work",
        "AAAA record exists but the server listens on IPv4 only",
    ),
    cause=(
        "{host} has the IPv6 address {address}, which cannot be connected to ({problem}); IPv4 can."
    ),
    cure=(
        "Mend IPv6 between the two hosts, let the server listen on it, or remove the AAAA record."
    ),
    mend='component = ["tcp6:5223:interface=\\\\:\\\\:"]     # xmpp.toml, [listen]',
)

# What an audit finds out about one's own set-up.

OWN_LISTENER_LOCAL = Fault(
    "own-listener-local",
    StepWarning,
    Step.CONNECT,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "works on the server itself, Connection refused from elsewhere",
        "listening on 127.0.0.1 only",
    ),
    cause="{record} sends others to port {port}, but listen.{kind} is open on this host alone.",
    cure="Open the listener on all addresses.",
    mend='{kind} = ["tcp:{port}"]     # xmpp.toml, [listen]',
)
