"""
A day of honest people and guessers, by a clock that is turned by hand.

C{python -m tests.guesssimulation} prints the table of docs/design/guessing.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import cycle, islice
from random import Random

from attrs import define, field
from twisted.internet.task import Clock

from cms.protection.guessing import Guesses, TooManyGuesses

DAY = 86_400.0
OFFICE = "192.0.2.1"  # the address that a crowd has in common
CROWD = [f"member{number}" for number in range(500)]
TYPING_ERRORS = 0.1
RETRY = 5.0  # seconds after which somebody types again

Event = tuple[float, str, str, bool]  # when, account, address, whether by an honest person


def honest(
    random: Random, accounts: Iterable[str], addresses: Iterable[str], times: int = 5
) -> list[Event]:
    """Each account logs in so many times, at any time of the day."""
    where = iter(cycle(addresses))
    return sorted(
        (random.uniform(0, DAY), account, next(where), True)
        for account in accounts
        for _ in range(times)
    )


def guesser(accounts: Iterable[str], addresses: Iterable[str], every: float) -> Iterator[Event]:
    """Tries all day, at one account after the other, from one address after the other."""
    whom, where = iter(cycle(accounts)), iter(cycle(addresses))
    for number in range(int(DAY / every)):
        yield number * every, next(whom), next(where), False


@define
class Outcome:
    """
    What a day has brought.

    @ivar guesses: Wrong passwords of guessers that were looked at.
    @ivar logins: What honest people wanted.
    @ivar refused: Of those, what they did not get.
    @ivar most: The most guesses at one account.
    """

    guesses: int = 0
    logins: int = 0
    refused: int = 0
    at: dict[str, int] = field(factory=dict)

    @property
    def most(self) -> int:
        """At the account that was hit hardest."""
        return max(self.at.values(), default=0)


def day(*events: Iterable[Event], known: Iterable[tuple[str, str]] = ()) -> Outcome:
    """
    Let it pass.

    @param known: Accounts, with addresses from which they have logged in before.
    """
    random, clock, outcome = Random(1), Clock(), Outcome()
    guesses = Guesses(clock)
    for account, address in known:
        guesses.begin(account, address).succeeded()

    def looked_at(account: str, address: str, right: bool) -> bool:
        try:
            guess = guesses.begin(account, address)
            guess.weigh()
        except TooManyGuesses:
            return False
        if right:
            guess.succeeded()
        else:
            guess.failed()
        return True

    for when, account, address, is_honest in merge(*events):
        clock.rightNow = max(clock.rightNow, when)
        if not is_honest:
            if looked_at(account, address, right=False):
                outcome.guesses += 1
                outcome.at[account] = outcome.at.get(account, 0) + 1
            continue
        outcome.logins += 1
        while random.random() < TYPING_ERRORS and looked_at(account, address, right=False):
            clock.advance(RETRY)
        outcome.refused += not looked_at(account, address, right=True)
    return outcome


def _known(accounts: Iterable[str] = CROWD) -> list[tuple[str, str]]:
    return [(account, OFFICE) for account in accounts]


def crowd_alone() -> Outcome:
    """500 people behind one address, on the first day: nobody is known."""
    return day(honest(Random(2), CROWD, [OFFICE]))


def one_place() -> Outcome:
    """A guess every other second at one account from one address; its owner is elsewhere."""
    return day(
        guesser(["alice"], ["198.51.100.1"], 2.0),
        honest(Random(3), ["alice"], ["192.0.2.2"], 50),
        known=[("alice", "192.0.2.2")],
    )


def _botnet() -> list[str]:
    return [f"198.51.{a}.{b}" for a in range(10) for b in range(100)]


def many_places() -> Outcome:
    """1,000 addresses, each tries one account every 10 minutes; its owner is at home."""
    return day(
        guesser(["alice"], _botnet(), 0.6),
        honest(Random(4), ["alice"], ["192.0.2.2"], 50),
        known=[("alice", "192.0.2.2")],
    )


def many_places_and_travelling() -> Outcome:
    """The same; its owner logs in from a new address each time."""
    return day(
        guesser(["alice"], _botnet(), 0.6),
        honest(Random(5), ["alice"], [f"203.0.113.{n}" for n in range(50)], 50),
    )


def a_few_behind_the_crowd() -> Outcome:
    """50 guesses at one account from the crowd's address; all log in."""
    return day(
        islice(guesser(CROWD[:1], [OFFICE], 2.0), 50),
        honest(Random(11), CROWD, [OFFICE]),
        known=_known(),
    )


def behind_the_crowd() -> Outcome:
    """A guess every other second at one account from the crowd's address; the others log in."""
    return day(
        guesser(CROWD[:1], [OFFICE], 2.0), honest(Random(6), CROWD[1:], [OFFICE]), known=_known()
    )


def behind_the_crowd_at_it() -> Outcome:
    """The same, and whom he guesses at logs in, at that address."""
    return day(
        guesser(CROWD[:1], [OFFICE], 2.0),
        honest(Random(7), CROWD[:1], [OFFICE], 50),
        known=_known(),
    )


def spraying() -> Outcome:
    """A guess a second at 10,000 accounts, from the crowd's address; all log in."""
    return day(
        guesser([f"user{n}" for n in range(10_000)], [OFFICE], 1.0),
        honest(Random(8), CROWD, [OFFICE]),
        known=_known(),
    )


def spraying_before_newcomers() -> Outcome:
    """The same; those who log in have never been there."""
    return day(
        guesser([f"user{n}" for n in range(10_000)], [OFFICE], 1.0),
        honest(Random(9), [f"visitor{n}" for n in range(500)], [OFFICE], 1),
    )


def spraying_the_crowd() -> Outcome:
    """A guess a second at the crowd's own accounts from its address; all log in."""
    return day(guesser(CROWD, [OFFICE], 1.0), honest(Random(10), CROWD, [OFFICE]), known=_known())


SCENARIOS: tuple[Callable[[], Outcome], ...] = (
    crowd_alone,
    one_place,
    many_places,
    many_places_and_travelling,
    a_few_behind_the_crowd,
    behind_the_crowd,
    behind_the_crowd_at_it,
    spraying,
    spraying_before_newcomers,
    spraying_the_crowd,
)


def table() -> str:
    """In Markdown."""
    lines = [
        "| a day | guesses looked at | at one account | honest log-ins | refused |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for scenario in SCENARIOS:
        seen = scenario()
        numbers = (seen.guesses, seen.most, seen.logins, seen.refused)
        shown = " | ".join(f"{number:,}" for number in numbers)
        lines.append(f"| {(scenario.__doc__ or '').strip()} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
