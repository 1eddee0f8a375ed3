"""The two daemons, for twistd."""

from twisted.application.service import ServiceMaker

xmpp = ServiceMaker(
    "cms-xmpp",
    "cms.xmpp.options",
    "A meeting system's XMPP server: links to Callbridges, clients' log-ins.",
    "cms-xmpp",
)
callbridge = ServiceMaker(
    "cms-callbridge",
    "cms.callbridge.options",
    "A meeting system's Callbridge: finds the XMPP server and decides log-ins.",
    "cms-callbridge",
)
