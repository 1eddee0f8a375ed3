"""A fault that one side tells the other."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber.error import StreamError, exceptionFromStreamError
from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.serialize import serialize
from cms.xmlstream.toldfault import NONE, ToldFault, as_condition, mark, of_condition, of_mark
from cms.xmpp import sasl
from tests.support import one_stanza

TOLD = ToldFault("peer-refused", 60, 10)


class ToldFaultTests(SynchronousTestCase):
    """Over the wire and back; a peer may say anything."""

    def test_stream_error(self) -> None:
        """As an application-specific condition, beside condition and text."""
        for told in (TOLD, ToldFault("no-callbridge"), ToldFault("no-callbridge", 0, 1)):
            error = StreamError("policy-violation", "words", appCondition=as_condition(told))
            written = serialize(error.getElement()).decode()
            read = exceptionFromStreamError(one_stanza(written).element)
            self.assertEqual(("policy-violation", "words"), (read.condition, read.text))
            self.assertEqual(told, of_condition(read.appCondition))

    def test_of_others(self) -> None:
        """Conditions of other programs are none of ours."""
        self.assertEqual(NONE, of_condition(None))
        self.assertEqual(NONE, of_condition(Element(("urn:of:others", "peer-refused"))))

    def test_sasl(self) -> None:
        """In attributes, so that the only elements are those of RFC 6120 6.5."""
        written = sasl.failure("temporary-auth-failure", "wait", wait=300).decode()
        failure = one_stanza(written).element
        self.assertEqual(ToldFault("login-slowed", 300, 12), of_mark(failure))
        self.assertEqual(
            ["temporary-auth-failure", "text"], [each.name for each in failure.elements()]
        )
        plain = one_stanza(sasl.failure("not-authorized").decode()).element
        self.assertEqual(NONE, of_mark(plain))
        self.assertEqual({}, plain.attributes)

    def test_seconds(self) -> None:
        """A number of some digits, or none."""
        for text, seconds in (("60", 60), ("-1", 0), ("1e3", 0), ("9" * 7, 0), ("٣", 0), ("", 0)):
            element = Element((ns.FAULT, "peer-refused"))
            element["seconds"] = text
            self.assertEqual(seconds, of_condition(element).seconds, text)
            failure = Element((ns.SASL, "failure"))
            mark(failure, TOLD)
            failure[ns.FAULT, "seconds"] = text
            self.assertEqual((seconds, 10), (of_mark(failure).seconds, of_mark(failure).step), text)
