"""Judgements to and from a manifest's `tags` and `not_tags`; from exports of Label Studio and
Audacity.

A manifest without `not_tags` says that what is not listed is absent, and so it is exported: what
fsprobe.train makes of a clip does not change unless somebody judged it. Only questions are asked as
if nothing were known of a clip without any tag (`fsprobe.listening.pool.listed_labels`).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from extract.errors import InputError
from extract.files import read_text
from extract.manifest import Manifest, parse_seconds, read_manifest
from fsprobe.listening.judgements import Current, New, check
from fsprobe.tagger.outputs import SIGNED, Place, clip_places, file_name

_PROBABILITY = re.compile(r" [01]\.\d\d$")  # that fsprobe.tag --audacity writes behind a tag
# Columns of JSON-MIN that Label Studio itself adds.
_OF_LABEL_STUDIO = frozenset(
    ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
)
_OVERLAP = 0.5  # of a clip, or of the labelled time, that makes a label the clip's


def explicit(manifest: Manifest) -> Manifest:
    """With `not_tags`, whether the manifest had them or not: the same labels for training. Of a
    clip without a split and without a tag nothing is known: training leaves it out.
    """
    if manifest.not_tags is not None:
        return manifest
    names = dict.fromkeys(tag for tags in manifest.tags for tag in tags)
    absent = [
        tuple(tag for tag in names if tag not in tags) if split or tags else ()
        for split, tags in zip(manifest.splits, manifest.tags, strict=True)
    ]
    return replace(manifest, not_tags=tuple(absent))


def merged(manifest: Manifest, current: Current) -> Manifest:
    """The manifest with what was judged; a judgement counts more than what stood there."""
    manifest = explicit(manifest)
    assert manifest.not_tags is not None
    by_clip: dict[str, dict[str, str]] = {}
    for (clip, tag), value in current.items():
        by_clip.setdefault(clip, {})[tag] = value
    said = [by_clip.get(clip, {}) for clip in manifest.clip_ids]
    return replace(
        manifest,
        tags=tuple(map(_with, manifest.tags, said, repeat("yes"))),
        not_tags=tuple(map(_with, manifest.not_tags, said, repeat("no"))),
    )


def _with(tags: tuple[str, ...], said: Mapping[str, str], value: str) -> tuple[str, ...]:
    """The tags that nobody judged, then those judged so."""
    return (*(t for t in tags if t not in said), *(t for t, v in said.items() if v == value))


def read_labels(path: Path, manifest: Manifest) -> tuple[list[New], int]:
    """(judgements of a file, how many of its labels are of clips that the manifest lacks).

    A manifest (.csv), an export of Label Studio (.json) or an Audacity label track (.txt), told
    apart by the name's end. Raises InputError on anything else.
    """
    readers = {".csv": _of_manifest, ".json": _of_label_studio, ".txt": _of_audacity}
    if path.suffix.lower() not in readers:
        raise InputError(
            f"{path}: name a manifest (.csv), a Label Studio .json or an Audacity .txt"
        )
    entries = list(readers[path.suffix.lower()](path, manifest))
    try:
        for entry in entries:
            check(entry)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    known = set(manifest.clip_ids)
    kept = [entry for entry in entries if entry.clip in known]
    return list(dict.fromkeys(kept)), len(entries) - len(kept)


def _of_manifest(path: Path, manifest: Manifest) -> Iterator[New]:
    other = read_manifest(path)
    for value, column in (("yes", other.tags), ("no", other.not_tags or ())):
        for clip, tags in zip(other.clip_ids, column, strict=False):
            yield from (New(clip, tag, value) for tag in tags)


def _of_label_studio(path: Path, manifest: Manifest) -> Iterator[New]:
    """Choices of the whole file, and labels of regions; of JSON and JSON-MIN exports. What was not
    chosen is not known: Label Studio does not say that it was asked.
    """
    try:
        tasks = json.loads(read_text(path), parse_int=float)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); export from Label Studio as JSON") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(f"{path}: not a list of tasks; export from Label Studio as JSON")
    places = _by_file(manifest)
    for task in tasks:
        data = task.get("data", task)
        if not isinstance(data, dict):
            raise InputError(f"{path}: a task's data are {data!r:.60}; export from Label Studio")
        texts = [text for text in data.values() if isinstance(text, str)]
        clips = next((found for text in texts if (found := _clips_of(text, places))), None)
        for tag, start, end in _label_studio_tags(task, places):
            if clips is None:
                yield New(texts[0][:400] or "?" if texts else "?", tag, "yes")
                continue
            for clip, place in clips:
                if start is None or end is None or _inside(place, start, end):
                    yield New(clip, tag, "yes")


_Part = tuple[str, float | None, float | None]


def _label_studio_tags(
    task: Mapping[str, Any], places: Mapping[str, list[tuple[str, Place]]]
) -> Iterator[_Part]:
    """(tag, start, end of its region in seconds, None for the whole file)."""
    annotations = task.get("annotations", task.get("completions"))
    if annotations is None:
        yield from _tags_of_columns(task, places)
        return
    for annotation in annotations if isinstance(annotations, list) else ():
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        results = annotation.get("result")
        for result in results if isinstance(results, list) else ():
            if isinstance(result, dict):
                yield from _tags_of(result.get("value"))


def _tags_of_columns(
    task: Mapping[str, Any], places: Mapping[str, list[tuple[str, Place]]]
) -> Iterator[_Part]:
    """Of a task of JSON-MIN, a column per control: one choice is a plain text, several are a list
    in a dict, regions a list of dicts. The task's own data are columns too, up to the audio and,
    where a column says who annotated, up to the task's id.
    """
    texts = [name for name, value in task.items() if isinstance(value, str)]
    audio = [name for name in texts if _clips_of(task[name], places)] or texts
    ends = [*audio[:1], *(["id"] if "id" in task and "annotator" in task else [])]
    last = max((list(task).index(name) for name in ends), default=-1)
    for number, (name, value) in enumerate(task.items()):
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, str):
                yield from _tags_of(one)
            elif number > last and name not in _OF_LABEL_STUDIO:
                yield one, None, None


def _tags_of(value: Any) -> Iterator[_Part]:
    """Of a dict of choices or of a region's labels."""
    if isinstance(value, dict):
        for tag in (*_texts(value, "choices"), *_texts(value, "labels")):
            yield tag, _number(value.get("start")), _number(value.get("end"))


