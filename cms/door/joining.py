"""
C{POST /join}: a guest asks to be let into a meeting, and gets what he logs in with.

Nothing is kept here.  What is wrong with a call ID, a passcode or a link is not told
(docs/design/guests.md).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from klein import Klein
from twisted.web.iweb import IRequest

from cms import faults
from cms.door.interfaces import Guests, Outcome, Unserved
from cms.linkprotocol import join
from cms.process.threads import shielded
from cms.protection.sources import LOCAL, network_of
from cms.signalflow import Step
from cms.web.forms import FORM, media_type, pairs
from cms.web.messages import Raw, answer, header, host_of
from cms.web.refusal import Refused

PATH: Final = "/join"
JSON: Final = "application/json"
MOST_UNDER_WAY = 1_000  # requests that wait for a Callbridge
MOST_OF_NETWORK = 100  # of these, from one address
AGAIN = 2  # seconds after which another try makes sense
_FIELDS = ("callId", "passcode", "secret", "reentry", "name")
_MOST = 500  # characters of a field, whatever it holds
_PREFLIGHT = {
    "access-control-allow-methods": "POST",
    "access-control-allow-headers": "content-type",
}
_SPACES = str.maketrans("", "", " \t\u00a0-")  # people write call IDs in groups


class Joining:
    """
    The route.

    @param enabled: Whether the door is open.
    @param origins: Gives the origins whose pages may ask, for a request; our own is the first.
    @param tell_foreign: Called with a request of another page.
    """

    def __init__(
        self,
        guests: Guests,
        origins: Callable[[IRequest], Sequence[str]],
        tell_foreign: Callable[[IRequest], object],
        *,
        enabled: bool = True,
    ) -> None:
        self._guests = guests
        self._origins = origins
        self._tell_foreign = tell_foreign
        self._enabled = enabled
        self._under_way: Counter[str] = Counter()

    def add_to(self, routes: Klein) -> None:
        """Serve it."""
        routes.route(PATH, methods=["POST"])(self.join)
        routes.route(PATH, methods=["OPTIONS"])(self.preflight)

    def preflight(self, request: IRequest) -> bytes:
        """A page of another site asks whether it may ask (CORS, Fetch 3.2)."""
        allowed = self._check_origin(request)
        return answer(request, Raw(b"", JSON, 204, {**allowed, **_PREFLIGHT}))

    async def join(self, request: Any) -> bytes:
        """
        Let a guest in, or say why not.

        @raise Refused: the latter.
        """
        allowed = self._check_origin(request)
        if not self._enabled:
            cause = "guests are not admitted here now"
            raise Refused(faults.DOOR_CLOSED.name, cause, status=503)
        wish = _wish(request)
        network = network_of(wish.peer)
        waiting = self._under_way
        of_network = waiting[network] if network != LOCAL else 0
        if waiting.total() >= MOST_UNDER_WAY or of_network >= MOST_OF_NETWORK:
            problem = "too many requests wait for an answer"
            crowded = Unserved(faults.JOIN_CROWDED.error(problem=problem))
            return self._said(request, allowed, *_told(crowded))
        waiting[network] += 1
        # It counts until it is decided, also if nobody waits for the answer any more.
        deciding = self._guests.admit(wish).addBoth(self._decided, network)
        return self._said(request, allowed, *_told(await shielded(deciding)))

    def _decided(self, outcome: Outcome, network: str) -> Outcome:
        self._under_way[network] -= 1
        if not self._under_way[network]:
            del self._under_way[network]
        return outcome

    def _said(
        self, request: IRequest, allowed: dict[str, str], status: int, body: dict[str, Any]
    ) -> bytes:
        headers = dict(allowed)
        if "seconds" in body:
            headers["retry-after"] = str(body["seconds"])
        return answer(request, Raw(json.dumps(body).encode(), JSON, status, headers))

    def _check_origin(self, request: IRequest) -> dict[str, str]:
        """
        Only our own pages, and those of sites that the operator named; and programs that are
        no browsers, which send no origin.

        @raise Refused: it is another page's.
        """
        origin = header(request, "origin")
        if origin is None:
            if header(request, "sec-fetch-site") in ("cross-site", "same-site"):
                raise self._foreign(request)
            return {}
        own, *named = self._origins(request)
        if origin.lower() == own:
            return {}
        if origin.lower() not in named:
            raise self._foreign(request)
        return {"access-control-allow-origin": origin}

    def _foreign(self, request: IRequest) -> Refused:
        self._tell_foreign(request)
        cause = "a page of another site sent this request"
        return Refused(faults.ORIGIN_REFUSED.name, cause, status=403)


def _wish(request: Any) -> join.Admit:
    """
    @raise Refused: nothing can be made of it; the parameter is named.
    """
    given = {name: value.strip() for name, value in _fields(request).items()}
    for name, value in given.items():
        if len(value) > _MOST:
            raise _bad(name)
    try:
        name = given.get("name", "")
        return join.Admit(
            peer=host_of(request),
            call_id=given.get("callId", "").translate(_SPACES),
            passcode=given.get("passcode", "").translate(_SPACES),
            secret=given.get("secret", ""),
            reentry=given.get("reentry", ""),
            name=join.prepared_name(name) if name else "",
        )
    except join.Unusable as problem:
        raise _bad(problem.parameter) from None


def _fields(request: Any) -> dict[str, str]:
    """What is known of the body's fields; JSON or a form."""
    kind, body = media_type(header(request, "content-type")), request.content.getvalue()
    found: Any
    if kind == FORM:
        found = dict(pairs(body))
    elif kind == JSON:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Refused("bad-request", "the body is no JSON object")
    else:
        raise Refused("bad-request", f"send {JSON}, or {FORM}", status=415)
    known = {name: found[name] for name in _FIELDS if found.get(name) is not None}
    for name, value in known.items():
        if not isinstance(value, str):
            raise _bad(name)
    return known


def _bad(parameter: str) -> Refused:
    cause = f"{parameter} cannot be used"
    return Refused("bad-request", cause, parameter=parameter)


def _told(outcome: Outcome) -> tuple[int, dict[str, Any]]:
    """Status and body of what became of a wish."""
    if isinstance(outcome, join.Admitted):
        return 200, {
            "jid": outcome.jid,
            "password": outcome.password,
            "expires": outcome.expires,
            "space": outcome.space,
            "nick": outcome.nick,
            "title": outcome.title,
            "callId": outcome.call_id,
            "reentry": outcome.reentry,
        }
    if isinstance(outcome, join.Refused):
        text = "meeting ID, passcode or link are wrong, or the meeting is closed to guests"
        return 403, {"reason": faults.JOIN_REFUSED.name, "text": text}
    if isinstance(outcome, join.Over):
        text = "the way back into this meeting has ended"
        return 403, {"reason": faults.REENTRY_OVER.name, "text": text}
    if isinstance(outcome, join.Slowed):
        text = "too many tries were wrong"
        body = {"reason": faults.JOIN_SLOWED.name, "text": text, "seconds": outcome.seconds}
        return 429, body
    fault = outcome.fault
    before = fault.step is Step.LINK_BEFORE_LOGIN
    reason = fault.step.title if before else fault.fault
    what = "no Callbridge is connected yet" if before else "it cannot be decided now"
    text = f"{what} (step {int(fault.step)})"
    return 503, {"reason": reason, "text": text, "step": int(fault.step), "seconds": AGAIN}
