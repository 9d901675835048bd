"""What run.json says of a sweep: what determines its rows, and what it ran on."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import fsprobe
from extract.manifest import SPLITS, Manifest
from extract.store import Store
from fsprobe.config import SweepConfig


def identity(config: SweepConfig, stores: Mapping[str, Store]) -> dict[str, Any]:
    """What determines the rows: files by content, not by place."""
    return {"manifest_sha256": hashlib.sha256(Path(config.manifest).read_bytes()).hexdigest(),
            "stores": [[name, _store_sha256(store)] for name, store in stores.items()],
            "embeddings": config.embeddings, "missing": config.missing,
            "grid": asdict(config.grid), "solver": asdict(config.solver)}


def about(config: SweepConfig, stores: Mapping[str, Store], manifest: Manifest,
          flags: Mapping[str, Any]) -> dict[str, Any]:
    """The rest: flags, data, versions, devices."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {"flags": dict(flags),
            "dataset": {"name": config.dataset, "num_tags": len({tag for tags in manifest.tags for tag in tags}),
                        "clips": {split: manifest.splits.count(split) for split in SPLITS if split}},
            "combined_parts": [[name, store.features_framenorm.shape[1]] for name, store in stores.items()],
            "versions": {"fsprobe": fsprobe.__version__, "python": sys.version.split()[0],
                         **{name: version(name) for name in packages}},
            "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
            "git_commit": _git_commit()}


def _store_sha256(store: Store) -> str:
    """Of the recorded checksums of a complete store, else of the arrays themselves."""
    digest = hashlib.sha256()
    if checksums := store.meta.get("checksums"):
        digest.update(json.dumps(checksums, sort_keys=True).encode())
    else:
        for file in sorted(file for file in store.path.rglob("*") if file.suffix in (".npy", ".txt")):
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _git_commit() -> str | None:
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() or None
