"""Step 3, port: the configured server address."""

from __future__ import annotations

from cms.faults.kinds import ConfigurationError, Fault, Side
from cms.signalflow import Step

SERVER_ADDRESS_INVALID = Fault(
    "server-address-invalid",
    ConfigurationError,
    Step.PORT,
    on=Side.CALLBRIDGE | Side.CHECK | Side.COMMAND,
    symptoms=(
        "server address is not accepted",
        "IPv6 address without brackets",
    ),
    cause='The server address "{address}" cannot be read: {problem}.',
    cure="Write host, host:port, [v6] or [v6]:port, or leave it empty to use SRV.",
    mend='server_address = "xmpp1.meet.example.com:5223"\nserver_address = "[2001:db8::1]:5223"',
)
