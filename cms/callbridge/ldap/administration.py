"""The user directories as their administration sees them: those of the file, and those it made."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock

from cms.admin.busy import answered
from cms.admin.interfaces import Facts, Page, Selection
from cms.callbridge.ldap.objects import (
    MAPPINGS,
    SERVERS,
    SOURCES,
    TRUTHS,
    Objects,
    Parameters,
    StoredObjects,
    name_of,
    parameter_of,
)
from cms.callbridge.ldap.settings import LdapSettings
from cms.callbridge.ldap.syncrecord import SyncRecord
from cms.process.threads import SlowWork, shielded
from cms.signalflow import StepError
from cms.state.folder import explain_os
from cms.state.textencoding import Unreadable
from cms.trust.pem import certificates
from cms.web.refusal import Refused, wrong

MOST_OBJECTS = 100  # of a kind
_ITEMS = {SERVERS: "ldapServer", MAPPINGS: "ldapMapping", SOURCES: "ldapSource"}
_HIDDEN = ("password",)
_FILTERED = ("address", "jidMapping", "baseDn", "name")


class Directories(Protocol):
    """What the daemon does with those that are made here."""

    async def use_made(self, made: tuple[LdapSettings, ...]) -> None:
        """From now on these are asked after those of the file, and no others."""
        ...


class LdapAdministration:
    """
    Implements L{cms.admin.ldapapi.LdapRole}.

    @param configured: The directories of the configuration file.
    @param stored: Where those that are made here are kept.
    @param syncs: What becomes of syncs.
    @raise ConfigurationError: what is stored is damaged.
    """

    def __init__(
        self,
        configured: tuple[LdapSettings, ...],
        stored: StoredObjects,
        directories: Directories,
        syncs: SyncRecord,
        reactor: Any,
        *,
        make_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._stored = stored
        self._directories = directories
        self._syncs = syncs
        self._work = SlowWork(reactor, at_once=1, most_waiting=50)
        self._turn = DeferredLock()
        self._make_id = make_id
        self._configured, self._names = in_file(configured)
        self._made = stored.read()

    # objects

    async def ldap_objects(self, kind: str, selection: Selection) -> Page:
        """See L{cms.admin.ldapapi.LdapRole.ldap_objects}."""
        return selection.of(self._all(kind), *_FILTERED)

    def _all(self, kind: str) -> Iterator[tuple[str, Facts]]:
        for objects, source in ((self._configured, "file"), (self._made, "api")):
            for id_, given in objects.of(kind).items():
                facts = _facts(given)
                if kind == SOURCES:
                    facts["name"] = self._name(id_)
                yield id_, {**facts, "source": source}

    def _name(self, source: str) -> str:
        return self._names.get(source) or name_of(source)

    async def ldap_object(self, kind: str, id_: str) -> tuple[str, Facts]:
        """See L{cms.admin.ldapapi.LdapRole.ldap_object}."""
        for known, facts in self._all(kind):
            if id_.lower() in (known, facts.get("name")):
                return known, facts
        raise _gone(kind)

    async def add_ldap_object(self, kind: str, form: Mapping[str, str]) -> str:
        """See L{cms.admin.ldapapi.LdapRole.add_ldap_object}."""
        id_ = self._make_id()

        def added(made: Objects) -> Objects:
            if len(made.of(kind)) >= MOST_OBJECTS:
                raise Refused("limitReached", f"there are {MOST_OBJECTS} already", "Delete one.")
            return self._with(made, kind, id_, form)

        await self._change(added)
        return id_

    async def change_ldap_object(self, kind: str, id_: str, form: Mapping[str, str]) -> None:
        """See L{cms.admin.ldapapi.LdapRole.change_ldap_object}."""

        def changed(made: Objects) -> Objects:
            known = self._changeable(made, kind, id_)
            return self._with(made, kind, known, {**made.of(kind)[known], **form})

        await self._change(changed)

    async def delete_ldap_object(self, kind: str, id_: str) -> None:
        """See L{cms.admin.ldapapi.LdapRole.delete_ldap_object}."""

        def without(made: Objects) -> Objects:
            known = self._changeable(made, kind, id_)
            if made.sources_with(kind, known):
                cure = "Delete that first, or let it refer to another."
                raise Refused(f"{_ITEMS[kind]}InUse", "an ldapSource refers to it", cure)
            return made.without(kind, known)

        await self._change(without)

    def _changeable(self, made: Objects, kind: str, id_: str) -> str:
        known = id_.lower()
        if known in self._configured.of(kind):
            raise Refused(
                f"{_ITEMS[kind]}IsInFile",
                "it is of the configuration file",
                "Change the [[directory]] there, and restart the Callbridge.",
            )
        if known not in made.of(kind):
            raise _gone(kind)
        return known

    def _with(self, made: Objects, kind: str, id_: str, parameters: Parameters) -> Objects:
        """
        @raise Refused: it refers to nothing, or a value is wrong.
        """
        if kind == SOURCES:
            for key, other in (("server", SERVERS), ("mapping", MAPPINGS)):
                if parameters[key] not in made.of(other):
                    raise _gone(other)
        if parameters.get("trust"):
            try:
                certificates(parameters["trust"].encode())
            except Unreadable as problem:
                raise wrong("trust", problem.problem, problem.mend, named=" ") from None
        try:
            self._stored.check(kind, id_, parameters)
        except StepError as error:
            raise _explained(error) from None
        return made.with_one(kind, id_, parameters)

    async def _change(self, change: Callable[[Objects], Objects]) -> None:
        def begin() -> Deferred[None]:
            return Deferred.fromCoroutine(self._store_and_use(change))

        # A change that has begun is completed even if the client disconnects.
        await shielded(self._turn.run(begin))

    async def _store_and_use(self, change: Callable[[Objects], Objects]) -> None:
        objects = change(self._made)
        try:
            settings = self._stored.directories(objects)
        except StepError as error:
            raise _explained(error) from None
        try:
            await answered(self._work.run(lambda: self._stored.write(objects)))
        except OSError as problem:
            raise explain_os(self._stored.path, problem) from None
        before, self._made = self._made, objects
        if settings != self._stored.directories(before):
            await self._directories.use_made(tuple(settings.values()))

    # syncs

    async def ldap_syncs(self, selection: Selection) -> Page:
        """See L{cms.admin.ldapapi.LdapRole.ldap_syncs}."""
        return selection.of(await self._syncs.all(self._sources()), "ldapSource", "state")

    def _sources(self) -> dict[str, str]:
        """The ids of the sources, by the names of their directories."""
        ids = [*self._configured.of(SOURCES), *self._made.of(SOURCES)]
        return {self._name(id_): id_ for id_ in ids}

    async def ldap_sync(self, id_: str) -> tuple[str, Facts]:
        """See L{cms.admin.ldapapi.LdapRole.ldap_sync}."""
        for known, facts in await self._syncs.all(self._sources()):
            if known == id_.lower():
                return known, facts
        raise Refused("ldapSyncDoesNotExist", "there is no such sync", "GET ldapSyncs lists them.")

    async def start_ldap_sync(self, source: str, *, allow_removal: bool) -> str:
        """See L{cms.admin.ldapapi.LdapRole.start_ldap_sync}."""
        sources = self._sources()
        if source:
            known, _ = await self.ldap_object(SOURCES, source)
            sources = {name: id_ for name, id_ in sources.items() if id_ == known}
        if not sources:
            cure = "Add an ldapSource, or a [[directory]] to the configuration file."
            raise Refused("ldapSourceDoesNotExist", "there is no ldapSource", cure)
        return self._syncs.begin(sources, allow_removal=allow_removal)

    def sync_directory(self, name: str, *, allow_removal: bool) -> str:
        """The same for the directory of this name."""
        return self._syncs.begin({name: self._sources()[name]}, allow_removal=allow_removal)


def in_file(configured: tuple[LdapSettings, ...]) -> tuple[Objects, dict[str, str]]:
    """
    The directories of the configuration file in terms of the API, without passwords; and the
    name of the directory that each source is.
    """
    objects, names = Objects.none(), {}
    for settings in configured:
        servers = {
            _id(SERVERS, settings.name, str(server)): {
                "address": server.host,
                "portNumber": str(server.port),
                "username": settings.bind_name,
                "secure": "true" if server.tls_first else "false",
            }
            for server in settings.servers
        }
        for id_, facts in servers.items():
            objects = objects.with_one(SERVERS, id_, facts)
        mapping, source = _id(MAPPINGS, settings.name), _id(SOURCES, settings.name)
        mapped = {
            "jidMapping": str(settings.jid),
            "nameMapping": str(settings.shown_name),
            "authenticationMapping": str(settings.bind_as or ""),
            "pictureAttribute": settings.picture_attribute,
        }
        objects = objects.with_one(MAPPINGS, mapping, mapped)
        given = {
            "server": next(iter(servers), ""),
            "mapping": mapping,
            "baseDn": settings.base,
            "filter": str(settings.search_filter),
            "groupsBaseDn": settings.groups_base,
            "groupsFilter": str(settings.groups_filter),
            "newPasswordEnds": "true" if settings.new_password_ends else "false",
        }
        objects = objects.with_one(SOURCES, source, given)
        names[source] = settings.name
    return objects, names


def _id(*parts: str) -> str:
    """Always the same for a directory of this name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "ldap:" + ":".join(parts)))


def _facts(given: Parameters) -> dict[str, Any]:
    """What is shown of an object."""
    facts: dict[str, Any] = {key: value for key, value in given.items() if key not in _HIDDEN}
    if "portNumber" in facts:
        facts["portNumber"] = int(facts["portNumber"])
    facts.update({key: facts[key] == "true" for key in TRUTHS if key in facts})
    return facts


def _gone(kind: str) -> Refused:
    item = _ITEMS[kind]
    return Refused(f"{item}DoesNotExist", f"there is no such {item}", f"GET {kind} lists them.")


def _explained(error: StepError) -> Refused:
    cause, parameter = error.evidence.get("problem", error.cause), parameter_of(error)
    if parameter is None:
        return Refused("configurationInvalid", cause, error.cure)
    return wrong(parameter, cause, error.cure, named=": ")
