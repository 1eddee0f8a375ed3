"""
A user directory as the Callbridge uses it: each server with TLS and our own account, then at
the first that works base, filter and mappings, and one user by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from attrs import define, evolve, field
from sansldap import FilterAnd, LDAPFilter, SearchScope

from cms import faults
from cms.audit.finding import Finding
from cms.callbridge.directories.store import StoreError
from cms.callbridge.ldap import codes
from cms.callbridge.ldap.connection import FoundEntry, LdapConnection, Refused
from cms.callbridge.ldap.directory import refuse_unread
from cms.callbridge.ldap.groups import comparable
from cms.callbridge.ldap.mapping import Lacking, entries_of
from cms.callbridge.ldap.pool import refusal, refuse_endless
from cms.callbridge.ldap.servers import SERVICE, Connector, TcpConnector, bind_account, server_of
from cms.callbridge.ldap.settings import ANYTHING, LdapServer, LdapSettings
from cms.callbridge.ldap.users import COMPUTED, LdapUser, attributes_of, read_user
from cms.check.bounds import Waits, within
from cms.check.lane import Lane, Waiting
from cms.discovery.lookup import Finder
from cms.discovery.resolver import DNS
from cms.process.clocks import wall_clock
from cms.signalflow import Step, StepError, printable
from cms.trust.files import PEMFiles

MOST_SERVERS = 8
PAGING = 6  # stages in which the pages of all entries are read
# Waits of a stage's length at one server: DNS and TLS, bind, base, groups, user.
STAGES = PAGING + 5
MOST_NAMED = 5  # entries that a finding names


@define
class Seen:
    """
    What the entries that fit the filter are like.

    @ivar present: Attributes that somebody has.
    @ivar left: How many cannot log in.
    @ivar named: The first of them, and why.
    @ivar users: Addresses, and the DNs that have each.
    @ivar cut: Why not all were seen; empty if they were.
    """

    count: int = 0
    present: set[str] = field(factory=set)
    left: int = 0
    named: list[str] = field(factory=list)
    users: dict[str, set[str]] = field(factory=dict)
    disabled: int = 0
    cut: str = ""

    def leave_out(self, why: str) -> None:
        """One more cannot log in."""
        self.left += 1
        if self.left <= MOST_NAMED:
            self.named.append(why)


class DirectoryProbe:
    """
    One C{[[directory]]} of kind C{ldap}.

    @param lane: Where it reports.
    @param domain: The XMPP domain.
    @param stage: Seconds for each answer.
    @param user: The prepared local part of somebody whom it is to find; empty for nobody.
    @param is_stored: Whether he is in the local store, which comes before.
    @param source: The configuration file.
    @param connector: Instead of one over TCP.
    """

    def __init__(
        self,
        reactor: Any,
        settings: LdapSettings,
        dns: DNS,
        *,
        lane: Lane,
        waiting: Waiting,
        random: Random,
        domain: str,
        stage: float,
        source: str,
        user: str = "",
        is_stored: bool = False,
        connector: Connector | None = None,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._domain = domain
        self._finder = Finder(dns, random)
        self._lane = lane
        self._waiting = Waits(waiting)
        self._stage = stage
        self._source = source
        self._user = user
        self._is_stored = is_stored
        self._connector = connector
        self._attributes = attributes_of(settings)
        self._at = ""

    @staticmethod
    def bound_of(settings: LdapSettings, stage: float) -> float:
        """Seconds within which it ends."""
        return STAGES * stage * (len(settings.servers) or MOST_SERVERS)

    async def run(self) -> None:
        """Look, and report to the lane; nothing is raised."""
        bound = self.bound_of(self._settings, self._stage)
        self._waiting(Step.LOGIN, f"directory {self._settings.name}", bound)
        error = await within(self._reactor, bound, self._look(), self._waiting)
        if error is not None:
            self._lane.holds = False
            self._lane.settle()
            self._lane.failed(error, self._at or f"directory {self._settings.name}")

    async def _look(self) -> None:
        settings = self._settings
        try:
            connector = self._connector or self._make_connector()
            servers = settings.servers or await self._by_srv()
        except StepError as error:
            self._lane.failed(self._unfound(error), f"directory {settings.name}")
            return
        self._lane.holds = len(servers) > 1
        works = False
        for server in servers:
            self._at = str(server)
            connection = await self._open(connector, server)
            if connection is None:
                continue
            if not works:
                works = await self._use(connection)
            connection.close()
        self._lane.holds = False
        self._lane.settle(self._beside_another if works else lambda finding: finding)

    def _make_connector(self) -> Connector:
        files = PEMFiles(
            *(self._source, self._settings.trust, None, None),
            role="client",
            section=f"[[directory]] {self._settings.name}:",
        )
        return TcpConnector(self._reactor, self._finder, files)

    def _beside_another(self, finding: Finding) -> Finding:
        """Of a server that fails, if another works."""
        error = finding.problem
        if error is None or not finding.about.startswith("ldap"):
            return finding
        warning = faults.LDAP_SERVER_FAILS.error(
            directory=self._settings.name,
            peer=finding.about,
            problem=error.cause,
            mend=error.cure,
            fault=error.fault,
        )
        return evolve(finding, result="warning", problem=warning)

    async def _by_srv(self) -> Sequence[LdapServer]:
        self._waiting(Step.LOGIN, f"{SERVICE}.{self._settings.domain}", self._stage)
        found = await self._finder.targets(self._settings.domain, SERVICE)
        return [server_of(target) for target in found.targets[:MOST_SERVERS]]

    # one server

    async def _open(self, connector: Connector, server: LdapServer) -> LdapConnection | None:
        """A connection on which our account is bound; C{None} once it was told why not."""
        settings, about = self._settings, str(server)
        self._waiting(Step.LOGIN, about, 2 * self._stage)
        began = self._reactor.seconds()
        try:
            connection = await connector.connect(server, self._stage)
            await bind_account(connection, settings, self._stage)
        except StepError as error:
            self._lane.failed(error, about, self._since(began))
            return None
        account = settings.bind_name or "(nobody)"
        evidence = {"directory": settings.name, "account": account, **connection.evidence}
        self._lane.passed(Step.LOGIN, about, self._since(began), evidence)
        return connection

    def _unfound(self, error: StepError) -> StepError:
        """DNS says what it says of the way to an XMPP server."""
        if error.step is Step.CONFIGURATION:
            return error
        return faults.LDAP_UNREACHABLE.error(directory=self._settings.name, problem=error.cause)

    def _since(self, began: float) -> float:
        return float(self._reactor.seconds() - began)

    async def _use(self, connection: LdapConnection) -> bool:
        """
        Base, filter, mappings and user, one after the other.

        @return: Whether the server answered, whatever it said of the directory.
        """
        peer, began = connection.peer, self._reactor.seconds()
        about = f"directory {self._settings.name}"
        try:
            await self._base(connection)
            seen = await self._entries(connection)
        except StepError as error:
            answered = error.fault not in _NO_ANSWER
            self._lane.failed(error, about if answered else peer, self._since(began))
            return answered
        problem = self._judge(seen, peer)
        if problem is not None:
            self._lane.failed(problem, about)
            return True
        evidence = {
            "base": self._settings.base,
            "entries": f"{seen.count}{' or more' if seen.cut else ''}",
            "users": str(len(seen.users)),
            "disabled": str(seen.disabled),
        }
        self._lane.passed(Step.LOGIN, about, self._since(began), evidence, seen.cut)
        self._warn(seen, peer)
        if self._settings.groups_base:
            await self._groups(connection)
        if self._user:
            await self._find(connection)
        return True

    async def _base(self, connection: LdapConnection) -> None:
        missing = faults.LDAP_BASE_MISSING.error(peer=connection.peer, base=self._settings.base)
        try:
            page = await connection.search(
                *(self._settings.base, ANYTHING, (), self._stage),
                most=1,
                scope=SearchScope.BASE,
            )
        except Refused as no:
            raise (missing if no.code in codes.NO_BASE else self._explained(no)) from None
        if not page.entries:
            raise missing

    def _explained(self, no: Refused) -> StepError:
        if no.code == codes.REFERRAL:
            return faults.LDAP_REFERRAL.error(peer=no.peer, doing="search")
        return refusal(no)

    async def _entries(self, connection: LdapConnection) -> Seen:
        """All entries that the filter fits, page by page as a sync reads them."""
        settings, seen, cookie, empty = self._settings, Seen(), b"", 0
        until = self._reactor.seconds() + PAGING * self._stage
        while True:
            try:
                page = await connection.search(
                    *(settings.base, settings.search_filter, self._attributes, self._stage),
                    most=settings.page_size,
                    page=settings.page_size,
                    cookie=cookie,
                )
            except Refused as no:
                if no.code != codes.SIZE_LIMIT_EXCEEDED:
                    raise self._explained(no) from None
                raise faults.LDAP_SIZE_LIMIT.error(
                    peer=no.peer, count=seen.count, problem=no.words
                ) from None
            for entry in page.entries:
                self._note(entry, seen)
            cookie = page.cookie
            if not cookie:
                return seen
            empty += not page.entries
            refuse_endless(empty, connection.peer)
            if self._reactor.seconds() >= until or seen.count >= settings.most_users:
                seen.cut = "not all of them were looked at"
                return seen

    def _note(self, entry: FoundEntry, seen: Seen) -> None:
        seen.count += 1
        seen.present.update(name for name, values in entry.values.items() if values)
        try:
            user = self._read(entry)
        except Lacking as lacking:
            seen.leave_out(f"{printable(entry.dn)} (no {lacking.attribute})")
        except StoreError as problem:
            seen.leave_out(f"{printable(entry.dn)} ({problem})")
        else:
            known, dn = seen.users.setdefault(user.name, set()), comparable(user.dn)
            seen.disabled += user.disabled and dn not in known
            known.add(dn)

    def _read(self, entry: FoundEntry) -> LdapUser:
        return read_user(entry, self._settings, self._domain, wall_clock(self._reactor)())

    def _judge(self, seen: Seen, peer: str) -> StepError | None:
        """Why nobody can log in, if nobody can."""
        settings = self._settings
        where = {"peer": peer, "base": settings.base, "filter": str(settings.search_filter)}
        if not seen.count:
            return faults.LDAP_NOBODY.error(**where)
        mappings = {
            "jidMapping": settings.jid,
            "nameMapping": settings.shown_name,
            "authenticationMapping": settings.bind_as,
        }
        for key, template in mappings.items():
            for attribute in template.attributes if template is not None else ():
                if attribute.lower() not in seen.present:
                    return faults.LDAP_ATTRIBUTE_ABSENT.error(
                        count=seen.count, attribute=attribute, key=key, **where
                    )
        if not seen.users:
            return faults.LDAP_ADDRESSES_UNUSABLE.error(
                count=seen.count,
                peer=peer,
                domain=self._domain,
                problem=seen.named[0],
                mapping=settings.jid,
            )
        return None

    def _warn(self, seen: Seen, peer: str) -> None:
        twice = {name: len(dns) for name, dns in seen.users.items() if len(dns) > 1}
        left = seen.left + sum(twice.values())
        if not left:
            return
        several = [f"{name}@{self._domain} ({count} entries)" for name, count in twice.items()]
        named = [*several, *seen.named][:MOST_NAMED]
        if left > len(named):
            named.append("...")
        warning = faults.LDAP_LEFT_OUT.error(
            left=left, count=seen.count, peer=peer, names=", ".join(named)
        )
        self._lane.warned(warning, f"directory {self._settings.name}")

    async def _groups(self, connection: LdapConnection) -> None:
        """Whether there is any group whose members would be contacts."""
        base, wanted = self._settings.groups_base, self._settings.groups_filter
        about, began = f"groups of directory {self._settings.name}", self._reactor.seconds()
        problem = ""
        try:
            page = await connection.search(base, wanted, ("cn",), self._stage, most=1)
            found = bool(page.entries)
        except Refused as no:
            found = no.code == codes.SIZE_LIMIT_EXCEEDED
            problem = f" ({no.words})"
        except StepError as error:
            self._lane.failed(error, about, self._since(began))
            return
        if found:
            self._lane.passed(Step.LOGIN, about, self._since(began), {"base": base})
        else:
            where = {"peer": connection.peer, "base": base, "filter": str(wanted)}
            self._lane.warned(faults.LDAP_NO_GROUPS.error(**where, problem=problem), about)

    # one user

    async def _find(self, connection: LdapConnection) -> None:
        address, peer = f"{self._user}@{self._domain}", connection.peer
        self._waiting(Step.LOGIN, address, self._stage)
        began = self._reactor.seconds()
        try:
            user, filtered = await self._entry_of(connection, address)
        except StepError as error:
            if self._is_stored and error.fault == faults.LDAP_USER_ABSENT.name:
                self._lane.skipped(Step.LOGIN, address, f"{self._user} is {_LOCAL}")
            else:
                self._lane.failed(error, address, self._since(began))
            return
        evidence = {"dn": user.dn, "name": user.shown, "binds as": user.bind_as}
        shown = {key: printable(value) for key, value in evidence.items()}
        problem = None
        if filtered:
            problem = faults.LDAP_USER_FILTERED.error(
                peer=peer, address=address, dn=user.dn, filter=self._settings.search_filter
            )
        elif user.closed:
            problem = faults.LDAP_USER_DISABLED.error(
                peer=peer, address=address, dn=user.dn, closed=user.closed
            )
        if self._is_stored:
            why = f"{printable(user.dn)} ({self._user} is {_LOCAL})"
            warning = faults.LDAP_LEFT_OUT.error(left=1, count=1, peer=peer, names=why)
            self._lane.warned(warning, address)
        elif problem is not None:
            self._lane.failed(problem, address, self._since(began), shown)
        else:
            self._lane.passed(Step.LOGIN, address, self._since(began), shown)

    async def _entry_of(self, connection: LdapConnection, address: str) -> tuple[LdapUser, bool]:
        """
        His entry, and whether only the filter hides it.

        @raise StepError: there is none, or more than one.
        """
        settings = self._settings
        his = entries_of(address, settings.jid)
        for wanted in () if his is None else (FilterAnd([settings.search_filter, his]), his):
            found = await self._users(connection, wanted, address)
            if len({comparable(user.dn) for user in found}) > 1:
                raise faults.LDAP_AMBIGUOUS.error(directory=settings.name, address=address)
            if found:
                return found[0], wanted is his
        raise faults.LDAP_USER_ABSENT.error(
            peer=connection.peer,
            base=settings.base,
            address=address,
            mapping=settings.jid,
            wanted=his or settings.search_filter,
        )

    async def _users(
        self, connection: LdapConnection, wanted: LDAPFilter, address: str
    ) -> list[LdapUser]:
        try:
            attributes = (*self._attributes, COMPUTED)
            page = await connection.search(
                *(self._settings.base, wanted, attributes, self._stage), most=MOST_NAMED
            )
        except Refused as no:
            if no.code == codes.SIZE_LIMIT_EXCEEDED:
                raise faults.LDAP_AMBIGUOUS.error(
                    directory=self._settings.name, address=address
                ) from None
            raise self._explained(no) from None
        users: list[LdapUser] = []
        for entry in page.entries:
            try:
                user = self._read(entry)
            except (Lacking, StoreError):
                continue
            if user.name == self._user:
                users.append(user)
        if not users:
            refuse_unread(page)
        return users


_LOCAL = "a user of the directory local, which comes before"
_NO_ANSWER = frozenset({faults.LDAP_SILENT.name, faults.LDAP_BROKEN.name})
