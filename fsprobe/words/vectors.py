"""Word vectors of tags, as `extract.words` writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.errors import InputError
from extract.files import sha256_of


class Words(NamedTuple):
    """vectors: float32 `[tag, dim]`, finite, a row for each of `tags`. meta: words.json."""

    tags: tuple[str, ...]
    vectors: np.ndarray
    meta: dict[str, Any]


def load_words(path: str | Path) -> Words:
    """Read a directory of extract.words. Raises InputError if it is not whole."""
    path = Path(path)
    again = "make it again with extract.words"
    try:
        meta = json.loads((path / "words.json").read_text("utf-8"))
        tags = tuple((path / "tags.txt").read_text("utf-8").splitlines())
        vectors = np.load(path / "vectors.npy", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file; {again}") from error
    except (ValueError, EOFError) as error:  # JSON, UTF-8 or NumPy's
        raise InputError(f"{path}: not readable as word vectors ({error}); {again}") from error
    checksums = meta.get("checksums", {}) if isinstance(meta, dict) else None
    if not isinstance(checksums, dict):
        raise InputError(f"{path / 'words.json'}: not what extract.words writes; {again}")
    if vectors.ndim != 2 or not 0 < len(tags) == len(vectors) or vectors.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: {len(tags)} tags, but vectors {vectors.dtype} {vectors.shape}; {again}"
        )
    if len(set(tags)) < len(tags):
        twice = next(tag for tag in tags if tags.count(tag) > 1)
        raise InputError(f"{path}/tags.txt: {twice!r} stands twice; {again}")
    for name, digest in checksums.items():
        if name in ("vectors.npy", "tags.txt") and sha256_of(path / name) != digest:
            raise InputError(f"{path / name}: not what words.json was written with; {again}")
    vectors = vectors.astype(np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise InputError(f"{path}: the vector of {tags[int(np.argmin(finite))]!r} is not finite")
    return Words(tags, vectors, meta)


def vectors_of(words: Words, tags: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(float32 `[tag, dim]` of length 1 each, bool `[tag]`): rows for `tags`, zeros and False where
    there is no vector, or one of zeros. Raises InputError if no tag has one.
    """
    rows = {tag: row for row, tag in enumerate(words.tags)}
    places = np.array([rows.get(tag, -1) for tag in tags], int)
    vectors = np.where(places[:, None] >= 0, words.vectors[places], 0.0).astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = norms[:, 0] > 0
    if not known.any():
        raise InputError(
            f"words {words.meta.get('source', '')!r}: none of the {len(tags)} tags has a vector; "
            "make them for this manifest with extract.words"
        )
    return vectors / np.where(norms > 0, norms, 1.0), known


def near_synonyms(tags: Sequence[str]) -> np.ndarray:
    """bool `[tag, tag]`: pairs of tags that are one word twice, by their letters alone: but for
    case, blanks and signs they differ by a plural s, or by one edit where both have five letters.
    A tag is not its own synonym, and one of signs alone ("♥") is nobody's.
    """
    plain = ["".join(sign for sign in tag.lower() if sign.isalnum()) for tag in tags]
    near = np.zeros((len(tags), len(tags)), bool)
    for i, first in enumerate(plain):
        for j in range(i):
            near[i, j] = near[j, i] = bool(first and plain[j]) and _alike(first, plain[j])
    return near


def _alike(first: str, second: str) -> bool:
    if (first.rstrip("s") or first) == (second.rstrip("s") or second):
        return True
    short, long = sorted((first, second), key=len)
    if len(short) < 5 or len(long) > len(short) + 1:
        return False
    same = next(
        (i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short)
    )
    if len(short) == len(long):
        swapped = short[same + 1 : same + 2] + short[same : same + 1] + short[same + 2 :]
        return short[same + 1 :] == long[same + 1 :] or swapped == long[same:]
    return short[same:] == long[same + 1 :]
