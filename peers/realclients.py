"""
Chat programs that people use, as Debian ships them, driven as a person would.

Each has a home of its own.  What one has received is looked for where it shows
it or keeps it; what it sends is typed, or said over its own remote control.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from attrs import frozen

from peers.certs import Pair
from peers.desktop import Desktop
from peers.network import wait_until
from peers.processes import Process, Processes
from peers.terminal import Terminal, Terminals
from peers.tools import require

_WINDOWS = 6  # more than finch ever opens by itself
_BUDDY_LIST = "┤Buddy List├"
PORT = 5222  # where a client looks whom nobody tells another


@frozen
class Account:
    """
    Who logs in where.

    @ivar host: The address of the server.
    @ivar trust: The CA of its certificate.
    @ivar pair: Its certificate, for programs that know no CA but the system's.
    """

    jid: str
    password: str
    host: str
    port: int
    trust: Path
    pair: Pair

    @property
    def user(self) -> str:
        """Its local part."""
        return self.jid.partition("@")[0]

    @property
    def domain(self) -> str:
        """Its domain."""
        return self.jid.partition("@")[2]


class RealClient(Protocol):
    """A chat program."""

    name: str

    def start(self) -> None:
        """Start it; it logs in by itself."""

    def say(self, to: str, body: str) -> None:
        """Send a chat message; C{to} has written before."""

    def has(self, body: str) -> bool:
        """Whether a person sees that message, or finds it in the history."""
        ...

    def shown(self) -> str:
        """What it shows, for whoever looks into why a test failed."""
        ...


def home_of(processes: Processes, name: str) -> tuple[Path, dict[str, str]]:
    """A home that is nobody's, and the environment that makes it so."""
    home = processes.make_directory(name)
    keep = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
    folders = {}
    for key, folder in (
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_RUNTIME_DIR", "run"),
    ):
        (home / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        folders[key] = str(home / folder)
    return home, {"LANG": "C.UTF-8", **keep, **folders, "HOME": str(home), "TERM": "screen"}


def _on_a_computer_of_its_own(home: Path, account: Account) -> list[str]:
    """
    What goes before a command that finds the account's server by its domain and by C{xmpp1} there,
    and trusts its CA: a mount namespace, where the system's settings are the test's.
    """
    system = {
        "/etc/hosts": (
            f"127.0.0.1 localhost\n{account.host} {account.domain} xmpp1.{account.domain}\n"
        ),
        "/etc/resolv.conf": f"nameserver {account.host}\n",  # where nobody answers
        "/etc/ssl/certs/ca-certificates.crt": account.trust.read_text(),
    }
    mounts = "set -e\n"
    for number, (path, text) in enumerate(system.items()):
        _write(home / f"system-{number}", text)
        mounts += f"mount --bind {home}/system-{number} {path}\n"
    flags = "-m" if os.geteuid() == 0 else "-rm"
    unshare = require("unshare", "util-linux")
    return [unshare, flags, "/bin/sh", "-c", mounts + 'exec "$@"', "sh"]


def _not_as_root(module: str, function: str, *options: str) -> list[str]:
    """Some refuse to run as root, who alone is there where continuous integration runs."""
    told = f"import os; os.getuid = os.geteuid = lambda: 1000; from {module} import {function}"
    return ["/usr/bin/python3", "-c", f"{told}; {function}()", *options]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


_GAJIM = _not_as_root("gajim.gajim", "main", "-l", "gajim=INFO")


class _InTerminal:
    """One that runs in a terminal."""

    terminal: Terminal

    def shown(self) -> str:
        """The screen."""
        return self.terminal.screen


class Profanity(_InTerminal):
    """profanity: libstrophe and OpenSSL."""

    def __init__(
        self,
        processes: Processes,
        terminals: Terminals,
        account: Account,
        connection: str = "",
        level: str = "INFO",
    ) -> None:
        """
        @param connection: Lines for the section C{connection} of its settings.
        @param level: Of its log.
        """
        self.name = "profanity"
        self._terminals = terminals
        self._program = require("profanity", "profanity")
        home, self._env = home_of(processes, self.name)
        self._env["SSL_CERT_FILE"] = str(account.trust)
        folder = account.jid.replace("@", "_at_")
        self._history = home / ".local/share/profanity/database" / folder / "chatlog.db"
        _write(
            home / ".local/share/profanity/accounts",
            f"[test]\nenabled=true\njid={account.jid}\nresource=profanity\n"
            f"server={account.host}\nport={account.port}\npassword={account.password}\n"
            "tls.policy=force\npresence.last=online\npresence.login=online\n",
        )
        self._log, self._level = home / "log", level
        _write(
            home / ".config/profanity/profrc",
            f"[connection]\naccount=test\n{connection}[ui]\nsplash=false\n",
        )

    def start(self) -> None:
        """See L{RealClient}."""
        command = [self._program, "-a", "test", "-l", self._level, "-f", str(self._log)]
        self.terminal = self._terminals.open(self.name, command, self._env)

    def say(self, to: str, body: str) -> None:
        """See L{RealClient}."""
        self.terminal.type(f"/msg {to} {body}")

    def enter(self, room: str, nick: str, passcode: str = "") -> None:
        """Go into a room, whose window is shown then."""
        given = f" password {passcode}" if passcode else ""
        self.terminal.type(f"/join {room} nick {nick}{given}")

    def command(self, line: str) -> None:
        """In the window that is shown."""
        self.terminal.type(line)

    def has(self, body: str) -> bool:
        """In its history; the window of a new conversation is not shown by itself."""
        return _in_database(self._history, "SELECT message FROM ChatLogs", body)

    @property
    def log(self) -> str:
        """Its log until now."""
        return self._log.read_text(errors="replace")


class Poezio(_InTerminal):
    """poezio: slixmpp, with its own idea of reconnecting."""

    def __init__(self, processes: Processes, terminals: Terminals, account: Account) -> None:
        self.name = "poezio"
        self._terminals = terminals
        require("poezio", "poezio")
        home, self._env = home_of(processes, self.name)
        self._file = home / ".config/poezio/poezio.cfg"
        self._history = home / ".local/share/poezio/logs"
        _write(
            self._file,
            f"[Poezio]\njid = {account.jid}\npassword = {account.password}\n"
            f"custom_host = {account.host}\ncustom_port = {account.port}\n"
            f"ca_cert_path = {account.trust}\nuse_log = true\nauto_reconnect = true\n",
        )

    def start(self) -> None:
        """See L{RealClient}."""
        command = _not_as_root("poezio.__main__", "run", "-f", str(self._file))
        self.terminal = self._terminals.open(self.name, command, self._env)

    def say(self, to: str, body: str) -> None:
        """See L{RealClient}."""
        self.terminal.press("/")  # a command begins; the rest may come in one go
        time.sleep(0.5)
        self.terminal.write(f"message {to} {body}")
        # Read together with the text, Enter would be a line break in what is pasted.
        wait_until(lambda: body[-20:] in self.terminal.screen, 20.0, f"{body} in its line")
        self.terminal.press("Enter")

    def has(self, body: str) -> bool:
        """In its log; the tab of a new conversation is not shown by itself."""
        return _in_files(self._history, body)


class Finch(_InTerminal):
    """finch: libpurple, as Pidgin has it."""

    def __init__(self, processes: Processes, terminals: Terminals, account: Account) -> None:
        self.name = "finch"
        self._terminals = terminals
        self._program = require("finch", "finch")
        home, self._env = home_of(processes, self.name)
        self._purple = home / ".purple"
        _write(
            self._purple / "accounts.xml",
            "<?xml version='1.0' encoding='UTF-8' ?>\n<account version='1.0'><account>"
            f"<protocol>prpl-jabber</protocol><name>{account.jid}/finch</name>"
            f"<password>{account.password}</password>"
            "<statuses><status type='available' name='Available' active='true'>"
            "<attributes/></status></statuses><settings>"
            "<setting name='connection_security' type='string'>require_tls</setting>"
            f"<setting name='connect_server' type='string'>{account.host}</setting>"
            f"<setting name='port' type='int'>{account.port}</setting></settings>"
            "<settings ui='gnt-purple'><setting name='auto-login' type='bool'>1</setting>"
            "</settings></account></account>\n",
        )
        pinned = self._purple / "certificates/x509/tls_peers" / account.host
        _write(pinned, account.pair.certificate.read_text())

    def start(self) -> None:
        """See L{RealClient}."""
        command = [self._program, "-c", str(self._purple)]
        self.terminal = self._terminals.open(self.name, command, self._env)

    def say(self, to: str, body: str) -> None:
        """
        Typed into the window of the conversation, which opened with the first
        message that came: it is sent once it shows there.
        """
        for _ in range(_WINDOWS):
            if _BUDDY_LIST in self.terminal.screen:
                self.terminal.press("M-c")  # it takes what is typed for a search
                time.sleep(0.5)
            self.terminal.write(body)
            time.sleep(1.0)
            if body in self.terminal.screen:
                self.terminal.press("Enter")
                return
            self.terminal.press("M-n")
        raise AssertionError("finch has no window to type in")

    def has(self, body: str) -> bool:
        """In its log; the window of a new conversation is not shown by itself."""
        return _in_files(self._purple / "logs", body)


class NewGajim:
    """Gajim on a computer of its own, without an account."""

    def __init__(self, processes: Processes, desktop: Desktop, account: Account) -> None:
        self.name = "gajim"
        self._desktop, self._account = desktop, account
        require("gajim", "gajim")
        self._home, self._env = home_of(processes, self.name)
        self._process: Process | None = None

    def shown(self) -> str:
        """Its log."""
        return self._process.output if self._process is not None else ""

    def set_up(self, host: str, port: int) -> None:
        """
        Start it for the first time, and set up the account by hand.

        @param host: What is typed as "Hostname".
        """
        desktop = self._desktop
        command = [*_on_a_computer_of_its_own(self._home, self._account), *_GAJIM]
        self._process = desktop.start(self.name, command, self._env, self._home)
        self._look_at("Add Account")
        time.sleep(1.0)
        for text, keys in (
            (self._account.jid, ("Tab",)),
            (self._account.password, ("Tab", "space", "Tab", "Return")),
        ):
            desktop.type(text)
            desktop.press(*keys)
        self._look_at("Advanced settings")
        desktop.press("shift+Tab", "shift+Tab")
        for text, keys in ((host, ("Tab",)), (str(port), ("Tab", "Tab", "Tab", "Return"))):
            desktop.type(text)
            desktop.press(*keys)
        self._look_at("Account Added")
        desktop.press("Return")
        self._look_at("Password Required")  # there is no keyring to keep it
        desktop.type(self._account.password)
        desktop.press("Return")

    def contacts(self) -> dict[str, str]:
        """Its roster, as it keeps it: what each address is called."""
        file = f"file:{self._home}/.cache/gajim/cache.db?mode=ro"
        with contextlib.closing(sqlite3.connect(file, uri=True)) as db:
            rows = db.execute("SELECT roster FROM roster").fetchall()
        items = [item for (text,) in rows for item in json.loads(text)]
        return {item["jid"]["value"]: item["name"] or "" for item in items}

    def _look_at(self, title: str) -> None:
        self._desktop.xdotool("windowfocus", "--sync", self._desktop.window(title))


class Gajim(NewGajim):
    """Gajim: nbxmpp and GLib's TLS; said and asked over its own message bus interface."""

    def __init__(self, processes: Processes, desktop: Desktop, account: Account) -> None:
        super().__init__(processes, desktop, account)
        settings = {
            "password": account.password,
            "custom_host": account.host,
            "custom_port": account.port,
        }
        made = subprocess.run(
            [
                "/usr/bin/python3",
                "-c",
                _GAJIM_ACCOUNT,
                account.user,
                account.domain,
                repr(settings),
            ],
            capture_output=True,
            check=False,
            cwd=self._home,
            env={**self._env, **desktop.environment},
            text=True,
            timeout=60,
        )
        assert made.returncode == 0, made.stderr
        # It trusts this one alone, as if a person had said so in its dialog.
        certificates = self._home / ".local/share/gajim/cert_store"
        _write(certificates / "server", account.pair.certificate.read_text())

    def start(self) -> None:
        """See L{RealClient}."""
        self._process = self._desktop.start(self.name, _GAJIM, self._env, self._home)

    def say(self, to: str, body: str) -> None:
        """See L{RealClient}."""
        command = [
            *("gdbus", "call", "--session", "--dest", "org.gajim.Gajim"),
            *("--object-path", "/org/gajim/dbus/RemoteObject"),
            *("--method", "org.gajim.dbus.RemoteInterface.send_chat_message", to, body, "test"),
        ]
        environment = {**self._env, "DBUS_SESSION_BUS_ADDRESS": (self._home / "bus").read_text()}

        def said() -> bool:
            done = subprocess.run(
                command, capture_output=True, check=False, env=environment, text=True, timeout=60
            )
            return "true" in done.stdout

        # On a busy machine it is logged in before it is to be found on the bus.
        wait_until(said, 60.0, "Gajim's remote control")

    def has(self, body: str) -> bool:
        """In its history."""
        return _in_database(
            self._home / ".local/share/gajim/logs.db", "SELECT message FROM logs", body
        )


class Dino:
    """Dino: GLib's TLS and resolver, which know no settings but the system's."""

    def __init__(
        self, processes: Processes, desktop: Desktop, account: Account, *options: str
    ) -> None:
        """
        @param options: More for its command line.
        """
        self.name = "dino"
        self._options = options
        self._desktop = desktop
        self._account = account
        self._program = require("dino-im", "dino-im")
        self._home, self._env = home_of(processes, self.name)
        self._database = self._home / ".local/share/dino/dino.db"
        self._process: Process | None = None
        self._inside = _on_a_computer_of_its_own(self._home, account)

    def start(self) -> None:
        """See L{RealClient}.  Its database is made by itself, without an account at first."""
        first = self._launch("dino-first")
        wait_until(self._is_made, 60.0, "Dino's database")
        first.stop()
        with contextlib.closing(sqlite3.connect(self._database)) as database, database:
            database.execute(
                "INSERT INTO account (bare_jid, resourcepart, password, enabled)"
                " VALUES (?, 'dino', ?, 1)",
                (self._account.jid, self._account.password),
            )
        self._process = self._launch(self.name)

    def _is_made(self) -> bool:
        try:
            with contextlib.closing(sqlite3.connect(self._database)) as database:
                return bool(database.execute("SELECT count(*) FROM account").fetchall())
        except sqlite3.OperationalError:
            return False

    def _launch(self, name: str) -> Process:
        command = [*self._inside, self._program, *self._options]
        return self._desktop.start(name, command, self._env, self._home)

    def set_up(self, logged_in: Callable[[], bool]) -> None:
        """
        Start it for the first time, and set up the account by hand.

        @param logged_in: Whether the server has seen that.
        """
        desktop = self._desktop
        self._process = self._launch(self.name)
        window = desktop.window("Dino")

        def asked() -> bool:
            desktop.xdotool("mousemove", "--window", window, "600", "521", "click", "1")
            time.sleep(1.0)
            return bool(desktop.xdotool("search", "--onlyvisible", "--name", "Add Account"))

        wait_until(asked, 60.0, "Dino's dialog after Set up account")
        desktop.xdotool("windowfocus", "--sync", desktop.window("Add Account"))
        desktop.type(self._account.jid)
        desktop.press("Return")

        def tried() -> bool:
            time.sleep(2.0)  # it looks for the server first; until then nothing takes what is typed
            desktop.press("ctrl+a")
            desktop.type(self._account.password)
            desktop.press("Return")
            time.sleep(2.0)
            return logged_in()

        wait_until(tried, 60.0, "Dino's log-in")
        desktop.press("Return")

    def enter(self, room: str) -> None:
        """Its dialog for a room is opened, and "Join" clicked on, at its upper right."""
        self._open(f"xmpp:{room}?join")
        window = self._desktop.window("Join Channel")
        width, height = 500, 400
        self._desktop.xdotool("windowsize", "--sync", window, str(width), str(height))
        self._desktop.xdotool("windowraise", window)
        self._desktop.xdotool("mousemove", "--window", window, str(width - 54), "27")

        def gone() -> bool:
            self._desktop.xdotool("click", "1")
            time.sleep(0.5)
            names = self._desktop.xdotool("search", "--onlyvisible", "--name", "Join Channel")
            return window not in names.split()

        wait_until(gone, 30.0, "the end of the dialog")

    def type(self, text: str) -> None:
        """Write into the conversation that is shown."""
        window = self._desktop.window("Dino")

        def taken() -> bool:
            # Until the conversation is drawn, nothing takes what is typed, or a part of it.
            self._desktop.xdotool("windowfocus", "--sync", window)
            self._desktop.xdotool("key", "--window", window, "ctrl+a")
            self._desktop.xdotool("type", "--window", window, "--delay", "30", text)
            self._desktop.xdotool("key", "--window", window, "Return")
            time.sleep(1.0)
            return self.has(text)

        wait_until(taken, 40.0, f"{text} in what Dino has sent")

    def say(self, to: str, body: str) -> None:
        """Typed into its window, once the conversation is open."""
        self._open(f"xmpp:{to}?message")
        self.type(body)

    def _open(self, uri: str) -> None:
        """Hand an address to the Dino that runs."""
        done = subprocess.run(
            [self._program, uri],
            capture_output=True,
            check=False,
            env={
                **self._env,
                **self._desktop.environment,
                "DBUS_SESSION_BUS_ADDRESS": (self._home / "bus").read_text(),
            },
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    def contacts(self) -> dict[str, str]:
        """Its roster, as it keeps it: what each address is called."""
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as db:
            return dict(db.execute("SELECT jid, ifnull(name, '') FROM roster"))

    def has(self, body: str) -> bool:
        """In its database."""
        return _in_database(self._database, "SELECT body FROM message", body)

    def shown(self) -> str:
        """Its output."""
        return self._process.output if self._process is not None else ""


def _in_files(folder: Path, text: str) -> bool:
    return any(text in path.read_text() for path in folder.rglob("*") if path.is_file())


def _in_database(path: Path, query: str, text: str) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return any(text in (row[0] or "") for row in database.execute(query))
    except sqlite3.OperationalError:
        return False  # not made yet, or being written


_GAJIM_ACCOUNT = """
import sys
import gi
gi.require_versions({"Gtk": "3.0", "Gdk": "3.0", "GtkSource": "4", "Soup": "3.0"})
from gajim.common import app, configpaths
from gajim.common.settings import Settings
configpaths.init()
configpaths.create_paths()
app.settings = Settings()
app.settings.init()
for key, value in {"use_keyring": False, "remote_control": True, "show_status_icon": False,
                   "check_for_update": False, "confirm_on_window_delete": False}.items():
    try:
        app.settings.set(key, value)
    except Exception as problem:
        print(key, problem, file=sys.stderr)
app.settings.add_account("test")
account = {"name": sys.argv[1], "hostname": sys.argv[2], "savepass": True, "active": True,
           "autoconnect": True, "use_custom_host": True, "custom_type": "START TLS",
           "resource": "gajim", **eval(sys.argv[3])}
for key, value in account.items():
    app.settings.set_account_setting("test", key, value)
app.settings.shutdown()
"""
