"""Directories that the administration makes: their file, and what becomes of them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.ldap.objects import (
    FILE,
    MAPPINGS,
    PARAMETERS,
    SERVERS,
    SOURCES,
    Objects,
    Parameters,
    StoredObjects,
    parameter_of,
    server_address,
)
from cms.callbridge.ldap.settings import LdapSettings
from cms.configuration.section import keys_of
from cms.signalflow import StepError
from tests.support import new_folder

SERVER = {
    "address": "dc1.example.com",
    "username": "cn=reader,dc=example,dc=com",
    "password": "reads-everything",
}
MAPPING = {
    "jidMapping": "$sAMAccountName$@meet.example.com",
    "nameMapping": "$displayName$",
    "pictureAttribute": "thumbnailPhoto",
}
SOURCE = {
    "server": "s1",
    "mapping": "m1",
    "baseDn": "dc=example,dc=com",
    "filter": "(cn=*)",
    "groupsBaseDn": "ou=groups,dc=example,dc=com",
    "groupsFilter": "(cn=team-*)",
    "newPasswordEnds": "false",
}
# Keys of a [[directory]] that the API has no parameter for: docs/directories.md says why.
OF_FILE = {
    *("domain", "keys_attribute", "keep_keys", "sync_interval", "most_removed"),
    *("timeout", "most_connections", "most_waiting", "idle"),
    *("sync_timeout", "page_size", "most_users"),
}


def whole(server: Parameters = SERVER, source: Parameters = SOURCE) -> Objects:
    """One source."""
    made = Objects.none().with_one(SERVERS, "s1", server).with_one(MAPPINGS, "m1", MAPPING)
    return made.with_one(SOURCES, "0123456789", source)


class ObjectTests(SynchronousTestCase):
    """The file, and the directories."""

    def setUp(self) -> None:
        """A state directory."""
        self.folder: Path = new_folder(self)
        self.stored = StoredObjects(self.folder)

    def test_nothing(self) -> None:
        """Without a file there is nothing."""
        self.assertEqual(Objects.none(), self.stored.read())
        self.assertEqual({}, self.stored.directories(self.stored.read()))

    def test_file(self) -> None:
        """What is written is read again; only its owner can read it, since it holds passwords."""
        self.stored.write(whole())
        self.assertEqual(whole(), StoredObjects(self.folder).read())
        self.assertEqual(0o600, stat.S_IMODE((self.folder / FILE).stat().st_mode))
        self.assertNotIn("reads-everything", repr(self.stored.read()))

    def test_restored(self) -> None:
        """A backup holds no file of CAs: it is made again of what it holds."""
        self.stored.write(whole({**SERVER, "trust": "-----BEGIN"}))
        (file,) = (each for each in self.folder.iterdir() if each.name != FILE)
        file.unlink()
        StoredObjects(self.folder).read()
        self.assertEqual("-----BEGIN", file.read_text())

    def test_directory(self) -> None:
        """A source is a directory like one of the configuration file."""
        (made,) = self.stored.directories(whole()).values()
        self.assertEqual("api-01234567", made.name)
        self.assertEqual(["ldaps://dc1.example.com:636"], list(map(str, made.servers)))
        self.assertEqual(SERVER["username"], made.bind_name)
        assert made.bind_password is not None
        self.assertEqual(SERVER["password"], made.bind_password.value)
        self.assertEqual(SOURCE["baseDn"], made.base)
        self.assertEqual("(cn=*)", str(made.search_filter))
        self.assertEqual(MAPPING["jidMapping"], str(made.jid))
        self.assertEqual(MAPPING["nameMapping"], str(made.shown_name))
        self.assertEqual(MAPPING["pictureAttribute"], made.picture_attribute)
        self.assertEqual(SOURCE["groupsBaseDn"], made.groups_base)
        self.assertEqual("(cn=team-*)", str(made.groups_filter))
        self.assertIs(False, made.new_password_ends)
        self.assertIsNone(made.bind_as)
        self.assertIsNone(made.trust)

    def test_defaults(self) -> None:
        """What is left out, or empty, is as in the file."""
        least = {"server": "s1", "mapping": "m1", "baseDn": "dc=x", "groupsFilter": ""}
        (made,) = self.stored.directories(whole(source=least)).values()
        self.assertEqual("(objectClass=person)", str(made.search_filter))
        self.assertEqual("", made.groups_base)
        self.assertIs(True, made.new_password_ends)

    def test_every_key(self) -> None:
        """Each key of a C{[[directory]]} can be given by the API, or the page says why not."""
        keys = {key.removesuffix("_file") for key in keys_of(LdapSettings)}
        self.assertEqual(keys - {"name"}, OF_FILE | set(PARAMETERS))
        page = (Path(__file__).parents[1] / "docs/directories.md").read_text()
        section = page.partition("\n## Made by the API\n")[2].partition("\n## ")[0]
        self.assertEqual([], [key for key in OF_FILE if f"`{key}`" not in section])

    def test_addresses(self) -> None:
        """TLS always: from the first byte, or by STARTTLS, each with its usual port."""
        for given, address in (
            ({}, "ldaps://h:636"),
            ({"secure": "true", "portNumber": "3269"}, "ldaps://h:3269"),
            ({"secure": "false"}, "ldap://h:389"),
            ({"secure": "false", "portNumber": "1389"}, "ldap://h:1389"),
        ):
            self.assertEqual(address, server_address({"address": "h", **given}))
        self.assertEqual("ldaps://[2001:db8::1]:636", server_address({"address": "2001:db8::1"}))

    def test_trust(self) -> None:
        """CAs of a server are in a file of their own, which goes with it."""
        objects = whole({**SERVER, "trust": "-----BEGIN CERTIFICATE-----"})
        self.stored.write(objects)
        (made,) = self.stored.directories(objects).values()
        assert made.trust is not None
        self.assertEqual("-----BEGIN CERTIFICATE-----", made.trust.read_text())
        self.stored.write(whole())
        self.assertFalse(made.trust.exists())

    def test_wrong(self) -> None:
        """A wrong value is blamed on its parameter, used by a source or not."""
        for kind, given, parameter in (
            (SERVERS, {"address": "no host"}, "address"),
            (SERVERS, {"address": "h", "username": "cn=x"}, "password"),
            (SERVERS, {"address": "h", "password": "x"}, "username"),
            (MAPPINGS, {"jidMapping": "$uid@d"}, "jidMapping"),
            (MAPPINGS, {"jidMapping": "$uid$@d", "nameMapping": "nobody"}, "nameMapping"),
            (MAPPINGS, {**MAPPING, "pictureAttribute": "a photo"}, "pictureAttribute"),
            (SOURCES, {"baseDn": "dc=x", "filter": "(cn=*"}, "filter"),
            (SOURCES, {"baseDn": "dc=x", "groupsFilter": "(cn=*"}, "groupsFilter"),
        ):
            problem = self.assertRaises(StepError, self.stored.check, kind, "id", given)
            self.assertEqual(parameter, parameter_of(problem), problem)
        self.stored.check(SERVERS, "id", SERVER)
        self.stored.check(MAPPINGS, "id", MAPPING)
        self.stored.check(SOURCES, "id", SOURCE)

    def test_damaged(self) -> None:
        """A file that is no such file is a fault with a cure, and never half read."""
        good = {kind: dict(whole().of(kind)) for kind in (SERVERS, MAPPINGS, SOURCES)}
        self.stored.write(whole())
        for content in (
            "",
            "[]",
            "{}",
            '{"version": 2, "objects": {}}',
            '{"version": 1, "objects": {}}',
            json.dumps({"version": 1, "objects": {**good, SERVERS: {}}}),
            json.dumps({"version": 1, "objects": {**good, MAPPINGS: {"m1": {"jidMapping": 1}}}}),
        ):
            (self.folder / FILE).write_text(content)
            problem = self.assertRaises(StepError, self.stored.read)
            self.assertIn("Remove it", f"{problem.cure} {problem.mend}")

    def test_references(self) -> None:
        """Who refers to a server and to a mapping."""
        objects = whole()
        self.assertEqual(["0123456789"], objects.sources_with(SERVERS, "s1"))
        self.assertEqual(["0123456789"], objects.sources_with(MAPPINGS, "m1"))
        self.assertEqual([], objects.sources_with(SOURCES, "0123456789"))
        self.assertEqual({}, objects.without(SOURCES, "0123456789").of(SOURCES))
