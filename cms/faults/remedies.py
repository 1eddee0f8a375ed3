"""
What people see when a fault happens, in the words that they search for, and the
command, record or setting that mends it, ready to be copied.

The other part of each entry of the catalogue in L{cms.faults.failures} and
L{cms.faults.warnings}, by its name.  Braces are filled in from the evidence.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Remedy:
    """
    @ivar symptoms: As logs, status pages and people word it, the most usual
        first.
    @ivar mend: Lines to copy; what is not known shows as C{<name>}.
    """

    symptoms: tuple[str, ...] = ()
    mend: str = ""


REMEDIES: dict[str, Remedy] = {}

# What a stream error before the registration asks for (RFC 6120 4.9.3).
_STARTING = "The server is starting or stopping: this passes by itself within seconds."
_OTHER_PORT = "Connect to the component port (5223): this port is not for components."
_OTHER_PROGRAM = (
    "Look at what answers there: it may be another program, or a proxy before the server."
)
_VERSION = "Bring both sides to a version that speaks XEP-0114 the same way."
ADVICE: dict[str, str] = {
    "bad-format": _OTHER_PROGRAM,
    "bad-namespace-prefix": _VERSION,
    "connection-timeout": "The server waited for this side in vain: look at the network between.",
    "host-gone": "The server served this address and does not any more: add the Callbridge there.",
    "improper-addressing": "Correct unique_name, domain or component_address: the server cannot use"
    " this address.",
    "internal-server-error": "If the server is still starting, this passes by itself; otherwise"
    " look at its log.",
    "invalid-from": "Correct component_address: the server wants another address here.",
    "invalid-namespace": _OTHER_PORT,
    "invalid-xml": _OTHER_PROGRAM,
    "not-well-formed": _OTHER_PROGRAM,
    "policy-violation": "The server forbids it by a rule of its own: its log names the rule.",
    "remote-connection-failed": "Something that the server needs (its directory, its cluster) does"
    " not answer it: look at its log.",
    "reset": _STARTING,
    "resource-constraint": "The server is overloaded or at a limit: look at its load and limits.",
    "restricted-xml": _OTHER_PROGRAM,
    "see-other-host": "The server sends this Callbridge to another host, which it does not follow:"
    " name that host in server_address or in DNS.",
    "system-shutdown": _STARTING,
    "unsupported-encoding": _VERSION,
    "unsupported-feature": _VERSION,
    "unsupported-stanza-type": _OTHER_PORT,
    "unsupported-version": _VERSION,
}
# What helps whom a Callbridge refuses (RFC 6120 6.5).
_CREDENTIALS = "Check the user name and the password; cms callbridge user list shows who exists."
LOGIN_ADVICE: dict[str, str] = {
    "account-disabled": "Enable the account on the Callbridge's host: cms callbridge user enable.",
    "credentials-expired": "Set another password: cms callbridge user passwd.",
    "not-authorized": _CREDENTIALS,
    "invalid-authzid": "Let the client act as nobody but the user who logs in (no authzid).",
    "invalid-mechanism": "Let the client choose one of the mechanisms that are offered.",
    "mechanism-too-weak": "Let the client choose a stronger one of the mechanisms offered.",
    "malformed-request": "Look at the client: what it sends is no step of its mechanism.",
    "incorrect-encoding": "Look at the client: what it sends is not base64.",
    "temporary-auth-failure": "Look at that Callbridge's log: after too many wrong passwords the"
    " right one is not looked at for some minutes, or its user directory does not answer.",
}
LOGIN_OTHERWISE = "Look at that Callbridge's log for this time: it says why."
OTHERWISE = "If the server is still starting, this passes by itself; otherwise look at its log."


def _remedy(name: str, *symptoms: str, mend: str = "") -> None:
    if name in REMEDIES:
        raise ValueError(f"two remedies are named {name}")
    REMEDIES[name] = Remedy(symptoms, mend)


_COMPONENT_RECORD = "{record}. 300 IN SRV 10 10 5223 {host}."
_CLIENT_RECORD = "_xmpp-client._tcp.{domain}. 300 IN SRV 10 10 5222 {host}."
_NEW_CERTIFICATE = (
    "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout new.key"
    ' -out new.csr -subj "/CN={domain}" -addext "subjectAltName={san}"'
    ' -addext "extendedKeyUsage=serverAuth,clientAuth"'
    "\n# new.csr goes to the CA; tls.key and tls.certificate change together, once it has answered"
)
_LOOK_AT_TLS = "openssl s_client -connect {peer} -showcerts </dev/null"
_SERVER_LOG = "journalctl -u cms-xmpp --since -10min     # the XMPP server's log"
_CLOCK = "timedatectl set-ntp true && timedatectl status"

# Step 2 and the start.

_remedy(
    "configuration-file",
    "the daemon does not start: cannot be read",
    "No such file or directory",
    "it is not TOML",
)
_remedy(
    "configuration-encoding",
    "Invalid statement (at line 1, column 1)",
    "invalid start byte",
    "saved with Notepad or PowerShell",
    mend="file {file}\nsed -i '1s/^\\xEF\\xBB\\xBF//' {file}     # a byte order mark\n"
    "iconv -f UTF-16 -t UTF-8 -o {file}.utf8 {file}     # UTF-16: look at it, and rename it",
)
_remedy(
    "configuration-value", "the daemon does not start", "this key is not known", "it is missing"
)
_remedy(
    "configuration-of-xmpp-server",
    "unique_name: it is missing, although xmpp.toml is right",
    "cms check --config xmpp.toml fails",
    mend="cms check --server --config {file}",
)
_remedy(
    "configuration-of-callbridge",
    "hostname: it is missing, although callbridge.toml is right",
    "cms check --server --config callbridge.toml fails",
    mend="cms check --config {file}",
)
_remedy(
    "state-full",
    "No space left on device",
    "database or disk is full",
    "disk I/O error",
    "Disk quota exceeded",
    mend="df -h {folder}\ndf -i {folder}",
)
_remedy(
    "state-read-only",
    "Read-only file system",
    "attempt to write a readonly database",
    mend="findmnt --target {folder}\ndmesg --level=err",
)
_remedy("state-forbidden", "Permission denied", mend="ls -ld {folder} {path}")
_remedy("state-busy", "database is locked", mend="fuser -v {path}")
_remedy(
    "state-damaged",
    "database disk image is malformed",
    "file is not a database",
    mend="sqlite3 {path} 'PRAGMA integrity_check'",
)
_remedy("state-unsafe", "others than its owner may write")
_remedy("state-unusable", "unable to open database file", "Input/output error")
_remedy(
    "listen-failed",
    "Address already in use",
    "Permission denied on port 443 or 445",
    "cannot listen on tcp:5223",
    mend="ss -ltnp",
)
_FILES = "systemctl edit cms-xmpp     # [Service] LimitNOFILE=65536; in a shell: ulimit -Hn 65536"
_remedy(
    "files-run-out", "Too many open files", "EMFILE", "connections are closed at once", mend=_FILES
)
_remedy("files-few", "fewer connections than most_connections", mend=_FILES)
_remedy(
    "proxy-missing",
    "behind HAProxy nothing works",
    "sent no header of the PROXY protocol",
    mend="server xmpp1 127.0.0.1:5222 send-proxy-v2",
)
_remedy(
    "proxy-untrusted",
    "behind HAProxy connections are closed at once",
    "may not say who its clients are",
    mend='[listen]\nproxies = ["192.0.2.10"]',
)
_remedy(
    "proxy-unexpected",
    "not-well-formed or wrong version number behind HAProxy",
    "began with a header of the PROXY protocol",
    mend='[listen]\nclient = ["haproxy:tcp:5222"]',
)
_remedy("internal", "unexpected error", "Traceback in the log")
_remedy("check-unfinished", "cms check hangs", "cms check takes for ever")
_remedy(
    "clock-wrong",
    "certificate is not yet valid although it was just issued",
    "the clock of the virtual machine is wrong",
    "date shows 1970",
    mend=_CLOCK,
)
_remedy(
    "equal-secrets",
    "the same component secret for two Call Bridges",
    "cb1 and cb2 have equal secrets in xmpp callbridge list",
    mend="cms xmpp callbridge rotate {name}",
)
_remedy(
    "no-callbridge-known",
    "nobody can log in to a new XMPP server",
    "[callbridges] is empty",
    "xmpp callbridge list shows nothing",
    mend="cms xmpp callbridge add cb1",
)

# Step 3.

_remedy(
    "server-address-invalid",
    "server address is not accepted",
    "IPv6 address without brackets",
    mend='server_address = "xmpp1.meet.example.com:5223"\nserver_address = "[2001:db8::1]:5223"',
)

# Step 4.

_remedy(
    "srv-nxdomain",
    "XMPP connection failed: DNS failure",
    "_xmpp-component SRV record not found",
    "NXDOMAIN for _xmpp-component._tcp",
    "server address left blank and no connection",
    mend=_COMPONENT_RECORD,
)
_remedy(
    "srv-no-data",
    "no SRV record, although the name exists",
    "dig _xmpp-component SRV answers NOERROR with 0 records",
    mend=_COMPONENT_RECORD,
)
_remedy(
    "srv-not-offered",
    "SRV target is a dot",
    "'xmpp-component' service disabled by pointing to '.'",
    mend=_COMPONENT_RECORD,
)
_remedy(
    "srv-misspelt",
    "_xmppcomponent._tcp SRV record is ignored",
    "the SRV record exists but is not found",
    mend=_COMPONENT_RECORD,
)
_remedy(
    "srv-target-address",
    "SRV record points to an IP address",
    "host 192.0.2.1 not found (NXDOMAIN for an IP address)",
    mend="{record}. 300 IN SRV 10 10 5223 xmpp1.<domain>.\nxmpp1.<domain>. 300 IN A {host}",
)
for _step, _what, _type in (("srv", "the SRV record", "SRV"), ("address", "the host", "A")):
    _remedy(
        f"dns-silent-{_step}",
        f"DNS query for {_what} timed out",
        "connection timed out; no servers could be reached",
        "name resolution failed",
        mend=f"dig {{name}} {_type}     # asked: {{server}}",
    )
    _remedy(
        f"dns-failed-{_step}",
        f"SERVFAIL for {_what}",
        "DNS failure",
        "Temporary failure in name resolution",
        mend=f"dig {{name}} {_type}     # asked: {{server}}",
    )
    _remedy(
        f"dns-refused-{_step}",
        f"REFUSED for {_what}",
        "query refused by the DNS server",
        "recursion not available",
        mend='[dns]\nservers = ["<a DNS server that knows {name}>"]',
    )
    _remedy(
        f"dns-truncated-{_step}",
        f"the answer for {_what} is truncated",
        "Truncated, retrying in TCP mode; connection refused",
        "DNS over TCP port 53 is blocked by the firewall",
        mend=f"dig +tcp {{name}} {_type}     # asked: {{server}}",
    )
    _remedy(
        f"dns-unreachable-{_step}",
        f"Network is unreachable when asking DNS for {_what}",
        "no route to the DNS server",
        "Connection refused by port 53",
        mend="ip route get <the DNS server's address>     # asked: {server}",
    )
    _remedy(
        f"dns-strange-{_step}",
        f"the answer for {_what} is for another question",
        ";; Question section mismatch: got",
        ";; Warning: ID mismatch",
        mend=f"dig {{name}} {_type}     # asked: {{server}}",
    )
_remedy(
    "srv-client-port",
    "_xmpp-component SRV points to port 5222",
    "component SRV record with the client port",
    "wrong version number (SSL3_GET_RECORD) on 5222",
    mend="_xmpp-component._tcp.<domain>. 300 IN SRV 10 10 5223 {host}.",
)
_remedy(
    "srv-target-no-name",
    "SRV target is not a host name",
    "underscore in the SRV target",
)
_remedy(
    "srv-target-alias",
    "SRV target is a CNAME",
    "SRV record points to an alias",
    mend="_xmpp-component._tcp.<domain>. 300 IN SRV 10 10 5223 {alias}.",
)
_remedy(
    "srv-target-local",
    "Target 'localhost' cannot be accessed from other servers",
    "SRV record points to localhost",
    mend="_xmpp-component._tcp.<domain>. 300 IN SRV 10 10 5223 <the server's FQDN>.",
)
_remedy(
    "srv-single-target",
    "no failover: all Call Bridges lose the XMPP server at once",
    "only one _xmpp-component SRV record",
    mend="{record}. 300 IN SRV 20 10 5223 <the second server's FQDN>.",
)
_remedy(
    "srv-misspelt-beside",
    "two SRV records, _xmpp-component and _xmppcomponent",
    mend="; remove this record: {misspelt}.",
)
_remedy(
    "client-srv-missing",
    "No _xmpp-client SRV record found",
    "Unable to connect - try again later (WebRTC)",
    "CLIENT_CONNECT_FAILED (recorder, streamer)",
    "stuck on Loading media, then back to the start page",
    mend=_CLIENT_RECORD,
)
_remedy(
    "client-srv-not-offered",
    "'xmpp-client' service disabled by pointing to '.'",
    "clients say that the domain has no XMPP server",
    mend=_CLIENT_RECORD,
)
_remedy(
    "client-srv-port",
    "SRV target contains unknown client port 5223",
    "clients connect to the component port",
    mend="{record}. 300 IN SRV {priority} {weight} 5222 {host}.",
)
_remedy(
    "domain-of-others",
    "SRV answers name someone else's server",
    "the XMPP domain is the company's main domain, used by CUCM IM&P or Jabber as well",
    "_cisco-uds or _cuplogin records in the XMPP domain",
    mend='domain = "meet.{domain}"',
)

# Step 5.

_remedy(
    "host-nxdomain",
    "could not resolve host",
    "Name or service not known",
    "the SRV target does not resolve",
    mend="{host}. 300 IN A <the server's address>",
)
_remedy(
    "host-short",
    "ping xmpp1 works, but the Callbridge does not find it",
    "search domains of resolv.conf are ignored",
    "could not resolve host (a name without a dot)",
    mend='server_address = "{host}.<its domain>"',
)
_remedy(
    "host-no-data",
    "host has no A or AAAA record",
    "No address associated with hostname",
    mend="{host}. 300 IN A <the server's address>",
)
_remedy(
    "host-alias-broken",
    "dangling CNAME",
    "alias leads to a name that does not exist",
    mend="{host}. 300 IN A <the server's address>",
)
_remedy(
    "address-family-unknown",
    "AAAA query fails, A query works",
    "the DNS server answers SERVFAIL for AAAA",
)
_remedy(
    "address-supplied",
    "additional section of the SRV answer has the address, dig for the host has none",
    "stale glue in the additional section",
    mend="{host}. 300 IN A <the server's address>",
)
_remedy(
    "own-host-elsewhere",
    "Host does not seem to resolve to this server",
    "the FQDN points to another machine",
    mend="{host}. 300 IN A <this host's address>",
)

# Step 6.

_remedy(
    "connect-refused",
    "Connection refused",
    "ECONNREFUSED 5223",
    "xmpp enable: FAILURE, or the service was not restarted after a change",
    mend="ss -ltnp 'sport = :{port}'        # on the server\nsystemctl restart cms-xmpp",
)
_remedy(
    "connect-timeout",
    "Connection timed out",
    "no answer on port 5223: the firewall drops it",
    "No route to host, ETIMEDOUT",
    mend="nc -vz {address} {port}",
)
_remedy(
    "connect-unreachable",
    "Network is unreachable",
    "No route to host",
    mend="ip route get {address}",
)
_remedy(
    "address-dead",
    "connecting is slow: one of several addresses does not answer",
    "works sometimes (round robin DNS)",
    mend="nc -vz {address} 5223",
)
_remedy(
    "address-fails",
    "the link comes up at the second try only",
    "IPv6 accepts the connection and then says nothing",
    mend="openssl s_client -connect {address}:5223 </dev/null",
)
_remedy(
    "target-fails",
    "one of several XMPP servers is down",
    "no failover left: the other SRV targets do not work",
    mend="cms explain {fault}",
)
_remedy(
    "ipv6-dead",
    "connecting takes longer than it should: IPv6 does not work",
    "AAAA record exists but the server listens on IPv4 only",
    mend='component = ["tcp6:5223:interface=\\\\:\\\\:"]     # xmpp.toml, [listen]',
)
_remedy(
    "own-listener-dead",
    "the server runs but its port does not answer",
    "listener up, firewall closed",
    mend="ss -ltnp\nnft list ruleset",
)
_remedy(
    "own-listener-local",
    "works on the server itself, Connection refused from elsewhere",
    "listening on 127.0.0.1 only",
    mend='{kind} = ["tcp:{port}"]     # xmpp.toml, [listen]',
)

# Step 7.

_remedy(
    "tls-not-spoken",
    "wrong version number",
    "SSL routines: packet length too long",
    "handshake error on outgoing connection",
    mend=_LOOK_AT_TLS,
)
_remedy(
    "tls-silent",
    "TLS handshake timed out",
    "connected, and then nothing happens",
    mend=_LOOK_AT_TLS,
)
_remedy(
    "tls-closed",
    "unexpected EOF during the TLS handshake",
    "the connection was closed in the TLS handshake",
    "handshake error 104",
    mend=_LOOK_AT_TLS,
)
_remedy(
    "tls-reset",
    "Connection reset by peer after ClientHello",
    "handshake error 104 on outgoing connection",
    "TLS works from one network and not from the other (middlebox, TLS inspection)",
    mend=_LOOK_AT_TLS,
)
_remedy(
    "tls-too-old",
    "tlsv1 alert protocol version",
    "unsupported protocol: the server speaks TLS 1.0 or 1.1 only",
    mend="openssl s_client -connect {peer} -tls1_2 </dev/null",
)
_remedy(
    "tls-name-unknown",
    "tlsv1 unrecognized name",
    "SNI: no certificate for this host name",
    mend="openssl s_client -connect {peer} -servername <domain> </dev/null",
)
_remedy(
    "tls-client-port",
    "wrong version number on port 5222",
    "the component connects to the client port",
    "STARTTLS port used for a component",
    mend='server_address = "<host>:5223"\n'
    "_xmpp-component._tcp.<domain>. 300 IN SRV 10 10 5223 <host>.",
)
_remedy(
    "tls-http",
    "http request, wrong version number: a web server answers on this port",
    "HTTP/1.1 400 Bad Request in answer to TLS",
    mend='server_address = "<host>:5223"',
)
_remedy(
    "tls-other-service",
    "wrong version number: SSH or SMTP answers on this port",
    "the SRV record names the wrong port",
    mend='server_address = "<host>:5223"',
)
_remedy(
    "tls-server-port",
    "wrong version number on port 5269",
    "the component connects to the port for other XMPP servers",
    mend='server_address = "<host>:5223"',
)
_remedy(
    "tls-plain-component",
    "wrong version number on port 5347 or 5275",
    "Prosody component port has no TLS",
    "component_ports without SSL",
    mend="[tls]\nunprotected = true     # callbridge.toml; only on one and the same host",
)
_remedy(
    "tls-failed",
    "handshake failure",
    "no shared cipher",
    "sslv3 alert handshake failure",
    mend=_LOOK_AT_TLS,
)
_remedy(
    "tls-alert",
    "tlsv1 alert internal error",
    "alert no application protocol",
    mend=_LOOK_AT_TLS,
)
_remedy(
    "tls-client-certificate-required",
    "tlsv13 alert certificate required",
    "peer did not return a certificate",
    "mutual TLS: the server wants a client certificate",
    mend='[tls]\ncertificate = "cb1.crt"\nkey = "cb1.key"',
)
_remedy(
    "tls-client-certificate-refused",
    "tlsv1 alert unknown ca",
    "sslv3 alert bad certificate",
    "alert certificate expired, from the server",
    mend="cat <the CA of this Callbridge's certificate> >> ca.pem     # on the server: tls.trust",
)
_remedy(
    "certificate-untrusted",
    "certificate verify failed: unable to get local issuer certificate",
    "PKIX path building failed",
    mend="cat <the CA that issued it> >> ca.pem     # tls.trust",
)
_remedy(
    "certificate-root-untrusted",
    "self-signed certificate in certificate chain",
    "SELF_SIGNED_CERT_IN_CHAIN",
    "the private root CA is not trusted",
    mend="cat <the root certificate> >> ca.pem     # tls.trust; sha256 {fingerprint}",
)
_remedy(
    "trust-other-key",
    "certificate signature failure, after the CA was renewed",
    "authority and subject key identifier mismatch",
    "the CA has the right name, but the chain is not trusted",
    mend="openssl x509 -noout -subject -ext subjectKeyIdentifier -in ca.pem\n"
    "cat <the CA's current certificate> >> ca.pem     # tls.trust",
)
_remedy(
    "certificate-signature-wrong",
    "certificate signature failure",
    "the intermediate has the right name and the wrong key",
    mend="cat xmpp.crt <the intermediate that issued it> > chain.crt",
)
_remedy(
    "certificate-refused",
    "certificate verify failed",
    "certificate revoked, proxy certificates not allowed, RFC 3779 resource",
    mend="openssl verify -purpose ssl{role} -CAfile ca.pem -untrusted chain.crt xmpp.crt",
)
_remedy(
    "certificate-name-constraints",
    "permitted subtree violation",
    "excluded subtree violation",
    "the company CA may issue for its own domain only (name constraints)",
    mend="openssl x509 -noout -ext nameConstraints -in <the CA's certificate>",
)
_remedy(
    "certificate-issuer-no-ca",
    "invalid CA certificate",
    "key usage does not include certificate signing",
    "issuer certificate doesn't have a public key",
    "the intermediate lacks basicConstraints CA:TRUE",
    mend="basicConstraints = critical, CA:TRUE     # of the intermediate\n"
    "keyUsage = critical, keyCertSign, cRLSign",
)
_remedy(
    "certificate-issuer-usage",
    "unsuitable certificate purpose, at depth 1",
    "the intermediate CA is for e-mail or code signing",
    mend="openssl x509 -noout -ext extendedKeyUsage -in <the CA's certificate>",
)
_remedy(
    "certificate-path-length",
    "path length constraint exceeded",
    "pathlen:0, and yet a CA below it",
    mend="openssl x509 -noout -ext basicConstraints -in <the CA's certificate>",
)
_remedy("certificate-chain-long", "certificate chain too long")
_remedy(
    "certificate-critical-extension",
    "unhandled critical extension",
    mend="openssl s_client -connect {peer} -showcerts </dev/null | openssl x509 -noout -text",
)
_remedy(
    "certificate-key-usage",
    "unsuitable certificate purpose, although the extended key usage is right",
    "key usage does not include digital signature",
    mend="keyUsage = critical, digitalSignature     # in the CA's template",
)
_remedy(
    "trust-expired",
    "certificate has expired, but the server's certificates are all new",
    "the root in tls.trust has expired",
    mend="openssl crl2pkcs7 -nocrl -certfile ca.pem | openssl pkcs7 -print_certs -noout"
    "     # tls.trust",
)
_remedy(
    "certificate-self-signed",
    "certificate verify failed: self-signed certificate",
    "DEPTH_ZERO_SELF_SIGNED_CERT",
    "PKIX path building failed",
    mend="openssl s_client -connect {peer} </dev/null | openssl x509 -out peer.pem\n"
    "openssl x509 -in peer.pem -noout -subject -fingerprint -sha256     # compare it there\n"
    "cat peer.pem >> ca.pem     # tls.trust; only if they are the same",
)
_remedy(
    "certificate-intermediate-missing",
    "unable to verify the first certificate",
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    "works in the browser, but not here (the browser fetches intermediates)",
    "certificate bundle missing",
    mend="cat xmpp.crt intermediate.crt > chain.crt     # leaf first; tls.certificate = chain.crt",
)
_remedy(
    "certificate-intermediate-expired",
    "certificate has expired, but the server's certificate is new",
    "expired intermediate, expired cross-signed root",
    mend="cat xmpp.crt <the current intermediate> > chain.crt",
)
_remedy(
    "certificate-usage-server",
    "unsuitable certificate purpose",
    "unsupported certificate purpose",
    "extended key usage lacks serverAuth: the CA template is wrong",
    mend="extendedKeyUsage = serverAuth, clientAuth     # in the CA's template",
)
_remedy(
    "certificate-usage-client",
    "sslv3 alert unsupported certificate",
    "extended key usage lacks clientAuth",
    "common problem: the CA template does not issue the right key usage",
    mend="extendedKeyUsage = serverAuth, clientAuth     # in the CA's template",
)
_remedy(
    "certificate-weak",
    "EE certificate key too weak",
    "ee key too small",
    "RSA 1024",
    mend="openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key"
    "     # for a new certificate: the old key stays until it is there",
)
_remedy(
    "certificate-ca-weak",
    "CA certificate key too weak",
    "ca key too small",
    "an old CA with RSA 1024",
    mend="openssl x509 -noout -text -in <the CA's certificate> | grep 'Public-Key'",
)
_remedy(
    "certificate-signature-weak",
    "CA signature digest algorithm too weak",
    "ca md too weak",
    "SHA-1 or MD5 certificate",
    mend="openssl x509 -req -sha256 -copy_extensions copy -in xmpp.csr -CA <CA> -CAkey <key>"
    " -out new.crt     # by the CA; without -copy_extensions the names would be lost",
)
_remedy(
    "certificate-expired",
    "certificate has expired",
    "certificate verify failed: certificate has expired",
    "XMPP worked until today",
    mend="openssl s_client -connect {peer} </dev/null 2>/dev/null | openssl x509 -noout -dates",
)
_remedy(
    "certificate-not-yet-valid",
    "certificate is not yet valid",
    "clock or NTP wrong",
    mend=_CLOCK,
)
_remedy(
    "certificate-expires-soon",
    "certificate expires soon",
    "certificate expiry warning",
    mend="openssl x509 -noout -dates -in <the certificate file>",
)
_remedy(
    "certificate-chain-order",
    "certificate bundle out of order",
    "some clients reject the chain, others do not",
    "root not last in the bundle",
    mend="cat xmpp.crt intermediate.crt root.crt > chain.crt",
)
_remedy(
    "certificate-chain-surplus",
    "unrelated certificate in the bundle",
    "extra certificate in the chain",
)
_remedy(
    "trust-ca-expired",
    "expired CA in the trust bundle",
    mend="openssl crl2pkcs7 -nocrl -certfile {path} | openssl pkcs7 -print_certs -noout",
)
_remedy(
    "certificate-no-client-use",
    "extended key usage: server authentication only",
    mend="extendedKeyUsage = serverAuth, clientAuth     # in the CA's template",
)
_remedy(
    "chain-unverified",
    "is my certificate bundle complete?",
    mend="openssl verify -untrusted {peer} {peer}",
)
_remedy(
    "own-certificate-unusable",
    "no shared cipher, no suitable signature algorithm",
    "ca key too small",
    "pss saltlen too small",
    "no client can connect since the certificate was changed",
    mend="openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key"
    "     # for a new certificate: the old key stays until it is there",
)
_remedy(
    "own-chain-incomplete",
    "certificate bundle missing: clients reject, link fails",
    "unable to verify the first certificate",
    mend="cat xmpp.crt intermediate.crt > chain.crt     # leaf first; tls.certificate = chain.crt",
)
_remedy(
    "tls-1.2-only",
    "TLSv1.2 is negotiated although TLS 1.3 is there",
    "no -PLUS mechanism, no channel binding",
)
_remedy(
    "unprotected",
    "component link without TLS",
    "disable-certificate-verification = true",
    mend="[tls]\nunprotected = false",
)

# Step 8.

_remedy(
    "identity-no-san",
    "certificate has no subjectAltName, only a common name",
    "x509: certificate relies on legacy Common Name field",
    "hostname mismatch although the CN is right",
    mend=_NEW_CERTIFICATE,
)
_remedy(
    "identity-malformed",
    "subjectAltName cannot be parsed",
    "error parsing asn1 value in the certificate",
    mend=_NEW_CERTIFICATE,
)
_remedy(
    "identity-domain-missing",
    "certificate error: the SAN lacks the XMPP domain",
    "hostname mismatch, certificate is not valid for meet.example.com",
    "host-only certificate, certificate of the parent domain",
    mend=_NEW_CERTIFICATE,
)
_remedy(
    "identity-other-domain",
    "hostname mismatch: the certificate names another XMPP domain",
    "domain is misspelt, or is the parent domain, in callbridge.toml",
    mend='domain = "{other}"     # callbridge.toml',
)
_remedy(
    "identity-host-missing",
    "certificate error: the SAN lacks the server's FQDN",
    "hostname mismatch, certificate is not valid for xmpp1.meet.example.com",
    "certificate holds the domain but not the node",
    mend=_NEW_CERTIFICATE,
)
_remedy(
    "identity-both-missing",
    "certificate of another host",
    "hostname mismatch",
    "ERR_CERT_COMMON_NAME_INVALID",
    mend=_NEW_CERTIFICATE,
)
_remedy(
    "identity-other-sni",
    "the wrong certificate is shown, although the right one is installed",
    "SNI: another certificate for another name",
    mend="openssl s_client -connect {peer} -servername {host} </dev/null\n"
    "openssl s_client -connect {peer} -servername {other} </dev/null     # this one is right",
)
_remedy(
    "identity-trailing-dot",
    "hostname mismatch although the name is in the SAN",
    "SAN with a trailing dot",
    mend=_NEW_CERTIFICATE,
)
_remedy(
    "identity-wildcard",
    "wildcard certificate for the XMPP server",
    "*.example.com works here and not there",
    mend=_NEW_CERTIFICATE,
)

# Step 9.

_remedy(
    "register-silent",
    "TLS is up, but the server says nothing",
    "stream negotiation timed out",
    mend=_SERVER_LOG,
)
_remedy(
    "register-http",
    "HTTP/1.1 400 Bad Request in place of a stream",
    "the server address is that of a web page",
    mend='server_address = "<host>:5223"',
)
_remedy(
    "register-other-service",
    "the server address is that of a mail server (SMTPS, IMAPS)",
    "not-well-formed right after TLS",
    mend='server_address = "<host>:5223"',
)
_remedy(
    "register-not-xmpp",
    "invalid-namespace",
    "not-well-formed",
    "jabber:client instead of jabber:component:accept",
    "XML parse error on the component port",
    mend='server_address = "<host>:5223"',
)
_remedy(
    "register-closed",
    "connection closed before the stream was opened",
    "remote host closed the connection",
    mend=_SERVER_LOG,
)
_remedy(
    "register-rejected",
    "stream error before the handshake",
    "reconnect gets invalid-namespace or a stream error after a restart",
    mend=_SERVER_LOG,
)

# Step 10.

_remedy(
    "registered-silent",
    "the handshake is never answered",
    "component connected but not authenticated",
    mend=_SERVER_LOG,
)
_remedy(
    "registered-closed",
    "connection closed after the handshake",
    "component is disconnected without an error",
    mend=_SERVER_LOG,
)
_remedy(
    "unknown-id",
    "host-unknown",
    "does not match any configured external components",
    "Call Bridge name unknown to the XMPP server",
    mend="cms xmpp callbridge add {component}",
)
_remedy(
    "domain-mismatch",
    "host-unknown, although the name was added",
    "XMPP domain mismatch between Call Bridge and XMPP server",
    mend='domain = "{served}"     # callbridge.toml',
)
_remedy(
    "wrong-secret",
    "authentication failure",
    "not-authorized: Given token does not match calculated token",
    "Component authentication failed",
    "component secret mismatch",
    mend="cms xmpp callbridge list --show-secrets     # on the XMPP server: compare",
)
_remedy(
    "already-connected",
    "conflict: Component already connected",
    "Second component attempted to connect, denying connection",
    "two Call Bridges with the same unique name",
    mend='unique_name = "<another name>"',
)
_remedy(
    "registration-rejected",
    "stream error after the handshake",
    "internal-server-error, resource-constraint",
    mend=_SERVER_LOG,
)
_remedy(
    "registration-slowed",
    "too many failures, refused",
    "policy-violation after many wrong secrets",
)

# Steps 7 to 10 in the XMPP server's log.

_remedy("peer-silent", "component refused: connection-timeout", "connected but did not register")
_remedy(
    "peer-certificate",
    "component refused: TLS handshake not completed",
    "alert unknown ca in the XMPP server's log",
)
_remedy(
    "peer-wrong-namespace",
    "invalid-namespace in the XMPP server's log",
    "a client connects to 5223",
)
_remedy("peer-bad-header", "improper-addressing", "stream header without to")
_remedy("peer-bad-xml", "not-well-formed in the XMPP server's log", "port scanner on 5223")
_remedy(
    "peer-not-tls",
    "http request, wrong version number in the XMPP server's log",
    "a client with STARTTLS, or a health probe, on a port with TLS from the first byte",
)
_remedy(
    "peer-other-protocol",
    "GET / HTTP/1.1 on 5222",
    "not-well-formed in the XMPP server's log",
    "direct TLS on a STARTTLS port",
)
_remedy(
    "peer-unknown-id",
    "component refused: host-unknown",
    "Call Bridge name not configured",
    mend="cms xmpp callbridge add {component}",
)
_remedy(
    "peer-other-domain",
    "component refused: host-unknown, the address ends with another domain",
    "XMPP domain mismatch between Call Bridge and XMPP server",
    mend='domain = "{domain}"     # callbridge.toml, on that host',
)
_remedy(
    "peer-wrong-secret",
    "component refused: not-authorized",
    "wrong component secret",
    mend="cms xmpp callbridge list --show-secrets     # the one that this server holds",
)
_remedy("peer-unregistered", "stanza before the handshake", "component refused: not-authorized")
_remedy("peer-conflict", "component refused: conflict", "duplicate unique name")
_remedy("peer-refused", "component refused: policy-violation", "brute force on the component port")

# Step 11.

_remedy("peer-lied", "invalid-from", "component speaks for a foreign domain")
_remedy(
    "link-outside-domain",
    "1 connected, and nobody can log in",
    "the component's address ends with another domain",
    mend='domain = "{domain}"     # callbridge.toml, on that host\n'
    "cms xmpp callbridge del {component}     # when nothing registers as that any more",
)
_remedy(
    "link-no-authority",
    "connected, but decides no log-ins",
    "the component is no Callbridge",
    mend="cms check --config callbridge.toml     # on that host",
)
_remedy(
    "domain-not-served",
    "the link is up, and nobody can log in",
    "remote-server-not-found for the XMPP domain",
    mend='domain = "<the domain of the XMPP server>"     # callbridge.toml',
)
_remedy(
    "link-silent",
    "ping timeout",
    "Component not connected, bouncing error",
    "the link is up on one side and dead on the other",
)
_remedy("link-stalled", "send buffer full", "the link is up, and log-ins time out")
_remedy("link-lost", "Connection lost", "Connection reset by peer", "the link flaps")
_remedy("link-closed", "system-shutdown", "the XMPP server was restarted")
_remedy("link-error", "stream error on an active link", "link dropped with a stream error")
_remedy(
    "clock-apart",
    "clock skew between Call Bridge and XMPP server",
    "ntp status: not synchronised",
    mend=_CLOCK,
)

_remedy(
    "link-deleted",
    "host-gone: the link was ended",
    "the Callbridge was deleted on the XMPP server",
    mend="cms xmpp callbridge add {component}",
)
_remedy(
    "link-secret-expired",
    "not-authorized on a link that was up",
    "the secret was rotated, and this Callbridge still has the old one",
    mend="cms xmpp callbridge list --show-secrets     # on the XMPP server: compare",
)

# Steps 1 and 12.

_remedy(
    "no-callbridge",
    "remote-connection-failed",
    "log-in fails although user name and password are right",
    "no Callbridge is connected",
    mend="cms check --config callbridge.toml     # on the Callbridge's host",
)
_remedy(
    "no-authority",
    "remote-connection-failed, although something is connected",
    "cms status: connected, but none decides log-ins",
    mend="cms status --config xmpp.toml     # on the XMPP server's host",
)
_remedy("login-link-lost", "remote-connection-failed: the Callbridge was lost during the log-in")
_remedy("login-silent", "remote-connection-failed after 15 s", "log-in hangs, then fails")
_remedy(
    "login-undecided",
    "the user directory cannot answer now",
    "too many log-ins at once",
    "remote-connection-failed: could not decide the log-in",
    mend="journalctl -u cms-callbridge --since -10min",
)
_remedy("login-bad-answer", "remote-connection-failed: no usable answer")
_remedy(
    "login-refused",
    "unsuccessful login request from",
    "no user found for authorisation",
    "not-authorized",
    mend="cms callbridge user list --config callbridge.toml",
)
_remedy(
    "login-denied",
    "not-authorized",
    "unsuccessful login request from",
    "wrong user name or password",
    mend="cms callbridge user list --config callbridge.toml\n"
    "cms callbridge user add {user} --config callbridge.toml     # adds it, or sets its password",
)
_remedy("login-temporary", "temporary-auth-failure", "the log-in works only sometimes")
_remedy("login-unusable", "aborted", "incorrect-encoding", "malformed-request")
_remedy(
    "login-disabled",
    "account-disabled",
    "credentials-expired",
    mend="cms callbridge user enable {user} --config callbridge.toml",
)
_remedy(
    "login-slowed",
    "temporary-auth-failure: too many failed log-ins, refused for 300 s",
    "the right password is refused after many wrong ones",
    "locked out",
    mend="journalctl -u cms-callbridge --since -1hour     # who guesses",
)
_remedy("login-no-mechanism", "invalid-mechanism", "no common SASL mechanism")
_remedy(
    "login-no-starttls",
    "STARTTLS not offered",
    "the client refuses to log in without encryption",
    mend='client = ["tcp:5222"]     # xmpp.toml, [listen]',
)
_remedy(
    "login-wrong-domain",
    "host-unknown when logging in",
    "log-in fails though the link is up: XMPP domain mismatch",
    "This server does not serve the domain",
)
_remedy(
    "login-unreachable",
    "Unable to connect - try again later",
    "Connection refused on port 5222",
    mend="nc -vz <host> {port}",
)
_remedy("login-untrusted", "clients reject the certificate", "certificate warning in the client")
_remedy("login-timeout", "stuck at Connecting", "the log-in never ends")
_remedy(
    "login-broken", "back to the log-in page without any error", "connection lost in the log-in"
)

# The XMPP server's own records.

_remedy(
    "own-srv-missing",
    "No SRV record for the XMPP server",
    "Call Bridge needs a server address, because DNS names no XMPP server",
    mend="{record}. 300 IN SRV 10 10 {port} {host}.",
)
_remedy(
    "own-srv-elsewhere",
    "SRV record does not name this server",
    "Call Bridges connect to the other server only",
    mend="{record}. 300 IN SRV 10 10 {port} {host}.",
)
_remedy(
    "own-srv-port",
    "SRV record with the wrong port",
    "Connection refused: the SRV port is not the listener's",
    mend="{record}. 300 IN SRV 10 10 {right} {host}.",
)
