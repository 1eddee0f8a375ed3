"""Settings that the administration changes: checked, stored, applied, refused."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.commonapi import API
from cms.callbridge.administration import CallbridgeAdministration, make_administration
from cms.callbridge.config import read_config
from cms.callbridge.daemon import CallbridgeService, make_daemon
from cms.callbridge.settings import FILE, KEYS, StoredSettings, current_config
from cms.discovery.address import ServerAddress
from cms.signalflow import StepError
from cms.xmlstream import ns
from cms.xmlstream.replies import result_reply
from tests import LoggedError
from tests.adminclient import Answer, Client, front
from tests.support import MemoryTransport, header, new_folder, stanzas
from tests.test_admin_login import PoolClock

DOMAIN = "meet.example.com"
CONFIG = f"""\
unique_name = "cb1"
domain = "{DOMAIN}"
server_address = "192.0.2.1:5555"
shared_secret = "of the file"
[tls]
unprotected = true
"""
XMPP = f"{API}/system/configuration/xmpp"


class Pool(PoolClock, MemoryReactorClock):
    """A reactor in memory whose threads work at once, or when they are told to."""

    def __init__(self) -> None:
        MemoryReactorClock.__init__(self)
        self.waiting = []
        self.at_once = True


class StoreTests(SynchronousTestCase):
    """The file beside the file."""

    def setUp(self) -> None:
        """A configuration file."""
        self.folder = new_folder(self)
        self.file = self.folder / "callbridge.toml"
        self.file.write_text(CONFIG)
        (self.folder / "state").mkdir()
        self.stored = StoredSettings(read_config(self.file))

    def test_nothing(self) -> None:
        """Nothing stored: the file decides."""
        self.assertEqual({}, self.stored.read())
        self.assertEqual("file", current_config(self.file).source)

    def test_parameter_by_parameter(self) -> None:
        """What was set wins; the rest stays the file's, also when that changes."""
        self.stored.write({"uniqueName": "CB7", "serverAddressOverride": ""})
        self.assertEqual(0o600, stat.S_IMODE(self.stored.path.stat().st_mode))
        config = current_config(self.file)
        self.assertEqual(("cb7", "api"), (config.unique_name, config.source))
        self.assertEqual(f"cb7.{DOMAIN}", config.link.component)
        self.assertIsNone(config.link.server)
        self.assertEqual("of the file", config.link.secret.value)
        self.assertTrue(config.link.unprotected)
        self.file.write_text(CONFIG.replace("of the file", "new"))
        self.assertEqual("new", current_config(self.file).link.secret.value)
        self.stored.clear()
        self.assertEqual("cb1", current_config(self.file).unique_name)

    def test_component_address(self) -> None:
        """The file's own holds as long as name and domain are the file's."""
        self.file.write_text(f'component_address = "other.example.com"\n{CONFIG}')
        self.stored.write({"serverAddressOverride": "a.example"})
        self.assertEqual("other.example.com", current_config(self.file).link.component)
        self.stored.write({"domain": "b.example"})
        self.assertEqual("cb1.b.example", current_config(self.file).link.component)

    def test_damaged(self) -> None:
        """The start is stopped; the line names the file, and no secret."""
        for content in (
            "",
            "[]",
            '{"version": 2, "settings": {}}',
            '{"version": 1, "settings": {"x": "s3cret"}}',
            '{"version": 1, "settings": {"domain": 1}}',
            '{"version": 1, "settings": []}',
            '{"version": 1, "settings": {"domain": "no domain"}}',
        ):
            self.stored.path.write_text(content)
            error = self.assertRaises(faults.ConfigurationError, current_config, self.file)
            self.assertIn(str(self.stored.path), error.cause)
            self.assertNotIn("s3cret", error.cause)

    def test_left_by_a_crash(self) -> None:
        """Half a file is not looked at, and goes."""
        (self.folder / "state" / f".{FILE}.x.new").write_text("{")
        self.stored.sweep()
        self.assertEqual("file", current_config(self.file).source)
        self.assertEqual([], os.listdir(self.folder / "state"))

    @given(st.dictionaries(st.sampled_from(sorted(KEYS)), st.text(max_size=30)))
    def test_any_values(self, changes: dict[str, str]) -> None:
        """They are applied, or refused with the key; what is applied survives the file."""
        try:
            config = self.stored.applied(changes)
        except StepError as error:
            self.assertIn(error.evidence["key"].removesuffix("_file"), KEYS.values())
        else:
            self.stored.write(changes)
            self.assertEqual(config, current_config(self.file))


