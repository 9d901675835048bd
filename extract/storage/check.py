"""Is what a store holds what it says it holds? `extract.verify` asks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from extract.storage import files as store_files
from extract.store import (
    AUDIO_ARRAYS,
    DECODERS,
    DONE,
    FAILED,
    PENDING,
    Store,
    find_shards,
    open_store,
    shard_name,
)

_BLOCK = 4096  # rows
_NAMED = 5  # clips, before the rest is only counted


@dataclass(frozen=True)
class Report:
    """clips by status; checksums: files that agree with their recorded sum, none while the store is
    incomplete. remarks: things that are no problem, but worth a line each.
    """

    done: int
    failed: int
    pending: int
    checksums: int
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def verify(path: str | Path) -> Report:
    """All problems of a store or of all its shards. Raises InputError if it cannot even be
    opened.
    """
    whole = open_store(path)
    shards = [whole]
    if not (Path(path) / "store.json").exists():
        shards = [open_store(Path(path) / shard_name(*shard)) for shard in find_shards(Path(path))]
    problems: list[str] = []
    agreeing = 0
    for shard in shards:
        problems += _check_finite(shard, "features")
        problems += _check_finite(shard, "features_framenorm")
        problems += _check_frames(shard)
        problems += _check_failures(shard)
        if shard.meta["checksums"]:
            wrong = list(_check_sums(shard))
            agreeing += len(shard.meta["checksums"]) - len(wrong)
            problems += wrong
            if (shard.status == PENDING).any():
                problems.append(f"{shard.path}: has checksums as if complete, but pending clips")
    done, failed, pending = (int((whole.status == code).sum()) for code in (DONE, FAILED, PENDING))
    remarks = () if problems else tuple(_remarks(whole))
    return Report(done, failed, pending, agreeing, tuple(problems), remarks)


def _remarks(store: Store) -> Iterator[str]:
    """How long the clips are, which are short, which decoder made them, and what is not known."""
    if store.meta.get("sample_rate") is None:
        return  # imported arrays, which were not made from audio here
    done = store.status == DONE
    lacking = [f"{name}.npy" for name in AUDIO_ARRAYS if name not in store.audio]
    lacking += ["paths.txt"] if store.paths is None else []
    if lacking:
        yield f"made before these files were kept, so it lacks {', '.join(lacking)}"
    if store.seconds is None or not {"promised", "decoder"} <= store.audio.keys() or not done.any():
        return
    unknown = int((done & (store.seconds == 0)).sum())
    if unknown:
        yield f"{unknown} clips were made before their seconds were kept"
    known = done & (store.seconds > 0)
    if known.any():
        yield _distribution(store.seconds[known])
        yield from _shorter(store, known)
    decoder = store.audio["decoder"][known]
    counts = [(int((decoder == place).sum()), name) for place, name in enumerate(DECODERS)]
    made = [f"{count} by {name}" for count, name in counts if count]
    if len(made) > 1:
        yield f"decoded {', '.join(made)}"


def _distribution(seconds: np.ndarray) -> str:
    least, low, middle, high, most = np.quantile(seconds, [0, 0.05, 0.5, 0.95, 1])
    return (
        f"seconds of audio: {least:.2f} least, {low:.2f} (5%), {middle:.2f} median, {high:.2f} "
        f"(95%), {most:.2f} most, {seconds.sum(dtype=np.float64) / 3600:.2f} hours in all"
    )


def _shorter(store: Store, known: np.ndarray) -> Iterator[str]:
    """Clips that have less audio than their file or the manifest promised."""
    assert store.seconds is not None
    promised = store.audio["promised"]
    missing = promised - store.seconds
    rows = np.flatnonzero(known & (missing > np.maximum(0.25, 0.01 * promised))).tolist()
    if rows:
        named = ", ".join(
            f"{store.clip_ids[row]!r} {store.seconds[row]:.2f} of {promised[row]:.2f} s"
            for row in rows[:_NAMED]
        )
        more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        yield f"{len(rows)} clips are shorter than promised: {named}{more}"


def _check_sums(store: Store) -> Iterator[str]:
    recorded, actual = store.meta["checksums"], store_files.checksums(store.path)
    for file in sorted(recorded.keys() | actual.keys()):
        if recorded.get(file) != actual.get(file):
            yield f"{store.path / file}: is not what store.json has the checksum of"


def _check_finite(store: Store, name: str) -> Iterator[str]:
    for start in range(0, len(store), _BLOCK):
        values = np.asarray(getattr(store, name)[start : start + _BLOCK])
        bad = ~np.isfinite(values).all(axis=1) & (store.status[start : start + _BLOCK] == DONE)
        for row in np.flatnonzero(bad):
            clip = store.clip_ids[start + row]
            yield f"{store.path / f'{name}.npy'}: NaN or Inf in clip {clip!r}"


def _check_frames(store: Store) -> Iterator[str]:
    if not store.frames:
        return
    ((frames, offsets),) = store.frames
    end = 0
    rows = sorted(
        np.flatnonzero(store.status == DONE).tolist(), key=lambda row: int(offsets[row, 0])
    )
    for row in tqdm(rows, desc="frames", unit=" clips", dynamic_ncols=True, leave=False, delay=2):
        first, last = offsets[row].tolist()
        clip = f"{store.path}: clip {store.clip_ids[row]!r}"
        if not end <= first < last <= len(frames):
            of = f"{first} to {last} of {len(frames)}"
            yield f"{clip} has frames {of}, after another's that end at {end}"
        elif not np.isfinite(frames[first:last]).all():
            yield f"{clip} has NaN or Inf in its frames"
        end = max(end, last)


def _check_failures(store: Store) -> Iterator[str]:
    reasons = store_files.read_failures(store.path)
    status = dict(zip(store.clip_ids, store.status, strict=True))
    for clip, code in status.items():
        if code == FAILED and clip not in reasons:
            yield f"{store.path}: clip {clip!r} failed, but failures.csv has no reason"
    for clip in reasons:
        # a reason is written before its status: after a crash the clip may still be pending
        if status.get(clip, DONE) == DONE:
            yield f"{store.path}: failures.csv names {clip!r}, which did not fail"
