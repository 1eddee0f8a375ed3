"""The spaces as their administration sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from cms.admin.busy import answered
from cms.admin.interfaces import Facts, Page, Selection
from cms.callbridge.spaces.directory import LocalSpaces
from cms.callbridge.spaces.model import (
    PERMISSIONS,
    USUAL_PERMISSIONS,
    AccessMethod,
    Member,
    Space,
    SpaceError,
    member_address,
)
from cms.callbridge.spaces.store import SpaceStore
from cms.process.threads import shielded
from cms.web.refusal import Refused

_T = TypeVar("_T")


class SpaceAdministration:
    """
    Implements L{cms.admin.spacesapi.SpacesRole}.

    @param where: Gives the XMPP domain, and the address of the component that the
        rooms are below, as they are now.
    @param occupants: How many are in the room of the space with this id.
    """

    permissions: tuple[str, ...] = PERMISSIONS

    def __init__(
        self,
        spaces: LocalSpaces,
        where: Callable[[], tuple[str, str]],
        occupants: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self._spaces = spaces
        self._where = where
        self._occupants = occupants

    # coSpaces

    async def spaces(self, selection: Selection) -> Page:
        """See L{cms.admin.spacesapi.SpacesRole.spaces}."""
        part = selection.filter, selection.offset, selection.limit
        found, total = await self._ask(lambda store: store.spaces(*part))
        return Page([(space.id, self._facts(space)) for space in found], total)

    async def space(self, id_: str) -> tuple[str, Facts]:
        """See L{cms.admin.spacesapi.SpacesRole.space}."""
        space = await self._space(id_)
        open_ = {"passcode": space.passcode or None, "secret": space.secret}
        return space.id, {**self._facts(space), **open_}

    async def add_space(self, form: Mapping[str, str]) -> str:
        """See L{cms.admin.spacesapi.SpacesRole.add_space}."""
        space = await self._ask(lambda store: store.add(**space_values(form)))
        return space.id

    async def change_space(self, id_: str, form: Mapping[str, str]) -> None:
        """See L{cms.admin.spacesapi.SpacesRole.change_space}."""
        space = await self._space(id_)
        await self._change(space, lambda store: store.change(space.id, **space_values(form)))

    async def delete_space(self, id_: str) -> None:
        """See L{cms.admin.spacesapi.SpacesRole.delete_space}."""
        space = await self._space(id_)
        await self._change(space, lambda store: store.delete(space.id))

    # coSpaceUsers

    async def members(self, id_: str, selection: Selection) -> Page:
        """See L{cms.admin.spacesapi.SpacesRole.members}."""
        part = selection.filter, selection.offset, selection.limit
        found, total = await self._ask(lambda store: store.members(id_, *part))
        return Page([(member.id, member_facts(member)) for member in found], total)

    async def member(self, id_: str, user: str) -> tuple[str, Facts]:
        """See L{cms.admin.spacesapi.SpacesRole.member}."""
        member = await self._ask(lambda store: store.member(id_, user))
        return member.id, member_facts(member)

    async def add_member(self, id_: str, form: Mapping[str, str]) -> tuple[str, str]:
        """See L{cms.admin.spacesapi.SpacesRole.add_member}."""
        space = await self._space(id_)
        jid = self._refused(lambda: member_address(form["userJid"], self._where()[0]))
        permissions = permissions_of(form, USUAL_PERMISSIONS)
        add = self._change(space, lambda store: store.add_member(space.id, jid, permissions))
        return space.id, (await add).id

    async def change_member(self, id_: str, user: str, form: Mapping[str, str]) -> None:
        """See L{cms.admin.spacesapi.SpacesRole.change_member}."""
        space = await self._space(id_)
        member = await self._ask(lambda store: store.member(space.id, user))
        given = permissions_of(form, member.permissions)
        await self._change(space, lambda store: store.change_member(space.id, member.id, given))

    async def delete_member(self, id_: str, user: str) -> None:
        """See L{cms.admin.spacesapi.SpacesRole.delete_member}."""
        space = await self._space(id_)
        await self._change(space, lambda store: store.delete_member(space.id, user))

    # accessMethods

    async def access_methods(self, id_: str, selection: Selection) -> Page:
        """See L{cms.admin.spacesapi.SpacesRole.access_methods}."""
        found = await self._ask(lambda store: store.access_methods(id_))
        listed = [(method.id, method_facts(method)) for method in found]
        return selection.of(listed, "uri", "callId")

    async def access_method(self, id_: str, method: str) -> tuple[str, Facts]:
        """See L{cms.admin.spacesapi.SpacesRole.access_method}."""
        for found in await self._ask(lambda store: store.access_methods(id_)):
            if found.id == method:
                secrets = {"passcode": found.passcode or None, "secret": found.secret}
                return found.id, {**method_facts(found), **secrets}
        cause = "the space has no such access method"
        raise Refused("accessMethodDoesNotExist", cause, "GET its accessMethods lists them.")

    async def add_access_method(self, id_: str, form: Mapping[str, str]) -> tuple[str, str]:
        """See L{cms.admin.spacesapi.SpacesRole.add_access_method}."""
        space = await self._space(id_)
        values = space_values(form)
        add = self._change(space, lambda store: store.add_access_method(space.id, **values))
        return space.id, await add

    async def change_access_method(self, id_: str, method: str, form: Mapping[str, str]) -> None:
        """See L{cms.admin.spacesapi.SpacesRole.change_access_method}."""
        space = await self._space(id_)
        values = space_values(form)
        await self._change(
            space, lambda store: store.change_access_method(space.id, method, **values)
        )

    async def delete_access_method(self, id_: str, method: str) -> None:
        """See L{cms.admin.spacesapi.SpacesRole.delete_access_method}."""
        space = await self._space(id_)
        await self._change(space, lambda store: store.delete_access_method(space.id, method))

    # the store

    async def _space(self, key: str) -> Space:
        return await self._ask(lambda store: store.space(key))

    async def _ask(self, function: Callable[[SpaceStore], _T]) -> _T:
        return await self._done(self._spaces.ask(function))

    async def _change(self, space: Space, function: Callable[[SpaceStore], _T]) -> _T:
        # What has begun is done to its end, also when nobody waits for the answer.
        return await self._done(shielded(self._spaces.change(space.id, function)))

    async def _done(self, work: Awaitable[_T]) -> _T:
        try:
            return await answered(work)
        except SpaceError as problem:
            raise _refusal(problem) from None

    @staticmethod
    def _refused(function: Callable[[], _T]) -> _T:
        try:
            return function()
        except SpaceError as problem:
            raise _refusal(problem) from None

    def _facts(self, space: Space) -> dict[str, Any]:
        return {
            **space_facts(space, self._where()[1]),
            "numOccupants": self._occupants(space.id),
        }


def _refusal(problem: SpaceError) -> Refused:
    return Refused(problem.reason, problem.cause, problem.cure, parameter=problem.parameter)


def space_facts(space: Space, component: str) -> dict[str, Any]:
    """A space as lists show it: without passcode and secret."""
    return {
        "name": space.name,
        "uri": space.uri,
        "callId": space.call_id,
        "nonMemberAccess": space.non_member_access,
        "passcodeNeeded": bool(space.passcode),
        "address": f"{space.uri}@{component}",
        "numAccessMethods": space.access_methods,
        "autoGenerated": False,
        "created": space.created,
    }


def member_facts(member: Member) -> dict[str, Any]:
    """A member, with what it may."""
    may = {name: name in member.permissions for name in PERMISSIONS}
    return {"userJid": member.jid, "autoGenerated": False, **may}


def method_facts(method: AccessMethod) -> dict[str, Any]:
    """An access method as lists show it: without passcode and secret."""
    return {"uri": method.uri or None, "callId": method.call_id}


_PARAMETERS = {
    "name": "name",
    "uri": "uri",
    "callId": "call_id",
    "passcode": "passcode",
    "nonMemberAccess": "non_member_access",
    "regenerateSecret": "regenerate_secret",
}


_TRUTHS = ("nonMemberAccess", "regenerateSecret")


def space_values(form: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of the API as the store has them."""
    return {
        _PARAMETERS[name]: value == "true" if name in _TRUTHS else value
        for name, value in form.items()
    }


def permissions_of(form: Mapping[str, str], before: frozenset[str]) -> frozenset[str]:
    """What a member may, once what is given is set."""
    given = {name for name in PERMISSIONS if form.get(name) == "true"}
    taken = {name for name in PERMISSIONS if form.get(name) == "false"}
    return (before | given) - taken
