"""Manifest + embedding → store: decode, make frames, aggregate, write; or go on where an earlier
run stopped.
"""

import hashlib
import importlib.metadata
import os
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.audio import decoding as audio
from extract.embeddings import Embedding
from extract.errors import InputError
from extract.manifest import Manifest, resolve_audio
from extract.pipeline.aggregate import summarise
from extract.pipeline.batches import clip_frames
from extract.pipeline.workers import Result
from extract.shell import signals_deferred
from extract.storage.files import StoreSpec, disk_full_explained
from extract.storage.writer import StoreWriter
from extract.store import DONE, FAILED, PENDING, find_shards, shard_name

_LARGEST_BATCH = (
    4096  # windows; a larger one is a slip, and would take gigabytes for each of its copies
)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class RunConfig:
    """num_workers: decoding processes. batch_size: windows per batch; 0 is the embedding's own
    choice.
    """

    num_workers: int = field(default_factory=lambda: min(8, _num_cores()))
    batch_size: int = 0
    keep_frames: bool = False
    num_shards: int = 1
    shard_index: int = 0
    retry_failed: bool = False

    def __post_init__(self) -> None:
        for name, least in (("num_workers", 1), ("batch_size", 0), ("num_shards", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name}={getattr(self, name)}: must be at least {least}")
        if self.batch_size > _LARGEST_BATCH:
            raise InputError(f"--batch_size={self.batch_size}: must be at most {_LARGEST_BATCH}")
        if not 0 <= self.shard_index < self.num_shards:
            raise InputError(
                f"--shard_index={self.shard_index}: --num_shards={self.num_shards} allows "
                f"0 to {self.num_shards - 1}"
            )


class Summary(NamedTuple):
    """What a store holds after a run. path: of the shard, if the store has several."""

    path: Path
    done: int
    failed: int


def extract_clips(
    manifest: Manifest,
    audio_root: str | Path,
    embedding: Embedding,
    store: str | Path,
    config: RunConfig,
) -> Summary:
    """Extract every clip that has a split. A clip whose audio fails is marked with a reason; the
    run goes on.

    Raises InputError, before anything is written, on paths that leave audio_root, on a store that
    was begun differently or is in use; and on a full disk.
    """
    from tqdm import tqdm

    clips = manifest.used()
    _check_audio(clips, audio_root)
    first, last = (
        len(clips) * shard // config.num_shards
        for shard in (config.shard_index, config.shard_index + 1)
    )
    shard = clips.take(range(first, last))
    if not len(shard):
        raise InputError(
            f"--shard_index={config.shard_index} of --num_shards={config.num_shards} is left "
            f"without "
            f"a clip: {len(clips)} have a split; use fewer shards"
        )
    paths = [Path(audio_root) / name if name else None for name in shard.paths]
    path = _shard_path(Path(store), config)
    with (
        StoreWriter(path, _spec(clips, embedding, config), shard.clip_ids) as writer,
        disk_full_explained(path),
    ):
        if config.retry_failed:
            writer.retry_failed()
        for row in np.flatnonzero(writer.status == PENDING).tolist():
            if paths[row] is None:
                writer.fail(row, "no path in the manifest")
        writer.commit()
        status = writer.status.copy()
        with (
            signals_deferred() as stop_if_told,
            tqdm(
                total=len(paths),
                initial=int((status != PENDING).sum()),
                desc=embedding.name,
                unit=" clips",
                dynamic_ncols=True,
                mininterval=0.5 if sys.stderr.isatty() else 30,
            ) as bar,
            closing(
                clip_frames(
                    embedding,
                    paths,
                    status,
                    writer.scratch,
                    config.num_workers,
                    config.batch_size or embedding.batch_size,
                    stop_if_told,
                )
            ) as stream,
        ):
            for row, frames in stream:
                _take(writer, row, frames)
                bar.update()
        writer.finish()
        return Summary(
            path, int((writer.status == DONE).sum()), int((writer.status == FAILED).sum())
        )


def _take(writer: StoreWriter, row: int, frames: Result) -> None:
    if isinstance(frames, str):
        writer.fail(row, frames)
        return
    kept = None
    if writer.spec.keep_frames:
        with np.errstate(over="ignore"):
            kept = frames.astype(np.float16)
    if not np.isfinite(frames).all():
        writer.fail(row, "the embedding is NaN or Inf")
    elif kept is not None and not np.isfinite(kept).all():
        writer.fail(row, "a frame is beyond float16; extract without --keep_frames")
    else:
        writer.write(row, *summarise(frames), kept)


def _spec(clips: Manifest, embedding: Embedding, config: RunConfig) -> StoreSpec:
    digest = hashlib.sha256(
        "".join(
            f"{clip}\t{path}\n" for clip, path in zip(clips.clip_ids, clips.paths, strict=True)
        ).encode()
    ).hexdigest()
    provenance: dict[str, Any] = {
        **embedding.provenance,
        "decoding": audio.provenance(),
        "fsprobe": _own_version(),
    }
    if embedding.windows is not None:  # what shares a batch changes the last bits
        provenance["batch_size"] = config.batch_size or embedding.batch_size
    return StoreSpec(
        embedding=embedding.name,
        dim=embedding.dim,
        sample_rate=embedding.sample_rate,
        window=embedding.window,
        hop=embedding.hop,
        keep_frames=config.keep_frames,
        num_shards=config.num_shards,
        shard_index=config.shard_index,
        clips_sha256=digest,
        provenance=provenance,
    )


def _own_version() -> str:
    try:
        return importlib.metadata.version("fsprobe")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _check_audio(clips: Manifest, audio_root: str | Path) -> None:
    if not Path(audio_root).is_dir():
        raise InputError(f"--audio_root={audio_root}: no such directory")
    if not len(clips):
        raise InputError("the manifest gives no clip a split; extract.prepare sets them")
    files: list[Path] = []
    for clip, path in zip(clips.clip_ids, clips.paths, strict=True):
        try:
            files += [resolve_audio(audio_root, path)] if path else []
        except InputError as error:
            raise InputError(f"--manifest, clip {clip!r}: {error}") from None
    if not files:
        raise InputError(
            "the manifest has no audio paths; features that you have already go through "
            "extract.import_arrays"
        )
    if not any(file.exists() for file in files):
        raise InputError(
            f"--audio_root={audio_root}: none of the {len(files)} files of the manifest is there, "
            f"{clips.paths[0]!r} for one; is it the right directory?"
        )


def _shard_path(store: Path, config: RunConfig) -> Path:
    others = {total for _, total in find_shards(store)} - {config.num_shards}
    if config.num_shards == 1 and others:
        raise InputError(
            f"{store}: holds a store in {max(others)} shards; give that --num_shards, or another "
            f"--store"
        )
    if config.num_shards == 1:
        return store
    if others or (store / "store.json").exists():
        raise InputError(
            f"{store}: holds a store in {max(others, default=1)} shard(s), not "
            f"{config.num_shards}; "
            "give that --num_shards, or another --store"
        )
    return store / shard_name(config.shard_index, config.num_shards)
