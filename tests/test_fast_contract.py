"""What stands on private parts of a library: that they are there, and what is done without."""

from __future__ import annotations

import contextlib
import random
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace
from typing import Any, Protocol
from unittest.mock import patch

from automat import TypeMachineBuilder
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier
from OpenSSL import SSL
from twisted.internet import tcp
from twisted.logger import LogEvent, formatEvent
from twisted.protocols import tls as twisted_tls
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from cms.fast import machines, openssl, reactor, reservedfile, tls, transport
from cms.fast.machines import Machine, release
from cms.fast.needs import Need, find, lacking
from cms.trust import files
from cms.trust.connection import connection_of
from cms.trust.oids import name_of
from tests.privatenames import used
from tests.support import MemoryTransport, observe_log
from tests.test_architecture import MODULES
from tests.test_fast_tls import Ends
from tests.test_trust import TLSTestCase

ROOM = {
    name: import_module(name)
    for name in MODULES
    if name.startswith("cms.fast.") and name != "cms.fast.needs"
}
# Every private name, and what is asked of it.  A library that changes one must be looked at:
# docs/design/private-parts.md says how.
CONTRACT = """\
OpenSSL.SSL.Connection._from_ssl
OpenSSL.SSL.Connection._into_ssl
OpenSSL.SSL.Connection._raise_ssl_error(self, ssl, result)
OpenSSL.SSL.Connection._ssl
OpenSSL.SSL.Context._context
OpenSSL._util.ffi
OpenSSL._util.lib.BIO_read: int(*)(BIO *, void *, int)
OpenSSL._util.lib.BIO_write: int(*)(BIO *, void *, int)
OpenSSL._util.lib.SSL_CTX_set1_curves_list: long(*)(SSL_CTX *, char *)
OpenSSL._util.lib.SSL_ERROR_WANT_READ
OpenSSL._util.lib.SSL_get_error: int(*)(SSL *, int)
OpenSSL._util.lib.SSL_read: int(*)(SSL *, void *, int)
OpenSSL._util.lib.SSL_write: int(*)(SSL *, void *, int)
OpenSSL._util.lib.X509_verify_cert_error_string: char *(*)(long)
automat.TypeMachineBuilder._automaton
automat._core.Automaton.allTransitions(self)
automat._core.Automaton.initialState
automat._core.Automaton.inputAlphabet(self)
automat._typed.MethodOutput.method
automat._typed.MethodOutput.requiresData
automat._typed.TypedState.name
twisted.internet._newtls.ClientMixin._tlsClientDefault
twisted.internet._newtls.ServerMixin._tlsClientDefault
twisted.internet._newtls._BypassTLS.__init__(self, base, connection)
twisted.internet.abstract.FileDescriptor.bufferSize
twisted.internet.abstract.FileDescriptor.write(self, data)
twisted.internet.epollreactor.EPollReactor.__init__(self)
twisted.internet.epollreactor.EPollReactor._disconnectSelectable(self, selectable, why, isRead,\
 faildict=...)
twisted.internet.epollreactor.EPollReactor._doReadOrWrite(self, selectable, fd, event)
twisted.internet.epollreactor.EPollReactor._justStopped
twisted.internet.epollreactor.EPollReactor._poller
twisted.internet.epollreactor.EPollReactor._selectables
twisted.internet.epollreactor.EPollReactor.addWriter(self, writer)
twisted.internet.epollreactor.EPollReactor.doPoll(self, timeout)
twisted.internet.epollreactor.EPollReactor.getWriters(self)
twisted.internet.epollreactor.EPollReactor.removeAll(self)
twisted.internet.epollreactor.EPollReactor.removeWriter(self, writer)
twisted.internet.epollreactor.EPollReactor.runUntilCurrent(self)
twisted.internet.tcp.Connection.TLS
twisted.internet.tcp.Connection.producer
twisted.internet.tcp.Connection.protocol
twisted.internet.tcp.Connection.streamingProducer
twisted.internet.tcp._FileDescriptorReservation.__enter__(self)
twisted.internet.tcp._FileDescriptorReservation.__exit__(self, excType, excValue, traceback)
twisted.internet.tcp._FileDescriptorReservation.available(self)
twisted.internet.tcp._FileDescriptorReservation.reserve(self)
twisted.internet.tcp._reservedFD
twisted.protocols.policies.ProtocolWrapper.dataReceived(self, data)
twisted.protocols.tls.TLSMemoryBIOProtocol.__init__(self, factory, wrappedProtocol,\
 _connectWrapped=...)
twisted.protocols.tls.TLSMemoryBIOProtocol._aborted
twisted.protocols.tls.TLSMemoryBIOProtocol._appSendBuffer
twisted.protocols.tls.TLSMemoryBIOProtocol._bufferedWrite(self, octets)
twisted.protocols.tls.TLSMemoryBIOProtocol._checkHandshakeStatus(self)
twisted.protocols.tls.TLSMemoryBIOProtocol._flushReceiveBIO(self)
twisted.protocols.tls.TLSMemoryBIOProtocol._flushSendBIO(self)
twisted.protocols.tls.TLSMemoryBIOProtocol._handshakeDone
twisted.protocols.tls.TLSMemoryBIOProtocol._lostTLSConnection
twisted.protocols.tls.TLSMemoryBIOProtocol._shutdownTLS(self)
twisted.protocols.tls.TLSMemoryBIOProtocol._tlsConnection
twisted.protocols.tls.TLSMemoryBIOProtocol._tlsShutdownFinished(self, reason)
twisted.protocols.tls.TLSMemoryBIOProtocol._unbufferPendingWrites(self)
twisted.protocols.tls.TLSMemoryBIOProtocol._write(self, bytes)
"""