def _texts(value: Mapping[str, Any], key: str) -> list[str]:
    found = value.get(key)
    found = [found] if isinstance(found, str) else found
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _of_audacity(path: Path, manifest: Manifest) -> Iterator[New]:
    """`start⇥end⇥tag` in seconds, of the audio file that the track is named after; a tag that
    begins with `-` is a no, and one with `+-` a tag that itself begins with `-`. Lines of
    frequencies, which begin with a backslash, are passed over.
    """
    places = _by_file(manifest)
    file = _file_of_track(path, places)
    for line, text in enumerate(read_text(path).splitlines(), 1):
        fields = text.split("\t")
        if not text.strip() or text.startswith("\\"):
            continue
        if len(fields) != 3:
            raise InputError(f"{path}, line {line}: not start, end and label, separated by tabs")
        where = f"{path}, line {line}"
        start, end = (parse_seconds("start", field, where) or 0.0 for field in fields[:2])
        tag = _PROBABILITY.sub("", fields[2]).strip()
        value = "no" if tag.startswith("-") else "yes"
        tag = tag.removeprefix("-").strip()
        if SIGNED.match(tag):
            tag = tag.removeprefix("+")
        for clip, place in places[file]:
            if _inside(place, start, end):
                yield New(clip, tag, value)


def _file_of_track(path: Path, files: Collection[str]) -> str:
    """The audio file of a label track: that of its name as fsprobe.tag --audacity gives it, else
    the one file with its stem. Raises InputError if there is none, or more than one.
    """
    for file in files:
        if file_name(file, ".txt") == path.name:
            return file
    found = [file for file in files if PurePosixPath(file).stem == path.stem]
    if not found:
        raise InputError(
            f"{path}: no audio file of the manifest has its name; name the track after the file"
        )
    if len(found) > 1:
        listed = ", ".join(f"{file:.40}" for file in found[:3]) + ", …" * (len(found) > 3)
        raise InputError(
            f"{path}: {len(found)} audio files have its name: {listed}; rename the track, of the "
            f"first to {file_name(found[0], '.txt')}"
        )
    return found[0]


def _by_file(manifest: Manifest) -> dict[str, list[tuple[str, Place]]]:
    """Path → the clips of that file."""
    files: dict[str, list[tuple[str, Place]]] = {}
    for clip, place in clip_places(manifest).items():
        files.setdefault(place.path, []).append((clip, place))
    return files


def _clips_of(
    text: str, places: Mapping[str, list[tuple[str, Place]]]
) -> list[tuple[str, Place]] | None:
    """The clips of a task's file, whose URL ends with their path: the longest end that fits."""
    parts = PurePosixPath(unquote(re.sub(r"^\w+://|[?#].*$", "", text.replace("?d=", "/")))).parts
    for first in range(len(parts)):
        if found := places.get("/".join(parts[first:])):
            return found
    return None


def _inside(place: Place, start: float, end: float) -> bool:
    """Does the labelled time cover half of the clip, or lie in it by half? A point lies in it."""
    if place.start is None and place.duration is None:
        return True
    first = place.start or 0.0
    last = first + place.duration if place.duration else float("inf")
    if end <= start:
        return first <= start < last
    shared = min(end, last) - max(start, first)
    return shared >= _OVERLAP * min(end - start, last - first)
