"""From audio straight to features, as the tagger's own stores were made.

The models live in `extract`, which fsprobe does not import: its commands run as child processes,
with the embedding and the options that the tagger recorded.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from extract.errors import InputError
from extract.files import make_directory, read_csv
from extract.manifest import (
    AUDIO_SUFFIXES,
    Manifest,
    audio_files,
    read_manifest,
    write_manifest,
)
from extract.store import Store, open_store
from fsprobe.tagger.tagger import Source, Tagger

SHORTEST = 0.1  # seconds of a clip that files are cut into; 36,000 of them are an hour
SOME_FAILED = 1  # exit code of extract.run where some clips could not be decoded

# Options of extract.run that are part of what an embedding's numbers are: flag → value, or None.
_OPTIONS: dict[str, dict[str, Callable[[Source], Any]]] = {
    "openl3": {"openl3_variant": lambda source: source.provenance.get("variant")},
    "passt": {
        "passt_mode": lambda source: source.provenance.get("mode"),
        "passt_window": lambda source: _setting(source, "window"),
        "passt_hop": lambda source: _setting(source, "hop"),
    },
    "musicnn": {
        "musicnn_model": lambda source: source.provenance.get("model"),
        "musicnn_layer": lambda source: source.provenance.get("layer"),
        "musicnn_tail": lambda source: source.provenance.get("tail"),
        "musicnn_window": lambda source: _setting(source, "window"),
        "musicnn_hop": lambda source: _setting(source, "hop"),
    },
}

# Those of every embedding that has a network, recorded where they are not the default, or a choice.
_OF_NETWORKS = ("precision", "backend")


def _setting(source: Source, key: str) -> Any:
    """Seconds; None where the model has no choice: a scene of PaSST, a window of VGG."""
    fixed = source.provenance.get("mode") == "scene"
    fixed |= key == "window" and str(source.provenance.get("model")).endswith("vgg")
    return None if fixed else source.settings.get(key)


def find_audio(path: Path) -> tuple[Path, list[str]]:
    """(root, paths below it) of a file or of all audio in a folder, in order, as extract.prepare
    finds it. Raises InputError if there is none.
    """
    if path.is_file():
        return path.parent, [path.name]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    found = audio_files(path)
    if not found:
        raise InputError(f"{path}: no audio below it ({', '.join(sorted(AUDIO_SUFFIXES))})")
    return path, found


def manifest_of(paths: Sequence[str]) -> Manifest:
    """A clip per file, named by its path; a split, because extract.run leaves out clips without."""
    count = len(paths)
    return Manifest(tuple(paths), tuple(paths), ("test",) * count, ((),) * count)


def segmented(root: Path, paths: Sequence[str], seconds: float, work: Path) -> Manifest:
    """Clips of `seconds` of every file, by extract.prepare; their track is the file."""
    make_directory(work)
    listed, out = work / "files.csv", work / "manifest.csv"
    write_manifest(listed, manifest_of(paths))
    flags: dict[str, Any] = {"dataset": "folder", "tags": listed, "audio_root": root, "out": out}
    _run("extract.prepare", **flags, segment_seconds=seconds, segments="all")
    return read_manifest(out)


def extract(
    tagger: Tagger,
    manifest: Manifest,
    root: Path,
    work: Path,
    given: Mapping[str, Any],
) -> tuple[dict[str, Store], dict[str, str]]:
    """(the tagger's stores for these clips, made below `work`; clips that failed in one → why).

    given: further options of extract.run, such as weights. Raises InputError if extract.run fails.
    """
    make_directory(work)
    path = work / "manifest.csv"
    write_manifest(path, manifest)
    stores: dict[str, Store] = {}
    failed: dict[str, str] = {}
    for source in tagger.sources:
        if "key" in source.provenance or source.aggregation == "none":
            raise InputError(
                f"the tagger's features {source.name!r} were imported (embedding "
                f"{source.embedding!r}), nothing here makes them from audio; give --store"
            )
        store = work / source.name
        code = _run(
            "extract.run",
            may_fail=True,
            manifest=path,
            audio_root=root,
            embedding=source.embedding,
            store=store,
            **options(source),
            **given,
        )
        stores[source.name] = open_store(store)
        if code == SOME_FAILED:
            rows = read_csv(store / "failures.csv", ("clip_id", "reason"))
            failed |= {row["clip_id"]: row["reason"] for _, row in rows}
    return stores, failed


def options(source: Source) -> dict[str, Any]:
    """The model's flags of extract.run that give the numbers of `source`."""
    found = {flag: value(source) for flag, value in _OPTIONS.get(source.embedding, {}).items()}
    found |= {flag: source.provenance.get(flag) for flag in _OF_NETWORKS}
    weights = source.provenance.get("weights")
    if isinstance(weights, str) and weights.startswith("random, seed "):
        found["random_weights"] = weights.removeprefix("random, seed ")
    return {flag: value for flag, value in found.items() if value is not None}


def _run(module: str, may_fail: bool = False, **flags: Any) -> int:
    """Run a command of `extract` with this Python; its messages go where ours go."""
    command = [
        sys.executable,
        "-m",
        module,
        *(f"--{name}={value}" for name, value in flags.items()),
    ]
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if code and not (may_fail and code == SOME_FAILED):
        raise InputError(f"{module} ended with code {code}; its message is above")
    return code
