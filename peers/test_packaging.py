"""C{pip install}: the sdist, the wheel, the plugins and the script, from any directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from peers.contract import CALLBRIDGE_PLUGIN, ROOT, XMPP_PLUGIN

_NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", "__pycache__", "build", "dist", "node_modules", "*.egg-info"
)
_NOBODY = 65534


def run(*command: str | Path, cwd: Path | None = None, user: int | None = None) -> str:
    """The output of a command that must succeed, with an environment that knows no clone."""
    hidden = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    if user is not None:
        env["HOME"] = "/nonexistent"
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        user=user,
        group=user,
        extra_groups=[] if user is not None else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def everybodys_python() -> str:
    """A Python that the unprivileged user can run too (one under /root is not)."""
    for python in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        try:
            run(
                python,
                "-c",
                "import sys, venv, ensurepip; assert sys.version_info >= (3, 11)",
                cwd=Path("/"),
                user=_NOBODY if os.geteuid() == 0 else None,
            )
        except (OSError, AssertionError):
            continue
        return str(python)
    pytest.fail(
        "no Python that every user can run; run: apt-get install python3-venv", pytrace=False
    )


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory that every user can read, away from the clone."""
    made = Path(tempfile.mkdtemp(prefix="cms-packaging-", dir="/tmp"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        for folder in made.rglob("*"):
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(0o755)
        shutil.rmtree(made)


@frozen
class Built:
    """The two distributions, and the sources that they were made from."""

    sources: Path
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(directory: Path) -> Built:
    """An sdist, and a wheel made from that sdist, from a copy of the clone."""
    sources = directory / "sources"
    shutil.copytree(ROOT, sources, ignore=_NOT_SOURCES)
    out = directory / "dist"
    run(sys.executable, "-m", "build", "--outdir", out, sources)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return Built(sources, sdist, wheel)


def make_environment(directory: Path, name: str, what: Path) -> Path:
    """An empty environment with C{what} installed in it."""
    venv = directory / name
    run(everybodys_python(), "-m", "venv", venv)
    run(venv / "bin" / "pip", "install", "--quiet", what, cwd=directory)
    return venv


@pytest.fixture(scope="module")
def from_sources(directory: Path, built: Built) -> Path:
    """An environment made by C{pip install .}"""
    return make_environment(directory, "from-sources", built.sources)


def assert_works(venv: Path, cwd: Path, user: int | None = None) -> None:
    """Plugins, script and version are there, and nothing complains."""
    twistd = run(venv / "bin" / "twistd", "--help", cwd=cwd, user=user)
    for plugin in (XMPP_PLUGIN, CALLBRIDGE_PLUGIN):
        assert re.search(rf"^ +{plugin} ", twistd, re.MULTILINE), twistd
        usage = run(venv / "bin" / "twistd", plugin, "--help", cwd=cwd, user=user)
        assert "--config" in usage
        assert "Traceback" not in usage
    assert "Traceback" not in twistd
    assert re.fullmatch(
        r"cms \d+\.\d+\.\d+\S*\n", run(venv / "bin" / "cms", "--version", cwd=cwd, user=user)
    )


def test_sdist(built: Built) -> None:
    """The sdist holds what is needed to build, to read and to know one's rights."""
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "cms/py.typed"}
    assert wanted <= names
    assert "twisted/plugins/cms_plugins.py" in names


def test_wheel(built: Built) -> None:
    """The wheel holds every module of ours, the plugins, and nothing of Twisted's."""
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "cms").rglob("*.py")}
    assert modules <= names
    static = {str(path.relative_to(ROOT)) for path in (ROOT / "cms/admin/static").iterdir()}
    assert static
    assert static <= names
    assert {name for name in names if not name.startswith("cms/")} == {
        "twisted/plugins/cms_plugins.py"
    }


def test_pip_install(from_sources: Path) -> None:
    """C{pip install .} is enough, from any directory."""
    assert_works(from_sources, Path("/"))


def test_pip_install_sdist(directory: Path, built: Built) -> None:
    """So is the sdist."""
    assert_works(make_environment(directory, "from-sdist", built.sdist), Path("/"))


def test_unprivileged_user(from_sources: Path) -> None:
    """Whoever may not write to the environment, its plugin cache too, sees no complaint."""
    for cache in from_sources.rglob("dropin.cache"):
        cache.unlink()
    for folder in [from_sources, *from_sources.rglob("*")]:
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o555)
    assert_works(from_sources, Path("/"), user=_NOBODY if os.geteuid() == 0 else None)
