"""Steps 1 and 12 as somebody in a browser takes them: pages, WebSocket, admission, room."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.protocol import Factory

from cms import faults
from cms.check.lane import Lane, Waiting
from cms.check.probes.browser import Reached
from cms.check.probes.login import DECISION, explain_refusal
from cms.check.probes.room import RoomVisit
from cms.check.website import Meeting
from cms.client.fetch import Answer, Fetcher, NoAnswer
from cms.client.login import Account, LoginFailed, LoginStream
from cms.client.websocket import SUBPROTOCOL, Upgrade, WebSocketLayer
from cms.signalflow import Step, StepError, printable
from cms.trust.files import PEMFiles
from cms.xmlstream.jid import MalformedJID, parse_jid

MECHANISMS = ("SCRAM-SHA-256", "PLAIN")  # what the page's own script knows
ALTERNATIVE = "urn:xmpp:alt-connections:websocket"  # XEP-0156 3
STAGES = 8  # how many waits of a stage's length there are, besides the decisions
DECISIONS = 3
MOST_SHOWN = 200  # characters of anything that a server says
MOST_LINKS = 10  # of a host-meta
_DOMAIN = re.compile(rb"<html[^>]{0,500}\sdata-domain=\"([^\"]{1,1023})\"")
_FILE = re.compile(rb"""(?:src|href)="(/static/[A-Za-z0-9._/-]{1,200}\.(js|css))\"""")
_KINDS = {b"js": "javascript", b"css": "css"}
_XRD_LINK = re.compile(r"<Link\s[^>]{0,1000}>")
_ATTRIBUTE = re.compile(r"""([a-z]+)\s*=\s*["']([^"']*)["']""")
NO_WEBSOCKET = "no-websocket"  # how our server refuses what asks for no upgrade
_GATEWAY = (502, 504)


@frozen
class Pass:
    """
    What an admitted guest is given.

    @ivar jid: With which he logs in.
    @ivar space: The room.
    """

    jid: str
    password: str
    space: str
    nick: str


