"""MagnaTagATune (Law et al., ISMIR 2009): its official files, and the splits the field agreed on.

Split by folder: 0 to b train, c valid, d to f test. `clean` keeps the clips that carry at least one
of the 50 most frequent tags (counted over all clips) and are readable: 15,247 / 1,529 / 4,332 clips
(Won et al. 2020).
"""

import csv
import gzip
import itertools
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from extract.download import extract_zip, fetch
from extract.errors import InputError
from extract.files import text_encoding
from extract.manifest import Manifest, parse_tags, rank_tags

BASE_URL = "http://mi.soi.city.ac.uk/datasets/magnatagatune/"
ANNOTATIONS = "annotations_final.csv"
CLIP_INFO = "clip_info_final.csv"
ARCHIVE = ("mp3.zip.001", "mp3.zip.002", "mp3.zip.003")  # one zip, cut into three
SHA256 = {
    ANNOTATIONS: "99b94e95825d4fa576386a5367b9c96e0ec636e9f9c240aceb492f4728f68c3c",
    CLIP_INFO: "cb6108a10d3a91f0bfd7d2fbec2382559d15f20c8d28093f14e12162a47a3e78",
    "mp3.zip.001": "f857fe185968773058cc71662c2ef5d8f2d4b7338e3c122cfd52f82dcb9760b9",
    "mp3.zip.002": "fc2e1ec441755556ed1398b1808f1b08b6034372f8bc27394510c0c58cdb52ce",
    "mp3.zip.003": "83a689824c17e82f6eb81cdbc4e4ca239a4cfc1fb41f1a5c80b861caec90450f",
}
EMPTY = frozenset(("35644", "55753", "57881"))  # published as mp3 files of no audio
NUM_TOP = 50
SPLITS = ("clean", "all")
NAME = "MagnaTagATune"
_EXCERPT = re.compile(r"-(\d+)-(\d+)\.\w+$")
FOLDER_SPLIT = {
    **dict.fromkeys("0123456789ab", "train"),
    "c": "valid",
    **dict.fromkeys("def", "test"),
}


def num_resembling(manifest: Manifest, top_tags: Collection[str]) -> int:
    """How many clips of a manifest seem to be MagnaTagATune's: those whose file names end in the
    29 s of their album track (`-59-88.mp3`), or all, where they carry most of its top tags.
    """
    tags = {tag for tags in manifest.tags for tag in tags}
    if 2 * len(tags & set(top_tags)) > len(top_tags):
        return len(manifest)
    ends = (_EXCERPT.search(path) for path in manifest.paths)
    return sum(int(end[2]) - int(end[1]) == 29 for end in ends if end)


def read_annotations(path: str | Path) -> Manifest:
    """Every annotated clip in file order, with all its tags and the split of its folder.

    Raises InputError naming file, line and value on anything that is not the official format.
    """
    rows = _read_rows(path)
    _, header = next(rows)
    if len(header) < 3 or header[0] != "clip_id" or header[-1] != "mp3_path":
        raise InputError(
            f"{path}: the header must be clip_id, tags…, mp3_path, tab-separated; "
            f"is this {ANNOTATIONS}?"
        )
    names = header[1:-1]
    for name in names:
        if parse_tags(name, f"{path}, header") != (name,):
            raise InputError(f"{path}: tag {name!r} in the header is empty or holds a '|'")
        if names.count(name) > 1:
            raise InputError(f"{path}: tag {name!r} stands twice in the header")
    clips: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    for line, (clip_id, *marks, mp3) in rows:
        where = f"{path}, line {line}"
        if clip_id in clips:
            raise InputError(f"{where}: clip_id {clip_id!r} stands there twice")
        if not set(marks) <= {"0", "1"}:
            raise InputError(
                f"{where}: a tag is marked {min(set(marks) - {'0', '1'})!r}; marks are 0 or 1"
            )
        split = FOLDER_SPLIT.get(mp3.partition("/")[0])
        if split is None:
            raise InputError(f"{where}: mp3_path {mp3!r} lies in none of the folders 0 to f")
        tags = tuple(name for name, mark in zip(names, marks, strict=True) if mark == "1")
        clips[clip_id] = (mp3, split, tags)
    if not clips:
        raise InputError(f"{path}: no clips below the header")
    return Manifest(tuple(clips), *zip(*clips.values(), strict=True))


def check_clip_info(path: str | Path, manifest: Manifest) -> None:
    """Raise InputError unless the clip info names every clip of the manifest with the same
    mp3_path.
    """
    rows = _read_rows(path)
    _, header = next(rows)
    try:
        clip_id, mp3 = header.index("clip_id"), header.index("mp3_path")
    except ValueError:
        raise InputError(f"{path}: no columns clip_id and mp3_path; is this {CLIP_INFO}?") from None
    known = {row[clip_id]: row[mp3] for _, row in rows}
    for clip, audio in zip(manifest.clip_ids, manifest.paths, strict=True):
        if known.get(clip) != audio:
            said = f"has mp3_path {known[clip]!r}" if clip in known else "is missing"
            raise InputError(
                f"{path}: clip {clip} {said}, but the annotations say {audio!r}; "
                "take both files from one release"
            )


def select(manifest: Manifest, split: str) -> Manifest:
    """The clips of `clean` (see above), or `all`: every clip, the three without audio with an empty
    split.
    """
    readable = [clip not in EMPTY for clip in manifest.clip_ids]
    if split == "all":
        splits = zip(manifest.splits, readable, strict=True)
        return replace(manifest, splits=tuple(own if good else "" for own, good in splits))
    top = {tag for tag, _ in rank_tags(manifest)[:NUM_TOP]}
    return manifest.take(
        [
            row
            for row, tags in enumerate(manifest.tags)
            if readable[row] and not top.isdisjoint(tags)
        ]
    )


def download(
    folder: str | Path,
    audio_root: str | Path,
    base_url: str = BASE_URL,
    sha256: Mapping[str, str] = SHA256,
) -> tuple[Path, Path]:
    """Fetch the official files into `folder` and unpack the audio below `audio_root`, going on
    where a run stopped.

    The archive is left alone once every annotated mp3 is there. Returns the annotations and the
    clip info.
    """

    def get(name: str) -> Path:
        return fetch(base_url.rstrip("/") + "/" + name, Path(folder) / name, sha256=sha256[name])

    annotations, clip_info = get(ANNOTATIONS), get(CLIP_INFO)
    if not all((Path(audio_root) / path).is_file() for path in read_annotations(annotations).paths):
        extract_zip([get(name) for name in ARCHIVE], audio_root)
    return annotations, clip_info


def _read_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of an official file, plain or gzipped, header first; every line as long as the
    header. Tab-separated as it is published, or by comma or semicolon, as spreadsheets save it.
    """
    with _open_text(Path(path)) as text:
        width = line = 0
        try:
            first = text.readline()
            delimiter = "\t" if "\t" in first else max(",;", key=first.count)
            reader = csv.reader(itertools.chain([first], text), delimiter=delimiter, strict=True)
            for row in reader:
                width, line = width or len(row), reader.line_num
                if len(row) != width:
                    raise InputError(
                        f"{path}, line {line}: {len(row)} fields, not {width} as above"
                    )
                yield line, row
        except (csv.Error, UnicodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            where = f"{path}, line {line + 1}"
            raise InputError(f"{where}: damaged ({error}); download it again") from error
    if not width:
        raise InputError(f"{path}: empty file")


def _open_text(path: Path) -> IO[str]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return (
        gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        if zipped
        else path.open(encoding=text_encoding(path), newline="")
    )