def _written(need: Need) -> str:
    if need.parameters is None:
        return str(need)
    if "(*)" in need.parameters:
        return f"{need}: {need.parameters}"
    return f"{need}({need.parameters})"


class ContractTests(SynchronousTestCase):
    """Each private name, with its signature."""

    def test_written(self) -> None:
        """This is all of them."""
        told = {_written(need) for module in ROOM.values() for need in module.NEEDS}
        self.assertEqual(CONTRACT.splitlines(), sorted(told))

    def test_met(self) -> None:
        """The libraries that are installed have them, so nothing is done without."""
        for name, module in ROOM.items():
            self.assertEqual([], [str(need) for need in module.NEEDS if not need.is_met], name)

    def test_whole(self) -> None:
        """A module of the room names all the private names in its code."""
        for name, module in ROOM.items():
            named = {need.name for need in module.NEEDS}
            self.assertEqual(set(), used(name, MODULES[name]) - named, name)

    def test_nowhere_else(self) -> None:
        """No module outside the room uses a private name of another package."""
        found = {
            name: names
            for name, file in MODULES.items()
            if not name.startswith("cms.fast.") and (names := used(name, file))
        }
        self.assertEqual({}, found)

    def test_names_of_certificates(self) -> None:
        """The names of extensions and usages are those that cryptography has for itself."""
        for kind in (ExtensionOID, ExtendedKeyUsageOID):
            for each in vars(kind).values():
                if isinstance(each, ObjectIdentifier) and each._name != "Unknown OID":
                    self.assertEqual(each._name, name_of(each))
        self.assertEqual("1.2.3", name_of(ObjectIdentifier("1.2.3")))


class _Kept:
    """What a library might have."""

    kept = 1

    def _set(self) -> None:
        self._made = 2

    def _asked(self, one: int, /, *more: int, end: bool = False) -> int:
        return self._made or one


class NeedTests(SynchronousTestCase):
    """How it is found out that a private part is not there."""

    HERE = f"{__name__}:_Kept"

    def test_there(self) -> None:
        """Attributes of a class and of its instances, and functions that take what they took."""
        self.assertTrue(Need(self.HERE, "kept").is_met)
        self.assertTrue(Need(self.HERE, "_made").is_met)
        self.assertTrue(Need(self.HERE, "_asked", "self, one, /, *more, end=...").is_met)

    def test_gone(self) -> None:
        """A module, a class, an attribute, a function; and one with other parameters."""
        for owner, name, parameters in (
            ("cms.fast.gone", "x", None),
            (f"{__name__}:_Gone", "x", None),
            (self.HERE, "_gone", None),
            (self.HERE, "_gone", "self"),
            (self.HERE, "_asked", "self, one"),
            (self.HERE, "kept", ""),
        ):
            self.assertFalse(Need(owner, name, parameters).is_met, (owner, name))

    def test_each_function(self) -> None:
        """Of every function in the contract: one that takes other arguments is noticed."""
        for module in ROOM.values():
            for need in module.NEEDS:
                if need.parameters is None or need.owner == "OpenSSL._util:lib":
                    continue
                with patch.object(find(need.owner), need.name, lambda *_, **more: more):
                    self.assertFalse(need.is_met, str(need))

    def test_told(self) -> None:
        """One line says what is lost, of which version, and what is not there."""
        said: list[LogEvent] = []
        observe_log(self, said.append)
        gone = Need("twisted.internet.tcp", "_gone")
        self.assertEqual((gone,), lacking("Twisted", [gone, Need(self.HERE, "kept")], "speed"))
        self.assertEqual((), lacking("Twisted", [Need(self.HERE, "kept")], "speed"))
        (event,) = said
        self.assertEqual("warn", event["log_level"].name)
        text = f"speed: Twisted {version('Twisted')} has not, or has otherwise:"
        self.assertEqual(f"{text} twisted.internet.tcp._gone", formatEvent(event))


