"""Manifest + embedding → store: decode, make frames, aggregate, write; or go on where an earlier
run stopped.
"""

import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.audio import decoding as audio
from extract.embeddings import Embedding
from extract.errors import InputError
from extract.manifest import Manifest, resolve_audio
from extract.pipeline.aggregate import summarise
from extract.pipeline.batches import clip_frames
from extract.pipeline.sources import CHECKS, Source, compare, locate
from extract.pipeline.workers import Job, Result, Task
from extract.shell import signals_deferred
from extract.storage.files import AudioRecord, StoreSpec, disk_full_explained
from extract.storage.writer import StoreWriter
from extract.store import DONE, FAILED, PENDING, find_shards, shard_name

_LARGEST_BATCH = (
    4096  # windows; a larger one is a slip, and would take gigabytes for each of its copies
)
ON_TRUNCATED = ("fail", "accept")


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class RunConfig:
    """num_workers: decoding processes. batch_size: windows per batch; 0 is the embedding's own
    choice. on_truncated: a file that is damaged or ends early may `fail`, or `accept` what is left.
    check: how files that changed are found, by size and time (`stat`) or by `hash`.
    """

    num_workers: int = field(default_factory=lambda: min(8, _num_cores()))
    batch_size: int = 0
    keep_frames: bool = False
    num_shards: int = 1
    shard_index: int = 0
    retry_failed: bool = False
    on_truncated: str = "fail"
    check: str = "stat"

    def __post_init__(self) -> None:
        for name, least in (("num_workers", 1), ("batch_size", 0), ("num_shards", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name}={getattr(self, name)}: must be at least {least}")
        for name, choices in (("on_truncated", ON_TRUNCATED), ("check", CHECKS)):
            if getattr(self, name) not in choices:
                raise InputError(f"--{name}={getattr(self, name)}: must be {' or '.join(choices)}")
        if self.batch_size > _LARGEST_BATCH:
            raise InputError(f"--batch_size={self.batch_size}: must be at most {_LARGEST_BATCH}")
        if not 0 <= self.shard_index < self.num_shards:
            raise InputError(
                f"--shard_index={self.shard_index}: --num_shards={self.num_shards} allows "
                f"0 to {self.num_shards - 1}"
            )


class Summary(NamedTuple):
    """What a store holds after a run. path: of the shard, if the store has several. changed: rows
    made again because their file is another than it was. gone: done rows whose file is not there
    any more; they are kept.
    """

    path: Path
    done: int
    failed: int
    changed: int = 0
    gone: int = 0


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
    sources = locate(audio_root, shard.paths)
    path = _shard_path(Path(store), config)
    with (
        StoreWriter(path, _spec(clips, embedding, config), shard.clip_ids, shard.paths) as writer,
        disk_full_explained(path),
    ):
        found = compare(writer.status, writer.audio, sources, config.check)
        writer.reopen(list(found.changed))
        if config.retry_failed:
            writer.retry_failed()
        for row in np.flatnonzero(writer.status == PENDING).tolist():
            if sources[row].path is None:
                writer.fail(row, sources[row].reason, AudioRecord())
        writer.commit()
        _run(writer, embedding, _tasks(shard, sources), config)
        writer.finish()
        done, failed = (int((writer.status == code).sum()) for code in (DONE, FAILED))
        return Summary(path, done, failed, len(found.changed), len(found.gone))


def _tasks(clips: Manifest, sources: Sequence[Source]) -> list[Task | None]:
    """What is to be decoded for each clip; None where there is no file."""
    nothing = (None,) * len(clips)
    return [
        None if source.path is None else Task(source.path, start, duration, source.note)
        for source, start, duration in zip(
            sources, clips.starts or nothing, clips.durations or nothing, strict=True
        )
    ]


def _run(
    writer: StoreWriter, embedding: Embedding, tasks: Sequence[Task | None], config: RunConfig
) -> None:
    """Extract what is pending."""
    from tqdm import tqdm

    status = writer.status.copy()
    job = Job(embedding.sample_rate, writer.scratch, on_truncated=config.on_truncated)
    with (
        signals_deferred() as stop_if_told,
        tqdm(
            total=len(tasks),
            initial=int((status != PENDING).sum()),
            desc=embedding.name,
            unit=" clips",
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30,
        ) as bar,
        closing(
            clip_frames(
                embedding,
                tasks,
                status,
                job,
                config.num_workers,
                config.batch_size or embedding.batch_size,
                stop_if_told,
            )
        ) as stream,
    ):
        for row, result in stream:
            _take(writer, row, result)
            bar.update()


def _take(writer: StoreWriter, row: int, result: Result) -> None:
    frames = result.array
    if frames is None:
        writer.fail(row, result.reason, result.audio)
        return
    failed = replace(result.audio, seconds=0.0, decoder="", audio_sha256=b"")
    kept = None
    if writer.spec.keep_frames:
        with np.errstate(over="ignore"):
            kept = frames.astype(np.float16)
    if not np.isfinite(frames).all():
        writer.fail(row, "the embedding is NaN or Inf", failed)
    elif kept is not None and not np.isfinite(kept).all():
        writer.fail(row, "a frame is beyond float16; extract without --keep_frames", failed)
    else:
        writer.write(row, *summarise(frames), kept, result.audio)


def _spec(clips: Manifest, embedding: Embedding, config: RunConfig) -> StoreSpec:
    columns: list[tuple[Any, ...]] = [clips.clip_ids, clips.paths]
    columns += [column for column in (clips.starts, clips.durations) if any(column)]
    lines = ("\t".join(map(str, clip)) + "\n" for clip in zip(*columns, strict=True))
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
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
    first = next(path for path in clips.paths if path)
    if not any(file.exists() for file in files) and locate(audio_root, [first])[0].path is None:
        raise InputError(
            f"--audio_root={audio_root}: none of the {len(files)} files of the manifest is there, "
            f"{first!r} for one; is it the right directory?"
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
