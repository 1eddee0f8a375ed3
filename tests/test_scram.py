"""SCRAM on the server's side, held to scramp's client and to the RFCs' examples."""

from __future__ import annotations

import base64
import hashlib
import hmac

from hypothesis import example, given
from hypothesis import strategies as st
from scramp import ScramClient as Scramp
from scramp import ScramException
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.passwords.saslprep import SASLPrepError, saslprep
from cms.callbridge.passwords.scram import (
    HASHES,
    SASLFailure,
    ScramChallenge,
    StoredKeys,
    derive,
    read_client_first,
    without_plus,
)
from cms.client.scram import ScramClient

BINDING = ("tls-exporter", b"B" * 32)
ROUNDS = 16  # few: these tests are not about slowness


def keys_for(password: str, mechanism: str, rounds: int) -> StoredKeys:
    """A user's keys."""
    return derive(password, HASHES[without_plus(mechanism)], b"s" * 16, rounds)


def challenge(
    first: bytes,
    mechanism: str = "SCRAM-SHA-256",
    binding: tuple[str, bytes] | None = None,
    password: str = "pencil",
    rounds: int = ROUNDS,
) -> ScramChallenge:
    """The server's answer to a client's first message."""
    read = read_client_first(first, mechanism, binding)
    keys = keys_for(password, mechanism, rounds)
    return ScramChallenge(read, keys, HASHES[without_plus(mechanism)], "srv")


