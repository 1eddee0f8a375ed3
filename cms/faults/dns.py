"""Failures of the DNS service itself, which both steps that use it share."""

from __future__ import annotations

from functools import partial

from cms.faults.kinds import DiscoveryError, Fault, Side
from cms.signalflow import Step


def dns_faults(
    suffix: str, step: Step, what: str, record: str
) -> tuple[Fault, Fault, Fault, Fault, Fault, Fault]:
    """
    Silent, failed, refused, truncated, unreachable, strange.

    @param suffix: Of the names.
    @param step: Where it was noticed.
    @param what: Was asked for.
    @param record: Its type, for C{dig}.
    """
    dig = f"dig {{name}} {record}     # asked: {{server}}"
    sides = Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND
    dns_fault = partial(Fault, kind=DiscoveryError, step=step, on=sides)
    return (
        dns_fault(
            f"dns-silent-{suffix}",
            symptoms=(
                f"DNS query for {what} timed out",
                "connection timed out; no servers could be reached",
                "name resolution failed",
            ),
            cause=(
                "The DNS server {server} did not answer the question for {name} within {seconds} s."
            ),
            cure="Start the DNS server, let UDP and TCP port 53 through, or correct dns.servers.",
            mend=dig,
        ),
        dns_fault(
            f"dns-failed-{suffix}",
            symptoms=(
                f"SERVFAIL for {what}",
                "DNS failure",
                "Temporary failure in name resolution",
            ),
            cause="The DNS server {server} answered the question for {name} with {rcode}.",
            cure="Look at the DNS server's own log: its zone or its way upstream is broken.",
            mend=dig,
        ),
        dns_fault(
            f"dns-refused-{suffix}",
            symptoms=(
                f"REFUSED for {what}",
                "query refused by the DNS server",
                "recursion not available",
            ),
            cause="The DNS server {server} refuses to answer for {name} (REFUSED).",
            cure="Allow this host to query it, or name a DNS server that serves this domain.",
            mend='[dns]\nservers = ["<a DNS server that knows {name}>"]',
        ),
        dns_fault(
            f"dns-truncated-{suffix}",
            symptoms=(
                f"the answer for {what} is truncated",
                "Truncated, retrying in TCP mode; connection refused",
                "DNS over TCP port 53 is blocked by the firewall",
            ),
            cause=(
                "The answer for {name} was truncated, and the DNS server {server} could not be"
                " asked again over TCP: {problem}."
            ),
            cure="Let TCP port 53 through to the DNS server.",
            mend=f"dig +tcp {{name}} {record}     # asked: {{server}}",
        ),
        dns_fault(
            f"dns-unreachable-{suffix}",
            symptoms=(
                f"Network is unreachable when asking DNS for {what}",
                "no route to the DNS server",
                "Connection refused by port 53",
            ),
            cause=(
                "The question for {name} could not be sent to the DNS server {server}: {problem}."
            ),
            cure="Mend this host's route to the DNS server, or correct dns.servers.",
            mend="ip route get <the DNS server's address>     # asked: {server}",
        ),
        dns_fault(
            f"dns-strange-{suffix}",
            symptoms=(
                f"the answer for {what} is for another question",
                ";; Question section mismatch: got",
                ";; Warning: ID mismatch",
            ),
            cause=(
                "The DNS server {server} did not answer the question for {name}; what came from its"
                " address does not belong to the question: {problem}."
            ),
            cure=(
                "Ask another DNS server (dns.servers): this one, or a middlebox before it, mixes"
                " answers up, or somebody forges them."
            ),
            mend=dig,
        ),
    )
