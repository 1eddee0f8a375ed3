"""What is kept for sessions without a connection: how much, and who ends when it is too much."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from cms.process.logs import Logger
from cms.xmlstream import ns
from cms.xmlstream.backlog import lane_of
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.keptbytes import SPARE, KeptBytes
from cms.xmpp.resumption import Resumptions
from tests.test_xmpp_resumption import BIND, ENABLE, ManagementTests, ids, message
from tests.test_xmpp_service import CONFIGURATION, Daemon
from tests.xmppserver import DOMAIN, Peer

MOST, MOST_OF_ONE = 60_000, 20_000


class KeptTests(ManagementTests):
    """A server on which little may be kept."""

    def setUp(self) -> None:
        """Alice manages her stream."""
        super().setUp()
        self.resumptions = self.server.clients.resumptions
        self.resumptions._kept = KeptBytes(MOST, MOST_OF_ONE)
        self.enable()

    def log_in(self, user: str, resource: str = "r") -> Peer:
        """Somebody logs in and manages the stream."""
        self.notices()
        client = self.server.logged_in(self.callbridge, user)
        client.say(BIND.replace("<resource>r", f"<resource>{resource}"))
        client.say(ENABLE)
        client.heard()
        return client

    def away(self, user: str, resource: str) -> str:
        """Somebody logs in and loses the connection; the address."""
        client = self.log_in(user, resource)
        client.transport.lose()
        self.server.clock.advance(0)
        return f"{user}@{DOMAIN}/{resource}"

    def fill(self, to: str, size: int, sender: Peer | None = None) -> int:
        """So many bytes for an address; how many messages came back."""
        sender = sender or self.bob
        for number in range(size // 1_000):
            sender.say(message(number, to).replace("<body>x", f"<body>{'x' * 900}"))
        self.server.clock.advance(0)
        return len([s for s in sender.received() if s.type == "error"])

    def who(self) -> set[str]:
        """Who is away."""
        return {session.jid.full() for session in self.resumptions._away}

    @property
    def sum(self) -> int:
        """What is kept, looked up at each session."""
        return sum(session.kept_bytes for session in self.resumptions._away)

    def test_one_account_has_its_part(self) -> None:
        """More than that for an account comes back to its senders, and harms nobody else."""
        self.cut()
        self.to_alice(1)
        mallory = [self.away("mallory", f"m{n}") for n in range(5)]
        back = sum(self.fill(to, 15_000) for to in mallory)
        self.assertGreater(back, 50)
        self.assertEqual({f"alice@{DOMAIN}/r", *mallory}, self.who())
        self.assertLessEqual(self.sum - MOST_OF_ONE, 500)
        self.to_alice(2)
        self.assertEqual([], self.bob.received())
        self.notices()
        self.assertEqual(["m1", "m2"], ids(self.resume(0).received()))

    def test_one_account_loses_all_at_once(self) -> None:
        """Sessions that had much before they were away: of this account those with most end."""
        self.cut()
        clients = [
            self.server.bound(self.callbridge, "mallory", resource=f"m{n}") for n in range(4)
        ]
        for number, client in enumerate(clients):
            client.say(ENABLE)
            self.fill(f"mallory@{DOMAIN}/m{number}", 5_000 + number * 4_000)
        for client in clients:
            client.transport.lose()
        self.server.clock.advance(0)
        left = {f"mallory@{DOMAIN}/m{n}" for n in (0, 1)}
        self.assertEqual({f"alice@{DOMAIN}/r", *left}, self.who())
        self.assertLessEqual(self.sum, MOST_OF_ONE)
        self.assertEqual((2, 0), (self.resumptions.crowded_out, self.resumptions.expired))

    def test_told(self) -> None:
        """The log says whose sessions ended, and nothing if they had gone by themselves."""
        told: list[str] = []
        observer: Any = lambda event: told.append(formatEvent(event))  # noqa: E731
        self.patch(Resumptions, "log", Logger(observer=observer))
        for stays in (False, True):
            client = self.log_in("mallory")
            self.fill(f"mallory@{DOMAIN}/r", MOST_OF_ONE + 2_000)
            client.transport.lose()
            if not stays:
                (session,) = self.server.sessions.of(f"mallory@{DOMAIN}")
                session.end()
            self.server.clock.advance(0)
        (line,) = told
        self.assertIn("1 session without a connection ended early", line)
        self.assertIn(f"mallory@{DOMAIN}", line)

    def test_many_accounts(self) -> None:
        """If it is too much for all, those end that keep most, and the others have room."""
        self.cut()
        self.to_alice(1)
        mallory = [self.away(f"mallory{n}", "m") for n in range(6)]
        for to in mallory:
            self.fill(to, 15_000)
            self.assertLessEqual(self.sum, MOST)
        self.assertIn(f"alice@{DOMAIN}/r", self.who())
        self.assertGreaterEqual(self.resumptions.crowded_out, 2)
        self.assertLessEqual(self.resumptions.crowded_out, 3)
        self.bob.received()
        self.to_alice(2)
        self.assertEqual([], self.bob.received())
        self.notices()
        self.assertEqual(["m1", "m2"], ids(self.resume(0).received()))

    def test_whoever_ends_is_answered_for(self) -> None:
        """Each message is kept for one who is away, or is back at its sender."""
        to = [self.away(f"carol{n}", "c") for n in range(8)]
        back = sum(self.fill(address, 12_000) for address in to)
        kept = sum(
            len(session._backlog._lanes._lanes[lane_of(self.bob.handler)].items)
            for session in self.resumptions._away
            if isinstance(session, ClientSession) and session._backlog is not None
        )
        self.assertEqual(8 * 12, back + kept)
        self.assertGreater(self.resumptions.crowded_out, 0)

    def test_the_sum(self) -> None:
        """What is counted is what is there, whatever happened."""
        random = Random(4)
        clients: dict[str, Peer] = {}
        for step in range(400):
            user = f"u{random.randrange(6)}"
            to, client = f"{user}@{DOMAIN}/r", clients.get(user)
            known = next(iter(self.server.sessions.of(f"{user}@{DOMAIN}")), None)
            if client is None or known is None:
                clients[user] = client = self.log_in(user)
                client.say("<presence/>" + "<inactive xmlns='urn:xmpp:csi:0'/>" * (step % 2))
            what = random.choice(("say", "say", "say", "show", "cut", "back", "wait"))
            if what == "say":
                self.fill(to, random.randrange(1_000, 6_000))
            elif what == "show":
                self.bob.say(f"<presence to='{to}'><status>{'s' * (step % 70)}</status></presence>")
            elif what == "cut":
                client.transport.lose()
            elif what == "back" and isinstance(known, ClientSession) and known.is_away:
                self.notices()
                clients[user] = client = self.server.logged_in(self.callbridge, user)
                client.say(f"<resume xmlns='{ns.MANAGEMENT}' h='0' previd='{known._previd}'/>")
            else:
                self.server.clock.advance(random.random() * 20)
            self.server.clock.advance(0)
            self.notices()
            self.assertEqual(self.sum, self.resumptions.away_bytes, (step, what))
            self.assertLessEqual(self.sum, MOST)
        self.assertGreater(self.resumptions.resumed, 5)
        self.assertGreater(self.resumptions.crowded_out, 5)


class SurplusTests(SynchronousTestCase):
    """Who must end."""

    def test_who_keeps_most(self) -> None:
        """Of the account that has most, the session that keeps most; of equals the older."""
        kept: KeptBytes[str] = KeptBytes(100, 60)
        for session, size in (
            ("a1", 30),
            ("a2", 29),
            ("b1", 15),
            ("b2", 15),
            ("c1", 10),
            ("d1", 4),
        ):
            kept.add(session[0], session, size)
        self.assertTrue(kept.is_too_much)
        self.assertEqual(["a1"], kept.surplus())
        kept.grow("d", "d1", 40)
        self.assertEqual(["a1", "d1"], kept.surplus())
        for session in ("d1", "a1"):
            kept.remove(session[0], session)
        self.assertFalse(kept.is_too_much)
        self.assertEqual(69, kept.size)

    def test_room_is_made_for_many(self) -> None:
        """An eighth is freed, so that not every stanza has to look for somebody."""
        kept: KeptBytes[int] = KeptBytes(8_000, 8_000)
        for number in range(1_000):
            kept.add(f"u{number}", number, 8)
        self.assertFalse(kept.is_too_much)
        kept.grow("u1", 1, 1)
        gone = kept.surplus()
        self.assertEqual(1, gone[0])
        self.assertEqual(1_000 // SPARE + 1, len(gone) + 1)

    def test_gone_before(self) -> None:
        """An account that came with too much, and has ended by then."""
        kept: KeptBytes[str] = KeptBytes(100, 50)
        kept.add("a", "a1", 70)
        kept.remove("a", "a1")
        self.assertEqual([], kept.surplus())
        self.assertFalse(kept.is_too_much)


class ConfiguredTests(SynchronousTestCase):
    """The daemon."""

    def test_configured(self) -> None:
        """The limit is that of the configuration; links have none."""
        daemon = Daemon(self, CONFIGURATION + "\n[resume]\nmost_bytes = 8_388_608\n").service
        self.assertEqual(8_388_608, daemon.resumptions._kept.most)
        self.assertGreater(daemon.link_resumptions._kept.most, 2**60)
