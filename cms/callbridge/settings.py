"""
Step 2 while the daemon runs: settings changed by API or page.

They are in a file of their own in the state directory and override F{callbridge.toml}.
The file is replaced atomically.  After a crash it holds the settings acknowledged last,
or those that were being stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from attrs import evolve

from cms import faults
from cms.callbridge.config import CallbridgeConfig, LinkSettings, read_config
from cms.configuration.section import read_section
from cms.configuration.tomlfile import Place
from cms.signalflow import StepError
from cms.state.atomicfile import remove_file, replace_file, sweep
from cms.state.folder import explain_os

FILE = "configuration-xmpp.json"
# The API's names, and the file's.
KEYS = {
    "uniqueName": "unique_name",
    "domain": "domain",
    "sharedSecret": "shared_secret",
    "serverAddressOverride": "server_address",
}
PARAMETERS = {key: parameter for parameter, key in KEYS.items()}


class StoredSettings:
    """
    What the administration has changed, of one configuration file.

    @ivar path: Where it is stored.
    @param base: The configuration as the file has it.
    """

    def __init__(self, base: CallbridgeConfig) -> None:
        self._base = base
        self.path = base.state_dir / FILE

    def read(self) -> dict[str, str]:
        """
        The settings, by the API's names; none when nothing was changed.

        @raise ConfigurationError: the file is damaged.
        """
        try:
            plain = json.loads(self.path.read_bytes())
            changed = plain["settings"]
            readable = plain["version"] == 1 and changed.keys() <= KEYS.keys()
            if readable and all(isinstance(value, str) for value in changed.values()):
                return dict(changed)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as problem:
            raise explain_os(self.path, problem) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        raise self._damaged("it holds no settings of this version")

    def _damaged(self, problem: str) -> StepError:
        return faults.CONFIGURATION_VALUE.error(
            file=self.path,
            key="settings",
            problem=problem,
            mend="Remove it: then the configuration file decides, and they can be set again.",
        )

    def write(self, changed: Mapping[str, str]) -> None:
        """
        Store settings in place of those that are there.

        @raise OSError: the old ones are still there.
        """
        content = json.dumps({"version": 1, "settings": dict(changed)})
        replace_file(self.path, content.encode())

    def clear(self) -> None:
        """
        Store that nothing is changed.

        @raise OSError: the old ones may still be there.
        """
        remove_file(self.path)

    def applied(self, changed: Mapping[str, str]) -> CallbridgeConfig:
        """
        The configuration with these changes.

        C{component_address} of the file holds as long as unique name and domain
        are those of the file.

        @raise ConfigurationError: a value is wrong; its evidence names the key.
        """
        if not changed:
            return self._base
        base = self._base
        values: dict[str, object] = {
            "unique_name": base.unique_name,
            "domain": base.link.domain,
            "shared_secret": base.link.secret.value,
            "server_address": str(base.link.server or ""),
        }
        values.update((KEYS[name], value) for name, value in changed.items())
        link = read_section(
            LinkSettings, values, Place(self.path), unprotected=base.link.unprotected
        )
        if (link.unique_name, link.domain) == (base.unique_name, base.link.domain):
            link = evolve(link, component=base.link.component)
        return evolve(base, link=link, source="api")

    def sweep(self) -> None:
        """Remove what a crash has left beside it."""
        sweep(self.path)

    def current(self) -> CallbridgeConfig:
        """
        The configuration with the changes that are stored.

        @raise ConfigurationError: they are damaged, or wrong.
        """
        return self.applied(self.read())


def current_config(file: Path) -> CallbridgeConfig:
    """
    F{callbridge.toml} with what the administration has changed.  The state directory is
    not touched: a daemon may be running on it.

    @raise ConfigurationError: either is wrong.
    """
    return StoredSettings(read_config(file)).current()
