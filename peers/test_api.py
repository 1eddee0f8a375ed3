"""The administration of real daemons: health, new settings, crashes, log-in, the document."""

from __future__ import annotations

import base64
import json
import ssl
import stat
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from random import Random

import pytest

from cms.admin.accounts import PASSWORD
from cms.callbridge.settings import FILE
from peers.api import Administration
from peers.certs import Certificates
from peers.contract import DOMAIN, LINK_SECONDS, START_SECONDS
from peers.daemons import Callbridge, Daemon, XmppServer, daemon_environment
from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.tools import script

SECRET = "s3cret-of-many"
LIVES = 25
PUTS = 1_000
XMPP = "/api/v1/system/configuration/xmpp"


def administration(daemon: Daemon) -> Administration:
    """Of a daemon."""
    return Administration(daemon.directory / "state")


def make_pair(
    processes: Processes, certificates: Certificates, names: int = 1
) -> tuple[XmppServer, Callbridge]:
    """A server that knows cb1, cb2 and so on, and the first of these."""
    known = {f"cb{number}": SECRET for number in range(1, names + 1)}
    server = XmppServer(processes, certificates, known)
    address = f"127.0.0.1:{server.component_port}"
    # The name stands for the server in the certificate that it shows.
    pair = certificates.issue(DOMAIN, server.hostname, "127.0.0.1")
    server.settings["tls"].update(certificate=str(pair.certificate), key=str(pair.key))
    return server, Callbridge(processes, certificates, SECRET, server_address=address)


def test_health(processes: Processes, certificates: Certificates) -> None:
    """Both say 503 while the link is down, whatever else works, and 200 while it is up."""
    server, callbridge = make_pair(processes, certificates)
    callbridge.launch()
    ours, theirs = administration(callbridge), administration(server)
    ours.wait(START_SECONDS)
    ours.wait_for_health(503, 5.0)
    wait_until(lambda: '"step": 6' in ours.ask("GET", "/healthz")[1], 5.0, "step 6")
    server.start()
    ours.wait_for_health(200, LINK_SECONDS)
    theirs.wait_for_health(200, LINK_SECONDS)
    status = ours.get("system/status")["status"]
    assert status["link"]["state"] == "active"
    assert status["link"]["step"] == 11
    callbridge.process.kill()
    theirs.wait_for_health(503, 5.0)
    assert '"step": 1' in theirs.ask("GET", "/healthz")[1]


def test_other_settings_at_once(processes: Processes, certificates: Certificates) -> None:
    """A PUT ends the link and begins another; it is there still after a restart."""
    server, callbridge = make_pair(processes, certificates, names=2)
    server.start()
    callbridge.start()
    ours, theirs = administration(callbridge), administration(server)
    assert ours.ask("PUT", XMPP, uniqueName="cb2") == (200, "")
    callbridge.wait_active(times=2)

    def states() -> dict[str, str]:
        listed = theirs.get("callBridges")["callBridges"]["callBridge"]
        return {bridge["name"]: bridge["state"] for bridge in listed}

    assert states() == {"cb1": "not connected", "cb2": "active"}
    callbridge.process.stop()
    callbridge.start()
    assert "configuration from the API" in callbridge.process.output
    configuration = ours.get("system/configuration/xmpp")["xmpp"]
    assert (configuration["uniqueName"], configuration["source"]) == ("cb2", "api")
    assert ours.ask("DELETE", XMPP) == (200, "")
    callbridge.wait_active(times=2)
    assert states() == {"cb1": "active", "cb2": "not connected"}
    assert SECRET not in callbridge.process.output + server.process.output


