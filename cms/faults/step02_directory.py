"""Step 2, configuration: what is wrong with a [[directory]], as its servers say, and its sync."""

from __future__ import annotations

from cms.faults.kinds import DirectoryFault, Fault, Side, StepWarning
from cms.signalflow import Step

LDAP_ACCOUNT_REFUSED = Fault(
    "ldap-account-refused",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "Invalid credentials (49) for the bind account",
        "nobody of the directory can log in since its password was changed",
    ),
    cause="{peer} refuses our own account {account}: {problem}.",
    cure=(
        "Correct bind_name and the password in bind_password_file of this [[directory]], then"
        " restart the Callbridge; see that the account is neither locked nor expired."
    ),
    mend=("ldapwhoami -x -ZZ -o TLS_CACERT=<trust> -H ldap://<server> -D '<bind_name>' -W"),
)
LDAP_BASE_MISSING = Fault(
    "ldap-base-missing",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=("No such object (32)",),
    cause="{peer} knows no base {base}, or does not show it to our account.",
    cure="Correct base of this [[directory]], or let the account of bind_name read below it.",
    mend=(
        "ldapsearch -x -ZZ -o TLS_CACERT=<trust> -H ldap://<server>"
        " -D '<bind_name>' -W -b '' -s base namingContexts"
    ),
)
LDAP_REFERRAL = Fault(
    "ldap-referral",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "Referral (10)",
        "users of another domain of the forest are not found",
    ),
    cause="{peer} says that another server has what is asked ({doing}); it is not followed.",
    cure=(
        "Name servers that hold the whole tree below base: for an Active Directory of several"
        " domains the global catalogue, ldaps://<server>:3269; or one [[directory]] for each."
    ),
)

# A sync.

SYNC_CUT = Fault(
    "sync-cut",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE,
    symptoms=(
        "Size limit exceeded (4)",
        "a sync sees only the first 500 or 1000 users",
    ),
    cause=(
        "The sync of {directory} broke off after {count:entry|entries}: {problem} Nothing was"
        " changed."
    ),
    cure=(
        "Let the server answer the account of bind_name in pages without an end (OpenLDAP:"
        " size.prtotal=unlimited), and run the sync again."
    ),
    mend='olcLimits: dn.exact="<bind_name>" size.prtotal=unlimited     # OpenLDAP, the database',
)
SYNC_BROKEN = Fault(
    "sync-broken",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE,
    symptoms=(
        "a sync fails after a part of the users, and log-ins may work",
        "the connection to the LDAP server was lost in a sync",
    ),
    cause=SYNC_CUT.cause,
    cure="{mend} Then run the sync again.",
    mend="cms explain {fault}",
)
SYNC_EMPTY = Fault(
    "sync-empty",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE,
    symptoms=(
        "the directory has no users any more",
        "the account may not read them, so it is told that there are none",
    ),
    cause="The sync of {directory} found no user, and {known} are known. Nothing was changed.",
    cure=(
        "Look at base and filter, and at what the account of bind_name may read; if really"
        " nobody is left, say so with --allow-removal."
    ),
    mend="cms callbridge directory sync {directory} --allow-removal --config callbridge.toml",
)
SYNC_REMOVES = Fault(
    "sync-removes",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE,
    symptoms=("a sync would remove half of the users",),
    cause=(
        "The sync of {directory} would shut out {gone} of {known:user}, and at most {most} are"
        " allowed (most_removed). Nothing was changed."
    ),
    cure=(
        "Look at base, filter and jidMapping. If they are really gone or disabled, say so with"
        " --allow-removal."
    ),
    mend="cms callbridge directory sync {directory} --allow-removal --config callbridge.toml",
)
SYNC_TOO_MANY = Fault(
    "sync-too-many",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE,
    symptoms=("the directory has more users than most_users",),
    cause="The directory {directory} has more than {most:user}. Nothing was changed.",
    cure="Narrow base or filter, or raise most_users of this [[directory]].",
    mend="most_users = 200000",
)
SYNC_LEFT_OUT = Fault(
    "sync-left-out",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE,
    symptoms=(
        "somebody of the directory cannot log in, and others can",
        "two entries make the same address",
        "an entry lacks the attribute of the mapping",
    ),
    cause="The sync of {directory} left out {count:entry|entries}: {names}.",
    cure="Mend these entries in the directory, or narrow the filter; status names them all.",
    mend="cms callbridge directory status --config callbridge.toml",
)

GROUPS_REFUSED = Fault(
    "groups-refused",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE,
    symptoms=(
        "people of a group of the directory do not see each other as contacts",
        "groups_base is set, and no roster shows a group",
    ),
    cause="The XMPP server does not take {number:group} of directories: {problem}.",
    cure=(
        "Our XMPP server takes contacts.most_groups of each Callbridge, if its users have contacts"
        " at all; other servers take none: leave groups_base out."
    ),
    mend="[contacts]\nmost_groups = 1000",
)

# What is offered.

MECHANISM_WITHOUT_KEYS = Fault(
    "mechanism-without-keys",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE,
    symptoms=("users who came from another server cannot log in although the password is right",),
    cause=(
        "{mechanism} is offered to everybody, and the local store has no keys for it of"
        " {number:user}: they were imported with keys for another mechanism."
    ),
    cure=(
        "Set login.mechanisms to {able} until no such users are left; a log-in with PLAIN makes the"
        " keys that are missing beside those for SCRAM-SHA-1."
    ),
    mend="# [login]\n# mechanisms = {able}",
)
MECHANISM_PARTIAL = Fault(
    "mechanism-partial",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE,
    symptoms=(
        "some users cannot log in although the password is right",
        "not-authorized with SCRAM, and not with PLAIN",
    ),
    cause="{mechanisms} are offered to everybody, and do not work for {whom}: {why}.",
    cure=(
        "Clients choose the strongest that is offered and seldom try another one. Leave it so if"
        " you know that, or offer only what works for all: remove {key}."
    ),
    mend="# {key}",
)
