"""The XML namespaces of the protocols that both roles speak."""

from typing import Final

STREAMS: Final = "http://etherx.jabber.org/streams"  # RFC 6120 4.8.1
CLIENT: Final = "jabber:client"  # RFC 6120 4.8.2
COMPONENT: Final = "jabber:component:accept"  # XEP-0114
STARTTLS: Final = "urn:ietf:params:xml:ns:xmpp-tls"  # RFC 6120 5
SASL: Final = "urn:ietf:params:xml:ns:xmpp-sasl"  # RFC 6120 6
FRAMING: Final = "urn:ietf:params:xml:ns:xmpp-framing"  # RFC 7395 3.3
SASL2: Final = "urn:xmpp:sasl:2"  # XEP-0388
SASL_CHANNEL_BINDING: Final = "urn:xmpp:sasl-cb:0"  # XEP-0440
BIND: Final = "urn:ietf:params:xml:ns:xmpp-bind"  # RFC 6120 7
BIND2: Final = "urn:xmpp:bind:0"  # XEP-0386
SESSION: Final = "urn:ietf:params:xml:ns:xmpp-session"  # RFC 3921 3
MANAGEMENT: Final = "urn:xmpp:sm:3"  # XEP-0198
LINK_MANAGEMENT: Final = "urn:x-cms:link-management:1"  # docs/link-management.md
STANZAS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"  # RFC 6120 8.3
STREAM_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-streams"  # RFC 6120 4.9
PING: Final = "urn:xmpp:ping"  # XEP-0199
DISCO_INFO: Final = "http://jabber.org/protocol/disco#info"  # XEP-0030
DISCO_ITEMS: Final = "http://jabber.org/protocol/disco#items"  # XEP-0030
COMMANDS: Final = "http://jabber.org/protocol/commands"  # XEP-0050
MUC: Final = "http://jabber.org/protocol/muc"  # XEP-0045
MEETING: Final = "urn:x-cms:meeting:1"  # ours: what occupants of a room see of each other
MUC_USER: Final = "http://jabber.org/protocol/muc#user"  # XEP-0045
MUC_ADMIN: Final = "http://jabber.org/protocol/muc#admin"  # XEP-0045
MUC_OWNER: Final = "http://jabber.org/protocol/muc#owner"  # XEP-0045
MUC_STABLE_ID: Final = "http://jabber.org/protocol/muc#stable_id"  # XEP-0045 15.9
MUC_SELF_PING: Final = "http://jabber.org/protocol/muc#self-ping-optimization"  # XEP-0410 4
OCCUPANT_ID: Final = "urn:xmpp:occupant-id:0"  # XEP-0421
STANZA_ID: Final = "urn:xmpp:sid:0"  # XEP-0359
DELAY: Final = "urn:xmpp:delay"  # XEP-0203
TIME: Final = "urn:xmpp:time"  # XEP-0202
VERSION: Final = "jabber:iq:version"  # XEP-0092
ROSTER: Final = "jabber:iq:roster"  # RFC 6121 2
FAULT: Final = "urn:x-cms:fault:1"  # our faults' names, as application-specific conditions
XML: Final = "http://www.w3.org/XML/1998/namespace"
