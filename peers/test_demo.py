"""C{cms demo}, from outside: what it shows, and that nothing of it is left."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import signal
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from peers.browser import browsing
from peers.daemons import daemon_environment
from peers.network import wait_until
from peers.processes import Process, Processes
from peers.tools import script


class Demonstration:
    """
    One run.

    @ivar folder: Where it puts its own folder.
    """

    def __init__(
        self, processes: Processes, *options: str, command: Sequence[str] = (*script("cms"), "demo")
    ) -> None:
        self.folder = processes.make_directory("tmp")
        env = {**daemon_environment(), "TMPDIR": str(self.folder)}
        self.process: Process = processes.start("demo", [*command, *options], env=env)

    def daemon(self, plugin: str) -> int:
        """The process id of a daemon that it has started."""
        found = [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit()
            and (folder / "cmdline").exists()
            and f"\0{plugin}\0".encode() in (folder / "cmdline").read_bytes()
            and os.getpgid(int(folder.name)) == self.process.pid
        ]
        assert len(found) == 1
        return found[0]

    def ends(self, status: int) -> str:
        """It ends with this status and leaves no process and no file; its output."""
        assert self.process.wait_for_exit(20.0) == status, self.process.output
        assert "Traceback" not in self.process.output
        assert not list(self.folder.iterdir())

        def gone() -> bool:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return True
            return False

        wait_until(gone, 2.0, "the end of everything that the demonstration has started")
        return self.process.output


def test_twelve_steps(processes: Processes) -> None:
    """All twelve are shown, each once and in order, with their evidence."""
    output = Demonstration(processes).ends(0)
    shown = re.findall(r"^step +(\d+) \S+ +ok  (.*)$", output, re.MULTILINE)
    assert [int(number) for number, _ in shown] == list(range(1, 13))
    evidence = dict(shown)
    assert "No Callbridge is connected" in evidence["1"]
    assert "_xmpp-component._tcp.meet.example.com" in evidence["4"]
    assert "127.0.0.1" in evidence["5"]
    assert "DNS:meet.example.com, DNS:xmpp1.meet.example.com" in evidence["8"]
    assert "cb1.meet.example.com" in evidence["9"]
    assert "alice@meet.example.com/" in evidence["12"]


OTHERS = """
import functools
from pathlib import Path
import OpenSSL._util, OpenSSL.SSL, OpenSSL.crypto, automat._core
import twisted.internet._sslverify, twisted.internet.epollreactor, twisted.internet.tcp
from twisted.logger import formatEvent, globalLogPublisher
from twisted.protocols import tls

def other(kind, name):
    usual = getattr(kind, name)
    setattr(kind, name, lambda *arguments, **named: usual(*arguments, **named))

del OpenSSL._util.lib
other(automat._core.Automaton, "allTransitions")
other(twisted.internet.epollreactor.EPollReactor, "_doReadOrWrite")
other(twisted.internet.tcp._FileDescriptorReservation, "reserve")
other(tls.TLSMemoryBIOProtocol, "_flushReceiveBIO")

def note(event):
    if event.get("log_namespace") == "cms.fast.needs":
        with Path({said!r}).open("a") as file:
            file.write(formatEvent(event) + chr(10))

