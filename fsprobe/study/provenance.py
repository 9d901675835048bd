"""What run.json records of a sweep: what determines its rows, and what it ran on."""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import fsprobe
from extract.errors import InputError
from extract.files import sha256_of
from extract.manifest import SPLITS, Manifest
from extract.store import Store, open_store
from fsprobe.config import SweepConfig, to_json
from fsprobe.labels import tag_pool

_READ = ("features.npy", "features_framenorm.npy", "clip_ids.txt", "status.npy")


def identity(
    config: SweepConfig, stores: Mapping[str, Store], manifest: Manifest
) -> dict[str, Any]:
    """What determines the rows: files by content, not by place."""
    added = _of_words(config) | _of_tags(config, manifest)
    return added | {
        "manifest_sha256": sha256_of(config.manifest),
        "stores": [[name, _store_sha256(store)] for name, store in stores.items()],
        "embeddings": list(config.embeddings),
        "missing": config.missing,
        "weight_norms": config.weight_norms,
        "save_heads": config.save_heads,
        "grid": to_json(config.grid),
        "solver": to_json(config.solver),
    }


def _of_tags(config: SweepConfig, manifest: Manifest) -> dict[str, Any]:
    """The pool's tags, where a file names them; else the manifest tells them, as it tells their
    order.
    """
    if not config.grid.tags.startswith("file:"):
        return {}
    tags = "\n".join(sorted(tag_pool(manifest, config.grid.tags)))
    return {"tags_sha256": hashlib.sha256(tags.encode()).hexdigest()}


def _of_words(config: SweepConfig) -> dict[str, Any]:
    """What words add; nothing where there are none, as in sweeps of older versions."""
    words = config.words
    if not words.directory:
        return {}
    settings = to_json(words)
    settings["directory"] = [
        sha256_of(Path(words.directory) / name) for name in ("vectors.npy", "tags.txt")
    ]
    if words.test_manifest:
        settings["test_manifest"] = sha256_of(words.test_manifest)
        settings["test_stores"] = [
            [name, _store_sha256(open_store(path))] for name, path in words.test_stores
        ]
    return {"words": settings}


def about(
    config: SweepConfig, stores: Mapping[str, Store], manifest: Manifest, flags: Mapping[str, Any]
) -> dict[str, Any]:
    """The rest: flags, data, versions, devices."""
    return {
        "flags": dict(flags),
        "dataset": {
            "name": config.dataset,
            "num_tags": len({tag for tags in manifest.tags for tag in tags}),
            "clips": {split: manifest.splits.count(split) for split in SPLITS if split},
        },
        "combined_parts": [
            [name, store.features_framenorm.shape[1]] for name, store in stores.items()
        ],
        "versions": {
            "fsprobe": fsprobe.__version__,
            "python": sys.version.split()[0],
            **{name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        },
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "git_commit": _git_commit(),
    }


def check_unchanged(stores: Iterable[Store]) -> None:
    """Raise InputError where a store's arrays have changed since it was completed.

    For resumed sweeps, whose rows from before and after a change must not mix. It reads the stores
    whole, so a first run does without it.
    """
    for store in stores:
        for name, recorded in (store.meta.get("checksums") or {}).items():
            if Path(name).name in _READ and sha256_of(store.path / name) != recorded:
                raise InputError(
                    f"{store.path / name}: not what it was when the store was completed; extract "
                    "or import it again, and sweep into another `out`"
                )


def _store_sha256(store: Store) -> str:
    """Of the recorded checksums of a complete store, else of the arrays themselves."""
    sums = store.meta.get("checksums") or {
        file.relative_to(store.path).as_posix(): sha256_of(file)
        for name in _READ
        for file in sorted(store.path.rglob(name))
    }
    return hashlib.sha256(
        "".join(f"{name} {sums[name]}\n" for name in sorted(sums)).encode()
    ).hexdigest()


def _git_commit() -> str | None:
    """Of the checkout that this file lies in, with `-dirty` where it was changed since; None
    outside of one.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() or None