class MeetingProbe:
    """
    One visit to a meeting.

    @param reached: The server, as a browser has reached it.
    @param origin: Of the page that opens the WebSocket; the server's own unless given.
    @param stage: Seconds for each wait.
    """

    def __init__(
        self,
        reactor: Any,
        reached: Reached,
        meeting: Meeting,
        lane: Lane,
        waiting: Waiting,
        *,
        origin: str,
        stage: float,
    ) -> None:
        self._reactor = reactor
        self._reached = reached
        self._website = reached.website
        self._meeting = meeting
        self._lane = lane
        self._waiting = waiting
        self._origin = origin
        self._stage = stage
        self._fetcher = Fetcher(reactor, lambda: reached.endpoint(reactor, stage), 2 * stage)
        self._began = 0.0

    async def run(self) -> None:
        """Visit it, and report to the lane."""
        url = self._website.url
        if not await self._part(self._page(), f"{url}{self._shown_path}"):
            return
        await self._host_meta()
        layer = await self._part(self._open(), self._website.websocket)
        admitted = await self._part(self._admission(), f"{url}/join")
        if layer is None:
            self._lane.skipped(Step.LOGIN, "the log-in", "there is no WebSocket for it")
        elif admitted is None:
            self._lane.skipped(Step.LOGIN, "the log-in", "the guest was not admitted")
            layer.abortConnection()
        else:
            stream = await self._part(self._log_in(layer, admitted), admitted.jid)
            if stream is not None:
                await self._part(self._visit(stream, admitted), admitted.space)
                stream.close()
                await stream.ended

    @property
    def _shown_path(self) -> str:
        return "/m/..." if self._meeting.secret else self._meeting.path

    async def _part(self, part: Any, about: str) -> Any:
        """What a part results in; C{None} if it failed, which is reported."""
        self._began = self._reactor.seconds()
        self._waiting(Step.LOGIN, about, 2 * self._stage)
        try:
            return await part
        except StepError as error:
            self._lane.failed(error, about, self._seconds)
            return None

    @property
    def _seconds(self) -> float:
        return float(self._reactor.seconds() - self._began)

    def _passed(self, about: str, evidence: Mapping[str, str], note: str = "") -> None:
        self._lane.passed(Step.LOGIN, about, self._seconds, evidence, note)

    # the page

    async def _page(self) -> bool:
        """
        @raise StepError: the page is not there.
        """
        url = f"{self._website.url}{self._meeting.path}"
        shown = f"{self._website.url}{self._shown_path}"
        try:
            answer = await self._fetcher.ask("GET", url, {"accept": "text/html"})
        except NoAnswer as problem:
            raise faults.WEB_NOT_OURS.error(url=shown, problem=problem) from None
        found = _DOMAIN.search(answer.body)
        if found is not None and answer.status == 503:
            raise faults.DOOR_CLOSED.error(url=self._website.url)
        self._judge_proxy(answer, shown)
        if answer.status != 200 or found is None:
            another = "the page is another one"
            seen = another if answer.status == 200 else f"HTTP {answer.status}"
            raise faults.WEB_NOT_OURS.error(url=shown, problem=seen, **_server_of(answer))
        await self._files(answer.body)
        domain = _short(found[1].decode("utf-8", "replace"))
        self._passed(shown, {"domain": domain, **_server_of(answer)})
        return True

    async def _files(self, page: bytes) -> None:
        """
        Script and style of the page.

        @raise StepError: one is not there.
        """
        for path, kind in _FILE.findall(page)[:MOST_LINKS]:
            url = f"{self._website.url}{path.decode()}"
            try:
                answer = await self._fetcher.ask("GET", url)
            except NoAnswer as problem:
                raise faults.WEB_NOT_OURS.error(url=url, problem=problem) from None
            self._judge_proxy(answer, url)
            got = answer.headers.get("content-type", "")
            if answer.status != 200 or _KINDS[kind] not in got:
                seen = f"HTTP {answer.status}, {_short(got) or 'of no type'}"
                raise faults.WEB_NOT_OURS.error(url=url, problem=seen, **_server_of(answer))

    def _judge_proxy(self, answer: Answer, url: str) -> None:
        """
        @raise StepError: a proxy answers in place of the server, or the door is closed.
        """
        reason = _reason(answer.body)
        if answer.status in _GATEWAY or (answer.status == 503 and not reason):
            raise faults.WEB_NO_SERVER.error(url=url, status=answer.status, **_server_of(answer))
        if reason == faults.DOOR_CLOSED.name:
            raise faults.DOOR_CLOSED.error(url=self._website.url)

    # where other clients find the WebSocket (XEP-0156)

    async def _host_meta(self) -> None:
        for name, links in (("host-meta", _xml_links), ("host-meta.json", _json_links)):
            url = f"{self._website.url}/.well-known/{name}"
            self._began = self._reactor.seconds()
            self._waiting(Step.LOGIN, url, self._stage)
            try:
                answer = await self._fetcher.ask("GET", url)
            except NoAnswer as problem:
                self._lane.warned(faults.HOST_META_MISSING.error(url=url, problem=problem), url)
                continue
            warning = self._judge_host_meta(url, answer, links(answer.body))
            if warning is not None:
                self._lane.warned(warning, url)
            else:
                self._passed(url, {"WebSocket": self._website.websocket})

    def _judge_host_meta(self, url: str, answer: Answer, links: list[str]) -> StepError | None:
        expected = self._website.websocket
        if answer.status != 200:
            problem = f"answers HTTP {answer.status}"
            return faults.HOST_META_MISSING.error(url=url, problem=problem)
        if not links:
            problem = "names no WebSocket"
            return faults.HOST_META_MISSING.error(url=url, problem=problem)
        if expected not in links:
            return faults.HOST_META_ELSEWHERE.error(
                url=url, found=", ".join(links), expected=expected
            )
        if answer.headers.get("access-control-allow-origin") != "*":
            problem = "lets no page of another site read it (Access-Control-Allow-Origin is not *)"
            return faults.HOST_META_MISSING.error(url=url, problem=problem)
        return None

    # the WebSocket

    async def _open(self) -> WebSocketLayer:
        """
        @raise StepError: there is none.
        """
        url = self._website.websocket
        layer = WebSocketLayer(url, self._origin)
        endpoint = self._reached.endpoint(self._reactor, self._stage)
        timer = self._reactor.callLater(2 * self._stage, _give_up, layer)
        try:
            await endpoint.connect(Factory.forProtocol(lambda: layer))
            upgrade = await layer.upgraded
        except StepError:
            raise
        except Exception as problem:  # noqa: BLE001 - whatever ended it, there is no WebSocket
            words = str(problem).rstrip(".")
            if not timer.active():
                words = f"no answer within {2 * self._stage:g} s"
            raise faults.WEBSOCKET_REFUSED.error(url=url, problem=words) from None
        finally:
            if timer.active():
                timer.cancel()
        try:
            self._judge_upgrade(upgrade)
        except StepError:
            layer.abortConnection()
            raise
        seen = {"origin": self._origin, "sub-protocol": upgrade.subprotocol}
        self._passed(url, seen)
        return layer

    def _judge_upgrade(self, upgrade: Upgrade) -> None:
        """
        @raise StepError: a browser would have no WebSocket now.
        """
        url, status = self._website.websocket, upgrade.status
        if status == 101:
            if upgrade.subprotocol != SUBPROTOCOL:
                chosen = _short(upgrade.subprotocol) or "none"
                raise faults.WEBSOCKET_NO_SUBPROTOCOL.error(url=url, chosen=chosen)
            if upgrade.problem:
                raise faults.WEBSOCKET_REFUSED.error(url=url, problem=_short(upgrade.problem))
            return
        answer = Answer(status, upgrade.headers, upgrade.body)
        seen = {"url": url, **_server_of(answer)}
        self._judge_proxy(answer, url)
        reason = _reason(upgrade.body)
        if reason == faults.ORIGIN_REFUSED.name:
            if self._origin == self._website.url:
                raise faults.ORIGIN_NOT_PASSED.error(host=self._website.authority, **seen)
            own = self._website.url
            raise faults.ORIGIN_REFUSED.error(origin=self._origin, own=own, **seen)
        if status == 426 or reason in (NO_WEBSOCKET, faults.WEBSOCKET_NOT_PASSED.name):
            raise faults.WEBSOCKET_NOT_PASSED.error(status=status, **seen)
        problem = f"HTTP {status}" if status else _short(upgrade.problem)
        raise faults.WEBSOCKET_REFUSED.error(problem=problem, **seen)

    # the door

    async def _admission(self) -> Pass:
        """
        @raise StepError: the guest is not admitted.
        """
        url = f"{self._website.url}/join"
        meeting = self._meeting
        asked = {"secret": meeting.secret} if meeting.secret else {"callId": meeting.call_id}
        if meeting.passcode:
            asked["passcode"] = meeting.passcode
        body = json.dumps({**asked, "name": meeting.name}).encode()
        headers = {"content-type": "application/json", "origin": self._website.url}
        try:
            answer = await self._fetcher.ask("POST", url, headers, body)
        except NoAnswer as problem:
            raise faults.JOIN_BROKEN.error(url=url, problem=problem) from None
        told = _object(answer.body)
        if answer.status != 200:
            raise self._refusal(answer, told)
        try:
            admitted = Pass(*(str(told[key]) for key in ("jid", "password", "space", "nick")))
            parse_jid(admitted.jid), parse_jid(admitted.space)
        except (KeyError, MalformedJID):
            raise faults.JOIN_BROKEN.error(url=url, problem="it is no admission") from None
        title = _short(told.get("title", ""))
        self._passed(
            url, {"space": admitted.space, "title": title, "nickname": _short(admitted.nick)}
        )
        return admitted

    def _refusal(self, answer: Answer, told: Mapping[str, Any]) -> StepError:
        url = f"{self._website.url}/join"
        try:
            self._judge_proxy(answer, url)
        except StepError as error:
            return error
        reason = str(told.get("reason", ""))
        seen = {"url": url, "meeting": self._meeting.shown}
        if reason == faults.ORIGIN_REFUSED.name:
            return faults.ORIGIN_NOT_PASSED.error(host=self._website.authority, **seen)
        if reason == faults.JOIN_REFUSED.name:
            return faults.JOIN_DENIED.error(**seen)
        if reason == faults.JOIN_SLOWED.name:
            seconds = _short(told.get("seconds", "?"))
            return faults.JOIN_DELAYED.error(seconds=seconds, **seen)
        if reason in (faults.NO_CALLBRIDGE.name, "link-before-login"):
            return faults.NO_CALLBRIDGE.error(**seen)
        problem = f"HTTP {answer.status}"
        if reason:
            problem += f", {_short(reason)}"
        return faults.JOIN_BROKEN.error(url=url, problem=problem, **_server_of(answer))

    # the log-in

    async def _log_in(self, layer: WebSocketLayer, admitted: Pass) -> LoginStream:
        """
        @raise StepError: it is refused.
        """
        jid = parse_jid(admitted.jid)
        account = Account(str(jid.user), jid.host, admitted.password, MECHANISMS, is_announced=True)
        context = PEMFiles("the system", None, None, None).context()
        stage, peer = self._stage, self._website.websocket
        stream = LoginStream(
            self._reactor,
            account,
            context,
            stage,
            decision=DECISION * stage,
            peer=peer,
            secured=True,
        )
        layer.carry(stream)
        try:
            await stream.session
        except LoginFailed as refusal:
            raise explain_refusal(
                refusal, peer=peer, user=admitted.jid, domain=jid.host, patience=stream.patience
            ) from None
        seen = {"address": stream.jid, "mechanism": stream.mechanism}
        self._passed(admitted.jid, seen)
        return stream

    # the room

    async def _visit(self, stream: LoginStream, admitted: Pass) -> bool:
        """
        @raise StepError: the room does not let the guest in.
        """
        visit = RoomVisit(self._reactor, stream, admitted.space, admitted.nick, self._stage)
        occupants = await visit.enter()
        seen = {"occupants": str(occupants), "nickname": _short(admitted.nick)}
        self._passed(admitted.space, seen)
        await visit.leave()
        return True


