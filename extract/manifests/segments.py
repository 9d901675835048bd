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
        starts = [i * config.seconds for i in range(fit)]
    else:
        count = min(config.count, fit)
        middles = [(i + 0.5) * total / count for i in range(count)]
        starts = [max(middle - config.seconds / 2, 0) for middle in middles]
    return [math.floor(start * 100 + 1e-6) / 100 for start in starts]


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
    seconds, faults = _lengths(manifest.paths, audio_root)
    if faults:
        note(
            f"the length of {len(faults)} of {len(faults) + len(seconds)} files cannot be read, so "
            f"they stay whole: {next(iter(faults.values()))}"
        )
    starts = manifest.starts or (None,) * len(manifest)
    lengths = manifest.durations or (None,) * len(manifest)
    cuts: list[tuple[int, float, float | None]] = []  # row, start, duration
    for row, path in enumerate(manifest.paths):
        first, length = starts[row] or 0.0, lengths[row]
        # what cannot be read is as short as can be, and stays whole
        total = seconds.get(path, 0.0) - first if length is None or path in faults else length
        duration = length if total <= config.seconds else config.seconds
        cuts += [(row, first + start, duration) for start in segment_starts(total, config)]
    taken = manifest.take([row for row, _, _ in cuts])
    names = zip(taken.tracks or taken.clip_ids, taken.clip_ids, strict=True)
    return replace(
        taken,
        clip_ids=tuple(
            f"{clip}@{f'{start:.2f}'.rstrip('0').rstrip('.')}"
            for clip, (_, start, _) in zip(taken.clip_ids, cuts, strict=True)
        ),
        starts=tuple(start for _, start, _ in cuts),
        durations=tuple(duration for _, _, duration in cuts),
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
    results = list(zip(files, found, strict=True))
    seconds = {path: value for path, value in results if not isinstance(value, str)}
    return seconds, {path: value for path, value in results if isinstance(value, str)}


def _length(audio_root: str | Path, path: str) -> float | str:
    """Seconds, or why they cannot be read."""
    try:
        return count_seconds(find_audio(audio_root, path).path)
    except (ValueError, OSError) as error:
        return f"{path}: {error}"