class ExampleTests(SynchronousTestCase):
    """The exchanges that the RFCs print."""

    def exchange(self, hash_name: str, first: bytes, nonce: str, salt: str, final: bytes) -> bytes:
        """Play one of them with the user "user", password "pencil"."""
        mechanism = "SCRAM-SHA-1" if hash_name == "sha1" else "SCRAM-SHA-256"
        read = read_client_first(first, mechanism, None)
        self.assertEqual(read.name, "user")
        keys = derive("pencil", hash_name, base64.b64decode(salt), 4096)
        return ScramChallenge(read, keys, hash_name, nonce).check(final)

    def test_rfc_5802(self) -> None:
        """RFC 5802 section 5."""
        proof = self.exchange(
            "sha1",
            b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "3rfcNHYJY1ZVvWVs7j",
            "QSXCR+Q6sek8bf92",
            b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        )
        self.assertEqual(proof, b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")

    def test_rfc_7677(self) -> None:
        """RFC 7677 section 3."""
        proof = self.exchange(
            "sha256",
            b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        )
        self.assertEqual(proof, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


class StrangerTests(SynchronousTestCase):
    """The other side is scramp, which others wrote."""

    def play(self, client: Scramp, mechanism: str, password: str) -> None:
        """A whole exchange."""
        server = challenge(client.get_client_first().encode(), mechanism, None, password, 4096)
        client.set_server_first(server.message)
        client.set_server_final(server.check(client.get_client_final().encode()).decode())

    @given(
        st.sampled_from(sorted(HASHES)),
        st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=20),
    )
    def test_agreement(self, mechanism: str, password: str) -> None:
        """The right password passes, and the server's own proof is believed."""
        self.play(Scramp([mechanism], "alice", password), mechanism, password)

    def test_wrong_password(self) -> None:
        """A wrong one does not."""
        client = Scramp(["SCRAM-SHA-256"], "alice", "pen")
        failure = self.assertRaises(SASLFailure, self.play, client, "SCRAM-SHA-256", "pencil")
        self.assertEqual(failure.condition, "not-authorized")

    def test_impostor(self) -> None:
        """A server with another server key is not believed by the client."""
        client = Scramp(["SCRAM-SHA-256"], "alice", "pencil")
        server = challenge(client.get_client_first().encode(), rounds=4096)
        client.set_server_first(server.message)
        server.check(client.get_client_final().encode())
        bad = base64.b64encode(b"x" * 32).decode()
        self.assertRaises(ScramException, client.set_server_final, f"v={bad}")


class ChannelBindingTests(SynchronousTestCase):
    """RFC 5802 section 6 and RFC 9266."""

    def refused(self, first: bytes, mechanism: str, binding: tuple[str, bytes] | None) -> str:
        """The condition with which a first message is refused."""
        failure = self.assertRaises(SASLFailure, read_client_first, first, mechanism, binding)
        return str(failure.condition)

    def test_bound(self) -> None:
        """A -PLUS client on the same TLS connection passes, with either hash."""
        for mechanism in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"):
            client = ScramClient(mechanism, "alice", "pencil", BINDING[1], "abc")
            server = challenge(client.first(), mechanism, BINDING)
            client.verify(server.check(client.final(server.message.encode())))

    def test_relayed(self) -> None:
        """A client bound to another TLS connection does not: somebody is between."""
        client = ScramClient("SCRAM-SHA-256-PLUS", "alice", "pencil", b"C" * 32, "abc")
        server = challenge(client.first(), "SCRAM-SHA-256-PLUS", BINDING)
        final = client.final(server.message.encode())
        failure = self.assertRaises(SASLFailure, server.check, final)
        self.assertEqual(failure.condition, "not-authorized")

    def test_downgrade(self) -> None:
        """A client that could bind and saw no offer, where there was one, is refused."""
        first = b"y,,n=alice,r=abc"
        self.assertEqual(self.refused(first, "SCRAM-SHA-256", BINDING), "not-authorized")
        read_client_first(first, "SCRAM-SHA-256", None)  # and right where there was none
        read_client_first(b"n,,n=alice,r=abc", "SCRAM-SHA-256", BINDING)

    def test_misfit(self) -> None:
        """Flag and mechanism must fit, and so must the type."""
        bound = b"p=tls-exporter,,n=alice,r=abc"
        for first, mechanism, binding in (
            (bound, "SCRAM-SHA-256", BINDING),
            (b"n,,n=alice,r=abc", "SCRAM-SHA-256-PLUS", BINDING),
            (b"y,,n=alice,r=abc", "SCRAM-SHA-256-PLUS", BINDING),
            (b"p=tls-unique,,n=alice,r=abc", "SCRAM-SHA-256-PLUS", BINDING),
            (bound, "SCRAM-SHA-256-PLUS", None),
        ):
            self.assertEqual(self.refused(first, mechanism, binding), "malformed-request")

    def test_changed_header(self) -> None:
        """A final message whose header differs from the first is refused."""
        client = ScramClient("SCRAM-SHA-256", "alice", "pencil", None, "abc")
        server = challenge(b"n,a=alice,n=alice,r=abc")
        final = client.final(server.message.encode())
        self.assertRaises(SASLFailure, server.check, final)


class MessageTests(SynchronousTestCase):
    """RFC 5802 sections 5.1 and 7."""

    def name(self, first: str) -> str:
        """The prepared user name of a first message."""
        return read_client_first(first.encode(), "SCRAM-SHA-256", None).name

    def test_names(self) -> None:
        """Names are unescaped and prepared."""
        self.assertEqual(self.name("n,,n=a=2Cb=3Dc,r=x"), "a,b=c")
        self.assertEqual(self.name("n,,n=I\u00adX,r=x"), "IX")
        self.assertEqual(self.name("n,,n=\u2168,r=x"), "IX")

    def test_authzid(self) -> None:
        """The authorization identity is handed on, unescaped; an empty one is none."""
        first = read_client_first(b"n,a=a=2Cb@c,n=x,r=y", "SCRAM-SHA-256", None)
        self.assertEqual(first.authzid, "a,b@c")
        self.assertIsNone(read_client_first(b"n,a=,n=x,r=y", "SCRAM-SHA-256", None).authzid)

    def test_refusals(self) -> None:
        """What does not follow the grammar is malformed; m= is reserved."""
        for first in (
            b"",
            b"n,,",
            b"n,,n=alice",
            b"n,,n=,r=abc",
            b"n,,n=alice,r=",
            b"n,,n=alice,r=a b",
            b"n,,m=x,n=alice,r=abc",
            b"n,,n=alice,r=abc,x",
            b"n,,n=a=2cb,r=abc",
            b"n,,n=a=b,r=abc",
            b"n,n=alice,r=abc",
            b"N,,n=alice,r=abc",
            b"n,,r=abc,n=alice",
            b"n,,n=ali\0ce,r=abc",
            b"n,,n=\xff,r=abc",
        ):
            failure = self.assertRaises(
                SASLFailure, read_client_first, first, "SCRAM-SHA-256", None
            )
            self.assertEqual(failure.condition, "malformed-request", first)

    def test_extensions(self) -> None:
        """Extensions after the nonce are allowed, and covered by the proof."""
        server = challenge(b"n,,n=alice,r=abc,x=y")
        self.assertTrue(server.message.startswith("r=abcsrv,s="))

    def test_finals(self) -> None:
        """A final message with another nonce, a short proof or no grammar is refused."""
        client = ScramClient("SCRAM-SHA-256", "alice", "pencil", None, "abc")
        server = challenge(client.first())
        final = client.final(server.message.encode())
        nothing = b",p=" + base64.b64encode(bytes(32))
        for changed, condition in (
            (final.replace(b"r=abc", b"r=abd"), "not-authorized"),
            (final.split(b",p=")[0] + nothing, "not-authorized"),
            (final.split(b",p=")[0] + b",p=QQ==", "not-authorized"),
            (final.split(b",p=")[0] + b",p=Q", "malformed-request"),
            (final.split(b",p=")[0], "malformed-request"),
            (b"\xff", "malformed-request"),
        ):
            failure = self.assertRaises(SASLFailure, server.check, changed)
            self.assertEqual(failure.condition, condition)
        server.check(final)

    def test_foreign_nonce(self) -> None:
        """Nor is one for another nonce that the client has signed all the same."""
        client = ScramClient("SCRAM-SHA-256", "alice", "pencil", None, "abc")
        server = challenge(client.first())
        keys = keys_for("pencil", "SCRAM-SHA-256", ROUNDS)
        salted = hashlib.pbkdf2_hmac("sha256", b"pencil", keys.salt, keys.iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")

        def final(nonce: str) -> bytes:
            without_proof = f"c=biws,r={nonce}"
            signed = ",".join((server.first.bare, server.message, without_proof)).encode()
            signature = hmac.digest(keys.stored_key, signed, "sha256")
            proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
            return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

        failure = self.assertRaises(SASLFailure, server.check, final("abcother"))
        self.assertEqual(failure.condition, "not-authorized")
        server.check(final("abcsrv"))

    @given(st.binary(max_size=200) | st.text("nyp=,=2C3Dar ab\0ä").map(str.encode))
    @example(b"n,,n=\xf3\xa0\x80\x81,r=abc")
    def test_fuzz_first(self, message: bytes) -> None:
        """Any bytes are read or refused."""
        for binding in (None, BINDING):
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"):
                try:
                    read_client_first(message, mechanism, binding)
                except SASLFailure as failure:
                    self.assertIn(failure.condition, ("malformed-request", "not-authorized"))

    @given(st.binary(max_size=200) | st.text("c=r,p=abcsrvQ /+ä").map(str.encode))
    @example("c=ä,r=ä,p=ä".encode())
    @example(b"c=biws,r=abcsrv,p=" + base64.b64encode(bytes(32)))
    def test_fuzz_final(self, message: bytes) -> None:
        """Any bytes are refused, for nobody guesses a proof."""
        server = challenge(b"n,,n=alice,r=abc")
        self.assertRaises(SASLFailure, server.check, message)

    def test_constant_time(self) -> None:
        """Proof, nonce and binding are compared by C{hmac.compare_digest}."""
        calls: list[tuple[bytes, bytes]] = []

        def compare(one: bytes, other: bytes) -> bool:
            calls.append((one, other))
            return one == other

        self.patch(hmac, "compare_digest", compare)
        client = ScramClient("SCRAM-SHA-256-PLUS", "alice", "pencil", BINDING[1], "abc")
        server = challenge(client.first(), "SCRAM-SHA-256-PLUS", BINDING)
        server.check(client.final(server.message.encode()))
        self.assertEqual(len(calls), 3)

    def test_reprs(self) -> None:
        """No key, nonce or message shows in a repr."""
        server = challenge(b"n,,n=alice,r=abcdefgh")
        for shown in (repr(server), repr(server.first), repr(server.keys)):
            for hidden in ("abcdefgh", "srv", "sss"):
                self.assertNotIn(hidden, shown)


class SASLPrepTests(SynchronousTestCase):
    """RFC 4013."""

    def test_examples(self) -> None:
        """The table of RFC 4013 section 3."""
        for text, prepared in (("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"),
                               ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b")):  # fmt: skip
            self.assertEqual(saslprep(text), prepared)

    def test_refusals(self) -> None:
        """Control characters, mixed directions and nothing at all are refused."""
        for text in ("\x07", "\u0627\u0031", "", "\u00ad", "a\udc80", "\ue000", "\U000e0001"):
            self.assertRaises(SASLPrepError, saslprep, text)

    @given(st.text())
    def test_fuzz(self, text: str) -> None:
        """Any text is prepared or refused, and what is prepared stays as it is."""
        try:
            prepared = saslprep(text)
        except SASLPrepError:
            return
        self.assertEqual(saslprep(prepared), prepared)