def _give_up(layer: WebSocketLayer) -> None:
    if layer.transport is not None:
        layer.abortConnection()


def _short(text: object) -> str:
    """What a server says of itself, for the report."""
    return printable(str(text)[:MOST_SHOWN])


def _object(body: bytes) -> Mapping[str, Any]:
    """A JSON object; an empty one if it is none."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _reason(body: bytes) -> str:
    return str(_object(body).get("reason", ""))


def _server_of(answer: Answer) -> dict[str, str]:
    """What says of itself that it answered, which behind a proxy is the proxy."""
    server = _short(answer.headers.get("server", ""))
    return {"server": server} if server else {}


def _json_links(body: bytes) -> list[str]:
    links = _object(body).get("links")
    return [
        _short(link.get("href", ""))
        for link in (links[:MOST_LINKS] if isinstance(links, list) else ())
        if isinstance(link, dict) and link.get("rel") == ALTERNATIVE
    ]


def _xml_links(body: bytes) -> list[str]:
    """The links of an XRD; each is an empty element with attributes."""
    found = []
    for link in _XRD_LINK.findall(body.decode("utf-8", "replace"))[:MOST_LINKS]:
        attributes = dict(_ATTRIBUTE.findall(link))
        if attributes.get("rel") == ALTERNATIVE:
            found.append(_short(attributes.get("href", "")))
    return found
