"""
C{cms demo}: the twelve steps for real, on loopback, in one command.

It makes a small CA, serves a DNS zone in this process, starts both daemons as processes,
and logs in as a client.  It prints what the daemons log.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    DNSLookupError,
    ProcessExitedAlready,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.names import authority, dns, server
from twisted.python.failure import Failure

from cms import faults
from cms.callbridge.directories.store import UserStore
from cms.callbridge.spaces.model import PERMISSIONS, Space
from cms.callbridge.spaces.store import SpaceStore
from cms.client.login import Account, LoginFailed, LoginStream, log_in
from cms.process.clocks import make_steady
from cms.signalflow import Step, StepError
from cms.trust.files import PEMFiles
from cms.trust.issue import CertificateAuthority

DOMAIN = "meet.example.com"
HOST = "xmpp1.meet.example.com"
COMPONENT = f"cb1.{DOMAIN}"
PATIENCE = 30.0  # seconds for each thing that it waits for
CTRL_C = 0.5  # seconds that our own interrupt may come after a daemon's, when both get it
LOOPBACK = "127.0.0.1"


class DemoFailed(Exception):
    """A step did not happen; the text says which and why."""


class _Zone(authority.FileAuthority):
    """The DNS zone of the demonstration."""

    soa: Any
    records: Any

    def __init__(self, component_port: int, client_port: int) -> None:
        super().__init__("")
        name = DOMAIN.encode()
        record = dns.Record_SOA(HOST, f"admin.{DOMAIN}", 1, 3600, 600, 86400, 60, ttl=60)
        self.soa = (name, record)
        self.records = {
            name: [record],
            b"_xmpp-component._tcp." + name: [dns.Record_SRV(10, 10, component_port, HOST, 60)],
            b"_xmpp-client._tcp." + name: [dns.Record_SRV(10, 10, client_port, HOST, 60)],
            HOST.encode(): [dns.Record_A(LOOPBACK, 60)],
        }

    def loadFile(self, filename: object) -> None:
        """There is no file; the records are made here."""


class _Daemon(ProcessProtocol):
    """
    A daemon as a child process.

    @ivar errors: What it wrote to standard error.
    @ivar ended: Fires with how it ended.
    """

    def __init__(self, heard: Callable[[dict[str, Any]], None]) -> None:
        self._heard = heard
        self._rest = b""
        self.errors = b""
        self.ended: Deferred[str] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """Log lines, one JSON object each."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                self.errors += line + b"\n"  # an error of twistd, before logging began
                continue
            self._heard(event)

    def errReceived(self, data: bytes) -> None:
        """Its standard error."""
        self.errors = (self.errors + data)[-4000:]

    def processEnded(self, reason: Failure) -> None:
        """The process has ended."""
        self.ended.callback(reason.getErrorMessage().rstrip("."))


