"""Which pages are checked, and which meeting is joined there."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from attrs import field, frozen

from cms.discovery.address import ascii_domain
from cms.discovery.lookup import Target

PORTS = {"https": 443, "http": 80}
NICKNAME = "cms check"
_MEETING = re.compile(r"/meeting/([0-9]{1,32})")
_LINK = re.compile(r"/m/([A-Za-z0-9_-]{1,64})")


@frozen
class Website:
    """
    The server of the pages.

    @ivar scheme: C{https} or C{http}.
    @ivar host: In A-labels, or an IP address without brackets.
    @ivar address: What to connect to in place of the host's addresses in DNS.
    """

    scheme: str
    host: str
    port: int
    address: str = ""

    @property
    def authority(self) -> str:
        """As in C{Host}: without the port if it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The origin of its pages (RFC 6454)."""
        return f"{self.scheme}://{self.authority}"

    @property
    def websocket(self) -> str:
        """Where clients open their WebSocket."""
        return f"{'wss' if self.is_secure else 'ws'}://{self.authority}/xmpp-websocket"

    @property
    def is_secure(self) -> bool:
        """Whether it has TLS."""
        return self.scheme == "https"

    @property
    def host_is_ip(self) -> bool:
        """Whether the host is an IP address."""
        return _ip(self.host)

    @property
    def is_here(self) -> bool:
        """Whether its pages come from this host, which browsers trust without TLS."""
        if self.host_is_ip:
            return ip_address(self.host).is_loopback
        return self.host == "localhost" or self.host.endswith(".localhost")

    @property
    def target(self) -> Target:
        """What is connected to."""
        host = self.address or self.host
        return Target(host, self.port, _ip(host), source="the address of the pages")


@frozen
class Meeting:
    """
    What is joined.

    @ivar secret: Of a link, which is joined without call ID and passcode.
    """

    call_id: str = ""
    passcode: str = field(repr=False, default="")
    secret: str = field(repr=False, default="")
    name: str = NICKNAME

    @property
    def path(self) -> str:
        """The path of its page."""
        return f"/m/{self.secret}" if self.secret else f"/meeting/{self.call_id}"

    @property
    def shown(self) -> str:
        """For reports; the secret of a link is not in them."""
        return "by its link" if self.secret else self.call_id


def read_website(text: str) -> tuple[Website, str]:
    """
    The address of a page: its server and its path.

    @raise ValueError: it is none that a browser opens.
    """
    parts = urlsplit(text if "://" in text else f"https://{text}")
    scheme = parts.scheme.lower()
    host = parts.hostname or ""
    if scheme not in PORTS or not host:
        raise ValueError(f"{text!r} is no address such as https://meet.example.com")
    name = host if _ip(host) else ascii_domain(host)
    return Website(scheme, name, parts.port or PORTS[scheme]), parts.path


def read_meeting(text: str, name: str = NICKNAME) -> tuple[Meeting, Website | None]:
    """
    A call ID, or a link to a meeting, which names the server of its page as well.

    @raise ValueError: it is neither.
    """
    if "://" not in text:
        call_id = text.replace(" ", "")
        if not call_id.isascii() or not call_id.isdigit():
            raise ValueError(f"{text!r} is neither a call ID, which has digits, nor a link")
        return Meeting(call_id, name=name), None
    website, path = read_website(text)
    by_id, by_secret = _MEETING.fullmatch(path), _LINK.fullmatch(path)
    if by_id:
        return Meeting(by_id[1], name=name), website
    if by_secret:
        return Meeting(secret=by_secret[1], name=name), website
    raise ValueError("the link is none to a meeting, such as https://meet.example.com/meeting/ID")


def _ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
