"""Health and status of a running daemon, as lines for people."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attrs import frozen

from cms.commands.common import Row
from cms.control.daemon import ControlError, Daemon
from cms.control.drainwords import drain_text
from cms.signalflow import counted


@frozen
class DaemonState:
    """
    A daemon's health and status; both empty when it does not run, or does not answer.

    @ivar health: See L{Daemon.health}.
    @ivar status: Of C{system/status}.
    @ivar problem: Why it did not answer.
    """

    health: dict[str, Any]
    status: dict[str, Any]
    problem: str = ""

    @classmethod
    def of(cls, daemon: Daemon | None) -> DaemonState:
        """Ask a daemon, if there is one."""
        if daemon is None:
            return cls({}, {})
        return cls(daemon.health(), daemon.status())

    @classmethod
    def silent(cls, problem: ControlError) -> DaemonState:
        """Of one that is there, and does not answer."""
        facts = {"healthy": False, "cause": f"{problem.problem}.", "cure": problem.cure}
        return cls(facts, {}, problem.problem)

    @property
    def running(self) -> bool:
        """Whether there is one."""
        return bool(self.health)

    @property
    def healthy(self) -> bool:
        """Whether it does its job."""
        return bool(self.health.get("healthy"))

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        facts = {"running": self.running, "healthy": self.healthy, "status": self.status}
        return {**facts, "problem": self.problem} if self.problem else facts

    def rows(self) -> list[Row]:
        """For people."""
        rows: list[Row] = [("Running", self.running)]
        if self.status:
            uptime = timedelta(seconds=int(self.status["uptimeSeconds"]))
            rows += [("Version", self.status["softwareVersion"]), ("Uptime", uptime)]
            rows.append(("Step", f"{self.health['step']} {self.health['name']}"))
            rows += link_rows(self.status.get("link"))
            if "rooms" in self.status:
                occupants = self.status["roomOccupants"]
                rows.append(("Rooms", f"{self.status['rooms']} with {occupants} in them"))
            if "guests" in self.status:
                rows.append(("Guests", _guests(self.status["guests"])))
            if "clients" in self.status:
                known, active = self.status["callBridgesKnown"], self.status["callBridgesActive"]
                rows.append(("Callbridges", f"{active} connected{self._deciding}, {known} known"))
                away = self.status.get("clientsAway")
                kept = self.status.get("clientsAwayBytes", 0)
                gone = f" ({away} without a connection, {kept:,} bytes kept)" if away else ""
                rows.append(("Clients", f"{self.status['clients']}{gone}"))
                if "web" in self.status:
                    rows += _web_rows(self.status["web"])
                drain = self.status.get("drain")
                if drain is not None and drain["state"] != "open":
                    rows.append(("Maintenance", drain_text(drain)))
                if "cluster" in self.status:
                    rows.append(("Cluster", cluster_text(self.status["cluster"])))
                if away:
                    rows.append(("Without a connection", self._away))
            for name, key in (("No room", "lacking"), ("Directory", "directoryProblems")):
                for told in self.status.get(key, ()):
                    rows.append((name, f"{told['cause']} Cure: {told['cure']}"))
        return rows + self._trouble()

    @property
    def _away(self) -> list[str]:
        """Who is without a connection for longest."""
        return [
            f"{one['jid']} since {one['awaySince']} ({one['keptBytes']:,} bytes kept)"
            for one in self.status.get("clientsAwayLongest", ())
        ]

    @property
    def _deciding(self) -> str:
        """How many of the connected components decide log-ins."""
        active = self.status["callBridgesActive"]
        deciding = self.status.get("callBridgesDeciding", active)
        return "" if deciding == active else f" ({deciding or 'none'} of them decides log-ins)"

    def _trouble(self) -> list[Row]:
        """Why it does not do its job."""
        if self.healthy or "cause" not in self.health:
            return []
        return [("Cause", self.health["cause"]), ("Cure", self.health["cure"])]


def link_rows(link: dict[str, Any] | None) -> list[Row]:
    """A Callbridge's link."""
    if link is None:
        return []
    rows: list[Row] = [("Link", link["state"])]
    rows += [(name.capitalize(), link[name]) for name in ("peer", "since") if link.get(name)]
    if link.get("nextAttemptSeconds") is not None:
        rows.append(("Next attempt", f"in {link['nextAttemptSeconds']} s"))
    if link.get("unprotected"):
        rows.append(("WARNING", "the link has no TLS (tls.unprotected)"))
    return rows


def _web_rows(web: dict[str, Any]) -> list[Row]:
    """Whether pages and guests are served, what became of guests, and what was refused."""
    state = "open" if web["open"] else "closed (web.enabled is false)"
    rows: list[Row] = [("Door", state)]
    for name, counts in (("Guests", web["guests"]), ("Refused to pages", web["refused"])):
        if counts:
            told = ", ".join(f"{count} {what}" for what, count in counts.items())
            rows.append((name, told))
    return rows


def _guests(guests: dict[str, int]) -> str:
    """Of those who asked, what became of them."""
    asked = [f"{number} {name}" for name, number in guests.items() if number and name != "known"]
    return f"{guests['known']} known" + (f"; {', '.join(asked)}" if asked else "")


def cluster_text(facts: dict[str, Any]) -> str:
    """A cluster in a line."""
    number = len(facts["nodes"]) + 1
    word = "in it" if facts["state"] == "in" else "cut off"
    return f"{facts['node']} is {word}, {counted(number, 'server')} known"