@define(eq=False)
class Demo:
    """
    One run.

    @ivar write: Prints a line.
    """

    reactor: Any
    folder: Path
    write: Callable[[str], None]
    colour: bool = False
    daemons: list[_Daemon] = field(factory=list)
    ports: dict[str, int] = field(factory=dict)
    waiting: list[tuple[Callable[[dict[str, Any]], bool], Deferred[dict[str, Any]]]] = field(
        factory=list
    )
    listening: list[Any] = field(factory=list)
    space: Space | None = None
    stopping: bool = False

    async def run(self) -> LoginStream:
        """
        Walk the twelve steps.

        @raise DemoFailed: one of them failed.
        """
        names = ("component", "client", "dns", "xmpp page", "callbridge page", "meetings")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._write_files()
        self._serve_dns()
        ready = self.expect("cms-xmpp listens", lambda e: e.get("kind") == "client" and "at" in e)
        self._start("cms-xmpp", "xmpp.toml")
        await ready
        await self._step_1()
        active = self.expect(
            "the link is up", lambda e: e.get("step") == 11 and e.get("result") == "running"
        )
        decides = self.expect("the Callbridge decides log-ins", lambda e: "mechanisms" in e)
        self._start("cms-callbridge", "callbridge.toml")
        await _all(active, decides)
        return await self._step_12()

    # what is needed

    def _write_files(self) -> None:
        ca = CertificateAuthority("cms demo CA")
        self._put("ca.pem", ca.certificate)
        server_side = ca.issue(HOST, [DOMAIN, HOST])
        callbridge_side = ca.issue(COMPONENT, [COMPONENT])
        for name, issued in (("xmpp", server_side), ("cb1", callbridge_side)):
            self._put(f"{name}.crt", issued.certificate)
            self._put(f"{name}.key", issued.key)
        self._put("cb1.secret", secrets.token_urlsafe(24).encode())
        self._put("alice.password", secrets.token_urlsafe(12).encode())
        self._put("xmpp.toml", self._xmpp_toml().encode())
        self._put("callbridge.toml", self._callbridge_toml().encode())
        store = UserStore(self.folder / "callbridge")
        store.set_password("alice", (self.folder / "alice.password").read_text())
        spaces = SpaceStore(self.folder / "callbridge")
        passcode = f"{secrets.randbelow(10_000):04}"
        self.space = spaces.add("Demonstration", uri="demonstration", passcode=passcode)
        spaces.add_member(self.space.id, f"alice@{DOMAIN}", PERMISSIONS)
        made = "a CA, certificates, configuration, user alice and a space"
        self.write(f"made {made} in {self.folder}")

    def _put(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)

    def _xmpp_toml(self) -> str:
        return f"""\
domain = "{DOMAIN}"
hostname = "{HOST}"
state_dir = "xmpp"

[tls]
certificate = "xmpp.crt"
key = "xmpp.key"
trust = "ca.pem"
callbridge_certificates = "required"

[listen]
component = ["tcp:{self.ports["component"]}:interface={LOOPBACK}"]
client = ["tcp:{self.ports["client"]}:interface={LOOPBACK}"]
api_plain = ["tcp:{self.ports["xmpp page"]}:interface={LOOPBACK}"]
web_plain = ["tcp:{self.ports["meetings"]}:interface={LOOPBACK}"]

[login]
wait = 1

[callbridges]
cb1 = {{ secret_file = "cb1.secret" }}

[dns]
servers = ["{LOOPBACK}:{self.ports["dns"]}"]
"""

    def _callbridge_toml(self) -> str:
        return f"""\
unique_name = "cb1"
domain = "{DOMAIN}"
server_address = ""
shared_secret_file = "cb1.secret"
state_dir = "callbridge"

[tls]
trust = "ca.pem"
certificate = "cb1.crt"
key = "cb1.key"

[listen]
api_plain = ["tcp:{self.ports["callbridge page"]}:interface={LOOPBACK}"]

[dns]
servers = ["{LOOPBACK}:{self.ports["dns"]}"]
"""

    def _serve_dns(self) -> None:
        factory = server.DNSServerFactory(
            authorities=[_Zone(self.ports["component"], self.ports["client"])]
        )
        factory.noisy = False
        protocol = dns.DNSDatagramProtocol(factory)
        protocol.noisy = False
        port = self.ports["dns"]
        try:
            self.listening.append(self.reactor.listenUDP(port, protocol, interface=LOOPBACK))
            self.listening.append(self.reactor.listenTCP(port, factory, interface=LOOPBACK))
        except CannotListenError as problem:
            raise DemoFailed(f"the DNS zone cannot be served: {problem}") from None
        self.write(f"serving the zone {DOMAIN} on {LOOPBACK} port {port}")

    def _start(self, plugin: str, config: str) -> None:
        daemon = _Daemon(self._heard)
        twistd = str(Path(sys.executable).with_name("twistd"))
        arguments = [twistd, "-n", "--pidfile=", plugin, "--config", config]
        self.reactor.spawnProcess(
            daemon,
            twistd,
            [*arguments, "--log-format", "json"],
            env=dict(os.environ),
            path=str(self.folder),
        )
        self.daemons.append(daemon)
        daemon.ended.addCallback(lambda how: self._died(plugin, daemon, how))

    def _died(self, plugin: str, daemon: _Daemon, how: str) -> None:
        """A daemon ended: report it, unless a Ctrl-C has ended it that also ends us."""
        self.reactor.callLater(CTRL_C, self._tell_death, plugin, daemon, how)

    def _tell_death(self, plugin: str, daemon: _Daemon, how: str) -> None:
        if self.stopping:
            return
        said = daemon.errors.decode(errors="replace").strip()
        problem = f"{plugin} ended early: {said or how}"
        if not self._fail(problem):
            self.write(problem)

    def _fail(self, problem: str) -> bool:
        """Fail every wait; returns whether there was one."""
        waiting, self.waiting = self.waiting, []
        for _, waiter in waiting:
            waiter.errback(Failure(DemoFailed(problem)))
        return bool(waiting)

    # what the daemons say

    def expect(
        self, what: str, condition: Callable[[dict[str, Any]], bool]
    ) -> Deferred[dict[str, Any]]:
        """
        Wait for an event of either daemon.

        @return: Fails with L{DemoFailed} when it does not come.
        """

        def late(_: object, seconds: float) -> Failure:
            return Failure(DemoFailed(f"waited {seconds:.0f} s in vain: {what}"))

        waiter: Deferred[dict[str, Any]] = Deferred()
        self.waiting.append((condition, waiter))
        waiter.addTimeout(PATIENCE, self.reactor, late)
        return waiter

    def _heard(self, event: dict[str, Any]) -> None:
        self._show(event)
        for entry in list(self.waiting):
            condition, waiter = entry
            if condition(event):
                self.waiting.remove(entry)
                waiter.callback(event)

    def _show(self, event: dict[str, Any]) -> None:
        if self.stopping or "attempt" not in event or "step" not in event:
            return
        if event.get("result") == "failed":
            self.line(event["step"], "FAILED", f"{event['cause']}\n{'':26}cure: {event['cure']}")
            self._fail(f"step {event['step']}: {event['cause']}")
        elif event.get("result") == "passed" or event["step"] == Step.ACTIVE:
            self.line(event["step"], "ok", event.get("shown", ""), event.get("seconds", 0.0))

    def line(self, number: int, result: str, text: str, seconds: float = 0.0) -> None:
        """Print a step."""
        step = Step(number)
        shown = result
        if self.colour:
            shown = f"\x1b[{32 if result == 'ok' else 31}m{result}\x1b[0m"
        took = f" [{seconds * 1000:.1f} ms]" if seconds else ""
        self.write(f"step {step.value:2} {step.title:18} {shown}  {text}{took}")

    # steps 1 and 12

    async def _log_in(self) -> LoginStream:
        password = (self.folder / "alice.password").read_text()
        context = PEMFiles("the demonstration", self.folder / "ca.pem", None, None).context()
        account = Account("alice", DOMAIN, password)
        try:
            return await log_in(self.reactor, account, LOOPBACK, self.ports["client"], context)
        except (StepError, ConnectError, DNSLookupError) as problem:
            # The last is what Twisted has for a look-up that was cancelled.
            raise DemoFailed(f"the client came to no stream: {problem}") from None

    async def _step_1(self) -> None:
        """No log-in without a link."""
        try:
            stream = await self._log_in()
        except LoginFailed as refusal:
            if refusal.fault != faults.NO_CALLBRIDGE.name:
                raise DemoFailed(f"step 1: refused with {refusal}") from None
            self.line(1, "ok", f"before any link a log-in is refused: {refusal}")
        else:
            stream.close()
            raise DemoFailed("step 1: a log-in succeeded although there is no Callbridge")

    async def _step_12(self) -> LoginStream:
        told = self.expect("a session began", lambda e: e.get("how") == "created")
        began = self.reactor.seconds()
        try:
            logging_in = Deferred.fromCoroutine(self._log_in())
            await _all(logging_in, told)
            stream = await logging_in
        except LoginFailed as problem:
            raise DemoFailed(f"step 12: {problem}") from None
        seconds = self.reactor.seconds() - began
        text = f"{stream.jid} logged in with {stream.mechanism}, decided by {COMPONENT}"
        self.line(12, "ok", text, seconds)
        return stream

    # the end

    async def stop(self) -> None:
        """End both daemons and the DNS server; wait until they are gone."""
        self.stopping = True
        self.waiting.clear()
        for daemon in reversed(self.daemons):
            # A signal between fork and exec is lost, hence the second one.
            plan = ((0.0, "TERM"), (1.0, "TERM"), (6.0, "KILL"))
            calls = [self.reactor.callLater(s, _signal, daemon.transport, n) for s, n in plan]
            await daemon.ended
            for call in calls:
                if call.active():
                    call.cancel()
        for port in self.listening:
            await _stopped(port)


