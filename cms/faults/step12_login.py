"""Step 12, login: a log-in is relayed, decided and answered."""

from __future__ import annotations

from cms.faults.advice import of_sasl_failure
from cms.faults.kinds import Fault, LoginError, Side
from cms.signalflow import Step, StepError

ORIGIN_REFUSED = Fault(
    "origin-refused",
    LoginError,
    Step.LOGIN,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "a page cannot connect to /xmpp-websocket: 403",
        "WebSocket connection failed; Error during WebSocket handshake: 403",
    ),
    cause=(
        "A browser's page of {origin} was refused at /xmpp-websocket: for that browser this server"
        " is {own}, and no other site may connect."
    ),
    cure=(
        "If it is a page of yours, add its site to web.origins. If it is our own page behind a"
        " proxy, let the proxy pass on the Host header, or give web.url."
    ),
    mend='[web]\norigins = ["{origin}"]',
)
LOGIN_LINK_LOST = Fault(
    "login-link-lost",
    LoginError,
    Step.LOGIN,
    on=Side.LOGIN,
    symptoms=("remote-connection-failed: the Callbridge was lost during the log-in",),
    cause="The Callbridge {component} was lost in the middle of the log-in.",
    cure="Try again; another Callbridge, or the same one when it is back, decides anew.",
)
LOGIN_SILENT = Fault(
    "login-silent",
    LoginError,
    Step.LOGIN,
    on=Side.LOGIN,
    symptoms=(
        "remote-connection-failed after 15 s",
        "log-in hangs, then fails",
    ),
    cause="The Callbridge {component} did not decide the log-in within {seconds} s.",
    cure="Look at the load and the user directory of that Callbridge.",
)
LOGIN_BAD_ANSWER = Fault(
    "login-bad-answer",
    LoginError,
    Step.LOGIN,
    on=Side.LOGIN,
    symptoms=("remote-connection-failed: no usable answer",),
    cause="The Callbridge {component} gave no usable answer ({problem}).",
    cure="Run the same version of both halves; the log of that Callbridge says more.",
)
LOGIN_UNDECIDED = Fault(
    "login-undecided",
    LoginError,
    Step.LOGIN,
    on=Side.LOGIN,
    symptoms=(
        "the user directory cannot answer now",
        "too many log-ins at once",
        "remote-connection-failed: could not decide the log-in",
    ),
    cause="The Callbridge {component} could not decide the log-in: {problem}.",
    cure=(
        "Look at the log of that Callbridge: its user directory fails, or more log in at once than"
        " it takes. The client's program tries again by itself."
    ),
    mend="journalctl -u cms-callbridge --since -10min",
)
LOGIN_UNUSABLE = Fault(
    "login-unusable",
    LoginError,
    Step.LOGIN,
    on=Side.SERVER,
    symptoms=(
        "aborted",
        "incorrect-encoding",
        "malformed-request",
    ),
    cause="The client's log-in could not be used ({condition}).",
    cure=(
        "Look at the client: it has to choose one of the mechanisms offered, and to end what it"
        " began."
    ),
)
LOGIN_REFUSED = Fault(
    "login-refused",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "unsuccessful login request from",
        "no user found for authorisation",
        "not-authorized",
    ),
    cause="The Callbridge {component} refused the log-in ({condition}).",
    cure="{mend}",
    mend="cms callbridge user list --config callbridge.toml",
)

SESSIONS_LATER = Fault(
    "sessions-later",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.COMMAND,
    symptoms=("a user who was disabled is still online",),
    cause="The sessions of {jid} have not ended yet: {problem}.",
    cure=(
        "Bring the link up: the server then names the sessions that are left, and those of this"
        " user end. To end them before, go to the XMPP server's host."
    ),
    mend="cms xmpp client kick {jid}",
)
SESSIONS_STAY = Fault(
    "sessions-stay",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE,
    symptoms=("a user who was disabled is still online, though the link is up",),
    cause="The XMPP server does not end the {number:session} of {jid} ({problem}).",
    cure=(
        "End them at the XMPP server with its own means, and bring it to the version of this"
        " Callbridge."
    ),
    mend="cms xmpp client kick {jid}",
)

CONTACTS_LATER = Fault(
    "contacts-later",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.COMMAND,
    symptoms=("who gets the name of a deleted user has his contacts",),
    cause="The XMPP server has not forgotten the contacts of {jid} yet: {problem}.",
    cure=(
        "Bring the link up: the Callbridge asks the server again. To forget them before, go to"
        " the XMPP server's host."
    ),
    mend="cms xmpp contacts forget {jid}",
)
CONTACTS_STAY = Fault(
    "contacts-stay",
    LoginError,
    Step.LOGIN,
    on=Side.CALLBRIDGE,
    symptoms=("who gets the name of a deleted user has his contacts, though the link is up",),
    cause="The XMPP server does not forget the contacts of {jid} ({problem}).",
    cure=(
        "Forget them at the XMPP server, unless another Callbridge has this user, or give the name"
        " to nobody else; a server of another make has means of its own."
    ),
    mend="cms xmpp contacts forget {jid}",
)


