"""Step 12, login: what C{cms check} finds out about a user of a directory, and about a server."""

from __future__ import annotations

from cms.faults.kinds import DirectoryFault, Fault, Side, StepWarning
from cms.signalflow import Step

LDAP_SERVER_FAILS = Fault(
    "ldap-server-fails",
    StepWarning,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "one of several LDAP servers is down",
        "no LDAP server is left to fail over to",
    ),
    cause="{peer} fails, and another server of the directory {directory} works: {problem}",
    cure="{mend}",
    mend="cms explain {fault}",
)
LDAP_USER_ABSENT = Fault(
    "ldap-user-absent",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "one user cannot log in, and is in the directory",
        "the user's entry lies beside base",
    ),
    cause="{peer} has no entry below {base} whose address is {address}.",
    cure=(
        "See how he is written there, and whether his entry lies below base; what jidMapping"
        " ({mapping}) makes of it has to be this address."
    ),
    mend=(
        "ldapsearch -x -ZZ -o TLS_CACERT=<trust> -H ldap://<server>"
        " -D '<bind_name>' -W -b '{base}' '{wanted}'"
    ),
)
LDAP_USER_FILTERED = Fault(
    "ldap-user-filtered",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "one user cannot log in, and is in the directory",
        "a user is in no group that the filter asks for",
    ),
    cause="{peer} has {address} as {dn}, and the filter {filter} leaves him out.",
    cure="Give him what the filter asks for, such as membership of a group, or widen the filter.",
)
LDAP_USER_DISABLED = Fault(
    "ldap-user-disabled",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "account-disabled, though the password is right",
        "userAccountControl 514",
        "Active Directory: data 533, 701, 775, 532 or 773",
    ),
    cause="{dn} at {peer} {closed}, so {address} cannot log in.",
    cure=(
        "If he is to log in, enable or unlock the account in the directory, or give it another end"
        " or another password, whichever it says."
    ),
)
