"""Users from a directory, with OpenLDAP's slapd."""

from __future__ import annotations

import pytest

from peers.certs import Certificates
from peers.processes import Processes
from peers.slapd import BASE, DISABLED, READER, READER_PASSWORD, Slapd, account, crowd
from peers.tools import require

MANY = 10_000


def found(slapd: Slapd, certificates: Certificates, filter_: str, *options: str) -> tuple[int, str]:
    """The status of OpenLDAP's own client, and the DNs that it found over STARTTLS."""
    command = [require("ldapsearch", "ldap-utils"), "-x", "-ZZ", "-LLL", "-b", BASE]
    command += ["-H", f"ldap://127.0.0.1:{slapd.port}", "-D", READER, "-w", READER_PASSWORD]
    environment = {"LDAPTLS_CACERT": str(certificates.trust)}
    return slapd.processes.run("ldapsearch", [*command, *options, filter_, "1.1"], env=environment)


@pytest.mark.parametrize(("size", "status"), [("unlimited", 0), ("500", 4)])
def test_the_directory_is_as_the_tests_take_it_for(
    processes: Processes, certificates: Certificates, size: str, status: int
) -> None:
    """
    All are there, page by page; an account of Active Directory's kind is found by its name; and
    a reader whose number of entries is limited gets no more than that.
    """
    gone = account("gone", "word", DISABLED)
    slapd = Slapd(processes, certificates, [*crowd(MANY), gone], size=size)
    slapd.start()

    paged = found(slapd, certificates, "(|(uid=*)(sAMAccountName=*))", "-E", "pr=500/noprompt")
    assert (paged[0], paged[1].count("dn:")) == (status, 500 if status else MANY + 1)
    one = found(slapd, certificates, f"(&(sAMAccountName=GONE)(userAccountControl={DISABLED}))")
    assert one == (0, f"dn: {gone.dn}\n\n")


def test_the_data_changes_and_survives_an_end(
    processes: Processes, certificates: Certificates
) -> None:
    """Values are replaced, entries added and deleted; it is killed, and comes back with them."""
    anna = account("anna", "word")
    slapd = Slapd(processes, certificates, [anna])
    slapd.start()
    slapd.replace(anna.dn, "displayName", "Änna <a:b>")
    slapd.add(account("bert,o", "word"))
    slapd.kill()
    slapd.start()

    assert found(slapd, certificates, "(displayName=Änna <a:b>)") == (0, f"dn: {anna.dn}\n\n")
    assert found(slapd, certificates, "(sAMAccountName=bert,o)")[1].count("dn:") == 1
    slapd.delete(anna.dn)
    assert found(slapd, certificates, "(displayName=Änna <a:b>)") == (0, "")
