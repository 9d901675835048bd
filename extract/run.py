"""Extract an embedding of every clip of a manifest into a store.

    python -m extract.run --manifest=manifest.csv --audio_root=audio --embedding=logmel \\
        --store=stores/logmel

Clips with an empty split are left out: they are never used. The same command again goes on where
this one was stopped, in whatever way. A clip that cannot be decoded is listed in STORE/failures.csv
with the reason, the run goes on and ends with exit code 1; a file that changes afterwards is
extracted again by the same command, and --retry_failed tries all that failed again. What is odd
but no failure is listed in STORE/notes.csv. On a cluster, --num_shards=8 --shard_index=0 … 7 run as
eight jobs into one store. Check a store with extract.verify.
"""

import dataclasses
import sys
from typing import Any

from absl import flags

from extract import embeddings, model_flags
from extract.datasets import magnatagatune
from extract.embeddings import Embedding, registry
from extract.errors import InputError
from extract.manifest import Manifest, read_manifest
from extract.pipeline import engines
from extract.pipeline.extract_clips import ON_TRUNCATED, RunConfig, extract_clips
from extract.pipeline.sources import CHECKS
from extract.shell import run

DEFAULTS = RunConfig()

flags.DEFINE_string("manifest", None, "manifest.csv of extract.prepare.")
flags.DEFINE_string(
    "audio_root",
    None,
    "Directory that the manifest's paths are relative to, or an address: s3://, gs://, hf:// "
    "(pip install 'fsprobe[remote]'; credentials by their libraries' own ways), file://.",
)
flags.DEFINE_string("embedding", None, f"One of {', '.join(embeddings.NAMES)}.")
flags.DEFINE_string("store", None, "Directory of the store: made, or resumed.")
flags.DEFINE_integer("num_workers", DEFAULTS.num_workers, "Decoding processes of --engine=local.")
flags.DEFINE_integer(
    "batch_size", DEFAULTS.batch_size, "Windows per batch; 0 leaves it to the embedding."
)
flags.DEFINE_bool("keep_frames", DEFAULTS.keep_frames, "Store the frames too, as float16.")
flags.DEFINE_integer("num_shards", DEFAULTS.num_shards, "Jobs that share the work.")
flags.DEFINE_integer(
    "shard_index",
    DEFAULTS.shard_index,
    "Which of them this is, from 0; -1: all, one after the other.",
)
flags.DEFINE_bool("retry_failed", DEFAULTS.retry_failed, "Try clips again that failed before.")
flags.DEFINE_enum(
    "on_truncated",
    DEFAULTS.on_truncated,
    ON_TRUNCATED,
    "A file that is damaged, or holds less audio than it states: the clip fails, or what is left "
    "is accepted and listed in STORE/notes.csv.",
)
flags.DEFINE_enum(
    "check",
    DEFAULTS.check,
    CHECKS,
    "Files that changed since they were extracted are extracted again: found by size and time, or "
    "by hash, which reads them all.",
)
flags.DEFINE_enum(
    "engine",
    DEFAULTS.engine,
    engines.NAMES,
    "Who runs it: worker processes of this machine, or Ray (pip install 'fsprobe[ray]').",
)
flags.DEFINE_string(
    "ray_address",
    DEFAULTS.ray_address,
    "With --engine=ray: the cluster to join, HOST:PORT, or auto for the one of this machine. "
    "Default: what RAY_ADDRESS names, else a cluster of this command's own on this machine.",
)
for option, _ in registry.options().values():
    model_flags.define(option)
flags.adopt_module_key_flags(model_flags)  # --help lists this module's
FLAGS = flags.FLAGS


def main() -> int:
    for name in ("manifest", "audio_root", "embedding", "store"):
        if FLAGS[name].value is None:
            raise InputError(f"--{name} is missing; see --help")
    fields: dict[str, Any] = {
        field.name: FLAGS[field.name].value for field in dataclasses.fields(RunConfig)
    }
    config = RunConfig(**fields)
    engine = engines.build(config.engine, config.num_workers, config.ray_address)
    manifest = read_manifest(FLAGS.manifest)
    try:
        with engine:  # before the embedding, and with it JAX, starts
            embedding = embeddings.build(FLAGS.embedding, **model_flags.given(FLAGS.embedding))
            warn_of_seen_tags(embedding, manifest)
            summary = extract_clips(
                manifest, FLAGS.audio_root, embedding, FLAGS.store, config, engine
            )
    except KeyboardInterrupt:
        print(
            f"stopped; finished clips are kept in {FLAGS.store}, the same command goes on from "
            f"there",
            file=sys.stderr,
        )
        raise
    if summary.changed:
        print(
            f"{summary.changed} clips' files had changed since they were extracted: extracted again"
        )
    if summary.unread:
        print(f"{summary.unread} clips had failed before their file was read: tried again")
    if summary.gone:
        print(
            f"{summary.gone} clips' files are not there any more; what was made from them is kept"
        )
    print(f"{embedding.name}: {summary.done} clips in {summary.path}")
    if summary.accepted and FLAGS.on_truncated == "fail":
        print(
            f"{summary.accepted} of them are truncated: a run with --on_truncated=accept took what "
            "was left; notes.csv lists them",
            file=sys.stderr,
        )
    if summary.failed:
        print(
            f"{summary.failed} of {summary.done + summary.failed} clips failed, for reasons in "
            f"{summary.failures}; --retry_failed tries them again",
            file=sys.stderr,
        )
    return 1 if summary.failed else 0


def warn_of_seen_tags(embedding: Embedding, manifest: Manifest) -> None:
    """Say so where the weights have seen the tags that they are to be tried on."""
    if embedding.trained_on != magnatagatune.NAME:
        return
    if count := magnatagatune.num_resembling(manifest, embedding.trained_tags):
        print(
            f"warning: {count} of {len(manifest)} clips seem to be {magnatagatune.NAME}'s, and "
            f"{embedding.provenance['model']} was trained on its tags: few-shot results on them "
            "are not fair; --musicnn_model=MSD_musicnn was trained on others",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run(main)
