"""The file that a manifest's path means, where its name is spelt in another way on this disk.

Archives, file systems and spreadsheets change names: Unicode composed (NFC) or decomposed (NFD),
`.WAV` for `.wav`, backslashes, `_` for a colon.
"""

import difflib
import functools
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from extract.errors import InputError
from extract.manifest import check_inside, resolve_audio


class LocatedFile(NamedTuple):
    """path: a Path, or a Place of `extract.audio.remote`. note: how the name differs from the one
    that was asked for, or empty. name: that of the file, relative to the root.
    """

    path: Any
    name: str
    note: str = ""


def find_audio(audio_root: str | Path, path: str) -> LocatedFile:
    """The file of a manifest path, or the only one whose name differs from it by spelling.

    Raises InputError if the path leads out of audio_root, if there is no such file (naming the
    nearest), or if several could be meant.
    """
    full = resolve_audio(audio_root, path)
    if os.path.lexists(full):
        return LocatedFile(full, path)
    root = place = Path(audio_root).resolve()
    for part in check_inside(audio_root, path.replace("\\", "/")).parts:
        if not os.path.lexists(place / part):
            part = alike(_names(place, place.stat().st_mtime_ns) if place.is_dir() else (), part)
        place = place / part
    found = place.relative_to(root).as_posix()
    return LocatedFile(place, found, note_of(found, path))


def note_of(found: str, path: str) -> str:
    """What is said of a file whose name is spelt in another way."""
    return f"its file is named {found!r}, not {path!r}"


def alike(names: Sequence[str], name: str) -> str:
    """The only one of a folder's names that means `name`. Raises InputError."""
    meant = [other for other in names if _spelling(other) == _spelling(name)]
    if len(meant) > 1:
        raise InputError(
            f"No such file or directory: {name!r} is not there, and may be {meant[0]!r} or "
            f"{meant[1]!r}; rename one"
        )
    if not meant:
        folded = {_folded(other): other for other in names}
        nearest = difflib.get_close_matches(_folded(name), folded, n=1, cutoff=0.5)
        hint = f"; the nearest name there is {folded[nearest[0]]!r}" if nearest else ""
        raise InputError(f"No such file or directory: {name[:80]!r}{hint}")
    return meant[0]


@functools.lru_cache(maxsize=256)
def _names(folder: Path, mtime_ns: int) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir()))


def _spelling(name: str) -> str:
    """Equal for names that mean one file."""
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace(":", "_"))
    return path.stem + path.suffix.lower()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
