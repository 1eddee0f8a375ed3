"""
The tables of F{contacts.sqlite3}, and what is asked of them.

A row of C{shared} says that a user is in a group of a directory: its C{address} is the component
of the Callbridge that says so, a slash, and the group's id there.  Who are in a group together
see each other as contacts.  Its C{name} is the group's, and behind a line break, if the directory
has one, the user's own: older servers of a cluster take it so.
"""

from __future__ import annotations

from typing import Final

FILE_NAME: Final = "contacts.sqlite3"
SCHEMA_VERSION: Final = 2
SCHEMA = """
CREATE TABLE contacts (
    owner TEXT NOT NULL,
    address TEXT NOT NULL,
    mine INTEGER NOT NULL,
    theirs INTEGER NOT NULL,
    listed INTEGER NOT NULL,
    name TEXT NOT NULL,
    groups TEXT NOT NULL,
    request TEXT NOT NULL,
    stamp INTEGER NOT NULL,
    maker TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    PRIMARY KEY (owner, address)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocked (
    owner TEXT NOT NULL,
    address TEXT NOT NULL,
    active INTEGER NOT NULL,
    stamp INTEGER NOT NULL,
    maker TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    PRIMARY KEY (owner, address)
) STRICT, WITHOUT ROWID;
"""
INDEXES = """
CREATE INDEX IF NOT EXISTS contacts_bucket ON contacts (bucket, stamp);
CREATE INDEX IF NOT EXISTS blocked_bucket ON blocked (bucket, stamp);
CREATE INDEX IF NOT EXISTS contacts_gone ON contacts (stamp) WHERE NOT (mine OR theirs OR listed);
CREATE INDEX IF NOT EXISTS blocked_gone ON blocked (stamp) WHERE NOT active
"""
# It came later: a file of before has none.
SHARED = (
    """
    CREATE TABLE IF NOT EXISTS shared (
        owner TEXT NOT NULL,
        address TEXT NOT NULL,
        name TEXT NOT NULL,
        active INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        maker TEXT NOT NULL,
        bucket INTEGER NOT NULL,
        PRIMARY KEY (owner, address)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX IF NOT EXISTS shared_bucket ON shared (bucket, stamp)",
    "CREATE INDEX IF NOT EXISTS shared_group ON shared (address) WHERE active",
    "DROP VIEW IF EXISTS mates",  # a build had it, and a backup takes no database with a view
)


def named(group: str, shown: str) -> str:
    """The C{name} of a row of C{shared}."""
    return f"{group}\n{shown}" if shown else group


def names(name: str) -> tuple[str, str]:
    """What such a name is made of: the group's, and the user's."""
    group, _, shown = name.partition("\n")
    return group, shown


def _with_mates(query: str) -> str:
    """Of who is with whom in a group; each with himself, too."""
    columns = "o.owner AS owner, m.owner AS address, m.name AS name, m.stamp AS stamp"
    pairs = "shared o JOIN shared m ON m.address = o.address WHERE o.active AND m.active"
    return f"WITH mates AS (SELECT {columns} FROM {pairs}) {query}"  # noqa: S608 - all of it is ours


WATCHERS = _with_mates(
    "SELECT address FROM contacts WHERE owner = ?1 AND theirs = 2"
    " UNION SELECT address FROM mates WHERE owner = ?1 AND address <> ?1"
)
WATCHED = _with_mates(
    "SELECT o.address FROM contacts o JOIN contacts t ON t.owner = o.address"
    " AND t.address = o.owner WHERE o.owner = ?1 AND o.mine = 2 AND t.theirs = 2"
    " UNION SELECT address FROM mates WHERE owner = ?1 AND address <> ?1"
)
MAY_SEE = _with_mates(
    "SELECT 1 FROM contacts WHERE owner = ?1 AND address = ?2 AND theirs = 2"
    " UNION SELECT 1 FROM mates WHERE owner = ?1 AND address = ?2"
)
IS_ASKED = "SELECT 1 FROM contacts WHERE owner = ?2 AND address = ?1 AND theirs = 1"
MATES = _with_mates(
    "SELECT address, name FROM mates WHERE owner = ?1 AND address <> ?1 ORDER BY name"
)
IN_COMMON = _with_mates("SELECT name FROM mates WHERE owner = ?1 AND address = ?2 ORDER BY name")
VERSION = _with_mates(
    "SELECT count(*), ifnull(max(stamp), 0), ifnull(sum(stamp), 0) FROM ("
    "SELECT stamp FROM contacts WHERE owner = ?1 AND listed"
    " UNION ALL SELECT stamp FROM mates WHERE owner = ?1)"
)
MEMBERS = "SELECT owner, name FROM shared WHERE address = ? AND active"
IN_GROUPS = "SELECT count(*) FROM shared WHERE owner = ? AND active AND address > ? AND address < ?"
# The groups of a component: addresses between C{cb1.example.com/} and what follows that.
GROUPS = (
    "SELECT address, name, owner FROM shared WHERE active AND address > ?1 AND address < ?2"
    " ORDER BY address, owner"
)
NUMBER = "SELECT count(DISTINCT address) FROM shared WHERE active AND address > ?1 AND address < ?2"
COMPONENTS = "SELECT DISTINCT substr(address, 1, instr(address, '/') - 1) FROM shared WHERE active"
OF_COMPONENT = (
    "SELECT owner, address FROM shared WHERE active AND address > ? AND address < ? LIMIT ?"
)
DELETE_SHARED = "DELETE FROM shared WHERE owner = ? AND address = ?"
ALL_BLOCKED = "SELECT owner, address FROM blocked WHERE active"
OWNERS = (
    "SELECT owner FROM contacts WHERE mine OR theirs OR listed"
    " UNION SELECT owner FROM shared WHERE active"
)
HAS_ANY = (
    "SELECT 1 FROM contacts WHERE owner = ?1 AND (mine OR theirs OR listed)"
    " UNION SELECT 1 FROM shared WHERE owner = ?1 AND active"
)
ALL = "SELECT address, mine, theirs, listed, name, groups, request FROM contacts WHERE owner = ?"
ONE = ALL + " AND address = ?"
LISTED = ALL + " AND listed ORDER BY address"
DELETE_CONTACT = "DELETE FROM contacts WHERE owner = ? AND address = ?"
DELETE_BLOCKED = "DELETE FROM blocked WHERE owner = ? AND address = ?"
PUT = {
    "contacts": "INSERT OR REPLACE INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "blocked": "INSERT OR REPLACE INTO blocked VALUES (?, ?, ?, ?, ?, ?)",
    "shared": "INSERT OR REPLACE INTO shared VALUES (?, ?, ?, ?, ?, ?, ?)",
}
# For a file without them.
PUT_INTO_BUCKETS = {
    "contacts": (
        "ALTER TABLE contacts ADD COLUMN bucket INTEGER NOT NULL DEFAULT 0",
        "UPDATE contacts SET bucket = bucket_of(owner)",
    ),
    "blocked": (
        "ALTER TABLE blocked ADD COLUMN bucket INTEGER NOT NULL DEFAULT 0",
        "UPDATE blocked SET bucket = bucket_of(owner)",
    ),
}
STAMP = {
    "contacts": "SELECT stamp, maker FROM contacts WHERE owner = ? AND address = ?",
    "blocked": "SELECT stamp, maker FROM blocked WHERE owner = ? AND address = ?",
    "shared": "SELECT stamp, maker FROM shared WHERE owner = ? AND address = ?",
}
BUCKET = {
    "contacts": "SELECT * FROM contacts WHERE bucket = ?",
    "blocked": "SELECT * FROM blocked WHERE bucket = ?",
    "shared": "SELECT * FROM shared WHERE bucket = ?",
}
DIGEST = (
    "SELECT bucket, count(*), sum(stamp), max(stamp) FROM contacts GROUP BY bucket",
    "SELECT bucket, count(*), sum(stamp), max(stamp) FROM blocked GROUP BY bucket",
    "SELECT bucket, count(*), sum(stamp), max(stamp) FROM shared GROUP BY bucket",
)
# Of each table: what is an entry of nothing, kept so that what was deleted does not come back.
_NOTHING = {
    "contacts": "NOT (mine OR theirs OR listed)",
    "blocked": "NOT active",
    "shared": "NOT active",
}
PURGE = {
    table: f"DELETE FROM {table} WHERE {nothing} AND stamp < ?"  # noqa: S608
    for table, nothing in _NOTHING.items()
}
GONE = {
    table: f"SELECT stamp FROM {table} WHERE {nothing}"  # noqa: S608
    " ORDER BY stamp DESC LIMIT 1 OFFSET ?"
    for table, nothing in _NOTHING.items()
}
# The latest of each user, and of each address: a user leaves some at whom he asks, too.
PURGE_OF_ONE = [
    f"DELETE FROM {table} WHERE (owner, address) IN (SELECT owner, address FROM ("  # noqa: S608
    f"SELECT owner, address, row_number() OVER (PARTITION BY {one}"
    f" ORDER BY stamp DESC, owner, address) AS place FROM {table} WHERE {nothing} AND {one} IN"
    f" (SELECT {one} FROM {table} WHERE {nothing} GROUP BY {one} HAVING count(*) > ?1)"
    f") WHERE place > ?1)"
    for table, nothing in _NOTHING.items()
    for one in ("owner", "address")
]