def _signal(process: Any, name: str) -> None:
    with suppress(ProcessExitedAlready):
        process.signalProcess(name)


async def _all(*waiting: Deferred[Any]) -> list[Any]:
    """The results of all; the first failure, as it is, when one fails."""
    try:
        return await gatherResults(waiting, consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()


async def _stopped(port: Any) -> None:
    stopping = port.stopListening()
    if stopping is not None:
        await stopping


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback interface that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


async def run_demo(reactor: Any, *, keep: bool, write: Callable[[str], None], colour: bool) -> int:
    """
    The whole demonstration.  Ctrl-C, SIGTERM and SIGHUP end it at any moment and remove
    everything it made.

    @param keep: Leave everything running until the process is told to end.
    @return: The exit status.
    """
    folder = Path(tempfile.mkdtemp(prefix="cms-demo-"))
    make_steady(reactor)
    demo = Demo(reactor, folder, write, colour)
    walking: Deferred[None] = Deferred.fromCoroutine(_walk(demo, keep=keep))
    over: Deferred[None] = Deferred()

    def interrupted() -> Deferred[None]:
        demo.stopping = True
        walking.cancel()  # the walk, or the wait for this after its failure
        return over  # the reactor goes on until then

    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    # The terminal was closed.
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reactor.stop))
    status = 1
    try:
        await walking
        write("all twelve steps passed")
        status = 0
    except DemoFailed as problem:
        # A daemon that got the same Ctrl-C may be gone before we have heard of it.
        with suppress(CancelledError):
            walking = deferLater(reactor, 0.0 if demo.stopping else CTRL_C)
            await walking
        write("stopped" if demo.stopping else f"FAILED: {problem}")
    except CancelledError:
        write("stopped")
    finally:
        await demo.stop()
        shutil.rmtree(folder)
        over.callback(None)
    return status


