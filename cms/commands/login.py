"""C{cms login}: step 12 as a client sees it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.task import react

from cms import faults
from cms.client.login import Account, LoginFailed, LoginStream, log_in
from cms.commands.common import JSON, Complaint, Wrong, print_json, print_rows, read_secret
from cms.discovery.lookup import CLIENT_PORT
from cms.signalflow import StepError, printable
from cms.trust.files import PEMFiles
from cms.xmlstream.jid import MalformedJID, parse_jid

TIMEOUT = 20.0  # seconds
CURES = {  # by condition
    **faults.LOGIN_ADVICE,
    "remote-connection-failed": "see cms status on the server's host, for a Callbridge must be"
    " connected, and cms callbridge directory status on that of the Callbridge.",
    "host-unknown": "see the domain in ADDRESS; cms xmpp domain shows that of the server.",
    "connection-lost": "see --server: it wants the port for clients with STARTTLS, which"
    " cms xmpp listen shows.",
}
SLOWED_CURE = (
    "wait that long, or cms callbridge lock clear on the Callbridge's host: until then the right"
    " password is refused like a wrong one. cms log --user there says from where who guesses."
)
# This command has no configuration file; --trust stands for tls.trust.
TRUST_CURES = dict.fromkeys(
    (
        faults.CERTIFICATE_UNTRUSTED.name,
        faults.CERTIFICATE_ROOT_UNTRUSTED.name,
        faults.CERTIFICATE_SELF_SIGNED.name,
        faults.TRUST_OTHER_KEY.name,
        faults.TRUST_EXPIRED.name,
    ),
    "give the CA's certificate with --trust FILE, if it is to be believed.",
)


@click.command()
@click.argument("address")
@click.option(
    "--server",
    metavar="HOST[:PORT]",
    help=f"The XMPP server.  Default: the domain of ADDRESS, port {CLIENT_PORT}.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CAs that are trusted, in PEM form.  Default: the system's.",
)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@JSON
def login(
    address: str, server: str | None, trust: Path | None, password_stdin: bool, as_json: bool
) -> None:
    """
    Log in as ADDRESS once, as a client does, and log out.

    STARTTLS with a certificate that names the domain, SCRAM, and a resource.  No SRV
    look-up is made: give the server with --server.
    """
    user, domain = _split(address)
    host, port = _place(server or domain)
    context = PEMFiles("--trust", trust, None, None).context()
    password = read_secret("Password", from_stdin=password_stdin, twice=False)
    jid, mechanism = _log_in(Account(user, domain, password), host, port, context)
    if as_json:
        print_json({"address": jid, "mechanism": mechanism})
    else:
        print_rows([("Logged in", jid), ("Mechanism", mechanism)])


def _split(address: str) -> tuple[str, str]:
    try:
        jid = parse_jid(address)
    except MalformedJID as problem:
        raise Complaint(f"{address}: {problem}") from None
    if jid.user is None or jid.resource is not None:
        raise Complaint(f"{address} is no user. Cure: write user@domain.")
    return str(jid.user), str(jid.host)


def _place(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(CLIENT_PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise Complaint(f"{text}: {port} is no port. Cure: write --server HOST:PORT.")
    return host.strip("[]"), int(port)


def _log_in(account: Account, host: str, port: int, context: SSL.Context) -> tuple[str, str]:
    """
    The address that was bound, and the mechanism.

    @raise Wrong: it did not succeed.
    """
    ended: list[LoginStream | Exception] = []

    async def run(reactor: Any) -> None:
        try:
            stream = await log_in(reactor, account, host, port, context, timeout=TIMEOUT)
            ended.append(stream)
            stream.close()
            await stream.ended
        except (StepError, LoginFailed, ConnectError, DNSLookupError) as problem:
            ended.append(problem)

    with contextlib.suppress(SystemExit):
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    outcome = ended[0] if ended else click.Abort()
    if isinstance(outcome, LoginStream):
        return outcome.jid, outcome.mechanism
    if isinstance(outcome, click.Abort):
        raise outcome
    raise Wrong(_complaint(outcome, f"{host} port {port}"))


def _complaint(outcome: Exception, where: str) -> str:
    """The error with its cure."""
    if isinstance(outcome, StepError):
        return f"{outcome.cause} Cure: {TRUST_CURES.get(outcome.fault, outcome.cure)}"
    if isinstance(outcome, ConnectError | DNSLookupError):
        cure = "start the server, or name host and port with --server; cms xmpp listen shows them."
    elif isinstance(outcome, LoginFailed) and outcome.fault == faults.LOGIN_SLOWED.name:
        cure = SLOWED_CURE
    else:
        condition = getattr(outcome, "condition", "")
        cure = CURES.get(condition, "see the server's log, and its ports with cms xmpp listen.")
    problem = str(outcome).rstrip(".")
    return printable(f"the log-in at {where} did not succeed: {problem}. Cure: {cure}")
