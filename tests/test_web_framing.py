"""Requests whose ends two readers could see in two places: RFC 9112, RFC 9110 5."""

from __future__ import annotations

from cms.web.site import MOST_RAW
from tests.test_web_site import GET, SiteTestCase

POST = b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


class FramingTests(SiteTestCase):
    """What is refused, and that nothing after it is read."""

    def refused(self, request: bytes) -> None:
        """It is answered with 400 once; the request behind it is none."""
        for pieces in ([request + GET], [bytes([byte]) for byte in request] + [GET]):
            self.protocol, self.transport = self.connect()
            answer = self.say(*pieces)
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), (request, answer))
            self.assertEqual(1, answer.count(b"HTTP/1.1 "), (request, answer))
            self.assertTrue(self.transport.disconnecting)
            self.assertEqual(b"", self.say(GET))
            self.assertEqual([], self.role.calls)

    def head(self, *lines: bytes, version: bytes = b"1.1", host: bytes = b"Host: x") -> bytes:
        """A request with these fields."""
        every = [b"POST /api/v1/users HTTP/" + version, *([host] if host else []), *lines]
        return b"".join(line + b"\r\n" for line in every) + b"\r\n"

    def test_request_line(self) -> None:
        """3: method, target and version with one space between, and nothing else."""
        for line in (
            *(b"GET  /healthz HTTP/1.1", b"GET /healthz  HTTP/1.1", b" GET /healthz HTTP/1.1"),
            *(b"GET /healthz HTTP/1.1 ", b"GET\t/healthz\tHTTP/1.1", b"GET /healthz"),
            *(b"GET /healthz HTTP/2.0", b"GET /healthz http/1.1", b"GET /healthz HTTP/1.x"),
            *(b"GET /healthz HTTP/01.1", b"GET /healthz HTTP/1.10", b"GET /heal\0thz HTTP/1.1"),
            *(b"G(T /healthz HTTP/1.1", b"GET /heal\xe4thz HTTP/1.1", b"GET healthz HTTP/1.1"),
            *(b"GET * HTTP/1.1", b"CONNECT x:80 HTTP/1.1", b"GET /healthz#x HTTP/1.1"),
            *(b"GET /heal\nthz HTTP/1.1", b"GET /heal\rthz HTTP/1.1", b"GET ftp://x/ HTTP/1.1"),
        ):
            self.refused(line + b"\r\nHost: x\r\n\r\n")

    def test_bare_line_feed(self) -> None:
        """2.2: a line ends with CRLF, and no other way."""
        self.refused(b"GET /healthz HTTP/1.1\nHost: x\n\n")
        self.refused(b"GET /healthz HTTP/1.1\r\nHost: x\nX: y\r\n\r\n")
        self.refused(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\n")
        self.refused(b"GET /healthz HTTP/1.1\r\nHost: x\rX: y\r\n\r\n")

    def test_fields(self) -> None:
        """5.1, 5.2, RFC 9110 5.5: names, folds, values."""
        for line in (
            *(b"X : y", b"X\t: y", b" X: y", b"\tX: y", b": y", b"X", b"X y: z", b"X(: y"),
            *(b"X: a\0b", b"X: a\x01b", b"X: a\x7fb", b"X: a\x0bb", b"X\xe4: y", b"X: y\r\n z"),
            *(b"X: y\r\n\tz", b"Content-Length : 5", b"Transfer-Encoding\x0b: chunked"),
        ):
            self.refused(self.head(line))

    def test_host(self) -> None:
        """3.2: exactly one, with nothing in it but a host and a port."""
        self.refused(self.head(host=b""))
        self.refused(self.head(b"Host: x"))
        self.refused(self.head(b"host: y"))
        for host in (b"x y", b"x/y", b"x@y", b"x:y", b"[::1", b"x?", b"x#", b"http://x"):
            self.refused(self.head(host=b"Host: " + host))
        for target, host in ((b"http://y/healthz", b"x"), (b"http://u@x/healthz", b"x")):
            self.refused(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, host))

    def test_length(self) -> None:
        """6.2, 6.3: one number of digits."""
        for value in (
            *(b"+5", b"-5", b"5,5", b"5, 6", b"0x5", b"5 5", b"", b"\xb2", b"5_0", b"5.0"),
            *(b"1" * 20, b"1" * 5_000),
        ):
            self.refused(self.head(b"Content-Length: " + value) + b"GET /")
        self.refused(self.head(b"Content-Length: 5", b"Content-Length: 6") + b"GET /")
        self.refused(self.head(b"Content-Length: 5", b"Content-Length: 5") + b"GET /")

    def test_coding(self) -> None:
        """6.1: chunked alone, once, in HTTP/1.1, and never beside a length."""
        chunked = b"Transfer-Encoding: chunked"
        for lines in (
            *((b"Content-Length: 5", chunked), (chunked, b"Content-Length: 5")),
            *((chunked, chunked), (b"Transfer-Encoding: gzip, chunked",)),
            *((b"Transfer-Encoding: chunked, chunked",), (b"Transfer-Encoding: identity",)),
            *((b"Transfer-Encoding: xchunked",), (b'Transfer-Encoding: "chunked"',)),
            *((b"Transfer-Encoding:",), (b"Transfer-Encoding: chunked;q=1",)),
        ):
            self.refused(self.head(*lines) + b"0\r\n\r\n")
        self.refused(self.head(chunked, version=b"1.0") + b"0\r\n\r\n")

    def test_chunks(self) -> None:
        """7.1: sizes in hexadecimal digits, each line and each chunk ended by CRLF."""
        for body in (
            *(b"+5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"\r\nhello\r\n0\r\n\r\n"),
            *(b"5 \r\nhello\r\n0\r\n\r\n", b"-1\r\nhello\r\n0\r\n\r\n", b"g\r\n0\r\n\r\n"),
            *(b"5;a\0\r\nhello\r\n0\r\n\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
            *(b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\nhello\n0\n\n" + b"x" * 2000),
            *(b"5;" + b"x" * 2_000 + b"\r\nhello\r\n", b"0" * 2_000 + b"\r\n"),
        ):
            self.refused(self.head(FORM[:-2], b"Transfer-Encoding: chunked") + body)

    def test_many_small_chunks(self) -> None:
        """The bytes around a body count as well as the body."""
        self.say(self.head(FORM[:-2], b"Transfer-Encoding: chunked"))
        sent, chunk = 0, b"1;" + b"x" * 1_000 + b"\r\na\r\n"
        while not self.transport.disconnecting:
            self.protocol.dataReceived(chunk)
            sent += len(chunk)
            self.assertLess(sent, 2 * MOST_RAW)
        self.assertEqual([], self.role.calls)

    def test_served(self) -> None:
        """What clients send, and what RFC 9112 wants understood."""
        for request in (
            *(GET, b"\r\n" + GET, b"GET /healthz HTTP/1.0\r\n\r\n"),
            b"GET http://X:8445/healthz HTTP/1.1\r\nHost: x:8445\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nhOST:\tx \t\r\nX:\r\nY: caf\xc3\xa9 \t\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: [2001:db8::1]:445\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
            GET[:-2] + b"Transfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        ):
            for pieces in ([request], [bytes([byte]) for byte in request]):
                self.protocol, self.transport = self.connect()
                answer = self.say(*pieces)
                self.assertEqual(1, answer.count(b" 200 OK\r\n"), (request, answer))
