"""Step 2, configuration: the settings, the state directory and the start of either daemon."""

from __future__ import annotations

from cms.faults.kinds import ConfigurationError, Fault, Side, StepWarning
from cms.faults.lines import CLOCK
from cms.signalflow import Step, StepError

_FILES = "systemctl edit cms-xmpp     # [Service] LimitNOFILE=65536; in a shell: ulimit -Hn 65536"

# The configuration.

CONFIGURATION_FILE = Fault(
    "configuration-file",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=(
        "the daemon does not start: cannot be read",
        "No such file or directory",
        "it is not TOML",
    ),
    cause="{file} cannot be read: {problem}.",
    cure=(
        "Give --config a readable TOML file; docs/configuration.md has one to start from. If"
        " permission is denied, run it as the user of the daemon, or as root."
    ),
)
CONFIGURATION_ENCODING = Fault(
    "configuration-encoding",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=(
        "Invalid statement (at line 1, column 1)",
        "invalid start byte",
        "saved with Notepad or PowerShell",
    ),
    cause="{file} {problem}, so it is not read.",
    cure="{mend}",
    mend=(
        "file {file}\n"
        "sed -i '1s/^\\xEF\\xBB\\xBF//' {file}     # a byte order mark\n"
        "iconv -f UTF-16 -t UTF-8 -o {file}.utf8 {file}     # UTF-16: look at it, and rename it"
    ),
)
CONFIGURATION_VALUE = Fault(
    "configuration-value",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=(
        "the daemon does not start",
        "this key is not known",
        "it is missing",
    ),
    cause="{file}: {key}: {problem}.",
    cure="{mend}",
)
CONFIGURATION_OF_XMPP_SERVER = Fault(
    "configuration-of-xmpp-server",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE | Side.CHECK | Side.COMMAND,
    symptoms=(
        "unique_name: it is missing, although xmpp.toml is right",
        "cms check --config xmpp.toml fails",
    ),
    cause="{file} is the configuration of an XMPP server, and a Callbridge's is wanted here.",
    cure=(
        "Give --config a callbridge.toml. Of an xmpp.toml: cms check --server, cms xmpp and twistd"
        " cms-xmpp."
    ),
    mend="cms check --server --config {file}",
)
CONFIGURATION_OF_CALLBRIDGE = Fault(
    "configuration-of-callbridge",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "hostname: it is missing, although callbridge.toml is right",
        "cms check --server --config callbridge.toml fails",
    ),
    cause="{file} is the configuration of a Callbridge, and an XMPP server's is wanted here.",
    cure=(
        "Give --config an xmpp.toml. Of a callbridge.toml: cms check without --server, cms"
        " callbridge and twistd cms-callbridge."
    ),
    mend="cms check --config {file}",
)
# The state directory.

STATE_FULL = Fault(
    "state-full",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=(
        "No space left on device",
        "database or disk is full",
        "disk I/O error",
        "Disk quota exceeded",
    ),
    cause="{path} cannot be written: there is no room left on its disk.",
    cure="Make room on the disk of {folder}, and do it again; what was stored before is whole.",
    mend="df -h {folder}\ndf -i {folder}",
)
STATE_READ_ONLY = Fault(
    "state-read-only",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=(
        "Read-only file system",
        "attempt to write a readonly database",
    ),
    cause="{path} cannot be written: its file system is mounted read-only.",
    cure=(
        "Look at the kernel's log for why (a disk with errors is made so), mount it writable, and"
        " do it again."
    ),
    mend="findmnt --target {folder}\ndmesg --level=err",
)
STATE_FORBIDDEN = Fault(
    "state-forbidden",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=("Permission denied",),
    cause="{path} cannot be used by this user ({user}).",
    cure="Run it as the owner of the state directory.",
    mend="ls -ld {folder} {path}",
)
STATE_BUSY = Fault(
    "state-busy",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=("database is locked",),
    cause="{path} is being written by another process, and stayed so for {seconds} s.",
    cure="Do it again when that process is done.",
    mend="fuser -v {path}",
)
STATE_DAMAGED = Fault(
    "state-damaged",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=(
        "database disk image is malformed",
        "file is not a database",
    ),
    cause="{path} is damaged: {problem}.",
    cure="Stop the daemon, put a backup in its place (docs/operate.md says how), and start it.",
    mend="sqlite3 {path} 'PRAGMA integrity_check'",
)
STATE_NEWER = Fault(
    "state-newer",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=("was written by a newer version of this program",),
    cause="{path} was written by a newer version of this program.",
    cure=(
        "Install that version again, or restore the backup from before it was installed"
        " (docs/operate.md, Backup)."
    ),
    mend="sqlite3 {path} 'PRAGMA user_version'",
)
STATE_UNSAFE = Fault(
    "state-unsafe",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=("others than its owner may write",),
    cause="{problem}.",
    cure="{mend}",
)
STATE_UNUSABLE = Fault(
    "state-unusable",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=(
        "unable to open database file",
        "Input/output error",
    ),
    cause="{path} cannot be used: {problem}.",
    cure="Look at the disk of {folder} and at the kernel's log (dmesg).",
)
# What a daemon opens.

