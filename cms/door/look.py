"""What an operator makes of the pages: title, line and logo of C{[web]}."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

from cms import faults
from cms.door.settings import DoorSettings

MOST_LOGO = 256 * 1024  # bytes
_TYPES = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}


@frozen
class Look:
    """
    What is his on each page.

    @ivar title: What the service is called.
    @ivar text: A line below every page, or nothing.
    @ivar logo: An image, or nothing.
    @ivar logo_type: Its media type.
    """

    title: str = "Meetings"
    text: str = ""
    logo: bytes = field(default=b"", repr=False)
    logo_type: str = "image/png"


def read_look(settings: DoorSettings, file: Path) -> Look:
    """
    From the settings, with the logo that they name.

    @param file: Where they are from, for errors.
    @raise ConfigurationError: the logo is none.
    """
    if settings.logo is None:
        return Look(settings.title, settings.text)
    suffix = settings.logo.suffix.lower()
    if suffix not in _TYPES:
        raise _wrong(file, f"{settings.logo} is no .svg, .png, .jpg or .webp")
    return Look(settings.title, settings.text, _read(settings.logo, file), _TYPES[suffix])


def _read(path: Path, file: Path) -> bytes:
    try:
        with path.open("rb") as source:
            logo = source.read(MOST_LOGO + 1)
    except OSError as problem:
        raise _wrong(file, f"{path} cannot be read ({problem.strerror})") from None
    if not 0 < len(logo) <= MOST_LOGO:
        raise _wrong(file, f"{path} does not have 1 to {MOST_LOGO} bytes")
    return logo


def _wrong(file: Path, problem: str) -> Exception:
    mend = "Give the path of a readable picture of 256 KiB at most, or leave the logo out."
    return faults.CONFIGURATION_VALUE.error(file=file, key="web.logo", problem=problem, mend=mend)
