"""
The words of the original's command line that mean something else here, or nothing.

An operator types what he knows.  Each of these says in one line which command, file or program
does it, and ends with status 2: nothing was done.  docs/operate.md shows the whole list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cms.commands.common import Complaint
from cms.xmpp.sessions import MOST_RESOURCES

_XMPP, _BRIDGE = "cms-xmpp", "cms-callbridge"
_CLUSTER = "[cluster] in xmpp.toml makes a cluster (docs/operate.md), and cms xmpp cluster status"
_WEB = "listen.web and [web] in xmpp.toml: the XMPP server shows the pages itself"
_ADMIN = "listen.api of xmpp.toml and callbridge.toml: each daemon shows its pages and API itself"
_RESTART = "then systemctl restart"
# By the words after cms: what does it here.  More words may follow and are passed over.
WORDS = {
    "xmpp restart": f"systemctl restart {_XMPP}",
    "xmpp enable": f"systemctl enable --now {_XMPP}",
    "xmpp disable": f"systemctl disable --now {_XMPP}",
    "xmpp status": "cms xmpp shows state and configuration, cms status whether all is well",
    "xmpp reset": (
        f"systemctl stop {_XMPP}, then move what xmpp.toml names as state_dir away; it is made anew"
    ),
    "xmpp motd": "there is none",
    "xmpp max_sessions": f"nothing; each user has {MOST_RESOURCES} sessions at most",
    "xmpp multi_domain": "a server has one domain: give the other an XMPP server of its own",
    "xmpp cluster enable": _CLUSTER + " shows it",
    "xmpp cluster disable": f"take [cluster] out of xmpp.toml, {_RESTART} {_XMPP}",
    "xmpp cluster initialize": _CLUSTER + " shows it; there is no first server",
    "xmpp cluster trust": "tls.trust of the Redis that [cluster] names; servers do not connect",
    "callbridge restart": f"systemctl restart {_BRIDGE}, or cms callbridge reconnect",
    "callbridge enable": f"systemctl enable --now {_BRIDGE}",
    "callbridge disable": f"systemctl disable --now {_BRIDGE}",
    "callbridge listen": f"[listen] in callbridge.toml, {_RESTART} {_BRIDGE}",
    "callbridge certs": (
        f"tls.certificate and tls.key in callbridge.toml, then systemctl reload {_BRIDGE};"
        " cms check tests them"
    ),
    "callbridge trust": f"tls.trust in callbridge.toml, then systemctl reload {_BRIDGE}",
    "webbridge": _WEB,
    "webadmin": _ADMIN,
    "dns add": "the zone of your name server; cms xmpp domain prints the records it needs",
    "dns flush": "nothing is kept here; resolvectl flush-caches, if the system keeps answers",
    "syslog": f"journalctl -f -u {_XMPP} -u {_BRIDGE}; cms flow --follow shows the steps",
    "pcap": "tcpdump -i any port 5222 or port 5223; all of it is TLS, so see cms flow as well",
    "ntp": "timedatectl; cms check reports a clock that is wrong",
    "date": "timedatectl; logs, API and pages are in UTC",
    "timezone": "timedatectl set-timezone; logs, API and pages are in UTC",
    "hostname": f"hostname in xmpp.toml, {_RESTART} {_XMPP}; cms xmpp domain checks it",
    "license": "none is needed",
    "factory_reset": "systemctl stop both daemons, then move what state_dir names away",
    "version": "cms --version",
}
# These commands only show.  What the original's set with more words, a file does here.
SETTERS = {
    "domain": f"domain and hostname in xmpp.toml, {_RESTART} {_XMPP}",
    "listen": f"[listen] in xmpp.toml, {_RESTART} {_XMPP}",
    "certs": (
        f"tls.certificate (leaf, then intermediates) and tls.key in xmpp.toml, then systemctl"
        f" reload {_XMPP}"
    ),
}
_TAKES_ALL = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_words(root: click.Group) -> None:
    """Add them to a command line: they work, but help and manual do not list them."""
    for words, does in WORDS.items():
        *groups, name = words.split()
        _group(root, groups).add_command(
            click.Command(
                name,
                callback=_teller(words, does),
                context_settings=dict(_TAKES_ALL),
                hidden=True,
                help=f"Say what does it here: {does}.",
            )
        )


def _group(root: click.Group, names: list[str]) -> click.Group:
    group = root
    for name in names:
        inner = group.commands[name]
        assert isinstance(inner, click.Group)  # noqa: S101 - the tables above
        group = inner
    return group


def _teller(words: str, does: str) -> Callable[..., None]:
    def tell() -> None:
        raise Complaint(f"cms {words} does nothing here. Cure: {does}.")

    return tell


class OnlyShows(click.Command):
    """One of L{SETTERS}."""

    allow_extra_args = True

    def invoke(self, ctx: click.Context) -> Any:
        """
        Run it.

        @raise Complaint: there is something to be set.
        """
        if ctx.args:
            does = SETTERS[str(self.name)]
            raise Complaint(f"cms xmpp {self.name} only shows; nothing was set. Cure: {does}.")
        return super().invoke(ctx)
