"""The feature store: a directory of plain .npy arrays and a store.json, opened read-only and
strictly.

    features.npy             float32 [clip, 2*dim]  mean, then population standard deviation, of raw
    frames
    features_framenorm.npy   float32 [clip, 2*dim]  the same, each frame standardised over its own
    dim first
    status.npy               uint8   [clip]         0 pending, 1 done, 2 failed
    clip_ids.txt             one id per row, in row order
    failures.csv             clip_id, reason
    store.json               what the numbers are and where they come from; checksums once complete
    frames.npy               float16 [frame, dim]   --keep_frames: the frames of all clips, end to
    end
    frame_offsets.npy        int64   [clip, 2]      --keep_frames: a clip's first and one past its
    last frame

A store of `extract.run` also says what the rows were made from (one made before these files existed
opens all the same; `extract.verify` says what it lacks):

    seconds.npy              float32 [clip]         seconds of audio decoded; 0 of failed clips
    promised.npy             float32 [clip]         seconds that the file, or the manifest, states
    decoder.npy              uint8   [clip]         which decoder made the row: its place in
    DECODERS
    audio_sha256.npy         uint8   [clip, 32]     SHA-256 of the decoded samples: the mean of the
    channels as float32 at the file's own rate, so that it is the same in every store
    source.npy               int64   [clip, 2]      the file's size (bytes) and modification time
    (nanoseconds)
    source_sha256.npy        uint8   [clip, 32]     SHA-256 of the file
    paths.txt                one path per row, as in the manifest
    notes.csv                clip_id, note          what is odd but no failure; a clip may have
    several

Zeros stand where a row has no such thing: it is pending, or was made before the file existed.

An imported array has width dim instead of 2*dim (aggregation `none`). A store made in shards is a
directory of `shard-00000-of-00004` directories, each a store of consecutive clips; together they
open as one.

Written by `extract.storage.writer`. Needs only NumPy and the standard library, so that `fsprobe`
may import it.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import InputError
from extract.storage.reading import (
    Stacked,
    check_unique,
    let_go,
    load_array,
    read_clip_ids,
    read_paths,
)

FORMAT_VERSION = 1
DECODERS = ("", "soundfile", "PyAV")
# name → dtype and what follows the first axis, of the arrays about audio
AUDIO_ARRAYS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "seconds": (np.float32, ()),
    "promised": (np.float32, ()),
    "decoder": (np.uint8, ()),
    "audio_sha256": (np.uint8, (32,)),
    "source": (np.int64, (2,)),
    "source_sha256": (np.uint8, (32,)),
}
PENDING, DONE, FAILED = 0, 1, 2
WIDTHS = {"mean_std": 2, "none": 1}  # aggregation → width of a row in units of dim
_SAME = (
    "embedding",
    "dim",
    "sample_rate",
    "window",
    "hop",
    "aggregation",
    "provenance",
    "keep_frames",
    "clips_sha256",
)  # what all shards of a store share
PASSING = ("decoding", "fsprobe")  # parts of provenance that may change while a store is made
_SHARD = re.compile(r"shard-(\d{5})-of-(\d{5})")


@dataclass(frozen=True, eq=False)
class Store:
    """A read-only view. `features`, `features_framenorm`: float32 `[clip, width]`, a memmap or
    Stacked.
    """

    path: Path
    meta: Mapping[str, Any]
    clip_ids: tuple[str, ...]
    status: np.ndarray
    features: np.ndarray | Stacked
    features_framenorm: np.ndarray | Stacked
    frames: tuple[tuple[np.ndarray, np.ndarray], ...] = ()  # of each shard, and offsets into them
    audio: Mapping[str, np.ndarray] = field(default_factory=dict)  # AUDIO_ARRAYS that it has
    paths: tuple[str, ...] | None = None  # of the clips' files, below the audio root

    @property
    def seconds(self) -> np.ndarray | None:
        """float32 `[clip]`: seconds of audio decoded; None if the store is older than that."""
        return self.audio.get("seconds")

    @property
    def audio_hashes(self) -> dict[str, str]:
        """clip_id → SHA-256 (hex) of its decoded samples, of all clips that are done and have one.

        Equal hashes are the same audio. Empty for imported arrays and for old stores.
        """
        digests = self.audio.get("audio_sha256")
        if digests is None:
            return {}
        rows = np.flatnonzero((self.status == DONE) & digests.any(axis=1)).tolist()
        return {self.clip_ids[row]: digests[row].tobytes().hex() for row in rows}

    @property
    def name(self) -> str:
        return str(self.meta["embedding"])

    @property
    def dim(self) -> int:
        return int(self.meta["dim"])

    def __len__(self) -> int:
        return len(self.clip_ids)

    def rows(self, name: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """float32 `[len(indices), width]` of `features` or `features_framenorm`; only these rows
        are read.
        """
        if name not in ("features", "features_framenorm"):
            raise KeyError(name)
        indices = np.asarray(indices, dtype=np.int64)
        ascending = np.argsort(indices, kind="stable")  # one forward pass over the file
        out = np.empty((len(indices), getattr(self, name).shape[1]), np.float32)
        out[ascending] = getattr(self, name)[indices[ascending]]
        let_go(getattr(self, name))
        return out

    def clip_frames(self, row: int) -> np.ndarray:
        """float16 `[frame, dim]` of one clip. Raises InputError if the store keeps no frames."""
        for frames, offsets in self.frames:
            if row < len(offsets):
                return frames[offsets[row, 0] : offsets[row, 1]]
            row -= len(offsets)
        raise InputError(f"{self.path}: holds no frames; extract with --keep_frames")


def open_store(path: str | Path) -> Store:
    """Open a store, or all shards of one.

    Raises InputError naming the file and the fix: a missing, truncated or foreign file, another
    shape or dtype, object arrays (never unpickled), repeated ids, missing shards, an unknown format
    version. What the arrays hold is for `extract.verify` to check.
    """
    path = Path(path)
    shards = find_shards(path)
    if (path / "store.json").exists() or not shards:
        return _open_single(path)
    totals = {total for _, total in shards}
    if len(totals) > 1:
        raise InputError(
            f"{path}: shards of {' and of '.join(map(str, sorted(totals)))} lie together; "
            "keep those of one run"
        )
    total = totals.pop()
    parts = [path / shard_name(index, total) for index in range(total)]
    missing = [part.name for part in parts if not (part / "store.json").exists()]
    if missing:
        raise InputError(
            f"{path}: of {total} shards, missing {', '.join(missing)}; "
            "run extract.run with each missing --shard_index"
        )
    return _stack(path, [_open_single(part) for part in parts])


def shard_name(index: int, total: int) -> str:
    return f"shard-{index:05d}-of-{total:05d}"


def find_shards(path: Path) -> list[tuple[int, int]]:
    """(index, total) of the shard directories in `path`."""
    matches = [_SHARD.fullmatch(entry.name) for entry in path.iterdir()] if path.is_dir() else []
    return sorted((int(match[1]), int(match[2])) for match in matches if match)


def find_layers(path: Path) -> list[str]:
    """Names of the stores that a directory holds, which is none itself: one per layer of a
    model.
    """
    if not path.is_dir() or (path / "store.json").exists() or find_shards(path):
        return []
    return sorted(
        entry.name
        for entry in path.iterdir()
        if (entry / "store.json").exists() or find_shards(entry)
    )


def _open_single(path: Path) -> Store:
    meta = read_meta(path)
    clip_ids = read_clip_ids(path / "clip_ids.txt")
    rows, dim = len(clip_ids), meta["dim"]
    width = WIDTHS[meta["aggregation"]] * dim
    features, framenorm = (
        load_array(path / f"{name}.npy", np.float32, (rows, width))
        for name in ("features", "features_framenorm")
    )
    status = np.array(load_array(path / "status.npy", np.uint8, (rows,)))
    if status.max(initial=0) > FAILED:
        raise InputError(
            f"{path / 'status.npy'}: {status.max()} in row {status.argmax()} is no status "
            "(0, 1, 2); restore the file or extract again"
        )
    kept: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    if meta.get("keep_frames"):
        growing = not meta["checksums"]
        frames = load_array(path / "frames.npy", np.float16, (None, dim), growing=growing)
        kept = ((frames, load_array(path / "frame_offsets.npy", np.int64, (rows, 2))),)
    audio = {
        name: np.array(load_array(path / f"{name}.npy", dtype, (rows, *rest)))
        for name, (dtype, rest) in AUDIO_ARRAYS.items()
        if (path / f"{name}.npy").exists()
    }
    paths = read_paths(path / "paths.txt", rows)
    return Store(path, meta, clip_ids, status, features, framenorm, kept, audio, paths)


def _stack(path: Path, shards: list[Store]) -> Store:
    first = shards[0]
    for shard in shards[1:]:
        for key in _SAME:
            here, there = shard.meta.get(key), first.meta.get(key)
            if here != there and not (key == "provenance" and same_provenance(here, there)):
                raise InputError(
                    f"{shard.path}: {key} is {here!r}, but {there!r} in {first.path.name}; "
                    "all shards of a store must come from the same manifest and options"
                )
    clip_ids = tuple(clip for shard in shards for clip in shard.clip_ids)
    check_unique(clip_ids, path)
    paths = [shard.paths for shard in shards if shard.paths is not None]
    complete = all(shard.meta.get("checksums") for shard in shards)
    meta = {
        **first.meta,
        "num_clips": len(clip_ids),
        "shard_index": None,
        "created": max(shard.meta["created"] for shard in shards),
        "checksums": {
            f"{shard.path.name}/{file}": digest
            for shard in shards
            for file, digest in shard.meta["checksums"].items()
        }
        if complete
        else {},
    }
    return Store(
        path,
        meta,
        clip_ids,
        np.concatenate([shard.status for shard in shards]),
        Stacked([np.asanyarray(shard.features) for shard in shards]),
        Stacked([np.asanyarray(shard.features_framenorm) for shard in shards]),
        tuple(itertools.chain(*(shard.frames for shard in shards))),
        {
            name: np.concatenate([shard.audio[name] for shard in shards])
            for name in AUDIO_ARRAYS
            if all(name in shard.audio for shard in shards)
        },
        tuple(itertools.chain(*paths)) if len(paths) == len(shards) else None,
    )


def same_provenance(one: Any, other: Any) -> bool:
    """Were both stores' rows made in the same way, so that they are equal up to rounding? fsprobe's
    version may differ; of the decoders, those that both name must be the same (stores from before
    PyAV name audioread in its place).
    """
    decoding = [part.get("decoding") or {} for part in (one, other)]
    if not all(isinstance(part, dict) for part in decoding):
        return False
    rest = [{key: part[key] for key in part if key not in PASSING} for part in (one, other)]
    shared = decoding[0].keys() & decoding[1].keys()
    return rest[0] == rest[1] and all(decoding[0][key] == decoding[1][key] for key in shared)


def read_meta(path: Path) -> dict[str, Any]:
    """store.json of a store directory, checked. Raises InputError."""
    file = path / "store.json"
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if layers := find_layers(path):
            raise InputError(
                f"{path}: holds a store for each of {len(layers)} layers ({', '.join(layers)}); "
                f"name one of them, {path / layers[0]}"
            ) from None
        raise InputError(
            f"{file}: no such file; {path} is not a store (extract.run and "
            "extract.import_arrays make one)"
        ) from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}); restore the file or extract again") from None
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{file}: format version {version!r}, this program reads {FORMAT_VERSION}; "
            "use the fsprobe that wrote it, or extract again"
        )
    expected = {
        "embedding": str,
        "dim": int,
        "aggregation": str,
        "provenance": dict,
        "created": str,
        "checksums": dict,
    }
    for key, kind in expected.items():
        if not isinstance(meta.get(key), kind):
            raise InputError(
                f"{file}: {key} is {meta.get(key)!r}; restore the file or extract again"
            )
    if meta["aggregation"] not in WIDTHS or meta["dim"] < 1:
        raise InputError(
            f"{file}: aggregation {meta['aggregation']!r} with dim {meta['dim']} is unknown; "
            "restore the file or extract again"
        )
    return meta
