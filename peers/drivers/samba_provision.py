"""
Makes the databases of a Samba domain controller, by Samba's own library.

C{samba-tool domain provision} does the same, and sets the access lists of files that clients of
Windows fetch.  Those want extended attributes, which not each file system of a container has, and
nobody asks for such files here.

Usage: F{samba_provision.py SMB.CONF ADDRESS PASSWORD LDIF}; the entries of the last are added.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from samba.auth import system_session  # type: ignore[import-not-found]
from samba.dsdb import DS_DOMAIN_FUNCTION_2008_R2  # type: ignore[import-not-found]
from samba.param import LoadParm  # type: ignore[import-not-found]
from samba.provision import FILL_FULL, provision  # type: ignore[import-not-found]

file, address, password, entries = sys.argv[1:]
configuration = LoadParm()
configuration.load(file)
made = provision(
    logging.getLogger("provision"),
    system_session(),
    smbconf=file,
    lp=configuration,
    realm=configuration.get("realm"),
    domain=configuration.get("workgroup"),
    hostname=configuration.get("netbios name").lower(),
    hostip=address,
    adminpass=password,
    dns_backend="SAMBA_INTERNAL",
    serverrole="active directory domain controller",
    samdb_fill=FILL_FULL,
    dom_for_fun_level=DS_DOMAIN_FUNCTION_2008_R2,
    skip_sysvolacl=True,
    batch_mode=True,
)
made.samdb.transaction_start()
made.samdb.modify_ldif(Path(entries).read_text(encoding="utf-8"))
made.samdb.transaction_commit()