def login_refused(component: str, condition: str) -> StepError:
    """A Callbridge said no with this condition (RFC 6120 6.5)."""
    mend = of_sasl_failure(condition)
    return LOGIN_REFUSED.error(component=component, condition=condition, mend=mend)


# As the client sees it.

LOGIN_DENIED = Fault(
    "login-denied",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "not-authorized",
        "unsuccessful login request from",
        "wrong user name or password",
    ),
    cause=(
        "{peer} refused the log-in of {user} ({condition}): nothing is wrong with the link; who"
        " decides log-ins there, the Callbridge, said no."
    ),
    cure=(
        "Check the user name and the password; cms log --user on the Callbridge's host says which"
        " is wrong."
    ),
    mend=(
        "cms log --user {user} --config callbridge.toml\n"
        "cms callbridge user add {user} --config callbridge.toml     # a local user: adds it, or"
        " sets its password"
    ),
)
LOGIN_SLOWED = Fault(
    "login-slowed",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "temporary-auth-failure: too many failed log-ins, refused for 300 s",
        "the right password is refused after many wrong ones",
        "locked out",
    ),
    cause=(
        "{peer} does not look at the log-in of {user} now ({text}): wrong passwords came before,"
        " from this address or for this account."
    ),
    cure=(
        "Wait that long, and log in with the right password: until then it is refused like a wrong"
        " one. If it was not you, the record names the address of who guesses; and who runs the"
        " Callbridge can release the lock."
    ),
    mend=(
        "cms log --since 1h     # who guesses\n"
        "cms callbridge lock list\n"
        "cms callbridge lock clear {user}"
    ),
)
LOGIN_TEMPORARY = Fault(
    "login-temporary",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "temporary-auth-failure",
        "the log-in works only sometimes",
    ),
    cause="{peer} could not decide the log-in of {user} ({condition}: {text}).",
    cure=(
        "Try again; if it stays, the log of the XMPP server names the Callbridge that did not"
        " answer."
    ),
)
LOGIN_DISABLED = Fault(
    "login-disabled",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "account-disabled",
        "credentials-expired",
    ),
    cause="{peer} knows {user}, but the account is not allowed to log in ({condition}: {text}).",
    cure=(
        "Enable the account on the Callbridge's host (cms callbridge user enable). That of a user"
        " of a directory is enabled there, and gets another password there where its own has"
        " expired."
    ),
    mend="cms callbridge user enable {user} --config callbridge.toml     # a local user",
)
LOGIN_NO_MECHANISM = Fault(
    "login-no-mechanism",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "invalid-mechanism",
        "no common SASL mechanism",
    ),
    cause="{peer} offers no log-in mechanism that this client has: {offered}.",
    cure="Enable SCRAM-SHA-256 or SCRAM-SHA-1 on the server.",
)
LOGIN_NO_STARTTLS = Fault(
    "login-no-starttls",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "STARTTLS not offered",
        "the client refuses to log in without encryption",
    ),
    cause="{peer} does not offer STARTTLS, and a password is not sent without TLS.",
    cure="Give the client listener a certificate, and require STARTTLS on it.",
    mend='client = ["tcp:5222"]     # xmpp.toml, [listen]',
)
LOGIN_WRONG_DOMAIN = Fault(
    "login-wrong-domain",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "host-unknown when logging in",
        "log-in fails though the link is up: XMPP domain mismatch",
        "This server does not serve the domain",
    ),
    cause="{peer} does not serve the domain {domain} ({condition}).",
    cure=(
        "Use one domain everywhere: in the XMPP server, the Callbridge, DNS and the user's address."
    ),
)
LOGIN_UNREACHABLE = Fault(
    "login-unreachable",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "Unable to connect - try again later",
        "Connection refused on port 5222",
    ),
    cause="The client port of the XMPP server cannot be reached: {problem}",
    cure="Start the client listener, or let TCP port {port} through.",
    mend="nc -vz <host> {port}",
)
LOGIN_UNTRUSTED = Fault(
    "login-untrusted",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "clients reject the certificate",
        "certificate warning in the client",
    ),
    cause="A client does not believe the server: {problem}",
    cure="{mend}",
)
LOGIN_TIMEOUT = Fault(
    "login-timeout",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "stuck at Connecting",
        "the log-in never ends",
    ),
    cause="{peer} did not complete the log-in within {seconds} s; it was waiting for {waiting}.",
    cure="See whether the XMPP server hangs, and whether its Callbridge answers.",
)
LOGIN_BROKEN = Fault(
    "login-broken",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "back to the log-in page without any error",
        "connection lost in the log-in",
    ),
    cause="The log-in at {peer} broke off ({problem}).",
    cure="The log of the XMPP server for this time says why.",
)