def copy_of(name: str) -> Any:
    """A second copy of a module, which nobody else sees."""
    spec = spec_from_file_location(f"{name}_again", MODULES[name])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without(test: SynchronousTestCase, name: str, *changed: tuple[str, str]) -> Any:
    """
    A second copy of a module of the room, made while a library is another inside.

    @param changed: Which function of which owner takes other arguments, and works.
    """
    said: list[LogEvent] = []
    observe_log(test, said.append)
    with contextlib.ExitStack() as patches:
        for owner, function in changed:
            patches.enter_context(patch.object(find(owner), function, _other(owner, function)))
        module = copy_of(name)
    test.assertEqual(1, len([e for e in said if e["log_namespace"] == "cms.fast.needs"]))
    return module


def _other(owner: str, function: str) -> Any:
    usual = getattr(find(owner), function)

    def other(*arguments: Any, **named: Any) -> Any:
        return usual(*arguments, **named)

    return other


class _Inputs(Protocol):
    """Six inputs."""

    def a(self, said: int) -> None:
        """One."""

    def b(self, said: int) -> None:
        """Another."""

    def c(self, said: int) -> None:
        """Another."""

    def d(self, said: int) -> None:
        """Another."""

    def e(self, said: int) -> None:
        """Another."""

    def f(self, said: int) -> None:
        """Another."""


class _Core:
    def __init__(self) -> None:
        self.seen: list[object] = []


class _Counting(Protocol):
    def put(self, much: int) -> None:
        """More."""

    def take(self) -> None:
        """Again."""


class _Answering(Protocol):
    def ask(self) -> int:
        """How much."""


def sixty() -> TypeMachineBuilder[_Inputs, _Core]:
    """Ten states by six inputs; what is done says where, and asks for more within itself."""
    builder = TypeMachineBuilder(_Inputs, _Core)
    states = [builder.state(f"s{number}") for number in range(10)]
    for number, state in enumerate(states):
        for at, letter in enumerate("abcdef"):
            step = state.upon(getattr(_Inputs, letter)).to(states[(number * 7 + at * 3 + 1) % 10])

            def output(inputs: _Inputs, core: _Core, said: int, here: Any = (number, at)) -> None:
                core.seen.append((here, said))
                if said % 3 == 2:
                    inputs.a(said + 1)

            step(output)
    return builder


class MachineTests(SynchronousTestCase):
    """State machines, run by the table and by Automat."""

    def walk(self, make: Any) -> list[object]:
        """Where a long walk leads."""
        core, steps = _Core(), random.Random(7)
        inputs = make(core)
        for said in range(500):
            getattr(inputs, steps.choice("abcdef"))(said)
        release(inputs)
        return core.seen

    def test_the_same(self) -> None:
        """Sixty transitions: the table, Automat, and the room without Automat's inside."""
        other = without(self, "cms.fast.machines", (machines.NEEDS[1].owner, "allTransitions"))
        self.assertEqual(["allTransitions"], [need.name for need in other.ABSENT])
        table, left = Machine(sixty()), other.Machine(sixty())
        self.assertEqual((60, None), (len(table.automaton.allTransitions()), left.automaton))
        seen = self.walk(sixty().build())
        self.assertGreater(len(seen), 600)
        self.assertEqual(seen, self.walk(table))
        self.assertEqual(seen, self.walk(left))
        self.assertNotIsInstance(left(_Core()), machines._Running)
        self.assertIsInstance(table(_Core()), machines._Running)

    def test_states_with_data(self) -> None:
        """A machine whose states have data is run by Automat, which keeps them."""
        builder = TypeMachineBuilder(_Counting, _Core)
        empty = builder.state("empty")

        def keep(inputs: _Counting, core: _Core, much: int) -> list[int]:
            return [much]

        full = builder.state("full", keep)
        empty.upon(_Counting.put).to(full).returns(None)
        full.upon(_Counting.put).loop().returns(None)

        @full.upon(_Counting.take).to(empty)
        def take(inputs: _Counting, core: _Core, kept: list[int]) -> None:
            core.seen.append(kept)

        made, core = Machine(builder), _Core()
        inputs = made(core)
        inputs.put(7)
        inputs.take()
        self.assertEqual([[7]], core.seen)
        release(inputs)

    def test_inputs_that_answer(self) -> None:
        """A machine whose inputs answer something is run by Automat, and answers."""
        builder = TypeMachineBuilder(_Answering, _Core)
        builder.state("one").upon(_Answering.ask).loop().returns(42)
        self.assertEqual(42, Machine(builder)(_Core()).ask())


