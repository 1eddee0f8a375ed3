"""
Directories that the administration made: servers, mappings, and sources that join them.

They are in a file of their own in the state directory (mode 0600, for it holds passwords),
which is replaced atomically.  Each source becomes a directory, as if it stood in
F{callbridge.toml} after those that do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from cms import faults
from cms.callbridge.ldap.settings import LDAP_PORT, LDAPS_PORT, LdapSettings
from cms.configuration.section import read_section
from cms.configuration.tomlfile import Place
from cms.signalflow import StepError
from cms.state.atomicfile import replace_file, sweep
from cms.state.folder import explain_os

FILE = "configuration-ldap.json"
TRUST = "ldap-trust-{}.pem"  # CAs of a server
SERVERS, MAPPINGS, SOURCES = KINDS = ("ldapServers", "ldapMappings", "ldapSources")
# By kind: keys of a [[directory]], and the parameters of the API that they come from as they are.
_KEYS: Mapping[str, Mapping[str, str]] = {
    SERVERS: {"bind_name": "username", "bind_password": "password"},
    MAPPINGS: {
        "jidMapping": "jidMapping",
        "nameMapping": "nameMapping",
        "authenticationMapping": "authenticationMapping",
        "picture_attribute": "pictureAttribute",
    },
    SOURCES: {
        "base": "baseDn",
        "filter": "filter",
        "groups_base": "groupsBaseDn",
        "groups_filter": "groupsFilter",
        "new_password_ends": "newPasswordEnds",
    },
}
# All of them.
PARAMETERS = {
    "servers": "address",
    "trust": "trust",
    **{key: parameter for keys in _KEYS.values() for key, parameter in keys.items()},
}
TRUTHS = ("secure", "newPasswordEnds")  # parameters that are "true" or "false"

Parameters = Mapping[str, str]
# Beside which the parameters of one object are read.
_ANY: Mapping[str, Parameters] = {
    SERVERS: {"address": "ldap.example.com"},
    MAPPINGS: {"jidMapping": "$uid$@example.com"},
    SOURCES: {"baseDn": "dc=example,dc=com"},
}


@frozen
class Objects:
    """
    What was made.

    @ivar kinds: By kind and by id, the parameters of each as the API has them.
    """

    kinds: Mapping[str, Mapping[str, Parameters]] = field(repr=False)

    @classmethod
    def none(cls) -> Objects:
        """Nothing."""
        return cls({kind: {} for kind in KINDS})

    def of(self, kind: str) -> Mapping[str, Parameters]:
        """Those of a kind by id."""
        return self.kinds[kind]

    def with_one(self, kind: str, id_: str, parameters: Parameters) -> Objects:
        """With a new one, or another in place of it."""
        return Objects({**self.kinds, kind: {**self.kinds[kind], id_: dict(parameters)}})

    def without(self, kind: str, id_: str) -> Objects:
        """Without it."""
        left = {key: value for key, value in self.kinds[kind].items() if key != id_}
        return Objects({**self.kinds, kind: left})

    def sources_with(self, kind: str, id_: str) -> list[str]:
        """The ids of the sources that refer to a server or a mapping."""
        key = {SERVERS: "server", MAPPINGS: "mapping"}.get(kind, "")
        return [source for source, given in self.of(SOURCES).items() if given.get(key) == id_]


class StoredObjects:
    """
    Their file.

    @ivar path: Where it is.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE

    def read(self) -> Objects:
        """
        What is stored; nothing when there is no file.

        @raise ConfigurationError: it is damaged.
        """
        try:
            plain = json.loads(self.path.read_bytes())
            if plain["version"] == 1 and _is_whole(plain["objects"]):
                found = Objects(plain["objects"])
                self._lay_out(found)
                return found
        except (FileNotFoundError, NotADirectoryError):
            return Objects.none()
        except OSError as problem:
            raise explain_os(self.path, problem) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        raise faults.CONFIGURATION_VALUE.error(
            file=self.path,
            key="objects",
            problem="it holds no directories of this version",
            mend="Remove it: then those of the configuration file stay, and others can be made.",
        )

    def write(self, objects: Objects) -> None:
        """
        Store them in place of those that are there.

        @raise OSError: the old ones are still there.
        """
        needed = self._lay_out(objects)
        content = json.dumps({"version": 1, "objects": objects.kinds})
        replace_file(self.path, content.encode())
        for file in self.path.parent.glob(TRUST.format("*")):
            if file not in needed:
                file.unlink(missing_ok=True)

    def _lay_out(self, objects: Objects) -> Collection[Path]:
        """The CAs' files, which a backup does not hold, for they are made of what it holds."""
        servers = objects.of(SERVERS)
        needed = {self._trust(each): each["trust"] for each in servers.values() if _has_trust(each)}
        for file, text in needed.items():
            if not file.exists():
                replace_file(file, text.encode())
        return needed.keys()

    def sweep(self) -> None:
        """Remove what a crash has left beside it."""
        sweep(self.path)

    def _trust(self, server: Parameters) -> Path:
        # Named by what it holds: a file in use never changes.
        digest = hashlib.sha256(server["trust"].encode()).hexdigest()
        return self.path.with_name(TRUST.format(digest[:32]))

    def directories(self, objects: Objects) -> dict[str, LdapSettings]:
        """
        A directory for each source, by its id.

        @raise ConfigurationError: a value is wrong; its evidence names the key.
        """
        return {
            id_: self._directory(
                *(id_, source),
                objects.of(SERVERS)[source["server"]],
                objects.of(MAPPINGS)[source["mapping"]],
            )
            for id_, source in objects.of(SOURCES).items()
        }

    def check(self, kind: str, id_: str, parameters: Parameters) -> None:
        """
        Whether one can be used, though no source refers to it yet.

        @raise ConfigurationError: a value is wrong; its evidence names the key.
        """
        source, server, mapping = _ANY[SOURCES], _ANY[SERVERS], _ANY[MAPPINGS]
        if kind == SERVERS:
            server = parameters
        elif kind == MAPPINGS:
            mapping = parameters
        else:
            source = parameters
        self._directory(id_, source, server, mapping)

    def _directory(
        self, id_: str, source: Parameters, server: Parameters, mapping: Parameters
    ) -> LdapSettings:
        values: dict[str, Any] = {
            "name": name_of(id_),
            "servers": [server_address(server)],
            **_given(SERVERS, server),
            **_given(SOURCES, source),
            **_given(MAPPINGS, mapping),
        }
        if _has_trust(server):
            values["trust"] = str(self._trust(server))
        place = Place(self.path)
        settings = read_section(LdapSettings, values, place)
        wrong = settings.problem()
        if wrong is not None:
            key, problem, mend = wrong
            raise place.inner(key).wrong(problem, mend)
        return settings