class Writer:
    """
    Sets one name after the other, with wrong requests between, until nobody answers.

    @ivar acknowledged: The number of the last name that was.
    @ivar sent: The number of the last one that was sent.
    """

    def __init__(self, ours: Administration, first: int, count: int, random: Random) -> None:
        self.acknowledged = first - 1
        self.sent = first - 1
        self._ours = ours
        self._numbers = range(first, first + count)
        self._random = random
        self.thread = threading.Thread(target=self._run)
        self.problem: str | None = None

    def _run(self) -> None:
        try:
            for number in self._numbers:
                self._put_wrong()
                self.sent = number
                status, body = self._ours.ask("PUT", XMPP, uniqueName=f"cb{number}")
                if status != 200:
                    self.problem = f"{number}: {status} {body}"
                    return
                self.acknowledged = number
        except OSError:
            pass  # the daemon was killed, as it should be

    def _put_wrong(self) -> None:
        wrong = self._random.choice(
            [
                {"uniqueName": "with.dot"},
                {"domain": "no domain"},
                {"serverAddressOverride": "host:port"},
                {"sharedSecret": ""},
                {"unknown": "x", "uniqueName": "never"},
            ]
        )
        status, body = self._ours.ask("PUT", XMPP, **wrong)
        if status != 400:
            self.problem = f"{wrong}: {status} {body}"