class AdministrationTests(SynchronousTestCase):
    """A real daemon behind the API, in memory."""

    def setUp(self) -> None:
        """A daemon that has registered."""
        self.folder = new_folder(self)
        self.file = self.folder / "callbridge.toml"
        self.file.write_text(CONFIG)
        self.reactor: Any = Pool()
        self.reactor.advance(1_700_000_000)
        self.daemon: CallbridgeService = make_daemon(self.file, self.reactor)
        self.role = CallbridgeAdministration(self.daemon, self.daemon.stored, self.reactor)
        operations = operations_of_callbridge(self.role, self.reactor, self.daemon.metrics)
        self.client = Client(self, front(operations, self.reactor))
        self.daemon.startService()

    def register(self) -> MemoryTransport:
        """The server accepts the newest connection."""
        transport = MemoryTransport("192.0.2.1", 5555)
        transport.connect(self.reactor.tcpClients[-1][2].buildProtocol(None))
        transport.protocol.dataReceived(header(ns.COMPONENT, " id='i1'") + b"<handshake/>")
        *_, ping = stanzas(transport.take(), ns.COMPONENT)
        transport.protocol.dataReceived(result_reply(ping).raw)
        return transport

    def get(self, path: str) -> Any:
        """An object as JSON."""
        answer = self.client.ask("GET", path, accept="application/json")
        self.assertEqual(200, answer.status, answer.body)
        return json.loads(answer.body)

    def reason(self, answer: Answer) -> str:
        """Why it was refused."""
        self.assertEqual(400, answer.status, answer.body)
        return answer.body.decode()[38:-20]

    def test_user(self) -> None:
        """Added with a name, named anew, deleted; of contacts is told when the link is down."""
        path = "/api/v1/users"
        self.client.ask("POST", path, "userJid=alice&password=x&displayName=Alice")
        found = self.get(f"{path}?filter=ALIC")["users"]["user"]
        self.assertEqual(["Alice"], [facts["displayName"] for facts in found])
        id_ = found[0]["id"]
        self.client.ask("PUT", f"{path}/{id_}", "displayName=Alice+L.")
        self.assertEqual("Alice L.", self.get(f"{path}/{id_}")["user"]["displayName"])
        answer = self.client.ask("DELETE", f"{path}/{id_}", accept="application/json")
        told = json.loads(answer.body)["user"]
        faults = [told[key]["fault"] for key in ("problem", "contactsProblem")]
        self.assertEqual(["sessions-later", "contacts-later"], faults)
        self.assertEqual(["alice"], self.daemon.store.departed())

    def test_health_and_status(self) -> None:
        """Step and failure while it is down, peer and time while it is up."""
        self.assertEqual(503, self.client.ask("GET", "/healthz").status)
        self.register()
        self.assertEqual(200, self.client.ask("GET", "/healthz").status)
        link = self.get(f"{API}/system/status")["status"]["link"]
        self.assertEqual(
            ("active", 11, "active", "192.0.2.1:5555", "2023-11-14T22:13:20.000Z"),
            tuple(link[name] for name in ("state", "step", "stepName", "peer", "since")),
        )
        (attempt,) = self.get(f"{API}/system/signalflow")["signalFlow"]["attempt"]
        self.assertEqual([2, 3, 5, 6, 7, 9, 10, 11], [s["step"] for s in attempt["steps"]])

    def test_put(self) -> None:
        """The old link ends properly, the new attempt begins, status and file show it."""
        transport = self.register()
        answer = self.client.ask("PUT", XMPP, "serverAddressOverride=192.0.2.9&sharedSecret=n3w")
        self.assertEqual((200, b""), (answer.status, answer.body))
        self.assertEqual("</stream:stream>", transport.take())
        transport.protocol.dataReceived(b"</stream:stream>")
        self.assertEqual(("192.0.2.9", 5223), self.reactor.tcpClients[-1][:2])
        shown = self.get(XMPP)["xmpp"]
        self.assertEqual(
            ("192.0.2.9:5223", "api"), (shown["serverAddressOverride"], shown["source"])
        )
        self.assertNotIn("n3w", str(shown))
        expected = ServerAddress("192.0.2.9", 5223, is_ip=True)
        config = make_daemon(self.file, Pool()).config
        self.assertEqual((expected, "n3w"), (config.link.server, config.link.secret.value))

    def test_put_of_the_same(self) -> None:
        """A link that is up stays; one that waits is tried at once."""
        transport = self.register()
        self.client.ask("PUT", XMPP, f"domain={DOMAIN}")
        self.assertEqual("", transport.take())
        transport.lose()
        connections = len(self.reactor.tcpClients)
        self.client.ask("PUT", XMPP, f"domain={DOMAIN}")
        self.assertEqual(connections + 1, len(self.reactor.tcpClients))

    def reconnect(self, body: str = "") -> str:
        """What becomes of asking for it."""
        path = f"{XMPP}/reconnect"
        answer = self.client.ask("POST", path, body, accept="application/json")
        self.assertEqual(200, answer.status, answer.body)
        return str(json.loads(answer.body)["reconnect"]["result"])

    def test_reconnect(self) -> None:
        """What waits begins at once, as at a start; what is under way or up goes on."""
        self.assertEqual("underWay", self.reconnect())
        transport = self.register()
        self.assertEqual("up", self.reconnect())
        self.assertEqual("", transport.take())
        self.assertEqual("begun", self.reconnect("evenIfUp=true"))
        self.assertEqual("</stream:stream>", transport.take())
        transport.protocol.dataReceived(b"</stream:stream>")
        self.register()
        self.assertEqual("up", self.reconnect())

    def test_next_attempt(self) -> None:
        """Status says when it begins, and in how many seconds; then it does not wait for that."""
        transport = MemoryTransport("192.0.2.1", 5555)
        transport.connect(self.reactor.tcpClients[-1][2].buildProtocol(None))
        refusal = b"<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
        transport.protocol.dataReceived(header(ns.COMPONENT, " id='i1'") + refusal)
        transport.protocol.dataReceived(b"</stream:error></stream:stream>")
        self.assertEqual("waiting", self.daemon.link.state)
        link = self.get(f"{API}/system/status")["status"]["link"]
        self.assertLessEqual(15, link["nextAttemptSeconds"])
        self.assertLessEqual(link["nextAttemptSeconds"], 16)
        self.assertIn(link["nextAttempt"][:18], ("2023-11-14T22:13:3",))
        self.reactor.advance(10)
        later = self.get(f"{API}/system/status")["status"]["link"]
        self.assertEqual(link["nextAttemptSeconds"] - 10, later["nextAttemptSeconds"])
        self.assertEqual(link["nextAttempt"], later["nextAttempt"])
        connections = len(self.reactor.tcpClients)
        self.assertEqual("begun", self.reconnect())
        self.assertEqual(connections + 1, len(self.reactor.tcpClients))
        self.register()
        self.assertNotIn("nextAttempt", self.get(f"{API}/system/status")["status"]["link"])

    def test_refused(self) -> None:
        """The reason names the parameter; nothing is stored, the link stays."""
        transport = self.register()
        table = {
            "domain=no+domain": "domainInvalid",
            "domain=..": "domainInvalid",
            "uniqueName=a.b": "uniqueNameInvalid",
            "uniqueName=a@b": "uniqueNameInvalid",
            "serverAddressOverride=http://x": "serverAddressOverrideInvalid",
            "serverAddressOverride=x:0": "serverAddressOverrideInvalid",
            "serverAddressOverride=2001:db8::1": "serverAddressOverrideInvalid",
            "uniqueName=cb2&domain=no+domain": "domainInvalid",
        }
        for body, reason in table.items():
            self.assertEqual(reason, self.reason(self.client.ask("PUT", XMPP, body)))
        self.assertEqual("", transport.take())
        self.assertFalse((self.folder / "state" / FILE).exists())
        answer = self.client.ask("PUT", XMPP, "domain=x y", accept="application/json")
        details = json.loads(answer.body)["failureDetails"]
        self.assertEqual("domain", details["parameter"])
        self.assertNotIn(str(self.folder), answer.body.decode())

    def test_disk_full(self) -> None:
        """What cannot be stored is not used."""
        transport = self.register()

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        self.patch(StoredSettings, "write", fail)
        answer = self.client.ask("PUT", XMPP, "uniqueName=cb2")
        self.assertEqual(500, answer.status)
        self.assertIn(b"<notStored />", answer.body)
        self.assertEqual("", transport.take())
        self.assertEqual("cb1", self.daemon.config.unique_name)
        (error,) = self.flushLoggedErrors(LoggedError)
        self.assertIn("no room left on its disk", str(error.value))

    def test_one_after_the_other(self) -> None:
        """Two at the same time: the later is stored and used last."""
        self.reactor.at_once = False
        sent = [self.client.send("PUT", XMPP, f"uniqueName=cb{n}") for n in (2, 3)]
        while self.reactor.waiting:
            self.assertEqual(1, len(self.reactor.waiting))
            self.reactor.waiting.pop(0)()
        self.client.http.flush()
        self.assertEqual([200, 200], [self.client.read(one).status for one in sent])
        self.assertEqual("cb3", self.daemon.config.unique_name)
        self.assertEqual("cb3", current_config(self.file).unique_name)

    def test_client_leaves(self) -> None:
        """What has begun is done to its end: nothing is half applied."""
        self.reactor.at_once = False
        sent = self.client.send("PUT", XMPP, "uniqueName=cb2")
        self.client.http.flush()
        sent.cancel()
        self.client.http.flush()
        self.failureResultOf(sent)
        self.reactor.waiting.pop(0)()
        self.assertEqual("cb2", self.daemon.config.unique_name)
        self.assertEqual("cb2", current_config(self.file).unique_name)

    def test_reset(self) -> None:
        """The file decides again."""
        self.client.ask("PUT", XMPP, "uniqueName=cb2")
        self.assertEqual(200, self.client.ask("DELETE", XMPP).status)
        self.assertEqual(
            ("cb1", "file"), (self.daemon.config.unique_name, self.daemon.config.source)
        )
        self.assertFalse((self.folder / "state" / FILE).exists())

    def test_users(self) -> None:
        """Added, listed, changed and deleted."""
        users = f"{API}/users"
        added = self.client.ask("POST", users, "userJid=Alice&password=pencil")
        id_ = added.headers["location"][-36:]
        self.client.ask("POST", users, f"userJid=bob@{DOMAIN}&password=pencil")
        again = self.client.ask("POST", users, "userJid=alice&password=other")
        self.assertEqual("userAlreadyExists", self.reason(again))
        listed = self.get(f"{users}?filter=ALI")["users"]
        self.assertEqual(1, listed["total"])
        self.assertEqual(
            (id_, f"alice@{DOMAIN}", False),
            tuple(listed["user"][0][name] for name in ("id", "userJid", "disabled")),
        )
        self.assertEqual(2, self.get(f"{users}?limit=1&offset=1")["users"]["total"])
        for form in (id_, f"alice@{DOMAIN}", "alice"):
            self.assertEqual(200, self.client.ask("PUT", f"{users}/{form}", "disabled=true").status)
        self.assertTrue(self.get(f"{users}/{id_}")["user"]["disabled"])
        self.assertEqual(200, self.client.ask("PUT", f"{users}/{id_}", "password=new").status)
        self.assertEqual(200, self.client.ask("DELETE", f"{users}/{id_}").status)
        for method in ("GET", "PUT", "DELETE"):
            self.assertEqual(
                "userDoesNotExist", self.reason(self.client.ask(method, f"{users}/{id_}"))
            )

    def test_users_refused(self) -> None:
        """An address of elsewhere, a password that cannot be prepared."""
        users = f"{API}/users"
        for body, reason in (
            ("userJid=a@other.example&password=x", "userJidInvalid"),
            (f"userJid={DOMAIN}@&password=x", "userJidInvalid"),
            ("userJid=a&password=%EF%BF%BD", "passwordInvalid"),
        ):
            self.assertEqual(reason, self.reason(self.client.ask("POST", users, body)), body)
        self.assertEqual(0, self.get(users)["users"]["total"])

    def test_busy(self) -> None:
        """Beyond a bound, 503."""
        self.reactor.at_once = False
        sent = [self.client.send("GET", f"{API}/users") for _ in range(60)]
        self.client.http.flush()
        while self.reactor.waiting:
            self.reactor.waiting.pop(0)()
        self.client.http.flush()
        statuses = Counter(self.client.read(one).status for one in sent)
        self.assertEqual({200: 51, 503: 9}, dict(statuses))

    def test_start_log_and_wiring(self) -> None:
        """The listener needs a certificate; metrics are the daemon's."""
        self.file.write_text(CONFIG + '[listen]\napi = ["tcp:8445"]\n')
        daemon = make_daemon(self.file, Pool())
        error = self.assertRaises(
            faults.ConfigurationError, make_administration, daemon, self.reactor
        )
        self.assertIn("tls.certificate", error.cause)
        self.assertIn(b"cms_", self.client.ask("GET", "/metrics").body)
