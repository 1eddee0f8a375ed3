"""
Strict reading of where a request begins and ends.  A request that two readers could
understand in two ways is refused, so that nothing can be smuggled past a proxy before us.

Sections are those of RFC 9112 unless another RFC is named.
"""

from __future__ import annotations

import re

from attrs import define, field

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/1\.([0-9])" % _TOKEN)  # 3
_FIELD = re.compile(rb"(%s):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*" % _TOKEN)  # 5; RFC 9110 5.5
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")  # 3.2
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)([/?][^#]*)?", re.IGNORECASE)
_ORIGIN = re.compile(rb"/[^#]*")
_LENGTH = re.compile(rb"[0-9]{1,15}")


class BadFraming(Exception):
    """The request is answered with 400, and nothing after it is read."""


@define
class Head:
    """
    The head of one request, line by line.

    @ivar method: As it was sent.
    @ivar target: The request target.
    @ivar minor: Of the version.
    """

    method: bytes
    target: bytes
    minor: int
    _hosts: list[bytes] = field(factory=list)
    _lengths: list[bytes] = field(factory=list)
    _codings: list[bytes] = field(factory=list)

    @classmethod
    def begin(cls, line: bytes) -> Head:
        """
        Read the request line.

        @raise BadFraming: it is none (3): no bare CR or LF, no other white space.
        """
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            raise BadFraming("the request line")
        return cls(found[1], found[2], int(found[3]))

    @property
    def line(self) -> bytes:
        """The request line with a target in origin-form, in a version that is spoken here."""
        absolute = _ABSOLUTE.fullmatch(self.target)
        path = self.target if absolute is None else absolute[2] or b"/"
        path = path if path[:1] in b"/*" else b"/" + path
        return b"%s %s HTTP/1.%d" % (self.method, path, min(1, self.minor))

    def add(self, line: bytes) -> None:
        """
        Read a field line.

        @raise BadFraming: it is none (5): a name with anything but token characters or with
            space before its colon (5.1), a fold (5.2), a value with controls (2.2).
        """
        found = _FIELD.fullmatch(line)
        if found is None:
            raise BadFraming("a field line")
        name, value = found[1].lower(), found[2]
        if name == b"host":
            self._hosts.append(value)
        elif name == b"content-length":
            self._lengths.append(value)
        elif name == b"transfer-encoding":
            self._codings.append(value)

    def end(self) -> None:
        """
        The head is complete.

        @raise BadFraming: it does not say exactly once which host the request is for (3.2)
            and where it ends (6.1, 6.3).
        """
        self._judge_host()
        if len(self._lengths) > 1 or any(_LENGTH.fullmatch(x) is None for x in self._lengths):
            raise BadFraming("Content-Length")
        if self._codings and (
            self._lengths or self.minor == 0 or [x.lower() for x in self._codings] != [b"chunked"]
        ):
            raise BadFraming("Transfer-Encoding")

    def _judge_host(self) -> None:
        if len(self._hosts) > 1 or (self.minor and not self._hosts):
            raise BadFraming("Host")
        if any(_HOST.fullmatch(host) is None for host in self._hosts):
            raise BadFraming("Host")
        absolute = _ABSOLUTE.fullmatch(self.target)
        if absolute is not None:
            if [absolute[1].lower()] != [host.lower() for host in self._hosts]:
                raise BadFraming("Host and the request target differ")
        elif _ORIGIN.fullmatch(self.target) is None and (self.method, self.target) != (
            b"OPTIONS",
            b"*",
        ):
            raise BadFraming("the request target")
