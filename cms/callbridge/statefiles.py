"""The files of a Callbridge's state directory that a backup holds."""

from __future__ import annotations

from cms.admin.accounts import ACCOUNTS, PASSWORD
from cms.callbridge import settings
from cms.callbridge.directories import store as users
from cms.callbridge.directories import synced
from cms.callbridge.ldap import objects
from cms.callbridge.spaces import store as spaces

# For a database the newest version of its schema, else None: see cms.state.backup.
STATE_FILES: dict[str, int | None] = {
    "users.sqlite3": users.SCHEMA_VERSION,
    synced.FILE: synced.SCHEMA_VERSION,
    "spaces.sqlite3": spaces.SCHEMA_VERSION,
    settings.FILE: None,
    objects.FILE: None,
    ACCOUNTS: None,
    PASSWORD: None,
}
