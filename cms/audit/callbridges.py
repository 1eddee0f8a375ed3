"""The Callbridges that a server knows, and those that are connected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cms import faults
from cms.audit.finding import Finding, passed, warned
from cms.configuration.tomlfile import Secret
from cms.signalflow import Step


def audit_secrets(secrets: Mapping[str, Sequence[Secret]]) -> Iterator[Finding]:
    """Whether there are Callbridges, and whether each has a secret of its own."""
    if not secrets:
        yield warned(faults.NO_CALLBRIDGE_KNOWN.error())
        return
    holders: dict[str, list[str]] = defaultdict(list)
    for address, accepted in secrets.items():
        for value in dict.fromkeys(secret.value for secret in accepted):
            holders[value].append(address)
    shared = [names for names in holders.values() if len(names) > 1]
    for names in shared:
        warning = faults.EQUAL_SECRETS.error(names=" and ".join(names), name=names[-1])
        yield warned(warning, ", ".join(names))
    if not shared:
        yield passed(Step.CONFIGURATION, "Callbridges", {"known": ", ".join(secrets)})


def judge_callbridges(status: Mapping[str, Any]) -> Finding:
    """Which Callbridges the running server has: without one nobody can log in."""
    links = [link for link in status.get("links", ()) if link.get("state") == "active"]
    deciding = [link for link in links if link.get("mechanisms")]
    known = [str(link["component"]) for link in status.get("links", ())]
    absent = [component for component in known if component not in {x["component"] for x in links}]
    evidence = {
        "connected": ", ".join(f"{x['component']} from {x.get('address', '?')}" for x in links),
        "not_connected": ", ".join(absent),
    }
    if not deciding:
        problem = faults.NO_CALLBRIDGE.error(**evidence)
        told = next((str(link["problem"]) for link in links if link.get("problem")), "")
        if told:
            domain = status.get("domain", "that of this server")
            mend = faults.NO_AUTHORITY_CURE.format(domain=domain)
            problem = faults.NO_AUTHORITY.error(problem=told, mend=mend, **evidence)
        return Finding(problem.step, "failed", "the running server", 0.0, evidence, "", problem)
    return Finding(Step.ACTIVE, "passed", "the running server", evidence=evidence)
