"""On which sides a fault can occur is what the code says: who mentions it, and who asks him."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.metrics import CallbridgeCounters
from cms.faults.kinds import Fault, Side
from cms.xmpp.metrics import ServerCounters
from tests.faultuse import definitions, reached

LINK = (
    *("cms.callbridge.link.core", "cms.callbridge.link.registration"),
    "cms.callbridge.link.managedstream",
    *("cms.discovery.lookup:Finder", "cms.discovery.race", "cms.discovery.resolver"),
    "cms.trust.client",
)
REGISTRATION = (
    *("cms.xmpp.componentregistration", "cms.xmpp.componentlink:ComponentLink"),
    "cms.trust.server:ServerTrust",
)
LOGIN = ("cms.xmpp.loginrelay", "cms.xmpp.links")
# What a side's code mentions, and yet cannot be there.
NOT_THERE: dict[Side, set[Fault]] = {
    Side.LINK: {
        faults.CERTIFICATE_USAGE_CLIENT,  # is asked of clients
        faults.DOMAIN_NOT_SERVED,  # is told of a link that is up, and stays up
    },
    Side.REGISTRATION: {faults.CERTIFICATE_USAGE_SERVER},  # is asked of servers
    Side.LOGIN: {
        faults.LINK_NO_AUTHORITY,  # is told of a link; log-ins fail with no-authority
        faults.LINK_OUTSIDE_DOMAIN,
    },
}


def on(side: Side) -> set[str]:
    """What the catalogue says of a side, or of several together."""
    return {fault.name for fault in faults.CATALOGUE.values() if fault.on & side}


def mentioned(*places: str, side: Side | None = None) -> set[str]:
    """What the code says of these places."""
    absent = NOT_THERE[side] if side is not None else set()
    return {fault.name for fault in reached(definitions(*places)) - absent}


class SideTests(SynchronousTestCase):
    """Each entry's C{on}, in both directions."""

    def test_link(self) -> None:
        """The Callbridge's attempts and its link."""
        self.assertEqual(mentioned(*LINK, side=Side.LINK), on(Side.LINK))

    def test_registration(self) -> None:
        """A component at the XMPP server."""
        self.assertEqual(mentioned(*REGISTRATION, side=Side.REGISTRATION), on(Side.REGISTRATION))

    def test_login(self) -> None:
        """A log-in at the XMPP server."""
        self.assertEqual(mentioned(*LOGIN, side=Side.LOGIN), on(Side.LOGIN))

    def test_daemons(self) -> None:
        """All of either daemon."""
        start = "cms.process.startup"
        self.assertEqual(mentioned("cms.callbridge", start), on(Side.LINK | Side.CALLBRIDGE))
        server = Side.REGISTRATION | Side.LOGIN | Side.SERVER
        self.assertEqual(mentioned("cms.xmpp", start), on(server))

    def test_check(self) -> None:
        """The check, with the Callbridge's own code in it."""
        self.assertEqual(mentioned("cms.check", "cms.commands.check"), on(Side.CHECK))

    def test_commands(self) -> None:
        """The other commands."""
        check = definitions("cms.commands.check", "cms.commands.joining")
        found = reached(definitions("cms.commands") - check)
        self.assertEqual({fault.name for fault in found}, on(Side.COMMAND))

    def test_not_there(self) -> None:
        """Each exception is one."""
        places = {Side.LINK: LINK, Side.REGISTRATION: REGISTRATION, Side.LOGIN: LOGIN}
        for side, absent in NOT_THERE.items():
            every = mentioned(*places[side])
            self.assertEqual(set(), {fault.name for fault in absent} - every, side)


class SeriesTests(SynchronousTestCase):
    """C{/metrics} of a daemon that has just started: the faults of its side, and no other."""

    def test_callbridge(self) -> None:
        """By step and reason, failures only."""
        (family,) = (
            each for each in CallbridgeCounters().collect() if each.name.endswith("_failures")
        )
        told = {
            (sample.labels["step"], sample.labels["reason"])
            for sample in family.samples
            if sample.name.endswith("_total")
        }
        link = [faults.CATALOGUE[name] for name in on(Side.LINK)]
        self.assertEqual(
            {
                (fault.step.title, fault.name)
                for fault in link
                if not fault.is_warning and fault is not faults.INTERNAL
            },
            told,
        )
        self.assertIn(("registered", "wrong-secret"), told)
        self.assertNotIn("server-address-invalid", {reason for _, reason in told})

    def test_server(self) -> None:
        """By stage and reason."""
        (family,) = (each for each in ServerCounters().collect() if each.name.endswith("_refusals"))
        told = {
            (sample.labels["stage"], sample.labels["reason"])
            for sample in family.samples
            if sample.name.endswith("_total")
        }
        expected = {("registration", name) for name in on(Side.REGISTRATION)}
        expected |= {("login", name) for name in on(Side.LOGIN)}
        self.assertEqual({*expected, ("login", "not-authorized")}, told)
        self.assertIn(("registration", "certificate-expired"), told)
        self.assertIn(("login", "link-stalled"), told)
        self.assertNotIn(("login", "login-denied"), told)
