"""Whatever a cure says to type can be typed: commands, options, records and settings."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator

import click
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.cli import main
from cms.faults.explain import filled

COMMENT = "     # "
# The options of each tool that a cure may use; peers/test_cures.py asks the tools themselves.
TOOLS = {
    "cat": "",
    "df": "-h -i",
    "dig": "+tcp",
    "dmesg": "--level",
    "file": "",
    "findmnt": "--target",
    "fuser": "-v",
    "grep": "",
    "iconv": "-f -t -o",
    "ip route get": "",
    "journalctl": "-u --since",
    "ldapsearch": "-x -ZZ -o -H -D -W -b -s -z",
    "ldapwhoami": "-x -ZZ -o -H -D -W",
    "ls": "-ld",
    "nc": "-vz",
    "nft list ruleset": "",
    "openssl crl2pkcs7": "-nocrl -certfile",
    "openssl genpkey": "-algorithm -pkeyopt -out",
    "openssl pkcs7": "-print_certs -noout",
    "openssl req": "-new -newkey -pkeyopt -nodes -keyout -out -subj -addext",
    "openssl s_client": "-connect -servername -showcerts -tls1_2",
    "openssl verify": "-purpose -CAfile -untrusted",
    "openssl x509": "-noout -dates -ext -subject -text -in -out -fingerprint -sha256 -req"
    " -copy_extensions -CA -CAkey",
    "redis-cli": "-h -p +info +time +eval +exists +del +hget +hset +hsetnx +hdel +hgetall +xadd"
    " +xgroup +xreadgroup +xtrim",
    "sed": "-i",
    "sqlite3": "",
    "ss": "-ltnp",
    "systemctl edit": "",
    "systemctl restart": "",
    "timedatectl set-ntp": "",
    "timedatectl status": "",
}
RECORD = re.compile(
    r"(_xmpp-(component|client)\._tcp\.)?[\w.-]+\. 300 IN (SRV [\dx]+ [\dx]+ [\dx]+ |A )\S+"
)
SETTING = re.compile(r"(keyUsage|extendedKeyUsage|basicConstraints) = ")  # of openssl.cnf
NGINX = re.compile(r"(map|location|proxy_\w+) .*[;{}]|}")  # peers/test_cures.py asks it
OTHER = (
    "; remove this record: x.",
    "server xmpp1 127.0.0.1:5222 send-proxy-v2",
    'olcLimits: dn.exact="x" size.prtotal=unlimited',
    "olcTLSCertificateFile: /etc/ldap/server.crt",
    "olcTLSCertificateKeyFile: /etc/ldap/server.key",
)


def lines() -> Iterator[tuple[str, str]]:
    """Each line to copy, with a word in place of what is to be filled in, without its comment."""
    for name, fault in faults.CATALOGUE.items():
        for line in filled(fault.mend).splitlines():
            said = re.sub(r"<[^<>]*(<[^<>]*>)?>(?!>)", "x", line.partition(COMMENT)[0])
            if said and not said.startswith("#"):
                yield name, said.strip()


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """
    The command that is meant, and what follows its name.

    @raise LookupError: there is none.
    """
    command: click.Command = main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    if isinstance(command, click.Group) and not command.invoke_without_command:
        raise LookupError(words)
    return command, words


class LineTests(SynchronousTestCase):
    """What is printed to be copied."""

    def test_commands(self) -> None:
        """Ours: command, options, and as many arguments as it takes."""
        seen = 0
        for name, line in lines():
            if line.startswith("cms "):
                command, words = command_of(shlex.split(line)[1:])
                context = click.Context(command, info_name=name)
                values, rest, _ = command.make_parser(context).parse_args(list(words))
                self.assertEqual([], rest, line)
                for parameter in command.params:
                    if isinstance(parameter, click.Argument) and parameter.required:
                        self.assertIsInstance(values[parameter.name or ""], str, line)
                seen += 1
        self.assertGreater(seen, 12)

    def test_tools(self) -> None:
        """Those of others: nothing but what is known of them, and no key is overwritten."""
        seen = set()
        for name, line in lines():
            for part in re.split(r" \| | && ", line):
                tool = next((t for t in TOOLS if f"{part} ".startswith(f"{t} ")), None)
                if tool is None:
                    continue
                options = {w for w in shlex.split(part) if re.match(r"[-+]\w*[a-zA-Z]", w)}
                options = {o.partition("=")[0] for o in options if not re.match(r"-1\w+", o)}
                self.assertEqual(set(), options - set(TOOLS[tool].split()), (name, part))
                self.assertNotRegex(part, r"-(keyout|out) (xmpp|cb1)\.", name)
                seen.add(tool)
        self.assertEqual(set(TOOLS), seen)

    def test_each_is_known(self) -> None:
        """A line is a command, a record, or settings that can be read; nothing else."""
        for name in faults.CATALOGUE:
            settings = []
            for line in (line for named, line in lines() if named == name):
                tool = any(line.startswith(f"{t} ") or line == t for t in (*TOOLS, "cms"))
                known = RECORD.fullmatch(line) or SETTING.match(line) or NGINX.fullmatch(line)
                if tool or known or line in OTHER:
                    continue
                settings.append(line)
            text = "\n".join({line.partition(" = ")[0]: line for line in settings}.values())
            tomllib.loads(text)

    def test_prose(self) -> None:
        """A command in a sentence is one, too, with the options that follow it."""
        texts = [f"{fault.cause} {fault.cure}" for fault in faults.CATALOGUE.values()]
        texts += [*faults.STREAM_ADVICE.values(), *faults.LOGIN_ADVICE.values()]
        seen = 0
        for text in texts:
            for found in re.finditer(r"\bcms ((?:[a-z-]+[ ,.;:)]+)+)", text):
                words = re.split(r"[ ,.;:)]+", found[1])
                if words[0] not in main.commands:
                    self.assertIn(words[0], ("itself",), text)
                    continue
                command_of(words)
                seen += 1
        self.assertGreater(seen, 12)

    def test_secrets_are_shown(self) -> None:
        """The list of Callbridges hides secrets, so whoever is to compare one asks for them."""
        for name in ("wrong-secret", "peer-wrong-secret", "link-secret-expired"):
            self.assertIn("callbridge list --show-secrets", faults.CATALOGUE[name].mend)


class RefusedTests(SynchronousTestCase):
    """Step 12 in the records of both sides."""

    def test_each(self) -> None:
        """Who is disabled or locked out is not sent to look at his password."""
        for condition, said in (
            ("not-authorized", "cms log --user on the Callbridge's host says which is wrong"),
            ("account-disabled", "cms callbridge user enable"),
            ("credentials-expired", "cms callbridge user passwd"),
            ("temporary-auth-failure", "after too many wrong passwords"),
            ("aborted", "Callbridge's log for this time"),
        ):
            error = faults.login_refused("cb1.example.com", condition)
            self.assertIn(said, error.cure)
            self.assertEqual(condition, error.evidence["condition"])


class QuotingTests(SynchronousTestCase):
    """What a peer chose stands in lines that people copy."""

    def test_shell(self) -> None:
        """It is one word, whatever it is."""
        for component in ("cb1.example.com; rm -rf /", "$(reboot)", "`id`.example.com", "a 'b'"):
            error = faults.PEER_UNKNOWN_ID.error(peer="p", component=component)
            words = ["cms", "xmpp", "callbridge", "add", component]
            self.assertEqual(words, shlex.split(error.mend))
        file = "/etc/my cms/xmpp.toml"
        error = faults.CONFIGURATION_OF_XMPP_SERVER.error(file=file)
        self.assertEqual(file, shlex.split(error.mend)[-1])

    def test_elsewhere(self) -> None:
        """Within quotes, in settings and in records it is left to be filled in."""
        error = faults.PEER_OTHER_DOMAIN.error(peer="p", component="c", domain='x"\n[tls]')
        self.assertTrue(error.mend.startswith('domain = "<domain>"'), error.mend)
        seen = {"peer": "p", "missing": "m", "names": "n", "wanted": "w"}
        error = faults.IDENTITY_DOMAIN_MISSING.error(domain="$(reboot)", san="DNS:a,DNS:b", **seen)
        self.assertIn('-subj "/CN=<domain>"', error.mend)
        self.assertIn('"subjectAltName=DNS:a,DNS:b"', error.mend)

    def test_plain(self) -> None:
        """Names, addresses and paths are as they are."""
        for peer in ("xmpp1.example.com:5223", "[2001:db8::1]:5223", "192.0.2.1:5223"):
            error = faults.TLS_SILENT.error(peer=peer, seconds="1")
            self.assertEqual(f"openssl s_client -connect {peer} -showcerts </dev/null", error.mend)
