"""Reading a directory of word vectors."""

import json
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError
from extract.word_vectors.directory import write_words
from extract.word_vectors.lookup import TagVectors
from fsprobe.words.vectors import load_words, near_synonyms, vectors_of

VECTORS = np.array([[3, 4], [0, 2], [0, 0]], np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = TagVectors(("rock", "hip hop", "nothing"), VECTORS, ("polka",))
    write_words(tmp_path / "words", found, {"source": "mine", "prompt": []})
    return tmp_path / "words"


def test_rows_follow_the_tags_asked_for(folder):
    vectors, known = vectors_of(load_words(folder), ["hip hop", "polka", "rock", "nothing"])
    np.testing.assert_allclose(vectors, [[0, 1], [0, 0], [0.6, 0.8], [0, 0]], atol=1e-7)
    assert vectors.dtype == np.float32
    assert known.tolist() == [True, False, True, False]


def test_no_tag_in_common(folder):
    with pytest.raises(InputError, match="none of the 2 tags has a vector"):
        vectors_of(load_words(folder), ["polka", "waltz"])


def spoil_json(folder: Path) -> None:
    (folder / "words.json").write_text("{")


def spoil_rows(folder: Path) -> None:
    np.save(folder / "vectors.npy", VECTORS[:2])


def spoil_values(folder: Path) -> None:
    np.save(folder / "vectors.npy", VECTORS + 1)


def spoil_tags(folder: Path) -> None:
    (folder / "tags.txt").write_text("rock\nrock\nnothing\n")


def not_finite(folder: Path) -> None:
    np.save(folder / "vectors.npy", np.where(VECTORS == 2, np.nan, VECTORS))
    meta = json.loads((folder / "words.json").read_text())
    (folder / "words.json").write_text(json.dumps(meta | {"checksums": {}}))


def no_row(folder: Path) -> None:
    np.save(folder / "vectors.npy", VECTORS[:0])
    (folder / "tags.txt").write_text("")


def texts(folder: Path) -> None:
    np.save(folder / "vectors.npy", np.full((3, 2), "x"))


def no_checksums(folder: Path) -> None:
    meta = json.loads((folder / "words.json").read_text())
    (folder / "words.json").write_text(json.dumps(meta | {"checksums": None}))


def half_written(folder: Path) -> None:
    (folder / "words.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_json, "not readable as word vectors"),
        (spoil_rows, r"3 tags, but vectors float32 \(2, 2\)"),
        (no_row, r"0 tags, but vectors float32 \(0, 2\)"),
        (texts, r"3 tags, but vectors <U1 \(3, 2\)"),
        (no_checksums, "words.json: not what extract.words writes"),
        (spoil_values, "not what words.json was written with"),
        (spoil_tags, "'rock' stands twice"),
        (not_finite, "the vector of 'hip hop' is not finite"),
        (half_written, "words.json: no such file"),
    ],
)
def test_what_is_not_whole_is_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message):
        load_words(folder)


def test_near_synonyms():
    alike = [("no vocal", "no vocals"), ("Hip-Hop", "hip hop"), ("violin", "violins")]
    alike += [("clasical", "classical"), ("woman", "women"), ("wierd", "weird"), ("rock", "rocks")]
    apart = [("hard", "harp"), ("male", "female"), ("classic", "classical"), ("slow", "low")]
    apart += [("dance", "trance"), ("piano", "guitar"), ("♥", "!!!"), ("♥", "s"), ("s", "ss")]
    apart += [("!!!!!", "!!!!!!")]
    for pair in alike:
        assert near_synonyms(pair)[0, 1], pair
    for pair in apart:
        assert not near_synonyms(pair)[0, 1], pair
    near = near_synonyms([tag for pair in alike for tag in pair])
    assert (near == near.T).all() and not near.diagonal().any()
    assert near.sum() == 2 * len(alike)
