"""Writes a directory of word vectors: vectors.npy float32 `[tag, dim]`, tags.txt, words.json.

words.json comes last, so that a directory that has it is whole.
"""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np

from extract.files import atomic_write, make_directory, sha256_of
from extract.word_vectors.lookup import TagVectors

FORMAT_VERSION = 1


def write_words(out: str | Path, found: TagVectors, origin: dict[str, Any]) -> None:
    """origin: what words.json says about where the vectors come from: source, version, licence,
    sha256, prompt.
    """
    out = Path(out)
    make_directory(out)
    (out / "words.json").unlink(missing_ok=True)
    with atomic_write(out / "vectors.npy", binary=True) as file:
        np.save(file, found.vectors, allow_pickle=False)
    with atomic_write(out / "tags.txt") as file:
        file.writelines(f"{tag}\n" for tag in found.tags)
    meta = {
        "format_version": FORMAT_VERSION,
        **origin,
        "dim": found.vectors.shape[1],
        "tags": len(found.tags),
        "missing": list(found.missing),
        "spelling": found.spelling,
        "partial": {tag: list(words) for tag, words in found.partial.items()},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "checksums": {name: sha256_of(out / name) for name in ("vectors.npy", "tags.txt")},
    }
    with atomic_write(out / "words.json") as file:
        json.dump(meta, file, indent=1, ensure_ascii=False)
        file.write("\n")
