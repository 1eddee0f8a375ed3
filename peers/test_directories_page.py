"""What docs/directories.md says to write and to type for OpenLDAP, with a slapd of its rules."""

from __future__ import annotations

import re
import tomllib
from functools import partial

from peers.certs import Certificates
from peers.clients import slixmpp_client
from peers.contract import DOMAIN
from peers.daemons import XmppServer, daemon_environment
from peers.ldif import Entry
from peers.operating import block
from peers.processes import Processes
from peers.slapd import BASE, PEOPLE, Slapd, person
from peers.tools import script

page = partial(block, page="directories.md")
SERVICE, SERVICE_PASSWORD, PASSWORD = f"cn=cms,ou=services,{BASE}", "reads-people", "alices-word"
GROUPS = f"ou=groups,{BASE}"
UNIT = "organizationalUnit"
TREE = [
    Entry(f"ou=services,{BASE}", {"objectClass": UNIT, "ou": "services"}),
    Entry(
        SERVICE,
        {
            "objectClass": ["organizationalRole", "simpleSecurityObject"],
            "cn": "cms",
            "userPassword": SERVICE_PASSWORD,
        },
    ),
    Entry(GROUPS, {"objectClass": UNIT, "ou": "groups"}),
    Entry(
        f"cn=team-a,{GROUPS}",
        {
            "objectClass": "groupOfNames",
            "cn": "team-a",
            "member": [f"uid={uid},{PEOPLE}" for uid in ("alice", "bob")],
        },
    ),
]


def test_openldap(processes: Processes, certificates: Certificates) -> None:
    """The rules are enough for the account, and each command succeeds; then alice logs in."""
    people = [person(uid, PASSWORD) for uid in ("alice", "bob")]
    slapd = Slapd(processes, certificates, [*TREE, *people], access=page("access"))
    slapd.start()
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    server.start()
    callbridge = server.callbridge()
    directories = tomllib.loads(page("openldap"))["directory"]
    here = {"servers": [slapd.address], "trust": str(certificates.trust), "groups_base": GROUPS}
    assert directories[1]["bind_name"] == SERVICE
    callbridge.settings["directory"] = [directories[0], {**directories[1], **here}]
    callbridge.write()
    (callbridge.file.parent / "ldap.password").write_text(f"{SERVICE_PASSWORD}\n")
    callbridge.start()
    server.process.wait_for("decides log-ins: PLAIN", 20.0)
    file = ["--config", str(callbridge.file)]
    lines = page("set-up").replace(" --config /etc/cms/callbridge.toml", "").splitlines()
    typed = [line.split()[1:] for line in lines if line.startswith("cms ")]
    assert [words[0] for words in typed] == ["check", "callbridge"]
    printed = ""
    for words in typed:
        command = [*script("cms"), *words, *file]
        status, told = processes.run(words[0], command, env=daemon_environment())
        assert status == 0, told
        printed += told
    assert re.search(r"binds as uid=alice,", printed)
    assert re.search(r"Users +: 2\n", printed)
    assert re.search(r"Groups +: 1\n", printed)
    client = slixmpp_client(
        processes, f"alice@{DOMAIN}", PASSWORD, server.client_port, certificates.trust
    )
    client.connected()
