"""The units under a real systemd, as docs/operate.md types it: two servers on one port."""

from __future__ import annotations

import pytest

from peers.operating import block
from peers.processes import Processes, logged_errors
from peers.systemdhost import SystemdHost
from peers.tools import require

PASSWORD = "a pass word"
FILES = """
cp -r /opt/cms/source/examples/. /opt/cms/source/systemd .
sed -i 's#"state-#"/var/lib/cms-#; s#"cb1.secret"$#"callbridge.secret"#' *.toml
"""
SECRET = "/etc/cms/callbridge.secret"
CLUSTER = """
systemd-run --quiet --unit=redis redis-server --save ''
sed -i 's#"tcp:8445:#"tcp:844%i:#' /etc/cms/xmpp.toml
printf '\\n[cluster]\\nengine = "redis://localhost/0"\\n' >>/etc/cms/xmpp.toml
mkdir -p /etc/sysctl.d
"""
UNITS = ("cms-xmpp@1", "cms-xmpp@2", "cms-callbridge")


class Operator:
    """Who types it."""

    def __init__(self, host: SystemdHost) -> None:
        self.types = host.types

    def asks(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.types(f"systemctl show --property={name} --value {unit}").strip()

    def waits(self, unit: str, name: str, pattern: str) -> None:
        """Until a property has another value."""
        shown = f"systemctl show --property={name} --value {unit}"
        self.types(f"until {shown} | grep -q '{pattern}'; do sleep 0.1; done")

    def logs_in(self) -> None:
        """As alice.  What a killed server's Callbridge was to decide fails, and is tried again."""
        login = "cms login alice@meet.example.com --server localhost:5222 --password-stdin"
        tried = f"until echo {PASSWORD!r} | {login} --trust ca.pem; do sleep 0.5; done"
        assert "Logged in" in self.types(tried)


@pytest.fixture
def operator(processes: Processes) -> Operator:
    """On a host that runs a server and a Callbridge as in the first half of the page."""
    require("redis-server", "redis-server")
    operator = Operator(SystemdHost(processes))
    operator.types(FILES + block("trial"))
    operator.types(block("units"))
    operator.types(f"install -m 640 -g cms-callbridge cb1.secret {SECRET}")
    operator.types(block("units-callbridge").replace("cb1.key cb1.secret", "cb1.key"))
    add = block("user").strip()
    added = f"{add} --password-stdin --config /etc/cms/callbridge.toml"
    assert "added" in operator.types(added, answer=PASSWORD)
    return operator


def test_life(operator: Operator) -> None:
    """
    A sandbox that hinders nothing; then two servers instead of one, with its contacts and
    Callbridges.  Each serves alone; what is killed comes back, what is stopped is gone at once.
    """
    operator.waits("cms-callbridge", "StatusText", "^step 11 active")
    operator.types("cms xmpp callbridge add cb2 --config /etc/cms/xmpp.toml")
    operator.types(CLUSTER + block("instances"))
    listed = "cms xmpp --instance 2 callbridge list --config /etc/cms/xmpp.toml"
    assert "cb2" in operator.types(listed)
    # Signals reach the daemon itself, and it answers as Type=notify has it.
    main = {unit: operator.asks(unit, "MainPID") for unit in UNITS}
    for unit in UNITS:
        operator.types(f"systemctl reload {unit}")
        assert operator.asks(unit, "MainPID") == main[unit]
        assert "were read again" in operator.types(f"journalctl --unit={unit} --output=cat")
        assert operator.asks(unit, "WatchdogUSec") == "30s"
    operator.types("systemctl kill --signal=KILL cms-xmpp@1")
    operator.logs_in()  # at the other
    operator.waits("cms-xmpp@1", "NRestarts", "^1$")
    operator.waits("cms-xmpp@1", "ActiveState", "^active$")
    operator.types("systemctl stop cms-xmpp@2")
    assert operator.asks("cms-xmpp@2", "Result") == "success"
    operator.logs_in()  # at the one that came back
    operator.types("systemctl stop cms-xmpp@1 cms-callbridge")
    for unit in UNITS:
        said = operator.types(f"journalctl --unit={unit} --output=cat")
        assert "may have" in said
        assert logged_errors(said) == []
