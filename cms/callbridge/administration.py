"""What the API and the pages of a Callbridge show and change."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock

from cms import faults
from cms.admin.busy import answered
from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.callbridgepages import CallbridgePages
from cms.admin.directoriesapi import DirectoryOperations
from cms.admin.directorypages import DirectoryPages
from cms.admin.interfaces import Facts, Health, Page, Recorded, Selection, moment
from cms.admin.lacking import lacking_facts
from cms.admin.ldapapi import LdapOperations
from cms.admin.lockpages import LockPages
from cms.admin.locksapi import Counted, LockOperations, LockTable
from cms.admin.pages import MorePages
from cms.admin.recordapi import record_operation
from cms.admin.recordpages import RecordPages
from cms.admin.service import AdminService, AdminSettings
from cms.admin.userpages import UserPages
from cms.callbridge.daemon import CallbridgeService
from cms.callbridge.directories.administration import DirectoryAdministration, failing
from cms.callbridge.directories.store import StoreError, User, UserStore, user_name
from cms.callbridge.ldap.administration import LdapAdministration
from cms.callbridge.ldap.settings import LdapSettings
from cms.callbridge.ldap.syncrecord import SyncRecord
from cms.callbridge.settings import PARAMETERS, StoredSettings
from cms.callbridge.spaces.administration import SpaceAdministration
from cms.process.clocks import wall_clock
from cms.process.threads import SlowWork, shielded
from cms.protection.guessing import Guesses
from cms.signalflow import Step, StepError
from cms.state.database import StoreUnusable
from cms.state.folder import explain_os
from cms.web.refusal import Refused, wrong

_T = TypeVar("_T")


class CallbridgeAdministration:
    """
    Implements L{cms.admin.interfaces.Callbridge}.

    @param stored: Where changed settings are kept.
    """

    role = "callbridge"

    def __init__(self, daemon: CallbridgeService, stored: StoredSettings, reactor: Any) -> None:
        self._daemon = daemon
        self._stored = stored
        self._work = SlowWork(reactor, at_once=1, most_waiting=50)
        self._turn = DeferredLock()

    # the link

    def health(self) -> Health:
        """See L{cms.admin.interfaces.Daemon.health}."""
        last = self._daemon.link.history.last
        link = self._daemon.link
        if link.status()["state"] == "active":
            stream = link.stream
            if stream is not None and stream.party.is_stalled:
                return Health(False, Step.ACTIVE, faults.LINK_STALLED.error(peer=stream.peer))
            if stream is not None and stream.unserved is not None:
                return Health(False, Step.ACTIVE, stream.unserved)
            return Health(True, Step.ACTIVE)
        if last is None:
            return Health(False, Step.CONFIGURATION)
        failure = last.failure
        return Health(False, failure.step if failure is not None else last.reached, failure)

    def status(self) -> Facts:
        """See L{cms.admin.interfaces.Daemon.status}."""
        link = self._daemon.link.status()
        step = link["step"]
        link["stepName"] = Step(step).title if step else None
        link["since"] = moment(link["since"])
        link["nextAttempt"] = moment(link["nextAttempt"])
        rooms = self._daemon.rooms
        return {
            "configuration": self.configuration(),
            "link": link,
            "rooms": rooms.count,
            "roomOccupants": rooms.occupants,
            "guests": {"known": len(self._daemon.visitors), **self._daemon.door.figures.results},
            **lacking_facts(self._daemon.databases()),
            **failing(self._daemon.directories.syncs),
        }

    def reconnect(self, *, even_if_up: bool) -> str:
        """See L{cms.admin.interfaces.Callbridge.reconnect}."""
        link = self._daemon.link
        if link.state in ("registered", "active") and not even_if_up:
            return "up"
        if link.state == "waiting" or even_if_up:
            link.reconnect()
            return "begun"
        return "underWay"

    def attempts(self) -> Sequence[Recorded]:
        """See L{cms.admin.interfaces.Daemon.attempts}."""
        recorded = [Recorded("link", attempt) for attempt in self._daemon.link.history]
        recorded += [Recorded("login", attempt) for attempt in self._daemon.logins]
        return sorted(recorded, key=lambda r: (r.attempt.began, r.attempt.number), reverse=True)

    # the settings

    def configuration(self) -> Facts:
        """See L{cms.admin.interfaces.Callbridge.configuration}."""
        config = self._daemon.config
        return {
            "uniqueName": config.unique_name,
            "domain": config.link.domain,
            "serverAddressOverride": str(config.link.server or ""),
            "componentAddress": config.link.component,
            "source": config.source,
        }

    async def configure(self, changes: Mapping[str, str]) -> None:
        """See L{cms.admin.interfaces.Callbridge.configure}."""
        # A change that has begun is completed even if the client disconnects.
        await shielded(self._turn.run(self._change, changes))

    async def unconfigure(self) -> None:
        """See L{cms.admin.interfaces.Callbridge.unconfigure}."""
        await shielded(self._turn.run(self._change, None))

    def _change(self, changes: Mapping[str, str] | None) -> Deferred[None]:
        return Deferred.fromCoroutine(self._store_and_use(changes))

    async def _store_and_use(self, changes: Mapping[str, str] | None) -> None:
        try:
            settings = {**self._stored.read(), **changes} if changes is not None else {}
            config = self._stored.applied(settings)
        except StepError as error:
            raise _explain(error) from None
        try:
            if settings:
                await self._run(lambda: self._stored.write(settings))
            else:
                await self._run(self._stored.clear)
        except OSError as problem:
            raise explain_os(self._stored.path, problem) from None
        self._daemon.use(config)

    # the users

    async def users(self, selection: Selection) -> Page:
        """See L{cms.admin.interfaces.Callbridge.users}."""
        listed = await self._run(self._store.users)
        return selection.of(map(self._user_facts, listed), "userJid", "displayName")

    async def user(self, id_: str) -> tuple[str, Facts]:
        """See L{cms.admin.interfaces.Callbridge.user}."""
        return self._user_facts(await self._find(id_))

    async def add_user(self, address: str, password: str) -> str:
        """See L{cms.admin.interfaces.Callbridge.add_user}."""
        try:
            name = user_name(address, self._domain)
        except StoreError as problem:
            raise wrong("userJid", str(problem), f"Give a name, or name@{self._domain}.") from None
        if any(user.name == name for user in await self._run(self._store.users)):
            cure = "Change or delete that one."
            raise Refused("userAlreadyExists", f"there is a user {name} already", cure)
        await self._set_password(name, password)
        return self._id(name)

    async def change_user(self, id_: str, password: str | None, disabled: bool | None) -> Facts:
        """See L{cms.admin.interfaces.Callbridge.change_user}."""
        name = (await self._find(id_)).name
        return await shielded(Deferred.fromCoroutine(self._change_user(name, password, disabled)))

    async def _change_user(self, name: str, password: str | None, disabled: bool | None) -> Facts:
        if password is not None:
            await self._set_password(name, password)
        if disabled is not None:
            await self._run(lambda: self._store.set_disabled(name, disabled))
        if not disabled and password is None:
            return {}
        return await self._end_sessions(name, "disabled" if disabled else "password")

    async def _end_sessions(self, name: str, reason: str) -> Facts:
        outcome = await self._daemon.endings.end(name, reason)
        problem = None if outcome.problem is None else outcome.problem.as_dict()
        return {
            "userJid": f"{name}@{self._domain}",
            "sessionsEnded": outcome.sessions,
            "problem": problem,
        }

    async def _set_password(self, name: str, password: str) -> None:
        try:
            await self._run(lambda: self._store.set_password(name, password))
        except StoreUnusable:
            raise
        except StoreError as problem:
            cure = "Choose one of letters, digits and signs."
            raise wrong("password", str(problem), cure) from None

    async def name_user(self, id_: str, shown: str) -> None:
        """See L{cms.admin.interfaces.Callbridge.name_user}."""
        name = (await self._find(id_)).name
        await self._run(lambda: self._store.set_shown(name, shown))

    async def delete_user(self, id_: str) -> Facts:
        """See L{cms.admin.interfaces.Callbridge.delete_user}."""
        name = (await self._find(id_)).name
        return await shielded(Deferred.fromCoroutine(self._delete_user(name)))

    async def _delete_user(self, name: str) -> Facts:
        await self._run(lambda: self._store.delete(name))
        # Both at once: a command waits for ten seconds, and a server that is silent takes five.
        forgetting = Deferred.fromCoroutine(self._daemon.departures.tell(name))
        ended = await self._end_sessions(name, "deleted")
        forgotten = await forgetting
        problem = forgotten.problem
        return {
            **ended,
            "contactsForgotten": forgotten.contacts,
            "contactsProblem": None if problem is None else problem.as_dict(),
        }

    async def _find(self, id_: str) -> User:
        local = id_.removesuffix(f"@{self._domain}")
        for user in await self._run(self._store.users):
            if id_ == self._id(user.name) or local == user.name:
                return user
        raise Refused("userDoesNotExist", "there is no such user", "GET users lists them.")

    def _user_facts(self, user: User) -> tuple[str, Facts]:
        facts = {
            "userJid": f"{user.name}@{self._domain}",
            "created": user.created,
            "disabled": user.disabled,
            "displayName": user.shown,
        }
        return self._id(user.name), facts

    def _id(self, name: str) -> str:
        """A UUID: existing API clients take the last 36 characters of a C{Location}."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"xmpp:{name}@{self._domain}"))

    @property
    def _domain(self) -> str:
        return self._daemon.config.link.domain

    @property
    def _store(self) -> UserStore:
        return self._daemon.store

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await answered(self._work.run(function))


