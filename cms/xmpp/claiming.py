"""A client that has logged in asks for the session that it had (XEP-0198 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.xish.domish import Element

from cms.xmlstream import managementelements as elements
from cms.xmlstream.management import AcknowledgedTooManyError
from cms.xmlstream.wire import Wire
from cms.xmpp.clientinputs import Inputs
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.resumption import NotResumed, Resumable


class Claimant(Protocol):
    """L{ClientNegotiation<cms.xmpp.clientnegotiation.ClientNegotiation>}."""

    policy: ClientPolicy
    wire: Wire
    inputs: Inputs

    def fail(self, error: StreamError) -> None: ...

    def broken(self, failure: Failure) -> None: ...


class Claiming:
    """Finds it, perhaps at another node of the cluster: then the client waits."""

    def __init__(self, client: Claimant) -> None:
        self._client = client
        self._waits = False

    def refuses(self) -> bool:
        """Whether the client said something more before it was answered, and was sent away."""
        if self._waits:
            text = "the answer to resume was not awaited"
            self._client.fail(StreamError("policy-violation", text=text))
        return self._waits

    def judge(self, account: str, element: Element) -> None:
        """An element of the kind came in place of a wish for a resource."""
        client = self._client
        if element.name != "resume":
            client.wire.write(elements.failed("unexpected-request"))
            return
        self.find(elements.resume(element), account, client.inputs.resume, client.wire.write)

    def find(
        self,
        asked: elements.Resume | None,
        account: str,
        then: Callable[[Resumable, bytes], object],
        otherwise: Callable[[bytes], object],
    ) -> None:
        """
        Find the session.

        @param account: A bare address, which has logged in again.
        @param then: Called with it, and what its client is told.
        @param otherwise: Called with what the client is told if it cannot be resumed.
        """
        client = self._client
        if client.policy.is_draining and not (
            asked and client.policy.resumptions.has(asked.previous, account)
        ):
            client.wire.close(StreamError("system-shutdown"))  # the other servers have it
            return

        def found(result: tuple[Resumable, bytes] | Failure) -> None:
            self._waits = False
            if client.wire.closing:
                return  # a session that was handed over waits for another connection
            if not isinstance(result, Failure):
                then(*result)
            elif isinstance(result.value, AcknowledgedTooManyError):
                client.fail(elements.too_many(result.value))
            elif isinstance(result.value, NotResumed):
                otherwise(result.value.answer)
            else:
                client.broken(result)

        self._waits = True
        client.policy.claim(asked, account).addBoth(found).addErrback(client.broken)