globalLogPublisher.addObserver(note)
"""
WITHOUT = (
    "TLS in and out is Twisted's own",
    "Twisted's own reactor",
    "for a key exchange any client",
    "it is not told when files run out",
    "state machines run by Automat itself",
    "why a certificate is refused is told by OpenSSL's number",
)


def test_other_insides(processes: Processes) -> None:
    """All twelve steps with libraries that are others inside, by what they have in public."""
    folder = processes.make_directory("others")
    said = folder / "said"
    (folder / "sitecustomize.py").write_text(OTHERS.format(said=str(said)))
    path = os.pathsep.join(filter(None, (str(folder), daemon_environment().get("PYTHONPATH"))))
    env = shutil.which("env")
    command = (str(env), f"PYTHONPATH={path}", *script("cms"), "demo")
    assert "all twelve steps passed" in Demonstration(processes, command=command).ends(0)
    lines = said.read_text().splitlines()
    for words in WITHOUT:  # by both daemons, and by the client but for the reactor
        assert sum(line.startswith(words) for line in lines) >= 2, words


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_keep(processes: Processes, number: signal.Signals) -> None:
    """It stays until it is told to end, and then takes everything with it."""
    demonstration = Demonstration(processes, "--keep")
    demonstration.process.wait_for("callbridge.toml\n", 20.0)
    (folder,) = demonstration.folder.iterdir()
    assert (folder / "alice.password").stat().st_mode & 0o077 == 0
    demonstration.process.signal(number)
    assert "all twelve steps passed" in demonstration.ends(0)


def test_what_keep_prints(processes: Processes) -> None:
    """The line for C{cms status} works as it is printed, and so do both pages."""
    demonstration = Demonstration(processes, "--keep")
    demonstration.process.wait_for("callbridge.toml\n", 20.0)
    printed = demonstration.process.output
    typed = re.search(r"^  status    : (.*)$", printed, re.MULTILINE)
    assert typed is not None
    status, output = processes.run("status", shlex.split(typed[1]), env=daemon_environment())
    assert status == 0, output
    assert output.count("11 active") == 2
    pages = re.findall(r"(http://127\.0\.0\.1:\d+/), password in (\S+)$", printed, re.MULTILINE)
    assert len(pages) == 2
    for url, file in pages:
        password = Path(file).read_text().strip()
        token = base64.b64encode(f"admin:{password}".encode()).decode()
        asked = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(asked, timeout=10.0) as answer:
            assert b"cb1" in answer.read()
    demonstration.process.signal(signal.SIGTERM)
    demonstration.ends(0)


def test_meeting_in_a_browser(processes: Processes, tmp_path: Path) -> None:
    """
    The link opens without a warning in a browser that trusts nothing of ours, and joins; so do
    call ID and passcode, and alice with her password, all as they are printed.
    """
    demonstration = Demonstration(processes, "--keep")
    demonstration.process.wait_for("callbridge.toml\n", 20.0)
    printed = demonstration.process.output
    link = re.search(r"^join the meeting with a browser: (http://127\S+/m/\S+)$", printed, re.M)
    by_id = re.search(r"by call ID: (http://127\S+/meeting/\d+), passcode (\d+)$", printed, re.M)
    pages = re.search(r"as alice  : (http://127\S+/), with", printed)
    file = re.search(r"log in    : alice@\S+, password in (\S+)$", printed, re.M)
    assert link
    assert by_id
    assert pages
    assert file
    assert "there is nothing to trust first" in printed
    with browsing(tmp_path) as browser:
        for url, fields in (
            (link[1], {"name": "Guest"}),
            (by_id[1], {"passcode": by_id[2], "name": "Other"}),
        ):
            browser.driver.get(url)
            browser.find("form")
            assert browser.run("return window.isSecureContext")
            for name, text in fields.items():
                browser.fill(f"#{name}", text)
            browser.press(Keys.ENTER)
            browser.find(".room")
            assert fields["name"] in browser.text(".rows")
        browser.driver.get(pages[1])
        browser.find("form")
        browser.fill("#address", "alice")
        browser.fill("#password", Path(file[1]).read_text())
        browser.press(Keys.ENTER)
        browser.find(".spaces li")
        assert "Demonstration" in browser.text(".spaces")
        assert browser.complaints() == []
    demonstration.process.signal(signal.SIGTERM)
    demonstration.ends(0)


AT_ONCE = """
import os, signal, tempfile
made = tempfile.mkdtemp
def make(*args, **more):
    folder = made(*args, **more)
    os.kill(os.getpid(), signal.SIGTERM)
    return folder
tempfile.mkdtemp = make
from cms.cli import main
main(["demo"])
"""


def test_terminated_at_once(processes: Processes) -> None:
    """SIGTERM as soon as there is something to take away again takes it away."""
    python = script("python")[0]
    assert "stopped" in Demonstration(processes, command=(python, "-c", AT_ONCE)).ends(1)


INTERRUPTED = """
import os, signal, sys, time
from cms.commands import demo
say = demo._say
def interrupt(text):
    say(text)
    if text.startswith({line!r}):
        os.killpg(0, signal.SIGINT)
        if {late}:  # the daemons are gone before this process goes on
            stat = f"/proc/self/task/{{os.getpid()}}/children"
            for child in open(stat).read().split():
                os.waitid(os.P_PID, int(child), os.WEXITED | os.WNOWAIT)
demo._say = interrupt
from cms.cli import main
main(["demo"])
"""


@pytest.mark.parametrize(
    ("line", "late"),
    [("step  1 ", False), ("step  6 ", True), ("step 11 ", False), ("step 11 ", True)],
)
def test_interrupted(processes: Processes, line: str, late: bool) -> None:
    """Ctrl-C in the middle, which the daemons get as well, leaves nothing either."""
    python = script("python")[0]
    code = INTERRUPTED.format(line=line, late=late)
    assert "stopped" in Demonstration(processes, command=(python, "-c", code)).ends(1)


@pytest.mark.parametrize("plugin", ["cms-xmpp", "cms-callbridge"])
def test_broken_step(processes: Processes, plugin: str) -> None:
    """A step that fails ends it with status 1, and it says why."""
    demonstration = Demonstration(processes)
    before = "serving the zone" if plugin == "cms-xmpp" else "step  1"
    demonstration.process.wait_for(before, 20.0)
    wait_until(lambda: _has(demonstration, plugin), 5.0, f"the start of {plugin}")
    os.kill(demonstration.daemon(plugin), signal.SIGKILL)
    assert f"FAILED: {plugin} ended early: " in demonstration.ends(1)
    assert "signal 9" in demonstration.process.output


def _has(demonstration: Demonstration, plugin: str) -> bool:
    try:
        demonstration.daemon(plugin)
    except (AssertionError, FileNotFoundError, ProcessLookupError):
        return False
    return True