class WithoutTests(TLSTestCase):
    """What works where a library is another inside."""

    def test_reactor(self) -> None:
        """Twisted chooses its own reactor."""
        other = without(self, "cms.fast.reactor", (reactor._EPOLL, "_doReadOrWrite"))
        installed: list[object] = []
        self.patch(other, "installReactor", installed.append)
        with patch.dict(sys.modules):
            del sys.modules["twisted.internet.reactor"]
            other.install(1.0)
        self.assertEqual([], installed)

    def test_transport(self) -> None:
        """Twisted's own size stays."""
        said: list[LogEvent] = []
        observe_log(self, said.append)
        with patch.object(Need, "is_met", False):
            other = copy_of("cms.fast.transport")
        connection = MemoryTransport()
        other.set_buffer(connection, 7)
        self.assertEqual((65_536, 1), (connection.bufferSize, len(said)))
        transport.set_buffer(connection, 7)
        self.assertEqual(7, connection.bufferSize)

    def test_reserved_file(self) -> None:
        """Twisted's own reservation stays."""
        other = without(self, "cms.fast.reservedfile", (reservedfile._RESERVATION, "reserve"))
        reserved: Any = vars(tcp)["_reservedFD"]
        other.tell_of_use(lambda: self.fail("nobody tells"))
        self.assertIs(reserved, vars(tcp)["_reservedFD"])

    def test_words(self) -> None:
        """Refusals are told by number."""
        other = self.without_openssl()
        self.assertEqual("verify result 18", other.verify_words(18))
        self.assertEqual("self-signed certificate", openssl.verify_words(18))

    def test_groups(self) -> None:
        """A handshake in OpenSSL's own groups: also in one that is left out else, being slow."""
        for module, shaken in ((openssl, False), (self.without_openssl(), True)):
            self.patch(files, "allow_groups", lambda c, _: openssl.allow_groups(c, b"X448"))
            verification = self.verification()
            self.patch(files, "allow_groups", module.allow_groups)
            client, server = self.shake(verification, self.server())
            self.assertEqual((shaken, shaken), (client.shook, server.shook))
            heard = b"hello" if shaken else b""
            self.assertEqual((heard, heard), (client.heard, server.heard))

    def test_unknown_group(self) -> None:
        """A group that OpenSSL does not know is no silent nothing."""
        context = SSL.Context(SSL.TLS_METHOD)
        self.assertRaises(ValueError, openssl.allow_groups, context, b"no such group")

    def without_openssl(self) -> Any:
        """The module where pyOpenSSL has no C{lib}."""
        said: list[LogEvent] = []
        observe_log(self, said.append)
        with patch.object(find("OpenSSL._util"), "lib", SimpleNamespace()):
            other = copy_of("cms.fast.openssl")
        self.assertEqual(2, len(said))
        return other


class LayerTests(Ends):
    """TLS by Twisted's own layer, over the same connections."""

    def test_both_ways(self) -> None:
        """Both ends hear each other, all of it, and are told that it is secured."""
        other = without(self, "cms.fast.tls", (tls._LAYER, "_flushSendBIO"))
        self.patch(twisted_tls, "_get_default_clock", lambda: self.reactor)
        self.starter = other.start_tls
        self.start()
        self.client.transport.write(b"early")
        self.run_until_quiet()
        self.accepted.transport.write(b"x" * 100_000)
        self.run_until_quiet()
        self.assertEqual([b"early"], self.accepted.deliveries)
        self.assertEqual(100_000, sum(map(len, self.client.deliveries)))
        self.assertEqual((["secured"], ["secured"]), (self.client.events, self.accepted.events))
        self.assertNotIsInstance(self.near.protocol, tls.Layer)
        self.assertIsInstance(self.near.protocol, TLSMemoryBIOProtocol)
        connection = connection_of(self.client.transport)
        assert connection is not None
        self.assertEqual("TLSv1.3", connection.get_protocol_version_name())
