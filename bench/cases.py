"""What is measured: one C{Case} is one row of a table."""

from __future__ import annotations

from attrs import field, frozen

from bench.servers import Ports

MESSAGE, JINGLE = "message", "jingle"
_WORDS = {MESSAGE: "message", JINGLE: "Jingle IQ"}


@frozen
class Case:
    """
    One case.

    @ivar name: For C{--cases} and the results file.
    @ivar title: For people.
    @ivar group: The table that it belongs to.
    @ivar mode: Of the generator.
    @ivar port: Which of the server's ports it needs; a server without it is left out.
    @ivar options: More words for the generator.
    @ivar value: What counts of the result: C{rate} (per second, more is better) or
        C{p50} (microseconds, less is better).
    @ivar ceiling: Whether the sink is measured too.
    """

    name: str
    title: str
    group: str
    mode: str
    port: str
    options: list[str] = field(factory=list)
    value: str = "rate"
    ceiling: bool = False

    def arguments(self, ports: Ports, seconds: float, warmup: float) -> list[str] | None:
        """The generator's command line, or C{None} when the server has no such port."""
        port = getattr(ports, self.port)
        if port is None:
            return None
        words = [self.mode, "--seconds", str(seconds), "--warmup", str(warmup), *self.options]
        if self.mode == "relay":
            return [*words, "--port", str(ports.component), "--client-port", str(port)]
        return [*words, "--port", str(port)]


THROUGHPUT = "Component to component"
MANY = "Many pairs"
TLS = "Component to component over TLS"
LATENCY = "Round trip between two components"
SESSIONS = "Registrations and log-ins"
RELAY = "Client to component and back"


def _throughput() -> list[Case]:
    cases = []
    for stanza in (MESSAGE, JINGLE):
        for window in (1, 64, 1024, 0):
            title = (
                f"{_WORDS[stanza]}, window {window}" if window else f"{_WORDS[stanza]}, unbounded"
            )
            options = ["--stanza", stanza, "--window", str(window)]
            name = f"{stanza}-{window or 'unbounded'}"
            case = Case(name, title, THROUGHPUT, "pair", "component", options, ceiling=True)
            cases.append(case)
    return cases


def _managed() -> list[Case]:
    return [
        Case(
            f"message-managed-{window or 'unbounded'}",
            f"message, {f'window {window}' if window else 'unbounded'}, both links managed",
            THROUGHPUT,
            "pair",
            "component_managed",
            ["--window", str(window), "--managed-link"],
        )
        for window in (64, 0)
    ]


def _many() -> list[Case]:
    return [
        Case(
            f"{stanza}-8x64",
            f"{_WORDS[stanza]}, 8 pairs, window 64 each",
            MANY,
            "pair",
            "component",
            ["--stanza", stanza, "--pairs", "8", "--window", "64"],
            ceiling=True,
        )
        for stanza in (MESSAGE, JINGLE)
    ]


def _tls() -> list[Case]:
    return [
        Case(
            f"{stanza}-tls-{window or 'unbounded'}",
            f"{_WORDS[stanza]}, {f'window {window}' if window else 'unbounded'}, TLS 1.3",
            TLS,
            "pair",
            "component_tls",
            ["--stanza", stanza, "--window", str(window), "--tls"],
        )
        for stanza in (MESSAGE, JINGLE)
        for window in (64, 0)
    ]


LOADS = (1_000, 5_000, 10_000, 20_000, 40_000, 80_000, 160_000)
"""Messages a second beside which the round trip is measured."""

_PING_PONG = ["--window", "1", "--echo"]

CASES: list[Case] = [
    *_throughput(),
    *_managed(),
    *_many(),
    *_tls(),
    Case("rtt", "message", LATENCY, "pair", "component", _PING_PONG, "p50", ceiling=True),
    Case(
        "register",
        "registrations, plain, 16 at once",
        SESSIONS,
        "register",
        "component",
    ),
    Case(
        "register-tls",
        "registrations, TLS 1.3, full handshake on P-256, 16 at once",
        SESSIONS,
        "register",
        "component_tls",
        ["--tls"],
    ),
    Case(
        "login-plain",
        "log-ins, SASL PLAIN after STARTTLS, 16 at once",
        SESSIONS,
        "login",
        "client",
        ["--tls", "--mechanism", "PLAIN"],
    ),
    Case(
        "login-scram",
        "log-ins, SCRAM-SHA-256 with the client's key kept, after STARTTLS, 16 at once",
        SESSIONS,
        "login",
        "client",
        ["--tls"],
    ),
    Case(
        "login-managed",
        "the same with stream management (XEP-0198)",
        SESSIONS,
        "login",
        "client_managed",
        ["--tls", "--managed"],
    ),
    Case(
        "login-sasl2",
        "the same by SASL2 and Bind 2 (XEP-0388, XEP-0386)",
        SESSIONS,
        "login",
        "client_sasl2",
        ["--tls", "--sasl2"],
    ),
    Case(
        "relay",
        "message, one at a time, the client over TLS",
        RELAY,
        "relay",
        "client",
        ["--tls", "--window", "1"],
        "p50",
    ),
    Case(
        "relay-64",
        "message, window 64, the client over TLS",
        RELAY,
        "relay",
        "client",
        ["--tls", "--window", "64"],
    ),
    Case(
        "relay-plain",
        "message, one at a time, no TLS",
        RELAY,
        "relay",
        "client_plain",
        ["--window", "1"],
        "p50",
    ),
    Case(
        "relay-plain-64",
        "message, window 64, no TLS",
        RELAY,
        "relay",
        "client_plain",
        ["--window", "64"],
    ),
    Case(
        "relay-plain-unbounded",
        "message, unbounded, no TLS",
        RELAY,
        "relay",
        "client_plain",
        ["--window", "0"],
    ),
    *(
        Case(
            f"relay-managed-{window or 'unbounded'}",
            f"message, {f'window {window}' if window else 'unbounded'}, no TLS, the client's stream"
            " managed (XEP-0198)",
            RELAY,
            "relay",
            "client_plain_managed",
            ["--window", str(window), "--managed"],
        )
        for window in (64, 0)
    ),
]

LOAD_CASES: list[Case] = [
    Case(
        f"load-{rate}",
        f"beside {rate:,} messages/s",
        "Round trip under load",
        "pair",
        "component",
        ["--rate", str(rate), "--pairs", "4"],
        "p50",
    )
    for rate in LOADS
]

LDAP_CASES: list[Case] = [
    Case(
        "login-ldap",
        "log-ins, SASL PLAIN after STARTTLS, 16 at once, none remembered",
        "Log-ins through LDAP",
        "login",
        "client",
        ["--tls", "--mechanism", "PLAIN"],
    )
]
"""Run by L{bench.ldap}, with servers that ask a directory."""
