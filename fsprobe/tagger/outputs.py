"""Tags as files: CSV, JSON lines, a playlist per tag, Audacity labels per audio file.

A tag may hold anything: quotes, line breaks, HTML, parts of a path. CSV and JSON quote it; where a
format has no quoting (M3U8, Audacity), blanks stand for line breaks and tabs; a file is never named
by a tag as it is (`file_name`).
"""

import collections
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from extract.files import atomic_write
from extract.manifest import Manifest
from fsprobe.tagger.tagging import Items

_ROWS = 100_000  # formatted at a time
SIGNED = re.compile(r"\+*-")  # how a tag begins that an Audacity label writes with one `+` more
_LONGEST = 80  # bytes of a file name, its ending aside
# names that Windows gives to devices
_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{kind}{i}" for kind in ("com", "lpt") for i in range(10)))
)


@dataclass(frozen=True, eq=False)
class Tagged:
    """What was found. names `[item]`, tags `[tag]`; records: RECORD of tagging, items in order.

    kind: the CSV's first column, `clip_id` or `track`.
    """

    names: Sequence[str]
    tags: Sequence[str]
    records: np.ndarray
    kind: str = "clip_id"


@dataclass(frozen=True)
class Place:
    """Where an item's sound is. start, duration: seconds, None for the whole file."""

    path: str
    start: float | None = None
    duration: float | None = None


def clip_places(manifest: Manifest) -> dict[str, Place]:
    """clip_id → where its sound is, for clips that have a path; one spelling of each path."""
    count = len(manifest)
    starts, durations = (
        column or (None,) * count for column in (manifest.starts, manifest.durations)
    )
    return {
        clip: Place(os.path.normpath(path), starts[row], durations[row])
        for row, (clip, path) in enumerate(zip(manifest.clip_ids, manifest.paths, strict=True))
        if path
    }


def places_of(items: Items, clip_ids: Sequence[str], manifest: Manifest) -> list[list[Place]]:
    """Where each item's clips are, by the manifest. clip_ids: of the first store's rows."""
    known = clip_places(manifest)
    found, start = [], 0
    for end in items.ends.tolist():
        clips = [clip_ids[row] for row in items.rows[0][start:end].tolist()]
        found.append([known[clip] for clip in clips if clip in known])
        start = end
    return found


def tags_by_file(tagged: Tagged, places: Sequence[Sequence[Place]]) -> dict[str, list[str]]:
    """Path → the tags of all clips of the file, each once, in the order found."""
    found: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for item, tag, _ in tagged.records.tolist():
        for place in places[item]:
            found[place.path][tagged.tags[tag]] = None
    return {path: list(tags) for path, tags in found.items()}


def write_csv(path: Path, tagged: Tagged) -> None:
    """`clip_id,tag,probability` (or `track,…`), RFC 4180, six decimals."""
    names, tags = _quoted(tagged.names), _quoted(tagged.tags)
    with atomic_write(path) as file:
        file.write(f"{tagged.kind},tag,probability\n")
        for rows in _chunks(tagged.records, path.name):
            file.write("".join([f"{names[i]},{tags[t]},{p:.6f}\n" for i, t, p in rows]))


def write_jsonl(path: Path, tagged: Tagged) -> None:
    """A line per item, tagged or not: {"clip_id": …, "tags": [{"tag": …, "probability": …}, …]}."""
    names, tags = (
        [json.dumps(text, ensure_ascii=False) for text in texts]
        for texts in (tagged.names, tagged.tags)
    )
    ends = np.searchsorted(tagged.records["item"], np.arange(len(names)), side="right")
    with atomic_write(path) as file:
        start = 0
        for item, end in enumerate(
            tqdm(ends.tolist(), desc=path.name, dynamic_ncols=True, delay=2)
        ):
            found = tagged.records[start:end]
            pairs = zip(found["tag"].tolist(), found["probability"].tolist(), strict=True)
            listed = ", ".join(f'{{"tag": {tags[t]}, "probability": {p:.6f}}}' for t, p in pairs)
            file.write(f'{{"{tagged.kind}": {names[item]}, "tags": [{listed}]}}\n')
            start = end


