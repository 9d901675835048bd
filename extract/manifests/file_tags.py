"""Tags that stand in the audio files themselves, read with mutagen.

genre     ID3 TCON, Vorbis GENRE, MP4 ©gen, APEv2 Genre, ASF WM/Genre
grouping  ID3 TIT1 and iTunes' GRP1, Vorbis GROUPING, MP4 ©grp, APEv2 Grouping,
          ASF WM/ContentGroupDescription
txxx      a field of one's own, by default named TAGS: ID3 TXXX:TAGS, Vorbis and APEv2 TAGS,
          MP4 ----:com.apple.iTunes:TAGS, ASF TAGS; `txxx:MOOD` reads the field MOOD
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from extract.errors import InputError

FIELDS = ("genre", "grouping", "txxx")
OWN_FIELD = "TAGS"  # what txxx reads
_ID3 = {"genre": ("TCON",), "grouping": ("TIT1", "GRP1")}
_OTHERS = {
    "genre": ("genre", "\xa9gen", "WM/Genre"),
    "grouping": ("grouping", "\xa9grp", "WM/ContentGroupDescription"),
}
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # of lists in one value


def check_field(field: str) -> None:
    """Raise InputError unless the field is one of FIELDS or `txxx:NAME`, and mutagen is there."""
    kind, _, name = field.partition(":")
    if kind not in FIELDS or (name and kind != "txxx"):
        raise InputError(
            f"--tags_from={field}: give genre, grouping, txxx (the field {OWN_FIELD}) or txxx:NAME"
        )
    try:
        import mutagen  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--tags_from={field}: {error}; reading tags of files needs: "
            "pip install 'fsprobe[extract]'"
        ) from None


def file_tags(path: str | Path, field: str) -> list[str]:
    """The values of the field in this file, as they are written; none if it has no such field.

    Raises InputError if the file is of no kind that mutagen knows, or damaged.
    """
    import mutagen

    try:
        file = mutagen.File(path)
    except (mutagen.MutagenError, OSError) as error:
        raise InputError(f"{path}: its tags cannot be read ({error})") from None
    if file is None:
        raise InputError(f"{path}: its tags cannot be read (no kind of file that mutagen knows)")
    kind, _, name = field.partition(":")
    values = [] if file.tags is None else list(_values(file.tags, kind, name or OWN_FIELD))
    parts = [part.strip() for value in values for part in _BREAKS.split(value)]
    return [part for part in dict.fromkeys(parts) if part]


def _values(tags: Any, kind: str, name: str) -> Iterable[str]:
    """The text of every value, of whatever kind the file's tags are."""
    if hasattr(tags, "getall"):  # ID3
        if kind == "txxx":
            own = [frame for frame in tags.getall("TXXX") if frame.desc.lower() == name.lower()]
            return [str(text) for frame in own for text in frame.text]
        frames = [frame for key in _ID3[kind] for frame in tags.getall(key)]
        return [str(text) for frame in frames for text in getattr(frame, "genres", frame.text)]
    wanted = _OTHERS.get(kind, (name, f"----:com.apple.iTunes:{name}"))
    found = {key.lower() for key in wanted}
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for key in tags.keys()  # noqa: SIM118 - a VComment iterates over pairs
        if key.lower() in found
        for value in ([tags[key]] if isinstance(tags[key], str | bytes) else tags[key])
    ]