def _explain(error: StepError) -> Refused:
    key = error.evidence.get("key", "")
    parameter = PARAMETERS.get(key)
    cause = error.evidence.get("problem", error.cause)
    if parameter is None:
        return Refused("configurationInvalid", cause, error.cure)
    return wrong(parameter, cause, error.cure, named=": ")


def _ldap(daemon: CallbridgeService, reactor: Any) -> LdapAdministration:
    directories, configured = daemon.directories, daemon.config.directories
    syncs = SyncRecord(
        lambda: directories.syncs,
        directories.outcome,
        SlowWork(reactor, at_once=1, most_waiting=50),
        wall_clock(reactor),
    )
    return LdapAdministration(
        tuple(each for each in configured if isinstance(each, LdapSettings)),
        *(daemon.made, directories, syncs, reactor),
    )


def counted_name(text: str, domain: str) -> str:
    """A user as people write him, or as is shown of a name that nobody has, as he is counted."""
    try:
        return user_name(text, domain)
    except StoreError:
        return text


def make_administration(daemon: CallbridgeService, reactor: Any) -> AdminService:
    """
    The administration of a Callbridge.

    @raise ConfigurationError: a listener of the configuration cannot be opened.
    """
    config = daemon.config
    role = CallbridgeAdministration(daemon, daemon.stored, reactor)
    settings = AdminSettings(
        file=config.file,
        state_dir=config.state_dir,
        certificate=config.tls.certificate,
        key=config.tls.key,
        api=config.listen.api,
        api_plain=config.listen.api_plain,
        most=config.most_api_connections,
        proxies=config.listen.proxies,
        forwarded_for=config.listen.forwarded_for,
    )
    spaces = SpaceAdministration(
        daemon.spaces,
        lambda: (daemon.config.link.domain, daemon.config.link.component),
        daemon.rooms.in_space,
    )
    now = wall_clock(reactor)
    guesses = Guesses(reactor)
    locks = LockTable(
        {
            "login": Counted(
                lambda: daemon.authority.guesses,
                lambda name: counted_name(name, daemon.config.link.domain),
            ),
            "passcode": Counted(lambda: daemon.rooms.admission.guesses),
            "api": Counted(lambda: guesses),
        }
    )
    ldap = _ldap(daemon, reactor)
    directories = DirectoryAdministration(
        *(daemon.directories, ldap.sync_directory, lambda: len(daemon.store.users())),
        SlowWork(reactor, at_once=1, most_waiting=50),
    )
    more: list[MorePages] = [
        UserPages(role),
        DirectoryPages(directories),
        RecordPages(daemon.record, now),
        LockPages(locks),
    ]
    operations = operations_of_callbridge(
        *(role, reactor, daemon.metrics, spaces),
        more=[
            record_operation(daemon.record, now),
            *LockOperations(locks).operations(),
            *DirectoryOperations(directories).operations(),
            *LdapOperations(ldap).operations(),
        ],
    )
    pages = CallbridgePages(role, reactor, spaces, more=more)
    return AdminService(reactor, settings, operations, prepare=pages.add_to, guesses=guesses)
