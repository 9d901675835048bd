"""Vectors from a sentence encoder that does not know every tag."""

from collections.abc import Sequence

import numpy as np
import pytest

from extract.errors import InputError
from extract.word_vectors import minilm, sources
from extract.word_vectors.sources import Config, obtain


class AsciiEncoder:
    """Knows letters of ASCII alone; a text's vector counts a few of them."""

    def __init__(self, wheel: str) -> None:
        pass

    def knows(self, text: str) -> bool:
        return text.isascii()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        counts = [[1 + text.count(letter) for letter in "aeo"] for text in texts]
        return minilm.unit(np.array(counts, np.float32).reshape(len(texts), 3))


@pytest.fixture(autouse=True)
def ascii_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "Encoder", AsciiEncoder)
    monkeypatch.setattr(sources, "fetch_wheel", lambda *arguments: "")


@pytest.mark.parametrize("prompt", [None, ("{}", "music with {}")])
def test_a_tag_of_unknown_signs_has_no_vector(prompt: tuple[str, ...] | None) -> None:
    found, _ = obtain(Config("minilm", prompt), ["rock", "♥", "jazz"])
    assert (found.tags, found.missing) == (("rock", "jazz"), ("♥",))
    assert found.vectors.shape == (2, 3)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("prompt", [None, ("{}", "music with {}")])
def test_unknown_signs_alone_are_said_in_one_line(prompt: tuple[str, ...] | None) -> None:
    with pytest.raises(InputError, match=r"minilm: none of the 2 tags \('♥', '🎸', …\)") as how:
        obtain(Config("minilm", prompt), ["♥", "🎸"])
    assert "\n" not in str(how.value)
