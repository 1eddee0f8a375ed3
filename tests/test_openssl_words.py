"""
What OpenSSL says of a handshake is words only: pyOpenSSL hands on no codes.

The words that are looked for are in L{cms.trust.connection}.  Here they are held against
what this OpenSSL has for each code (C{sslerr.h}; an alert's is 1000 and its number in RFC 8446 6).
"""

from __future__ import annotations

import re

from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.trust import connection
from cms.trust.connection import explain_handshake

LIBRARY = 20  # ERR_LIB_SSL
REFUSED, REQUIRED = faults.TLS_CLIENT_CERTIFICATE_REFUSED, faults.TLS_CLIENT_CERTIFICATE_REQUIRED
# By reason code: what is told of it where a certificate was presented.
CODES = {
    1042: REFUSED,  # bad_certificate
    1043: REFUSED,  # unsupported_certificate
    1044: REFUSED,  # certificate_revoked
    1045: REFUSED,  # certificate_expired
    1046: REFUSED,  # certificate_unknown
    1048: REFUSED,  # unknown_ca
    1049: REFUSED,  # access_denied
    1116: REQUIRED,  # certificate_required
    199: REQUIRED,  # SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE
    1070: faults.TLS_TOO_OLD,  # protocol_version
    258: faults.TLS_TOO_OLD,  # SSL_R_UNSUPPORTED_PROTOCOL
    396: faults.TLS_TOO_OLD,  # SSL_R_VERSION_TOO_LOW
    1112: faults.TLS_NAME_UNKNOWN,  # unrecognized_name
    156: faults.TLS_NOT_SPOKEN,  # SSL_R_HTTP_REQUEST
    198: faults.TLS_NOT_SPOKEN,  # SSL_R_PACKET_LENGTH_TOO_LONG
    252: faults.TLS_NOT_SPOKEN,  # SSL_R_UNKNOWN_PROTOCOL
    267: faults.TLS_NOT_SPOKEN,  # SSL_R_WRONG_VERSION_NUMBER
    1040: faults.TLS_FAILED,  # handshake_failure
    1071: faults.TLS_ALERT,  # insufficient_security
    1080: faults.TLS_ALERT,  # internal_error
    1120: faults.TLS_ALERT,  # no_application_protocol
}


def words_of(code: int) -> str:
    """What this OpenSSL says for a code."""
    SSL.Context(SSL.TLS_METHOD)  # loads them
    said = lib.ERR_reason_error_string(LIBRARY << 23 | code)
    return ffi.string(said).decode() if said else ""


class WordsTests(SynchronousTestCase):
    """A contract with OpenSSL."""

    def test_codes(self) -> None:
        """Each code's words lead to its fault."""
        for code, fault in CODES.items():
            words = words_of(code)
            self.assertTrue(words, code)
            error = SSL.Error([("SSL routines", "", words)])
            told = explain_handshake(Failure(error), peer="xmpp1:5223", presented=True)
            self.assertEqual(fault.name, told.fault, words)

    def test_each_is_said(self) -> None:
        """What is looked for, this OpenSSL can say."""
        said = " / ".join(words_of(code) for code in CODES)
        looked_for = [
            *(*connection._NOT_TLS, *connection._WANTS_CERTIFICATE, *connection._TOO_OLD),
            *(connection._NO_SUCH_NAME, connection._FAILURE_ALERT),
            *connection._REFUSES_CERTIFICATE,
        ]
        self.assertEqual([], [words for words in looked_for if not re.search(words, said)])
