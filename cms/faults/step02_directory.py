"""Step 2, configuration: what is wrong with a [[directory]], as its servers say, and its sync."""

from __future__ import annotations

from cms.faults.kinds import DirectoryFault, Fault, Side
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
    mend="ldapwhoami -x -ZZ -H ldap://<server> -D '<bind_name>' -y bind-password",
)
LDAP_BASE_MISSING = Fault(
    "ldap-base-missing",
    DirectoryFault,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=("No such object (32)",),
    cause="{peer} knows no base {base}, or does not show it to our account.",
    cure="Correct base of this [[directory]], or let the account of bind_name read below it.",
    mend="ldapsearch -x -ZZ -H ldap://<server> -D '<bind_name>' -W -b '' -s base namingContexts",
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