def test_killed_while_settings_change(processes: Processes, certificates: Certificates) -> None:
    """
    A thousand PUTs, good and bad, while the daemon is killed at random moments:
    what is stored is always the settings acknowledged last, or those on their way.
    """
    per_life = PUTS // LIVES // 2
    server, callbridge = make_pair(processes, certificates, names=PUTS // 2)
    server.start()
    ours, random = administration(callbridge), Random(20_261_125)
    file = callbridge.directory / "state" / FILE
    stored, moments = 1, 0.1
    for _life in range(LIVES):
        callbridge.launch()
        ours.wait(START_SECONDS)
        assert ours.get("system/configuration/xmpp")["xmpp"]["uniqueName"] == f"cb{stored}"
        ours.wait_for_health(200, LINK_SECONDS)
        writer = Writer(ours, stored + 1, per_life, random)
        began = time.monotonic()
        writer.thread.start()
        time.sleep(random.uniform(0.0, moments))
        callbridge.process.kill()
        writer.thread.join(30.0)
        assert writer.problem is None, writer.problem
        if writer.acknowledged == writer.sent:
            moments = min(moments, time.monotonic() - began)
        name = json.loads(file.read_bytes())["settings"]["uniqueName"] if file.exists() else "cb1"
        assert name in (f"cb{writer.acknowledged}", f"cb{writer.sent}"), vars(writer)
        stored = int(name.removeprefix("cb"))
    callbridge.launch()
    ours.wait(START_SECONDS)
    # The rest of the thousand, all of it acknowledged.
    writer = Writer(ours, stored + 1, PUTS // 2 - stored, random)
    writer._run()
    assert writer.problem is None, writer.problem
    assert writer.acknowledged == PUTS // 2
    ours.wait_for_health(200, LINK_SECONDS)
    assert not list(file.parent.glob("*.new"))


def test_two_daemons_on_one_state_dir(processes: Processes, certificates: Certificates) -> None:
    """The second does not start, and says why; one that follows a killed one does."""
    _server, callbridge = make_pair(processes, certificates)
    callbridge.launch()
    ours = administration(callbridge)
    ours.wait(START_SECONDS)
    first = callbridge.process
    second = callbridge.launch()
    assert second.wait_for_exit(START_SECONDS) == 1
    assert "another daemon uses" in second.output
    callbridge.expect_error("another daemon uses")
    assert "Traceback" not in second.output
    assert ours.is_there()
    first.kill()
    assert not ours.is_there()
    callbridge.launch()
    ours.wait(START_SECONDS)
    mode = (callbridge.directory / "state" / "admin.sock").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize("role", ["xmpp", "callbridge"])
def test_https(role: str, processes: Processes, certificates: Certificates) -> None:
    """Over HTTPS with the first account; its password is in the file and not in the log."""
    daemon, port = with_api(role, processes, certificates)
    password_file = daemon.directory / "state" / PASSWORD
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
    password = password_file.read_text().strip()
    assert str(password_file) in daemon.process.output
    base = ["curl", "-s", "--cacert", str(certificates.trust), "-w", "%{http_code}"]
    url = f"https://127.0.0.1:{port}/api/v1/system/status"

    def curl(*arguments: str) -> str:
        return subprocess.run(
            [*base, *arguments, url], check=True, capture_output=True, text=True, timeout=30
        ).stdout

    assert curl().endswith("401")
    assert curl("-u", "admin:wrong").endswith("401")
    answer = curl("-u", f"admin:{password}")
    assert answer.endswith("200")
    assert answer.startswith('<?xml version="1.0"?><status>')
    assert curl("-u", f"admin:{password}", "--tls-max", "1.2").endswith("200")
    assert curl("-u", f"admin:{password}", "-X", "PUT", "-d", "x" * 70_000).endswith("413")
    assert password not in daemon.process.output


def with_api(role: str, processes: Processes, certificates: Certificates) -> tuple[Daemon, int]:
    """A daemon with C{listen.api}, and its port."""
    server, callbridge = make_pair(processes, certificates)
    daemon: Daemon = server if role == "xmpp" else callbridge
    pair = certificates.issue("localhost", "127.0.0.1", DOMAIN)
    daemon.settings["tls"].update(certificate=str(pair.certificate), key=str(pair.key))
    port = free_port()
    daemon.settings.setdefault("listen", {})["api"] = [f"tcp:{port}:interface=127.0.0.1"]
    daemon.launch().wait_for("api listener ready on", START_SECONDS)
    return daemon, port


def test_api_without_certificate(processes: Processes, certificates: Certificates) -> None:
    """A Callbridge without a certificate of its own does not make one up."""
    _server, callbridge = make_pair(processes, certificates)
    callbridge.settings["tls"].update(certificate=None, key=None)
    callbridge.settings["listen"] = {"api": [f"tcp:{free_port()}:interface=127.0.0.1"]}
    process = callbridge.launch()
    assert process.wait_for_exit(START_SECONDS) == 1
    (line,) = [line for line in process.output.splitlines() if str(callbridge.file) in line]
    assert "tls.certificate" in line
    assert "Cure: " in line


@pytest.mark.parametrize("role", ["xmpp", "callbridge"])
def test_document(
    role: str, processes: Processes, certificates: Certificates, tmp_path: Path
) -> None:
    """Generated requests meet what the OpenAPI document says: no other status, no 500."""
    daemon, port = with_api(role, processes, certificates)
    password = (daemon.directory / "state" / PASSWORD).read_text().strip()
    base = [
        *script("schemathesis"),
        *("run", f"https://127.0.0.1:{port}/api/v1/openapi.json"),
        *("--tls-verify", str(certificates.trust), "--auth", f"admin:{password}"),
        *("--header", "Accept: application/json", "--seed", "1", "--max-examples", "20"),
        *("--checks", "all", "--continue-on-failure", "--phases", "examples,coverage,fuzzing"),
    ]
    # The field answers 400 where an object does not exist or is there already, which
    # no schema can say; and 503 is what healthz is for.
    # Wrong passwords are many for one account, which is then told to wait (429):
    # test_every_operation_asks_who_it_is has what is left of that check.
    rest = ["--exclude-path", "/healthz"]
    rest += ["--exclude-checks", "positive_data_acceptance,ignored_auth"]
    health = ["--include-path", "/healthz", "--exclude-checks", "not_a_server_error"]
    for arguments in (rest, health):
        status, output = processes.run(
            "schemathesis",
            [*base, *arguments],
            seconds=240.0,
            cwd=tmp_path,
            env=daemon_environment(),
        )
        assert status == 0, output[-8_000:]
    assert "Traceback" not in daemon.process.output


@pytest.mark.parametrize("role", ["xmpp", "callbridge"])
def test_every_operation_asks_who_it_is(
    role: str, processes: Processes, certificates: Certificates
) -> None:
    """Whatever the document lists is refused without a password, and with a wrong one."""
    daemon, port = with_api(role, processes, certificates)
    document = administration(daemon).get("openapi.json")
    context = ssl.create_default_context(cafile=str(certificates.trust))
    asked = 0
    for path, methods in document["paths"].items():
        for method in methods.keys() & {"get", "put", "post", "delete"}:
            if path == "/healthz":
                continue
            asked += 1
            # An account each: nobody is told to wait.
            wrong = base64.b64encode(f"nobody-{asked}:wrong".encode()).decode()
            for headers in ({}, {"Authorization": f"Basic {wrong}"}):
                request = urllib.request.Request(
                    f"https://127.0.0.1:{port}{path.replace('{', '').replace('}', '')}",
                    method=method.upper(),
                    headers=headers,
                )
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(request, context=context, timeout=30.0)
                assert refused.value.code == 401, (method, path)
                refused.value.close()
    assert asked > 8