async def _walk(demo: Demo, *, keep: bool) -> None:
    stream = await demo.run()
    if keep:
        _tell_how_to_reach(demo)
        try:
            await Deferred()
        except CancelledError:
            demo.write("stopping")
    stream.close()
    await stream.ended


def _tell_how_to_reach(demo: Demo) -> None:
    ports, folder, space = demo.ports, demo.folder, demo.space
    assert space is not None  # noqa: S101 - it was made with the files
    meetings = f"http://{LOOPBACK}:{ports['meetings']}"
    demo.write(
        f"""
running until Ctrl-C; everything is in {folder}

join the meeting with a browser: {meetings}/m/{space.secret}
  without TLS, which browsers accept from their own computer: there is nothing to trust first
  by call ID: {meetings}/meeting/{space.call_id}, passcode {space.passcode}
  as alice  : {meetings}/, with the password below

  log in    : alice@{DOMAIN}, password in {folder}/alice.password
  clients   : {LOOPBACK} port {ports["client"]}, STARTTLS; trust {folder}/ca.pem
  components: {LOOPBACK} port {ports["component"]}, TLS
  DNS       : dig @{LOOPBACK} -p {ports["dns"]} _xmpp-component._tcp.{DOMAIN} SRV
  pages     : account admin
    XMPP server: http://{LOOPBACK}:{ports["xmpp page"]}/, \
password in {folder}/xmpp/admin.password
    Callbridge : http://{LOOPBACK}:{ports["callbridge page"]}/, \
password in {folder}/callbridge/admin.password
  status    : {Path(sys.executable).with_name("cms")} status \
--config {folder}/xmpp.toml --config {folder}/callbridge.toml"""
    )
