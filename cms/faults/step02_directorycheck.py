"""Step 2, configuration: what C{cms check} finds out about base, filter and mappings."""

from __future__ import annotations

from cms.faults.kinds import DirectoryFault, Fault, Side, StepWarning
from cms.signalflow import Step

LDAP_NOBODY = Fault(
    "ldap-nobody",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=(
        "the directory answers, and nobody of it can log in",
        "ldapsearch finds people, the Callbridge finds none",
    ),
    cause="{peer} shows no entry below {base} that fits the filter {filter}.",
    cure=(
        "Correct filter or base of this [[directory]], or let the account of bind_name read the"
        " people: entries that it may not see are left out without a word."
    ),
    mend=(
        "ldapsearch -x -ZZ -o TLS_CACERT=<trust> -H ldap://<server>"
        " -D '<bind_name>' -W -b '{base}' '{filter}' 1.1"
    ),
)
LDAP_ATTRIBUTE_ABSENT = Fault(
    "ldap-attribute-absent",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=(
        "a sync leaves out everybody",
        "the attribute of the mapping is misspelt, or is that of another directory's schema",
    ),
    cause=(
        "None of {count:entry|entries} at {peer} has the attribute {attribute}, which {key} names."
    ),
    cure=(
        "Name an attribute that people have there (OpenLDAP: uid or mail; Active Directory:"
        " sAMAccountName or userPrincipalName), or let the account of bind_name read it."
    ),
    mend=(
        "ldapsearch -x -ZZ -o TLS_CACERT=<trust> -H ldap://<server>"
        " -D '<bind_name>' -W -b '{base}' -z 1 '{filter}'"
    ),
)
LDAP_ADDRESSES_UNUSABLE = Fault(
    "ldap-addresses-unusable",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=(
        "a sync leaves out everybody",
        "jidMapping makes addresses of another domain",
    ),
    cause="None of {count:entry|entries} at {peer} gets an address of {domain}: {problem}.",
    cure="Let jidMapping make addresses of {domain}; it is {mapping} now.",
    mend='jidMapping = "$uid$@{domain}"     # Active Directory: $sAMAccountName$@{domain}',
)
LDAP_LEFT_OUT = Fault(
    "ldap-left-out",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=(
        "somebody of the directory cannot log in, and others can",
        "two entries have one address, or an address cannot be prepared (RFC 7622)",
    ),
    cause="{left} of {count:entry|entries} at {peer} cannot log in: {names}.",
    cure=(
        "Mend these entries in the directory, or narrow filter so that it leaves them out. The"
        " password of a user of an earlier directory is the one there."
    ),
)
LDAP_NO_GROUPS = Fault(
    "ldap-no-groups",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=("groups_base is set, and no roster shows a group",),
    cause="{peer} shows no group below {base} that fits {filter}{problem}.",
    cure=(
        "Correct groups_base or groups_filter of this [[directory]], or let the account of"
        " bind_name read the groups and their member, uniqueMember or memberUid."
    ),
    mend=(
        "ldapsearch -x -ZZ -o TLS_CACERT=<trust> -H ldap://<server>"
        " -D '<bind_name>' -W -b '{base}' '{filter}' cn"
    ),
)
LDAP_SIZE_LIMIT = Fault(
    "ldap-size-limit",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=(
        "Size limit exceeded (4)",
        "only the first 500 or 1000 users are known",
    ),
    cause="{peer} breaks off after {count:entry|entries}: {problem}.",
    cure=(
        "Let the server answer the account of bind_name in pages without an end (OpenLDAP:"
        " size.prtotal=unlimited). Until then a sync changes nothing; log-ins work."
    ),
    mend='olcLimits: dn.exact="<bind_name>" size.prtotal=unlimited     # OpenLDAP, the database',
)
