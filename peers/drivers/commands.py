"""
C{cms}, many times side by side, with one look at its modules: each command is a fork.

A line of standard input has a JSON list of folders and command lines; the answer is a list of what
became of each.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
import tempfile
import time
from typing import IO, Any

import cms.commands


def begin(folder: str, arguments: list[str]) -> tuple[int, list[IO[bytes]]]:
    """Start one."""
    files: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in "oe"]  # noqa: SIM115
    child = os.fork()
    if child:
        return child, files
    status = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, file in enumerate(files, 1):
            os.dup2(file.fileno(), number)
        os.chdir(folder)
        sys.argv = ["cms", *arguments]
        importlib.import_module("cms.cli").main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - it is told, and the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(commands: list[tuple[str, list[str]]]) -> list[dict[str, Any]]:
    """All of them."""
    began = time.monotonic()
    running = {}
    for number, (folder, arguments) in enumerate(commands):
        child, files = begin(folder, arguments)
        running[child] = number, files
    ended: dict[int, dict[str, Any]] = {}
    while running:
        child, status = os.wait()
        number, files = running.pop(child)
        texts = []
        for file in files:
            file.seek(0)
            texts.append(file.read().decode())
        seconds = time.monotonic() - began
        code = os.waitstatus_to_exitcode(status)
        ended[number] = {"status": code, "out": texts[0], "err": texts[1], "seconds": seconds}
    return [ended[number] for number in range(len(commands))]


if __name__ == "__main__":
    for module in pkgutil.iter_modules(cms.commands.__path__, "cms.commands."):
        if module.name != "cms.commands.demo":
            importlib.import_module(module.name)
    importlib.import_module("cms.cli")
    assert "twisted.internet.reactor" not in sys.modules
    json.dump(run(json.loads(sys.stdin.readline())), sys.stdout)
