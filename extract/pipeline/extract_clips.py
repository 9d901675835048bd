"""Manifest + embedding → store: decode, make frames, aggregate, write; or go on where an earlier
run stopped.
"""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.audio import decoding as audio
from extract.audio.remote import Folder, named
from extract.embeddings import Embedding, Layer
from extract.errors import InputError
from extract.files import version_of
from extract.manifest import Manifest, check_inside
from extract.pipeline import engines
from extract.pipeline.aggregate import Summariser
from extract.pipeline.engines import Engine
from extract.pipeline.layer_stores import LayerStores
from extract.pipeline.progress import Progress
from extract.pipeline.sources import CHECKS, Source, check_root, locate
from extract.pipeline.work import Work
from extract.pipeline.workers import Job, Result, Task
from extract.shell import num_cores, signals_deferred
from extract.storage.files import StoreSpec, disk_full_explained
from extract.store import DONE, FAILED, PENDING, find_shards, shard_name

# windows; a larger one is a slip, and would take gigabytes for each of its copies
_LARGEST_BATCH = 4096
ON_TRUNCATED = ("fail", "accept")
ALL = -1  # shards, one after the other


@dataclass(frozen=True)
class RunConfig:
    """num_workers: decoding processes. batch_size: windows per batch; 0 is the embedding's own
    choice. shard_index: of the shard that this run makes, or ALL. on_truncated: a file that is
    damaged or ends early may `fail`, or `accept` what is left. check: how files that changed are
    found, by size and time (`stat`) or by `hash`. engine: who runs it. ray_address: of the cluster
    that engine `ray` joins; empty: the one that RAY_ADDRESS names, or else one of its own on this
    machine.
    """

    num_workers: int = field(default_factory=lambda: min(8, num_cores()))
    batch_size: int = 0
    keep_frames: bool = False
    num_shards: int = 1
    shard_index: int = 0
    retry_failed: bool = False
    on_truncated: str = "fail"
    check: str = "stat"
    engine: str = "local"
    ray_address: str = ""

    def __post_init__(self) -> None:
        for name, least in (("num_workers", 1), ("batch_size", 0), ("num_shards", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name}={getattr(self, name)}: must be at least {least}")
        if self.ray_address and self.engine != "ray":
            raise InputError(f"--ray_address={self.ray_address}: needs --engine=ray")
        for name, choices in (
            ("on_truncated", ON_TRUNCATED),
            ("check", CHECKS),
            ("engine", engines.NAMES),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"--{name}={getattr(self, name)}: must be {' or '.join(choices)}")
        if self.batch_size > _LARGEST_BATCH:
            raise InputError(f"--batch_size={self.batch_size}: must be at most {_LARGEST_BATCH}")
        if not ALL <= self.shard_index < self.num_shards:
            raise InputError(
                f"--shard_index={self.shard_index}: --num_shards={self.num_shards} allows "
                f"0 to {self.num_shards - 1}, and {ALL} for all of them"
            )


class Summary(NamedTuple):
    """What a store holds after a run. path: of the shard, if the store has several. changed: rows
    made again because their file has changed. gone: done rows whose file no longer exists; they are
    kept. unread: failed rows of whose file nothing was known, tried again. accepted: done rows of
    truncated files. failures: the file that lists the failed clips. Where each layer has a store,
    path is the directory of them all.
    """

    path: Path
    done: int
    failed: int
    changed: int
    gone: int
    unread: int
    accepted: int
    failures: Path


def extract_clips(
    manifest: Manifest,
    audio_root: str | Path,
    embedding: Embedding,
    store: str | Path,
    config: RunConfig,
    engine: Engine | None = None,
) -> Summary:
    """Extract every clip that has a split. A clip whose audio fails is marked with a reason; the
    run goes on. audio_root: a directory, or an address (`extract.audio.remote`). engine: in the
    place of the one that config names; its context is the caller's.

    Raises InputError, before anything is written, on paths that leave audio_root, on a store that
    was begun differently or is in use, and on options of the embedding that mean nothing on the
    platform that computes it; and on a full disk.
    """
    if config.batch_size and embedding.windows is None:
        raise InputError(f"--batch_size={config.batch_size}: {embedding.name} takes no batches")
    clips, root = manifest.used(), named(audio_root)
    _check_audio(clips, root)
    indices = range(config.num_shards) if config.shard_index == ALL else [config.shard_index]
    configs = [replace(config, shard_index=index) for index in indices]
    shards = [_shard(clips, one) for one in configs]
    with ExitStack() as stack:
        if engine is None:
            engine = engines.build(config.engine, config.num_workers, config.ray_address)
            stack.enter_context(engine)
        embedding = engine.adapted(embedding)
        if why := embedding.refused_on.get(str(embedding.provenance.get("platform"))):
            raise InputError(why)
        progress = stack.enter_context(closing(Progress(embedding.name, sum(map(len, shards)))))
        return _sum(
            Path(store),
            [
                _fill(clips, shard, root, embedding, Path(store), one, engine, progress)
                for shard, one in zip(shards, configs, strict=True)
            ],
        )


def _shard(clips: Manifest, config: RunConfig) -> Manifest:
    first, last = (
        len(clips) * shard // config.num_shards
        for shard in (config.shard_index, config.shard_index + 1)
    )
    if first == last:
        raise InputError(
            f"--shard_index={config.shard_index} of --num_shards={config.num_shards} is left "
            f"without a clip: {len(clips)} have a split; use fewer shards"
        )
    return clips.take(range(first, last))


def _sum(store: Path, summaries: Sequence[Summary]) -> Summary:
    """Of all shards; the failures are those of the shard that has most."""
    if len(summaries) == 1:
        return summaries[0]
    worst = max(summaries, key=lambda summary: summary.failed)
    names = [name for name in Summary._fields if name not in ("path", "failures")]
    sums = {name: sum(getattr(summary, name) for summary in summaries) for name in names}
    return Summary(store, **sums, failures=worst.failures)


def _fill(
    clips: Manifest,
    shard: Manifest,
    root: Path | Folder,
    embedding: Embedding,
    store: Path,
    config: RunConfig,
    engine: Engine,
    progress: Progress,
) -> Summary:
    """Make the shard's store, or go on with it. clips: of all shards."""
    sources = locate(root, shard.paths)
    layers = embedding.layers or (Layer("", embedding.dim, {}),)
    stores = _store_paths(store, [layer.name for layer in layers], config)
    specs = {layer.name: _spec(clips, embedding, layer, config) for layer in layers}
    summarise = Summariser(tuple(layer.width for layer in layers), config.keep_frames)
    path = store if embedding.layers else stores[""]
    with (
        LayerStores(stores, specs, shard.clip_ids, shard.paths) as writer,
        disk_full_explained(path),
    ):
        changed, gone, unread = writer.reopen(sources, config.check, config.retry_failed)
        for row in np.flatnonzero(writer.status == PENDING).tolist():
            if sources[row].path is None:
                writer.take(row, summarise(Result(None, sources[row].reason)))
        writer.commit()
        in_workers = embedding.clip_frames if embedding.in_workers else None
        work = Work(
            embedding,
            _tasks(shard, sources),
            writer.status.copy(),
            Job(embedding.sample_rate, writer.scratch, in_workers, config.on_truncated),
            config.batch_size or embedding.batch_size,
            summarise,
        )
        _run(writer, engine, work, progress)
        writer.finish()
        done, failed = (int((writer.status == code).sum()) for code in (DONE, FAILED))
        return Summary(path, done, failed, changed, gone, unread, writer.accepted, writer.failures)


def _tasks(clips: Manifest, sources: Sequence[Source]) -> list[Task | None]:
    """What is to be decoded for each clip; None where there is no file."""
    nothing = (None,) * len(clips)
    return [
        None if source.path is None else Task(source.path, start, duration, source.note)
        for source, start, duration in zip(
            sources, clips.starts or nothing, clips.durations or nothing, strict=True
        )
    ]


def _run(writer: LayerStores, engine: Engine, work: Work, progress: Progress) -> None:
    """Extract what is pending."""
    progress.found(*(int((work.status == code).sum()) for code in (DONE, FAILED)))
    if PENDING not in work.status:
        return
    with signals_deferred() as stop_if_told, closing(engine.run(work, stop_if_told)) as stream:
        for row, clip in stream:
            progress.add(writer.take(row, clip))


def _spec(clips: Manifest, embedding: Embedding, layer: Layer, config: RunConfig) -> StoreSpec:
    columns: list[tuple[Any, ...]] = [clips.clip_ids, clips.paths]
    columns += [column for column in (clips.starts, clips.durations) if any(column)]
    if any(clips.starts) and not any(clips.durations):
        columns.append(("",) * len(clips))  # else a start would read as a duration
    lines = ("\t".join(map(str, clip)) + "\n" for clip in zip(*columns, strict=True))
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    provenance: dict[str, Any] = {
        **embedding.provenance,
        **layer.provenance,
        "decoding": audio.provenance(),
        "fsprobe": version_of("fsprobe"),
    }
    if embedding.windows is not None:  # what shares a batch changes the last bits
        provenance["batch_size"] = config.batch_size or embedding.batch_size
    return StoreSpec(
        embedding=embedding.name,
        dim=layer.width,
        sample_rate=embedding.sample_rate,
        window=embedding.window,
        hop=embedding.hop,
        keep_frames=config.keep_frames,
        num_shards=config.num_shards,
        shard_index=config.shard_index,
        clips_sha256=digest,
        provenance=provenance,
    )


def _check_audio(clips: Manifest, audio_root: Path | Folder) -> None:
    """Raise InputError unless the manifest's paths lie below audio_root and a file is there."""
    check_root(audio_root)
    if not len(clips):
        raise InputError("the manifest gives no clip a split; extract.prepare sets them")
    paths: list[str] = []
    for clip, path in zip(clips.clip_ids, clips.paths, strict=True):
        try:
            paths += [check_inside(audio_root, path).as_posix()] if path else []
        except InputError as error:
            raise InputError(f"--manifest, clip {clip!r}: {error}") from None
    if not paths:
        raise InputError(
            "the manifest has no audio paths; features that you have already go through "
            "extract.import_arrays"
        )
    first = next(path for path in clips.paths if path)
    here = isinstance(audio_root, Path) and any((audio_root / path).exists() for path in paths)
    # of an object store a few, from all over
    some = [first] if isinstance(audio_root, Path) else paths[:: max(1, len(paths) // 20)]
    if not here and all(source.path is None for source in locate(audio_root, some)):
        raise InputError(
            f"--audio_root={audio_root}: none of the {len(paths)} files of the manifest is there, "
            f"{first!r} for one; is it the right directory?"
        )


def _store_paths(store: Path, layers: Sequence[str], config: RunConfig) -> dict[str, Path]:
    """Where each layer goes; a layer without a name, which is then the only one, into `store`."""
    if layers == [""]:
        return {"": _shard_path(store, config)}
    if (store / "store.json").exists() or find_shards(store):
        raise InputError(
            f"{store}: is a store; several layers need a directory that holds a store for each"
        )
    return {layer: _shard_path(store / layer, config) for layer in layers}


def _shard_path(store: Path, config: RunConfig) -> Path:
    totals = {total for _, total in find_shards(store)}
    totals |= {1} if (store / "store.json").exists() else set()
    if others := totals - {config.num_shards}:
        raise InputError(
            f"{store}: holds a store in {max(others)} shard(s), not {config.num_shards}; give that "
            "--num_shards, or another --store"
        )
    if config.num_shards == 1:
        return store
    return store / shard_name(config.shard_index, config.num_shards)
