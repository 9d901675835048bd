"""Whole tracks → clips of a few seconds each: what few-shot tagging trains on and scores."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from extract.audio.decoding import count_seconds
from extract.audio.finding import find_audio
from extract.errors import InputError
from extract.manifest import Manifest

_FEW = 64  # files that are counted sooner than processes start


@dataclass(frozen=True)
class SegmentConfig:
    """seconds: length of a clip. count: clips per track, at most; None for all that fit."""

    seconds: float
    count: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise InputError(f"--segment_seconds={self.seconds}: give a number of seconds above 0")
        if self.count is not None and self.count < 1:
            raise InputError(f"--segments={self.count}: give a number from 1 on, or `all`")


def parse_count(text: str) -> int | None:
    """`all` or a number, as SegmentConfig.count. Raises InputError on anything else."""
    if text == "all":
        return None
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"--segments={text}: give a number from 1 on, or `all`")
    return int(text)


def segment_starts(total: float, config: SegmentConfig) -> list[float]:
    """Where the clips of a track of `total` seconds begin, in seconds, rounded down to 0.01 s.

    All: one after the other from the beginning; a rest shorter than a clip is left out. `count` of
    them: each in the middle of one of `count` equal parts. But for what the rounding takes, less
    than 0.01 s, they never overlap. A track that is no longer than a clip is one clip: [0].
    """
    fit = int(total / config.seconds + 1e-9)
    if (fit <= 1 and config.count is None) or total <= config.seconds:
        return [0.0]
    if config.count is None:
        return [_round_down(i * config.seconds) for i in range(fit)]
    count = min(config.count, fit)
    middles = [(i + 0.5) * total / count for i in range(count)]
    return [_round_down(max(middle - config.seconds / 2, 0)) for middle in middles]


def _round_down(seconds: float) -> float:
    return math.floor(seconds * 100 + 1e-6) / 100


def cut_tracks(
    manifest: Manifest,
    audio_root: str | Path,
    config: SegmentConfig,
    note: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """The manifest with each clip cut into segments: `clip_id@start` with start, duration and
    track, which is the clip's id unless it has one. Tags, splits and groups are those of the clip.

    A clip that is itself a part of a file is cut within that part. note(sentence) is called with
    how many files have a length that cannot be read; they stay whole, so that the extraction says
    why.
    """
    starts = manifest.starts or (None,) * len(manifest)
    ends = manifest.durations or (None,) * len(manifest)
    seconds, faults = _lengths(manifest.paths, audio_root)
    if faults:
        note(
            f"the length of {len(faults)} of {len(seconds)} files cannot be read, so they stay "
            f"whole: {next(iter(faults.values()))}"
        )
    rows: list[int] = []
    ids: list[str] = []
    parts: list[tuple[float | None, float | None]] = []
    for row, (clip, path) in enumerate(zip(manifest.clip_ids, manifest.paths, strict=True)):
        first, length = starts[row] or 0.0, ends[row]
        total = length if length is not None else seconds.get(path, 0.0) - first
        cuts = [0.0] if path in faults else segment_starts(total, config)
        whole = path in faults or total <= config.seconds
        for start in cuts:
            rows.append(row)
            ids.append(f"{clip}@{f'{first + start:.2f}'.rstrip('0').rstrip('.')}")
            parts.append((first + start, length if whole else config.seconds))
    taken = manifest.take(rows)
    names = zip(taken.tracks or taken.clip_ids, taken.clip_ids, strict=True)
    return replace(
        taken,
        clip_ids=tuple(ids),
        starts=tuple(start for start, _ in parts),
        durations=tuple(length for _, length in parts),
        tracks=tuple(name or clip for name, clip in names),
    )


def _lengths(
    paths: Sequence[str], audio_root: str | Path
) -> tuple[dict[str, float], dict[str, str]]:
    """(seconds, why they cannot be read) of each file, by its path."""
    files = list(dict.fromkeys(paths))
    bar = partial(tqdm, total=len(files), desc="lengths", unit=" files", disable=None)
    measure = partial(_length, audio_root)
    if len(files) <= _FEW:
        found = list(bar(map(measure, files)))
    else:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            found = list(bar(pool.map(measure, files, chunksize=16)))
    results = dict(zip(files, found, strict=True))
    seconds = {path: 0.0 if isinstance(value, str) else value for path, value in results.items()}
    return seconds, {path: value for path, value in results.items() if isinstance(value, str)}


def _length(audio_root: str | Path, path: str) -> float | str:
    """Seconds, or why they cannot be read."""
    try:
        return count_seconds(find_audio(audio_root, path).path)
    except (ValueError, OSError) as error:
        return f"{path}: {error}"
