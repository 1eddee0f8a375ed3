"""An LDAP server in memory, with entries, and all that can be wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sansldap
from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from cms import faults
from cms.callbridge.ldap.connection import LdapConnection
from cms.callbridge.ldap.settings import LdapServer
from cms.signalflow import StepError
from tests.support import MemoryTransport

BASE = "dc=example,dc=com"
READER, READER_PASSWORD = f"cn=reader,{BASE}", "reads"
Values = dict[str, list[bytes]]


def matches(wanted: sansldap.LDAPFilter, values: Mapping[str, list[bytes]]) -> bool:
    """Whether an entry fits a filter, values without regard to case."""
    if isinstance(wanted, sansldap.FilterAnd):
        return all(matches(each, values) for each in wanted.filters)
    if isinstance(wanted, sansldap.FilterOr):
        return any(matches(each, values) for each in wanted.filters)
    if isinstance(wanted, sansldap.FilterPresent):
        return wanted.attribute.lower() in values
    assert isinstance(wanted, sansldap.FilterEquality), wanted
    held = values.get(wanted.attribute.lower(), [])
    return wanted.value.lower() in [value.lower() for value in held]


@define(eq=False)
class MemoryLdap:
    """
    What a server holds, and how it behaves.

    @ivar entries: Attributes in lower case, by DN; C{userpassword} among them.
    @ivar frozen: It takes everything and answers nothing.
    @ivar refuses: It takes no connection, perhaps for this reason.
    @ivar bind_code: What a bind is answered with, right or wrong.
    @ivar bind_text: The words of a bind that fails.
    @ivar account_code: What the right bind of our own account is answered with.
    @ivar silent_for: A name whose bind is not answered.
    @ivar policy: The response control of the password policy.
    @ivar search_code: What a search ends with.
    @ivar most_values: Values of an attribute that an answer has; the others are asked for by
        their range (MS-ADTS 3.1.1.3.1.3.3).
    @ivar ranged_code: What a search for such others ends with.
    @ivar most: Entries that one search gets in all, by C{sizeLimitExceeded}.
    @ivar cut_after: Pages after which it hangs up.
    @ivar endless: After each page there is another.
    @ivar most_page: Entries of a page, however many were asked for.
    @ivar asked: All filters.
    @ivar binds: All names bound.
    @ivar open: The connections.
    """

    entries: dict[str, Values] = field(factory=dict)
    frozen: bool = False
    refuses: bool | StepError = False
    bind_code: int | None = None
    bind_text: str = ""
    account_code: int = 0
    silent_for: str = ""
    policy: bytes | None = None
    search_code: int = 0
    most_values: int | None = None
    ranged_code: int = 0
    most: int | None = None
    cut_after: int | None = None
    endless: bool = False
    most_page: int | None = None
    pages: int = 0
    asked: list[str] = field(factory=list)
    binds: list[str] = field(factory=list)
    open: list[_Transport] = field(factory=list)

    def add(self, dn: str, **attributes: str | list[str]) -> None:
        """One entry; of a list, each value."""
        self.entries[dn] = {
            name.lower(): [v.encode() for v in ([value] if isinstance(value, str) else value)]
            for name, value in attributes.items()
        }

    def person(self, uid: str, password: str = "s3cret", **more: str | list[str]) -> None:
        """Somebody of class person."""
        values: dict[str, Any] = {
            "objectClass": "person",
            "uid": uid,
            "cn": uid.title(),
            "userPassword": password,
        }
        self.add(f"uid={uid},{BASE}", **{**values, **more})

    def values(self, held: Values, wanted: str) -> list[sansldap.PartialAttribute]:
        """An attribute of an entry as an answer has it."""
        name, _, begins = wanted.removesuffix("-*").partition(";range=")
        if name not in held:
            return []
        begin, most = int(begins or 0), self.most_values or len(held[name])
        if not begins and len(held[name]) <= most:
            return [sansldap.PartialAttribute(name, held[name])]
        end = begin + most
        part, last = held[name][begin:end], end - 1 if end < len(held[name]) else "*"
        ranged = sansldap.PartialAttribute(f"{name};range={begin}-{last}", part)
        return [sansldap.PartialAttribute(name, []), ranged] if not begins else [ranged]

    def hang_up(self) -> None:
        """All connections are lost."""
        for transport in list(self.open):
            transport.lose()


class _Transport(MemoryTransport):
    """One connection, from the client's side; the server reads at once what is written."""

    def __init__(self, server: MemoryLdap) -> None:
        super().__init__()
        self.server = server
        self.session = sansldap.LDAPServer()
        server.open.append(self)

    def write(self, data: bytes) -> None:
        """The server hears it, and answers."""
        super().write(data)
        if self.server.frozen:
            return
        try:
            messages = self.session.receive(data)
        except sansldap.ProtocolError:  # an unbind among it
            return
        for message in messages:
            self._answer(message)
        answer = self.session.data_to_send()
        if answer and not self.lost:
            self.protocol.dataReceived(answer)

    def lose(self, reason: Exception | None = None) -> None:
        """The connection goes away."""
        if self in self.server.open:
            self.server.open.remove(self)
        super().lose(reason)

    def _answer(self, message: sansldap.LDAPMessage) -> None:
        server, session = self.server, self.session
        if isinstance(message, sansldap.BindRequest):
            credential = message.authentication
            assert isinstance(credential, sansldap.SimpleCredential)
            server.binds.append(message.name)
            if message.name == server.silent_for:
                return
            held = server.entries.get(message.name, {}).get("userpassword", [])
            right = credential.password.encode() in held
            if message.name == READER:
                right = credential.password == READER_PASSWORD
            code = (0 if right else 49) if server.bind_code is None else server.bind_code
            if message.name == READER and right:
                code = server.account_code
            controls = []
            if server.policy is not None:
                name = "1.3.6.1.4.1.42.2.27.8.5.1"
                controls = [sansldap.LDAPControl(name, critical=False, value=server.policy)]
            session.bind_response(
                message.message_id,
                result_code=sansldap.LDAPResultCode(code),
                diagnostics_message=server.bind_text,
                controls=controls,
            )
        elif isinstance(message, sansldap.SearchRequest):
            self._search(message)
        elif isinstance(message, sansldap.ExtendedRequest):
            session.extended_response(message.message_id, name=message.name)

    def _search(self, message: sansldap.SearchRequest) -> None:
        server, session = self.server, self.session
        server.asked.append(str(message.filter))
        ranged = any(";range=" in name for name in message.attributes)
        refused = server.search_code or (ranged and server.ranged_code)
        if refused:
            code = sansldap.LDAPResultCode(refused)
            session.search_result_done(message.message_id, result_code=code)
            return
        found = [dn for dn, values in server.entries.items() if matches(message.filter, values)]
        if message.scope is sansldap.SearchScope.BASE:
            found = [dn for dn in found if dn == message.base_object]
        paged = next(
            (c for c in message.controls if isinstance(c, sansldap.PagedResultControl)), None
        )
        begin = int(paged.cookie or b"0") if paged is not None else 0
        end = begin + paged.size if paged is not None else len(found)
        if paged is not None and server.most_page is not None:
            end = min(end, begin + server.most_page)
        if paged is not None:
            server.pages += 1
            if server.cut_after is not None and server.pages > server.cut_after:
                self.lose()
                return
        code = sansldap.LDAPResultCode.SUCCESS
        most = server.most if server.most is not None else message.size_limit
        if most and end > most and len(found) > most:
            end, code = most, sansldap.LDAPResultCode.SIZE_LIMIT_EXCEEDED
        wanted = [name.lower() for name in message.attributes]
        for dn in found[begin:end]:
            held = server.entries[dn]
            attributes = [each for name in wanted for each in server.values(held, name)]
            session.search_result_entry(message.message_id, dn, attributes)
        controls: list[sansldap.LDAPControl] = []
        if paged is not None:
            cookie = str(end).encode() if end < len(found) or server.endless else b""
            controls.append(sansldap.PagedResultControl(critical=False, size=0, cookie=cookie))
        session.search_result_done(message.message_id, result_code=code, controls=controls)


class MemoryConnector:
    """
    Connects to servers in memory.

    @ivar servers: By host.
    @ivar tried: The hosts that were connected to.
    """

    def __init__(self, clock: Clock, **servers: MemoryLdap) -> None:
        self._clock = clock
        self.servers = servers
        self.tried: list[str] = []

    def connect(self, server: LdapServer, seconds: float) -> Deferred[LdapConnection]:
        """See L{cms.callbridge.ldap.servers.Connector.connect}."""
        self.tried.append(server.host)
        held = self.servers[server.host]
        if isinstance(held.refuses, StepError):
            return fail(held.refuses)
        if held.refuses:
            return fail(
                faults.LDAP_BROKEN.error(peer=server, doing="connect", problem="it is refused")
            )
        return succeed(connected(self._clock, held, server))


def connected(clock: Clock, held: MemoryLdap, server: LdapServer | None = None) -> LdapConnection:
    """A connection with TLS."""
    connection = LdapConnection(clock, server or LdapServer("dc1", 636, False, True))
    _Transport(held).connect(connection)
    connection.handshakeCompleted()
    return connection
