"""A schedule of faults over a L{World}, drawn from a seed, and the judgement of what came of it."""

from __future__ import annotations

import contextlib
import heapq
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random

from attrs import define

from peers.clusterworld import USERS, Direct, Watched, World, ask
from peers.contract import DOMAIN
from peers.network import wait_until
from peers.numbered import Client, Crowd, Life, Sent
from peers.redis import Redis

ONLY = os.environ.get("CMS_FAULTS", "").split()  # the only kinds of them; empty: all
LENGTH = 5.0  # seconds of a schedule
PAUSE = 0.03  # seconds between two messages
SETTLED = 40.0  # at most, until all agree after a schedule
UNCERTAIN = 3.0  # seconds before the death of a server, of which what it took is perhaps lost
NEAR = 2.0  # seconds in which a stream ends after what ended it

_numbers = count(1)


@define(eq=False)
class Trouble:
    """
    A fault: what it was, of which server (-1: of none), from when to when.
    """

    kind: str
    server: int
    began: float
    ended: float = float("inf")


class Schedule:
    """
    One.

    @ivar troubles: What was broken.
    @ivar settled: How many seconds it took afterwards until all agreed.
    @ivar waited_for: On what they did not agree for longest.
    """

    def __init__(self, world: World, crowd: Crowd, clients: list[Client], seed: str) -> None:
        self.world = world
        self.crowd = crowd
        self.clients = clients
        self.seed = seed
        self.random = Random(seed)
        self._talk = Random(seed)  # how often it is asked depends on the time
        self.troubles: list[Trouble] = []
        self.rivals: list[Client] = []
        self.settled = 0.0
        self.waited_for = ""
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()

    # going on

    def _at(self, seconds: float, do: Callable[[], object]) -> None:
        heapq.heappush(self._events, (time.monotonic() + seconds, next(self._order), do))

    def _pass(self, seconds: float) -> None:
        """Talk, and let things happen."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            while self._events and self._events[0][0] <= now:
                heapq.heappop(self._events)[2]()
            there = [client for client in self.clients if client.is_there]
            if len(there) > 1:
                sender, receiver = self._talk.sample(there, 2)
                self.crowd.call(sender.say, receiver.jid, next(_numbers))
            time.sleep(PAUSE)

    def go(self, faults: int) -> None:
        """Break so many things, mend them, and judge."""
        for client in self.clients:
            self.crowd.call(client.begin_account)
        for _ in range(faults):
            self._at(self.random.uniform(0.2, LENGTH * 0.7), self._break_something)
        self._pass(LENGTH)
        for _, _, do in sorted(self._events):
            do()
        self._events.clear()
        self.world.mend()
        now = time.monotonic()
        for trouble in self.troubles:
            trouble.ended = min(trouble.ended, now)
        try:
            self.settled = self.world.settle(self._count, SETTLED)
            self.waited_for = self.world.waited_for
            self._probe()
        except AssertionError as problem:
            raise AssertionError(f"seed {self.seed}: {self.told()}: {problem}") from None
        problems = [*self._judge(), *map(repr, self.crowd.failures())]
        for rival in self.rivals:
            self.crowd.send_away(rival)
        assert not problems, f"seed {self.seed}: {self.told()}:\n" + "\n".join(problems)
        self.rivals.clear()
        self.world.settle(self._count, SETTLED)

    def _count(self) -> int:
        everybody = {client.jid for client in self.clients} | {
            r.jid for r in self.rivals if r.lives
        }
        return len(everybody)

    def told(self) -> str:
        """What was broken, in words."""
        if not self.troubles:
            return "nothing"
        first = self.troubles[0].began
        return ", ".join(
            f"{t.began - first:.1f} s {t.kind}{f' {t.server}' if t.server >= 0 else ''}"
            f"{f' for {t.ended - t.began:.1f} s' if t.ended > t.began else ''}"
            for t in self.troubles
        )

    def _probe(self) -> None:
        """At rest everybody reaches everybody."""
        wait_until(
            lambda: all(client.is_there for client in self.clients), 20, "everybody to be there"
        )
        sent: list[tuple[Client, Client, int]] = []
        for sender in self.clients:
            for receiver in self.clients:
                if receiver is not sender:
                    number = next(_numbers)
                    self.crowd.call(sender.say, receiver.jid, number)
                    sent.append((sender, receiver, number))

        def arrived() -> bool:
            return all((s.jid, n) in r.life.heard for s, r, n in sent)

        try:
            wait_until(arrived, 10, "all to arrive")
        except AssertionError:
            missing = [
                f"{s.jid} at {s.life.server} to {r.jid} at {r.life.server}: {s.life.errors.get(n)}"
                for s, r, n in sent
                if (s.jid, n) not in r.life.heard
            ]
            raise AssertionError(f"at rest: {missing}") from None

    # breaking

    def _trouble(self, kind: str, server: int = -1, ends: float | None = None) -> Trouble:
        now = time.monotonic()
        trouble = Trouble(kind, server, now, now if ends is None else now + ends)
        self.troubles.append(trouble)
        return trouble

    def _break_something(self) -> None:
        kinds = ["kill", "stop", "stop", "disconnect", "pause", "flush", "move", "move"]
        kinds += ["hang_up", "race", "callbridge", "hand_over", "hand_over"]
        if isinstance(self.world.engine, Direct):
            kinds += ["engine_kill", "engine_stop", "cut", "silence", "slow"]
        else:
            kinds += ["fail_over", "fail_over", "engine_kill", "engine_stop"]
        getattr(self, f"_{self.random.choice(ONLY or kinds)}")()

    def _server(self) -> int:
        return self.random.randrange(len(self.world.servers))

    def _kill(self) -> None:
        self._kill_one(self._server())

    def _kill_one(self, server: int) -> None:
        seconds = self.random.uniform(0.2, LENGTH)
        self.world.kill(server)
        self._trouble("kill", server)
        self._at(seconds, lambda: self.world.start(server))

    def _stop(self) -> None:
        self._stop_one(self._server())

    def _stop_one(self, server: int) -> None:
        seconds = self.random.uniform(0.3, 2.0 * self.world.lease)
        if not self.world.works(server):
            return
        self.world.stop(server)
        self._trouble("stop", server, seconds)
        self._at(seconds, lambda: self.world.go_on(server))
        if self.random.random() < 0.5:  # somebody does not want to wait
            here = [c for c in self.clients if c.is_there and c.life.server == server]
            if here:
                self._at(seconds / 2, partial(self._move_one, here[0]))

    def _redis(self, *words: str) -> None:
        with contextlib.suppress(OSError, AssertionError):
            ask(self.world.engine.master.port, *words, seconds=0.5)

    def _disconnect(self) -> None:
        self._trouble("disconnect")
        self._redis("CLIENT", "KILL", "TYPE", "normal")

    def _pause(self) -> None:
        self._trouble("pause", ends=1.5)
        self._redis("CLIENT", "PAUSE", str(self.random.randint(300, 1500)), "ALL")

    def _flush(self) -> None:
        self._trouble("flush")
        self._redis("FLUSHALL")

    def _while_mastered(self, kind: str, do: Callable[[Redis], None]) -> Redis | None:
        try:
            master = self.world.engine.master
        except AssertionError:
            return None
        if master.process is None or not master.process.running:
            return None
        do(master)
        self._trouble(kind, ends=LENGTH)
        return master

    def _engine_kill(self) -> None:
        master = self._while_mastered("engine_kill", Redis.kill)
        if master is not None and isinstance(self.world.engine, Direct):
            self._at(self.random.uniform(0.1, LENGTH), self.world.engine.mend)

    def _engine_stop(self) -> None:
        master = self._while_mastered("engine_stop", Redis.freeze)
        if master is not None:
            self._at(self.random.uniform(0.3, LENGTH), master.thaw)

    def _fail_over(self) -> None:
        assert isinstance(self.world.engine, Watched)
        with contextlib.suppress(AssertionError):
            self.world.engine.fail_over()
        self._trouble("fail_over", ends=2.0)

    def _cut(self) -> None:
        server = self._server()
        road = self.world.engine.roads[server]
        if not road.is_closed:
            seconds = self.random.uniform(0.1, LENGTH)
            road.close()
            self._trouble("cut", server, seconds)
            self._at(seconds, lambda: road.open() if road.is_closed else None)

    def _silence(self) -> None:
        server, seconds = self._server(), self.random.uniform(0.3, LENGTH)
        self.world.engine.roads[server].silence()
        self._trouble("silence", server, seconds)
        self._at(seconds, self.world.engine.roads[server].speak)

    def _slow(self) -> None:
        server, road = self._server(), self.world.engine.roads[self._server()]
        road.delay = self.random.uniform(0.05, 0.3)
        self._trouble("slow", server, LENGTH)

    def _move(self) -> None:
        there = [client for client in self.clients if client.is_there]
        if there:
            self._move_one(self.random.choice(there))

    def _move_one(self, client: Client) -> None:
        server = self._server()
        self._trouble("move", server)
        self.crowd.call(client.leave, server)

    def _hang_up(self) -> None:
        managed = [client for client in self.clients if client.is_there and client.is_managed]
        if managed:
            self._trouble("hang_up")
            self.crowd.call(self.random.choice(managed).hang_up)

    def _hand_over(self) -> None:
        """One resumes elsewhere; and just before, amid or after that, one of both is hit."""
        managed = [client for client in self.clients if client.is_there and client.is_managed]
        if not managed:
            return
        client = self.random.choice(managed)
        giver = client.life.server
        taker = self.random.choice([s for s in range(len(self.world.servers)) if s != giver])
        self._trouble("hand_over", giver)
        self.crowd.call(client.go, taker)
        hit = self.random.choice((self._kill_one, self._stop_one))
        self._at(self.random.uniform(0.05, 0.4), partial(hit, self.random.choice((giver, taker))))

    def _race(self) -> None:
        """Two bind one resource at once."""
        if self.rivals:
            return
        first, second = self.random.sample(range(len(self.world.servers)), 2)
        self._trouble("race")
        for at in (first, second):
            rival = Client(
                USERS[-1], DOMAIN, self.world.ports, at, managed=False, random=self.random
            )
            rival.stays_out = True
            self.rivals.append(rival)
            self.crowd.enter(rival)

    def _callbridge(self) -> None:
        callbridge = self.random.choice(self.world.callbridges)
        self._trouble("callbridge")
        callbridge.process.kill()
        self._at(self.random.uniform(0.1, LENGTH), self.world.mend_callbridges)

    # judging

    def _judge(self) -> list[str]:
        problems = []
        heard: dict[int, list[tuple[Client, Life]]] = {}
        senders: dict[int, tuple[int, Sent]] = {}
        for client in (*self.clients, *self.rivals):
            for life in client.lives:
                for _, number in life.heard:
                    heard.setdefault(number, []).append((client, life))
                for sent in life.sent:
                    senders[sent.number] = id(life), sent
                problems += self._judge_end(client, life)
        for number, where in heard.items():
            if len(where) > 1:
                problems.append(f"{number} came {len(where)} times")
        for client in self.clients:
            for life in client.lives:
                problems += _order(client, life, senders)
                if not life.why:
                    problems += self._judge_sent(client, life, heard)
        there = [rival for rival in self.rivals if rival.is_there]
        if self.rivals and len(there) != 1:
            problems.append(f"of two who bound one resource {len(there)} are there")
        return problems

    def _judge_sent(
        self, client: Client, life: Life, heard: dict[int, list[tuple[Client, Life]]]
    ) -> list[str]:
        problems = []
        for sent in life.sent:
            error = life.errors.get(sent.number)
            if sent.number not in heard and error is None and not self._may_be_lost(sent):
                problems.append(
                    f"{sent.number} of {client.jid} at {life.server} to {sent.to}, sent"
                    f" {self._when(sent.at)}, was lost in silence"
                )
            if error is not None and not self.troubles:
                problems.append(f"{sent.number} was answered with {error[1]}")
        return problems

    def _when(self, at: float) -> str:
        return "; ".join(f"{at - t.began:+.2f} s from {t.kind} {t.server}" for t in self.troubles)

    def _may_be_lost(self, sent: Sent) -> bool:
        """
        What a server had taken when it died, and what was on the way to a client that hung up
        without managing its stream, is lost as with one server.
        """
        (receiver,) = [client for client in self.clients if client.jid == sent.to]
        for life in receiver.lives:
            over = life.ended or float("inf")
            if not life.began - UNCERTAIN <= sent.at <= over + UNCERTAIN:
                continue
            if life.why and not receiver.is_managed and abs(sent.at - over) < UNCERTAIN:
                return True
            for trouble in self.troubles:
                mortal = trouble.kind == "kill" and trouble.server in life.been
                if mortal and -UNCERTAIN <= sent.at - trouble.began <= NEAR:
                    return True
        return False

    def _judge_end(self, client: Client, life: Life) -> list[str]:
        if not life.why or client in self.rivals:
            return []
        near = [
            trouble
            for trouble in self.troubles
            if trouble.began - NEAR <= life.ended <= trouble.ended + NEAR
        ]
        if life.why == "left":
            return []
        if any(t.kind == "kill" and t.server in life.been for t in self.troubles):
            return []  # which its client perhaps noticed late
        if client.is_managed and life.why in ("lost", "not resumed") and _cut_off(near):
            return []  # nobody could hand it over
        return [f"the session of {client.jid} at {life.server} ended: {life.why}"]


def _cut_off(troubles: list[Trouble]) -> bool:
    """Whether a server could perhaps not ask another one."""
    harmless = ("move", "hang_up", "race", "hand_over")
    return any(trouble.kind not in harmless for trouble in troubles)


def _order(client: Client, life: Life, senders: dict[int, tuple[int, Sent]]) -> list[str]:
    last: dict[int, int] = {}
    problems = []
    for _, number in life.heard:
        if number not in senders:
            continue  # of a time before
        sender, _ = senders[number]
        if number < last.get(sender, 0):
            problems.append(f"{client.jid} heard {number} after {last[sender]}")
        last[sender] = number
    return problems
