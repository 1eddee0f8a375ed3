"""Tests against real peers: BIND, Prosody, ejabberd and other people's XMPP programs."""
