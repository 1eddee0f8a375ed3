"""
What is above the wire is the same over a WebSocket: its tests, with clients that come over one.

Left out is what counts the calls of TCP, and what is about STARTTLS or bytes between frames.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import (
    test_flow_control,
    test_xmpp_carbons,
    test_xmpp_client,
    test_xmpp_csi,
    test_xmpp_delivery,
    test_xmpp_resumption,
    test_xmpp_resumption_hostile,
    test_xmpp_sasl2,
)
from tests.websocketpeer import TranslatingServer

_CLASSES: dict[ModuleType, str] = {
    test_flow_control: "SlowTests",
    test_xmpp_carbons: "CopyTests EligibleTests SwitchTests",
    test_xmpp_client: "BindTests LoginTests SessionTests WaitingTests",
    test_xmpp_csi: "IndicationTests",
    test_xmpp_delivery: "DiscoTests JoinTests LanguageTests MessageTests PresenceTests"
    " RequestTests",
    test_xmpp_resumption: "CountTests EnableTests NoResumptionTests ResumeTests",
    test_xmpp_resumption_hostile: "EndTests HalfDeadTests OtherwiseTests PlacesTests StopTests"
    " UndeliveredTests",
    test_xmpp_sasl2: "BindTests ExchangeTests ResumeTests",
}


def _over_websocket(module: ModuleType, name: str, known_as: str) -> type[SynchronousTestCase]:
    """
    The tests of a class, with another server.

    @param known_as: Its name here, by which trial's processes load it.
    """
    tests: Any = getattr(module, name)

    def set_up(self: Any) -> None:
        for each in (module, test_xmpp_resumption):  # on which others build
            if hasattr(each, "Server"):
                self.patch(each, "Server", TranslatingServer)
        tests.setUp(self)

    own: dict[str, Any] = {"setUp": set_up, "__module__": __name__}
    if hasattr(tests, "test_ping_answer"):
        own["test_ping_answer"] = _ping_answer
    return type(known_as, (tests,), own)


def _ping_answer(self: Any) -> None:
    """One that answers our ping, which is a frame, stays."""
    self.server.clock.advance(60)
    self.assertEqual([], self.bob.received())
    self.assertEqual(1, self.bob.pinged)
    self.server.clock.advance(30)
    self.assertFalse(self.bob.lost)


for _module, _names in _CLASSES.items():
    _of = _module.__name__.rpartition("_")[2].capitalize()
    for _name in _names.split():
        _known_as = f"{_of}{_name}"
        globals()[_known_as] = _over_websocket(_module, _name, _known_as)
