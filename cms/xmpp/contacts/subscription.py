"""
Subscriptions between two users: the states and tables of RFC 6121, appendix A, as data.

A state has two halves: whether the user may see the contact, and whether the contact may see
the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

NO, ASKED, YES = range(3)


class State(NamedTuple):
    """
    How a user stands to a contact.

    @ivar mine: Whether the user is subscribed to the contact's presence: C{NO}, C{ASKED} or
        C{YES}.
    @ivar theirs: The same of the contact to the user's.
    """

    mine: int = NO
    theirs: int = NO

    @property
    def subscription(self) -> str:
        """The attribute of a roster's item (RFC 6121 2.1.2.5)."""
        if self.mine == YES:
            return "both" if self.theirs == YES else "to"
        return "from" if self.theirs == YES else "none"


# A.1
NONE: Final = State(NO, NO)
NONE_OUT: Final = State(ASKED, NO)
NONE_IN: Final = State(NO, ASKED)
NONE_OUT_IN: Final = State(ASKED, ASKED)
TO: Final = State(YES, NO)
TO_IN: Final = State(YES, ASKED)
FROM: Final = State(NO, YES)
FROM_OUT: Final = State(ASKED, YES)
BOTH: Final = State(YES, YES)

Table = Mapping[State, tuple[bool, State]]
"""For each state: whether the stanza goes on, and the state that follows."""

SENT: Final[Mapping[str, Table]] = {
    "subscribe": {  # A.2.1
        NONE: (True, NONE_OUT),
        NONE_OUT: (True, NONE_OUT),
        NONE_IN: (True, NONE_OUT_IN),
        NONE_OUT_IN: (True, NONE_OUT_IN),
        TO: (True, TO),
        TO_IN: (True, TO_IN),
        FROM: (True, FROM_OUT),
        FROM_OUT: (True, FROM_OUT),
        BOTH: (True, BOTH),
    },
    "unsubscribe": {  # A.2.2
        NONE: (True, NONE),
        NONE_OUT: (True, NONE),
        NONE_IN: (True, NONE_IN),
        NONE_OUT_IN: (True, NONE_IN),
        TO: (True, NONE),
        TO_IN: (True, NONE_IN),
        FROM: (True, FROM),
        FROM_OUT: (True, FROM),
        BOTH: (True, FROM),
    },
    "subscribed": {  # A.2.3, without pre-approval
        NONE: (False, NONE),
        NONE_OUT: (False, NONE_OUT),
        NONE_IN: (True, FROM),
        NONE_OUT_IN: (True, FROM_OUT),
        TO: (False, TO),
        TO_IN: (True, BOTH),
        FROM: (False, FROM),
        FROM_OUT: (False, FROM_OUT),
        BOTH: (False, BOTH),
    },
    "unsubscribed": {  # A.2.4
        NONE: (False, NONE),
        NONE_OUT: (False, NONE_OUT),
        NONE_IN: (True, NONE),
        NONE_OUT_IN: (True, NONE_OUT),
        TO: (False, TO),
        TO_IN: (True, TO),
        FROM: (True, NONE),
        FROM_OUT: (True, NONE_OUT),
        BOTH: (True, TO),
    },
}
"""What the user sends, by its type: whether it is routed."""

RECEIVED: Final[Mapping[str, Table]] = {
    "subscribe": {  # A.3.1
        NONE: (True, NONE_IN),
        NONE_OUT: (True, NONE_OUT_IN),
        NONE_IN: (False, NONE_IN),
        NONE_OUT_IN: (False, NONE_OUT_IN),
        TO: (True, TO_IN),
        TO_IN: (False, TO_IN),
        FROM: (False, FROM),  # answered with "subscribed" for the user
        FROM_OUT: (False, FROM_OUT),
        BOTH: (False, BOTH),
    },
    "unsubscribe": {  # A.3.2
        NONE: (False, NONE),
        NONE_OUT: (False, NONE_OUT),
        NONE_IN: (True, NONE),
        NONE_OUT_IN: (True, NONE_OUT),
        TO: (False, TO),
        TO_IN: (True, TO),
        FROM: (True, NONE),
        FROM_OUT: (True, NONE_OUT),
        BOTH: (True, TO),
    },
    "subscribed": {  # A.3.3
        NONE: (False, NONE),
        NONE_OUT: (True, TO),
        NONE_IN: (False, NONE_IN),
        NONE_OUT_IN: (True, TO_IN),
        TO: (False, TO),
        TO_IN: (False, TO_IN),
        FROM: (False, FROM),
        FROM_OUT: (True, BOTH),
        BOTH: (False, BOTH),
    },
    "unsubscribed": {  # A.3.4
        NONE: (False, NONE),
        NONE_OUT: (True, NONE),
        NONE_IN: (False, NONE_IN),
        NONE_OUT_IN: (True, NONE_IN),
        TO: (True, NONE),
        TO_IN: (True, NONE_IN),
        FROM: (False, FROM),
        FROM_OUT: (True, FROM),
        BOTH: (True, FROM),
    },
}
"""What comes from the contact, by its type: whether it is delivered."""
