"""From audio straight to features, as the tagger's own stores were made.

The models live in `extract`, which fsprobe does not import: its commands run as child processes,
with the embedding and the options that the tagger recorded.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from extract.errors import InputError
from extract.files import read_csv
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

# Options of extract.run that are part of what an embedding's numbers are, as --openl3_variant.
_OPTIONS = {
    "openl3": ("variant",),
    "passt": ("mode", "window", "hop"),
    "musicnn": ("model", "layer", "tail", "window", "hop"),
}

# Those of every embedding that has a network, recorded where they are not the default, or a choice.
_OF_NETWORKS = ("precision", "backend")


def _option(source: Source, key: str) -> Any:
    """What the store was made with; None where it does not say, or the model has no choice: window
    and hop of a scene of PaSST, the window of a VGG.
    """
    if key not in ("window", "hop"):
        return source.provenance.get(key)
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


def manifest_of(root: Path, paths: Sequence[str], seconds: float, work: Path) -> Manifest:
    """A clip per file, named by its path; or clips of `seconds` of every file, by extract.prepare,
    whose track is the file. They have a split, because extract.run leaves out clips without.
    """
    count = len(paths)
    files = Manifest(tuple(paths), tuple(paths), ("test",) * count, ((),) * count)
    if not seconds:
        return files
    listed, out = work / "files.csv", work / "manifest.csv"
    write_manifest(listed, files)
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
    keys = _OPTIONS.get(source.embedding, ())
    found = {f"{source.embedding}_{key}": _option(source, key) for key in keys}
    found |= {flag: source.provenance.get(flag) for flag in _OF_NETWORKS}
    weights = source.provenance.get("weights")
    if isinstance(weights, str) and weights.startswith("random, seed "):
        found["random_weights"] = weights.removeprefix("random, seed ")
    return {flag: value for flag, value in found.items() if value is not None}


def _run(module: str, may_fail: bool = False, **flags: Any) -> int:
    """Run a command of `extract` with this Python; its messages go where ours go."""
    command = [sys.executable, "-m", module, *(f"--{key}={flags[key]}" for key in flags)]
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if code and not (may_fail and code == SOME_FAILED):
        raise InputError(f"{module} ended with code {code}; its message is above")
    return code
