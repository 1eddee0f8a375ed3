"""The files of an XMPP server's state directory that a backup holds."""

from __future__ import annotations

from cms.admin.accounts import ACCOUNTS, PASSWORD
from cms.xmpp import callbridgestore
from cms.xmpp.contacts import tables as contacts

# For a database the newest version of its schema, else None: see cms.state.backup.
STATE_FILES: dict[str, int | None] = {
    callbridgestore.FILE_NAME: callbridgestore.SCHEMA_VERSION,
    contacts.FILE_NAME: contacts.SCHEMA_VERSION,
    ACCOUNTS: None,
    PASSWORD: None,
}
