"""
XML that other parsers read too (docs/design/portable-xml.md).

Our parser, expat, accepts more than some others.  A stanza that another parser refuses
would end the stream of its receiver.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

MOST_DEPTH: Final = 254  # elements of a stanza; libxml2 reads 256, and the stream is one
MOST_NAME: Final = 16_384  # characters of an element's or attribute's name; libxml2 reads 50,000

# RFC 3986 appendix A.  A namespace's name is a URI reference (Namespaces in XML 1.0 3),
# and libxml2 checks that.
_CHARACTER = r"(?:[\w.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_USER = r"(?:[\w.~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)"
_AFTER = rf"(?:{_CHARACTER}|[/?])*"
_REFERENCE = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#]*:))"
    rf"(?://(?:{_USER})?{_HOST}(?::[0-9]{{1,5}})?(?:/{_CHARACTER}*)*"
    rf"|/?(?:{_CHARACTER}+(?:/{_CHARACTER}*)*)?)"
    rf"(?:\?{_AFTER})?(?:#{_AFTER})?",
    re.ASCII,
)


@lru_cache(maxsize=4_096)
def is_namespace(uri: str) -> bool:
    """Whether it can be a namespace; C{""} stands for none and is allowed."""
    return _REFERENCE.fullmatch(uri) is not None
