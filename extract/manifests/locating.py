"""Which audio files below a folder a table means."""

import collections
import os.path
from collections.abc import Callable, Sequence
from pathlib import Path

from extract.audio.finding import LocatedFile, find_audio
from extract.errors import InputError
from extract.manifest import audio_below, check_path, resolve_audio


def locate(
    names: Sequence[str],
    audio_root: str | Path,
    where: Sequence[str],
    tell: Callable[[str], None],
) -> list[str]:
    """Each file's path below the root. Raises InputError with the first that is missing and their
    number.

    tell(sentence) is called with how many names are spelt differently on this disk, and with the
    first of them.
    """
    root = Path(audio_root).resolve()
    stems: dict[str, list[str]] | None = None
    paths: list[str] = []
    missing: list[tuple[int, str]] = []
    respelt: list[str] = []
    for row, name in enumerate(names):
        check_path(name, where[row])
        try:
            full = resolve_audio(root, name)
        except InputError as error:
            raise InputError(f"{where[row]}: {error}") from None
        path = Path(name).as_posix()
        alike, hint = _alike(root, name) if not full.is_file() else (None, "")
        if alike is not None:
            path = alike.name
            respelt.append(alike.note)
        elif not full.is_file():
            stems = _audio_by_stem(root) if stems is None else stems
            found = stems.get(os.path.normpath(path), [])
            if len(found) > 1:
                raise InputError(
                    f"{where[row]}: {name!r} fits {' and '.join(found)}; write which is meant"
                )
            path = found[0] if found else path
            missing += [] if found else [(row, hint)]
        paths.append(path)
    if missing:
        row, hint = missing[0]
        hint = hint if stems else "; there is no audio at all below it"
        raise InputError(
            f"{where[row]}: no file {names[row]!r} below {audio_root}{hint} "
            f"({len(missing)} of {len(names)} clips have none)"
        )
    if respelt:
        tell(f"{len(respelt)} names are spelt otherwise on this disk; for one, {respelt[0]}")
    return paths


def _alike(root: Path, name: str) -> tuple[LocatedFile | None, str]:
    """The only file whose name is spelt a little otherwise, or what to say of the nearest."""
    try:
        found = find_audio(root, name)
    except InputError as error:
        return None, "".join(str(error).partition("; ")[1:])
    return (found, "") if found.path.is_file() else (None, "")


def _audio_by_stem(root: Path) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = collections.defaultdict(list)
    for path in sorted(audio_below(root)):
        stems[path.with_suffix("").as_posix()].append(path.as_posix())
    return stems
