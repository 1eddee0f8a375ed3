"""The section C{[contacts]} of F{xmpp.toml}."""

from __future__ import annotations

from attrs import frozen

from cms.configuration.kinds import Choice, Count, Flag
from cms.configuration.section import setting

CONTACTS, EVERYBODY = "contacts", "everybody"


@frozen(kw_only=True)
class ContactSettings:
    """C{[contacts]}."""

    offered: bool = setting(
        Flag(),
        "whether users have contacts and see each other's presence; without, each roster is empty,"
        " and nothing is stored",
        default=True,
        why="chat programs show everybody as offline without them",
    )
    most: int = setting(
        Count(1, 10_000),
        "contacts of one user; a further one is refused",
        default=1_000,
        why="each change of presence goes to all of them",
    )
    most_asked: int = setting(
        Count(1, 10_000),
        "requests of one user to see others that have no answer yet",
        default=100,
        why="nobody shall ask everybody",
    )
    known_to: str = setting(
        Choice(CONTACTS, EVERYBODY),
        "who is told the name and the picture that the directory has of a user: `contacts` who may"
        " see his presence, and whom he asks to see; `everybody` all users of the domain. Guests"
        " never are",
        default=CONTACTS,
        why="to everybody it says which addresses exist",
    )
    announce_pictures: bool = setting(
        Flag(),
        "whether presence says which picture a user has (XEP-0153), without which many programs"
        " never ask for it",
        default=False,
        why="the Callbridge is asked for the picture of each user who logs in",
    )
    most_groups: int = setting(
        Count(0, 10_000),
        "groups of directories that one Callbridge may name, whose members are contacts of each"
        " other ([directories.md](directories.md#groups-as-contacts)); 0: none are taken, and those"
        " that were are forgotten",
        default=1_000,
        why="a Callbridge names none unless its operator has configured them",
    )