FILES_RUN_OUT = Fault(
    "files-run-out",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE | Side.SERVER | Side.CHECK,
    symptoms=(
        "Too many open files",
        "EMFILE",
        "connections are closed at once",
    ),
    cause="Connections are closed unheard: the daemon has as many files open as it may ({limit}).",
    cure="Raise the limit of files, and restart it.",
    mend=_FILES,
)
LISTEN_FAILED = Fault(
    "listen-failed",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "Address already in use",
        "Permission denied on port 443 or 445",
        "cannot listen on tcp:5223",
    ),
    cause="{file}: {key}: cannot listen on {endpoint}: {problem}.",
    cure="Free the port, name another one, or allow this user to open it.",
    mend="ss -ltnp",
)
# At whichever step it happens (Fault.at).

INTERNAL = Fault(
    "internal",
    StepError,
    Step.CONFIGURATION,
    on=Side.LINK | Side.REGISTRATION | Side.CHECK,
    symptoms=(
        "unexpected error",
        "Traceback in the log",
    ),
    cause="An unexpected error of this program: {problem}. It is no fault of the other side.",
    cure=(
        "Report it to whoever maintains cms, with the traceback (the daemon's log around this"
        " moment); a daemon goes on by itself, and tries its link again."
    ),
)
CHECK_UNFINISHED = Fault(
    "check-unfinished",
    StepError,
    Step.CONFIGURATION,
    on=Side.CHECK,
    symptoms=(
        "cms check hangs",
        "cms check takes for ever",
    ),
    cause="The check did not end within its {seconds} s; it was waiting for {waiting}.",
    cure="Look at what it waited for; --timeout gives each stage more time.",
)
# What an audit finds out about one's own set-up.

OWN_CERTIFICATE_UNUSABLE = Fault(
    "own-certificate-unusable",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CONFIGURED,
    symptoms=(
        "no shared cipher, no suitable signature algorithm",
        "ca key too small",
        "pss saltlen too small",
        "no client can connect since the certificate was changed",
    ),
    cause=(
        "{file}: tls.certificate: nobody can use {path}: a TLS handshake with it, tried in memory,"
        " fails ({problem}). Its keys: {keys}."
    ),
    cure=(
        "Issue it anew with a key that every peer can use, P-256 or RSA of 2,048 bits (an RSA-PSS"
        " key without parameters), by CAs with such keys that sign with SHA-256."
    ),
    mend=(
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key     # for a"
        " new certificate: the old key stays until it is there"
    ),
)
CLOCK_WRONG = Fault(
    "clock-wrong",
    ConfigurationError,
    Step.CONFIGURATION,
    on=Side.CALLBRIDGE | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "certificate is not yet valid although it was just issued",
        "the clock of the virtual machine is wrong",
        "date shows 1970",
    ),
    cause="This host's clock says {now}, which cannot be: {problem}.",
    cure="Set the clock, and keep it set with NTP.",
    mend=CLOCK,
)
# Warnings.

EQUAL_SECRETS = Fault(
    "equal-secrets",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "the same component secret for two Call Bridges",
        "cb1 and cb2 have equal secrets in xmpp callbridge list",
    ),
    cause="{names} have the same secret: whoever knows one can speak for the others.",
    cure="Give each Callbridge a secret of its own, here and in its callbridge.toml.",
    mend="cms xmpp callbridge rotate {name}",
)
NO_CALLBRIDGE_KNOWN = Fault(
    "no-callbridge-known",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "nobody can log in to a new XMPP server",
        "[callbridges] is empty",
        "xmpp callbridge list shows nothing",
    ),
    cause="This server knows no Callbridge: none can register, and nobody can log in.",
    cure="Add one, and give it the same secret in its callbridge.toml.",
    mend="cms xmpp callbridge add cb1",
)
FILES_FEW = Fault(
    "files-few",
    StepWarning,
    Step.CONFIGURATION,
    on=Side.SERVER | Side.CHECK,
    symptoms=("fewer connections than most_connections",),
    cause=(
        "{file}: each listener gets {given} places, where {asked} are wanted ({key}): the daemon"
        " may open {limit} files."
    ),
    cure="Raise the limit of files and restart the daemon, or set {key} to what is enough here.",
    mend=_FILES,
)
