"""What a managed link costs over one that is not, in calls of our own functions."""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tests.test_link_management import ENABLE, SECONDS, Daemons, offering
from tests.test_xmpp_costs import calls
from tests.xmppserver import DOMAIN, Peer, Server


class LinkTests(SynchronousTestCase):
    """Links that are managed (docs/link-management.md), and those that are not."""

    def test_stanza(self) -> None:
        """From one component to another: five calls more for a read, whatever is in it."""
        for seconds, most in ((0.0, 19), (SECONDS, 24)):
            server = offering(seconds)
            one, other = server.register("echo"), server.register("cb1")
            for peer in (one, other) if seconds else ():
                peer.say(ENABLE)
                peer.heard()
            addressed = f"from='echo.{DOMAIN}' to='cb1.{DOMAIN}'"
            message = f"<message {addressed} id='1'><body>x</body></message>".encode()
            for number in (1, 1, 1, 20):
                other.transport.take()
                counted = calls(partial(self._carry, server, one, message * number))
                self.assertEqual(number, other.transport.take().count("<message"))
            self.assertLessEqual(counted, most)

    def _carry(self, server: Server, peer: Peer, read: bytes) -> None:
        peer.stream.dataReceived(read)
        server.clock.advance(0)

    def test_log_in(self) -> None:
        """Of both daemons, for the two questions of a log-in and what is said of the session."""
        cost: list[int] = []
        for seconds in (0.0, SECONDS):
            both = Daemons(seconds)
            for user in ("alice", "bob", "carol"):
                counted = calls(partial(self._log_in, both, user))
            cost.append(counted)
        self.assertLessEqual(cost[1] - cost[0], 11, cost)

    def _log_in(self, both: Daemons, user: str) -> None:
        client = both.login(user)
        both.run()
        self.assertIn("<success", client.heard())
