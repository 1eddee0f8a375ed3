"""
C{cms man}: manual pages and F{docs/commands.md}, from the same source as C{--help}.

The pages are man(7) source, one for each command.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

import cms
from cms.commands.common import Complaint, note
from cms.commands.configfile import SYSTEM, VARIABLE

WIDTH = 80
_STATUS = (("0", "done"), ("1", "the thing asked about is wrong"), ("2", "usage or configuration"))
_MARKDOWN = """# Commands

Made by `cms man --markdown` from what `cms COMMAND --help` prints.

A command works by the running daemon, through the socket `admin.sock` in its state
directory, or on that directory while the daemon is stopped, and says which on standard
error. `--json` prints JSON on standard output. Exit status: 0 done, 1 the thing asked
about is wrong, 2 usage or configuration.
"""


@click.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the manual pages here, such as /usr/local/share/man/man1.",
)
@click.option("--markdown", is_flag=True, help="Print docs/commands.md.")
@click.pass_context
def man(context: click.Context, directory: Path | None, markdown: bool) -> None:
    """Write the manual pages of all commands."""
    root = context.find_root().command
    if (directory is None) == (not markdown):
        raise click.UsageError("give either --directory or --markdown", context)
    if directory is None:
        click.echo(markdown_text(root), nl=False)
        return
    written = pages(root)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (directory / name).write_text(text, "utf-8")
    except OSError as problem:
        raise Complaint(f"{problem.filename}: {problem.strerror}") from None
    note(f"wrote {len(written)} pages in {directory}")


def walk(root: click.Command) -> Iterator[click.Context]:
    """Every command, as if it were called with C{--help}."""
    yield from _walk(click.Context(root, info_name="cms", terminal_width=WIDTH))


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                inner = click.Context(command, context, info_name=name, terminal_width=WIDTH)
                yield from _walk(inner)


def markdown_text(root: click.Command) -> str:
    """All commands in Markdown."""
    parts = [_MARKDOWN]
    parts += [
        f"\n## {context.command_path}\n\n```text\n{context.get_help()}\n```\n"
        for context in walk(root)
    ]
    return "".join(parts)


def pages(root: click.Command) -> dict[str, str]:
    """The text of each page, by its file name."""
    return {f"{_page(context)}.1": _roff(context) for context in walk(root)}


def _page(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _roff(context: click.Context) -> str:
    name = _page(context)
    lines = [
        f'.TH "{_quoted(name.upper())}" 1 "" "cms {_quoted(cms.__version__)}" "User Commands"',
        ".SH NAME",
        f"{_quoted(name)} \\- {_quoted(_short(context.command))}",
        ".SH SYNOPSIS",
        f"\\fB{_quoted(context.command_path)}\\fR {_usage(context)}".rstrip(),
        ".SH DESCRIPTION",
        *_description(context.command),
        *_options(context),
        *_commands(context),
        ".SH EXIT STATUS",
        *(line for status, meaning in _STATUS for line in (".TP", f"\\fB{status}\\fR", meaning)),
        ".SH ENVIRONMENT",
        ".TP",
        f"\\fB{VARIABLE}\\fR",
        "The configuration when",
        "\\fB\\-\\-config\\fR",
        "is not given: a file, or a folder with",
        "\\fIxmpp.toml\\fR and \\fIcallbridge.toml\\fR.",
        ".SH FILES",
        f"\\fI{_quoted(str(SYSTEM))}/xmpp.toml\\fR, \\fI{_quoted(str(SYSTEM))}/callbridge.toml\\fR",
        *_see_also(context),
    ]
    return "\n".join(lines) + "\n"


def _short(command: click.Command) -> str:
    return command.get_short_help_str(limit=200).rstrip(".")


def _usage(context: click.Context) -> str:
    return " ".join(_quoted(piece) for piece in context.command.collect_usage_pieces(context))


def _description(command: click.Command) -> Iterator[str]:
    for number, block in enumerate(inspect.cleandoc(command.help or "").split("\n\n")):
        if number:
            yield ".PP"
        kept = block.startswith("\b\n")
        if kept:
            yield ".nf"
        yield from (_line(line) for line in block.removeprefix("\b\n").splitlines())
        if kept:
            yield ".fi"


def _options(context: click.Context) -> Iterator[str]:
    records = [
        record
        for parameter in context.command.get_params(context)
        if (record := parameter.get_help_record(context)) is not None and record[1]
    ]
    if records:
        yield ".SH OPTIONS"
    for option, help_ in records:
        yield ".TP"
        yield f"\\fB{_quoted(option)}\\fR"
        yield _line(" ".join(help_.split())) or "\\&"


def _commands(context: click.Context) -> Iterator[str]:
    if not isinstance(context.command, click.Group):
        return
    yield ".SH COMMANDS"
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        if command is not None and not command.hidden:
            yield ".TP"
            yield f"\\fB{_quoted(f'{_page(context)}-{name}')}\\fR(1)"
            yield _line(_short(command))


def _see_also(context: click.Context) -> Iterator[str]:
    if context.parent is not None:
        yield ".SH SEE ALSO"
        yield f"\\fB{_quoted(_page(context.parent))}\\fR(1)"


def _line(text: str) -> str:
    """A line of text; none may be taken for a request."""
    quoted = _quoted(text)
    return f"\\&{quoted}" if quoted[:1] in (".", "'") else quoted


def _quoted(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