def _has_trust(server: Parameters) -> bool:
    return bool(server.get("trust"))


def _given(kind: str, parameters: Parameters) -> dict[str, Any]:
    """Those that are not empty, by the keys of a C{[[directory]]}."""
    return {
        key: parameters[name] == "true" if name in TRUTHS else parameters[name]
        for key, name in _KEYS[kind].items()
        if parameters.get(name)
    }


def _is_whole(plain: Any) -> bool:
    """Whether it has the shape of L{Objects.kinds}, and refers to nothing that is not there."""
    every = [given for kind in KINDS for given in plain[kind].values()]
    return all(isinstance(value, str) for given in every for value in given.values()) and all(
        source["server"] in plain[SERVERS] and source["mapping"] in plain[MAPPINGS]
        for source in plain[SOURCES].values()
    )


def name_of(source: str) -> str:
    """The name of the directory that a source is, for logs and commands."""
    return f"api-{source[:8]}"


def server_address(server: Parameters) -> str:
    """As a C{[[directory]]} has it; nothing is ever asked without TLS."""
    secure = server.get("secure", "true") == "true"
    host = server["address"]
    port = server.get("portNumber") or (LDAPS_PORT if secure else LDAP_PORT)
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'ldaps' if secure else 'ldap'}://{bracketed}:{port}"


def parameter_of(error: StepError) -> str | None:
    """The parameter of the API whose value is wrong, if it is one's."""
    key = error.evidence.get("key", "").partition("[")[0].removesuffix("_file")
    return PARAMETERS.get(key)