def write_playlists(
    folder: Path, tagged: Tagged, places: Sequence[Place | None], audio_root: Path | None
) -> list[Path]:
    """An M3U8 per tag that was given, the most probable first; the files written.

    places: of each item, None where it has no audio. Paths are relative to the playlist where
    audio_root is known, else as the manifest has them. A file stands once per list.
    """
    by_tag = collections.defaultdict(list)
    for rows in _chunks(tagged.records, "playlists"):
        for item, tag, probability in rows:
            by_tag[tag].append((-probability, item))
    written = []
    for tag, entries in by_tag.items():
        listed = [(tagged.names[item], places[item]) for _, item in sorted(entries)]
        written.append(folder / file_name(tagged.tags[tag], ".m3u8"))
        write_playlist(written[-1], tagged.tags[tag], listed, audio_root)
    return written


def write_playlist(
    path: Path, title: str, entries: Sequence[tuple[str, Place | None]], audio_root: Path | None
) -> None:
    """An M3U8 of (name, where its sound is), in order; a file stands once, what has no sound is
    left out. Paths as in `write_playlists`.
    """
    lines = ["#EXTM3U", f"#PLAYLIST:{one_line(title)}"]
    seen = set()
    for name, place in entries:
        if place and place.path not in seen:
            seen.add(place.path)
            where = place.path
            if audio_root:
                where = os.path.relpath(audio_root.absolute() / where, path.parent.absolute())
            # a name that begins with '#' would be a comment
            where = f"./{where}" if where.startswith("#") else where
            lines += [f"#EXTINF:-1,{one_line(name)}", where]
    with atomic_write(path) as file:
        file.write("\n".join(lines) + "\n")


def write_labels(folder: Path, tagged: Tagged, places: Sequence[Sequence[Place]]) -> list[Path]:
    """An Audacity label track per audio file with clips that have a start: `start⇥end⇥tag`, in
    seconds; the files written. places: all of an item's. Clips without a start have no labels. A
    tag that begins with `-`, which means a no of what follows, has a `+` before it.
    """
    by_file = collections.defaultdict(list)
    for rows in _chunks(tagged.records, "labels"):
        for item, tag, probability in rows:
            name = one_line(tagged.tags[tag])
            label = f"{'+' * bool(SIGNED.match(name))}{name} {probability:.2f}"
            for place in places[item]:
                if place.start is not None:
                    end = place.start + (place.duration or 0.0)
                    by_file[place.path].append((place.start, end, -probability, label))
    written = []
    for path, labels in by_file.items():
        written.append(folder / file_name(path, ".txt"))
        with atomic_write(written[-1]) as file:
            for start, end, _, label in sorted(labels):
                file.write(f"{start:.6f}\t{end:.6f}\t{label}\n")
    return written


def file_name(text: str, ending: str) -> str:
    """A safe name for a file: letters, digits, blanks, `-`, `_`, `.`; never hidden, a device or a
    path. A text that had to be changed, to NFC too, or differs from its lower case, gets a hash, so
    that two texts never share a file, on any file system.
    """
    name = unicodedata.normalize("NFC", text)
    name = re.sub(r"[^\w. -]|[\ud800-\udfff]", "_", name).strip(" ._-")
    while len(name.encode()) > _LONGEST:
        name = name[:-1].rstrip(" ._")
    if name != text or name.casefold() != text or name.split(".")[0].casefold() in _DEVICES:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{name}-{digest}" if name.split(".")[0].casefold() not in _DEVICES else f"_{digest}"
        name = name.lstrip("-")
    return name + ending


def one_line(text: str) -> str:
    """Text without line breaks, tabs or other control characters."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", " ", text).split())


def _quoted(texts: Sequence[str]) -> list[str]:
    """Each as a field of a CSV. (csv's writer would quote them row by row, in twice the time.)"""
    special, quote = re.compile(r'[",\r\n]'), '"'
    return [
        quote + text.replace(quote, 2 * quote) + quote if special.search(text) else text
        for text in texts
    ]


def _chunks(records: np.ndarray, description: str) -> Iterator[list[tuple[int, int, float]]]:
    """(item, tag, probability) of some records at a time."""
    with tqdm(
        total=len(records), desc=description, unit=" rows", dynamic_ncols=True, delay=2
    ) as bar:
        for start in range(0, len(records), _ROWS):
            part = records[start : start + _ROWS].tolist()
            yield part
            bar.update(len(part))
