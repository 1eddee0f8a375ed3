"""
Several nodes of one host by one configuration file, C{twistd cms-xmpp --instance NAME}: what
each of them has for itself, and what they share (docs/design/cores.md).
"""

from __future__ import annotations

import re
from typing import Any

from attrs import evolve

from cms.configuration.tomlfile import Place
from cms.process.endpointstrings import NoEndpoint, parse_endpoint
from cms.xmpp.config import ADMINISTRATION, LISTENERS, WEB, XmppConfig

MARK = "%i"  # in an endpoint: the instance's name, as systemd writes it
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,14}[A-Za-z0-9])?")


def is_name(text: str) -> bool:
    """Whether an instance can be called so: up to 16 letters, digits and hyphens."""
    return _NAME.fullmatch(text) is not None


def of_instance(config: XmppConfig, instance: str) -> XmppConfig:
    """
    The configuration as it is for one instance.

    Its state directory is below that of the file, and its node's name ends with the instance's.
    Its TCP listeners are shared with the other instances, but for those with L{MARK}.

    @param instance: Its name; empty: the file is for one server.
    @raise ConfigurationError: the file is not for instances, or is for nothing else.
    """
    place = Place(config.file)
    kinds = (*LISTENERS, *WEB, *ADMINISTRATION)
    if not instance:
        for kind in kinds:
            for text in config.listen[kind]:
                if MARK in text:
                    problem = f"{text} has {MARK}, and no instance is named"
                    mend = "Name one with --instance, such as --instance 1."
                    raise place.inner(f"listen.{kind}").wrong(problem, mend)
        return config
    if not is_name(instance):
        problem = f'"{instance}" is no instance: up to 16 letters, digits and hyphens are'
        raise place.inner("--instance").wrong(problem, "Write a name such as 1.")
    if config.cluster is None:
        problem = "it is missing, and instances are servers of one cluster"
        mend = "Name the Redis that they share (docs/operate.md), or leave --instance out."
        raise place.inner("cluster").wrong(problem, mend)
    listen: dict[str, Any] = {
        kind: tuple(_own(kind, text, instance, place) for text in config.listen[kind])
        for kind in kinds
    }
    return evolve(
        config,
        instance=instance,
        state_dir=config.state_dir / instance,
        cluster=evolve(config.cluster, node=f"{config.cluster.node or config.hostname}-{instance}"),
        listen=evolve(config.listen, **listen),
    )


def _own(kind: str, text: str, instance: str, place: Place) -> str:
    """An endpoint as it is for the instance."""
    if MARK in text:
        return text.replace(MARK, instance)
    try:
        endpoint = parse_endpoint(text)
    except NoEndpoint:
        return text  # whoever opens it says what is wrong with it
    if endpoint.kind == "systemd":
        return text  # its unit has ReusePort=
    if kind in ADMINISTRATION:
        problem = f"{text} is every instance's, and would be answered by any of them"
        mend = f"Write {MARK}, the instance's name, into it, such as tcp:844{MARK}."
        raise place.inner(f"listen.{kind}").wrong(problem, mend)
    if endpoint.kind == "unix":
        problem = f"{text} is every instance's, and a UNIX socket cannot be shared"
        mend = f"Write {MARK}, the instance's name, into its path."
        raise place.inner(f"listen.{kind}").wrong(problem, mend)
    return text if endpoint.is_shared else f"{text}:reuseport=1"
