"""
A log-in that says at once what follows it: SASL2 (XEP-0388) with Bind 2 (XEP-0386).

It writes a L{SaslExchange<cms.xmpp.saslexchange.SaslExchange>} in the elements of SASL2.
When the client is logged in, the session that it had goes on, or a resource is bound, or
it asks for one as after any log-in; there is no new stream.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.protocols.jabber.jid import JID

from cms.linkprotocol import login as lp
from cms.xmlstream import limits
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.wire import Wire
from cms.xmpp import binding, features, sasl2
from cms.xmpp.claiming import Claiming
from cms.xmpp.clientinputs import Inputs
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.loginrelay import Refusal
from cms.xmpp.resumption import Resumable
from cms.xmpp.saslexchange import Authenticator, note_refusal


class Negotiation(Authenticator, Protocol):
    """
    Whose log-in it is: L{ClientNegotiation<cms.xmpp.clientnegotiation.ClientNegotiation>}.

    """

    policy: ClientPolicy
    wire: Wire
    inputs: Inputs
    claiming: Claiming

    def succeeded(
        self,
        success: lp.Success,
        callbridge: str,
        then: Callable[[JID, bytes | None], object] | None = None,
    ) -> None: ...

    def refused(self, refusal: Refusal, failure: Callable[..., bytes] = ...) -> None: ...

    def forget_exchange(self) -> None: ...

    def fail(self, error: StreamError) -> None: ...


class InlineLogin:
    """
    The L{Authenticator} of one exchange.

    @param request: What the client asks for, to be given when it is logged in.
    """

    def __init__(self, client: Negotiation, mechanism: str, request: sasl2.Request) -> None:
        self._client = client
        self._mechanism = mechanism
        self._request = request
        self.peer_host = client.peer_host
        self.channel_binding = client.channel_binding
        self.claimed = client.claimed

    @property
    def peer_text(self) -> str:
        """See L{Wire}."""
        return self._client.peer_text

    @property
    def ids(self) -> dict[str, str]:
        """The IDs for its log lines."""
        return self._client.ids

    def waits(self, does: bool) -> None:
        """See L{Authenticator}."""
        self._client.waits(does)

    def relayed(self, exchange_id: str) -> None:
        """See L{Authenticator}."""
        self._client.relayed(exchange_id)

    def unserved(self, refusal: Refusal) -> None:
        """See L{Authenticator}."""
        self._client.unserved(refusal)

    def broken(self, failure: Failure) -> None:
        """See L{Authenticator}."""
        self._client.broken(failure)

    def challenged(self, payload: bytes | None) -> None:
        """The client has to respond."""
        self._client.wire.write(sasl2.challenge(payload))

    def refused(self, refusal: Refusal) -> None:
        """This log-in failed, and nothing of what was asked for with it is done."""
        self._client.refused(refusal, sasl2.failure)

    def succeeded(self, success: lp.Success, callbridge: str) -> None:
        """The client is logged in, unless it has named another account than its header."""
        client = self._client
        if self._request.names_account and self._contradicts(success.jid):
            refusal = Refusal("invalid-authzid")
            note_refusal(client.policy, client, self._mechanism, refusal, callbridge)
            self.refused(refusal)
        else:
            client.succeeded(success, callbridge, self._go_on)

    def _contradicts(self, account: str) -> bool:
        """XEP-0388 2.3: C{from} of the header is not the authorization identity."""
        try:
            claimed = parse_jid(self._client.claimed or account)
        except MalformedJID:
            return True
        return bool(claimed.userhost() != account)

    # when it is logged in

    def _go_on(self, account: JID, payload: bytes | None) -> None:
        request = self._request
        if request.resumes:  # first: what it succeeds in needs no resource (XEP-0386 3.2)
            self._client.claiming.find(
                *(request.resume, account.userhost()),
                partial(self._resume, payload=payload),
                partial(self._begin, account, payload),
            )
        else:
            self._begin(account, payload, b"")

    def _begin(self, account: JID, payload: bytes | None, results: bytes) -> None:
        client, request = self._client, self._request
        client.forget_exchange()
        if request.bind is None or not self._bind(account, request.bind, payload, results):
            client.wire.set_limits(limits.CLIENT)
            client.wire.write(sasl2.success(payload, account.full(), results))
            client.inputs.logged_in()

    def _resume(self, session: Resumable, resumed: bytes, *, payload: bytes | None) -> None:
        """The session goes on; no features follow (XEP-0198 9.2)."""
        self._client.forget_exchange()
        answer = sasl2.success(payload, session.jid.full(), resumed)
        self._client.inputs.resume(session, answer)

    def _bind(self, account: JID, asked: sasl2.Bind, payload: bytes | None, results: bytes) -> bool:
        """
        Bind a resource; earlier sessions of the same installation end (XEP-0386 3.2).

        @return: Whether there was room for one more.  If not, the client is told so when
            it asks in the old way, for which the features follow.
        """
        agent, policy = self._request.agent, self._client.policy
        full, identifier = binding.tagged(account, asked.tag, agent)
        others = policy.sessions.of(account.userhost())
        earlier = [] if agent is None else binding.of_installation(others, identifier)
        others = [session for session in others if session not in earlier]
        most = policy.sessions.most_per_user
        if len(others) >= most and not policy.resumptions.make_room(others):
            return False
        for session in earlier:
            session.replace()
        self._client.inputs.bind(full, partial(self._tell_bound, asked, payload, results))
        return True

    def _tell_bound(
        self, asked: sasl2.Bind, payload: bytes | None, results: bytes, session: ClientSession
    ) -> None:
        inner = session.manage(resumable=asked.resumable) if asked.manages else b""
        if asked.inactive:
            session.indicate(inactive=True)
        service = self._client.policy.service
        if asked.copies:
            self._client.policy.router.carbons.enable(session)
            others = service.others
            if others is not None:
                others.copies(session, wanted=True)
        success = sasl2.success(payload, session.jid.full(), results + sasl2.bound(inner))
        self._client.wire.write(success)
        self._client.wire.write(features.BOUND[asked.manages, service.has_contacts])
