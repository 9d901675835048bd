"""By which words a tag gets its vector."""

import numpy as np
import pytest

from extract.word_vectors.lookup import LAST_CORRECT, one_edit_away, tag_vectors

TABLE = ["the", "no", "rock", "classical", "hip-hop", "hip", "hop", "new_age", "new", "age"]
TABLE += ["Bach", "IDM", "harpsichord", "clasnical", "heavy", "metal", "by", "vocals"]
VECTORS = {word: np.array([i + 1, (i + 1) ** 2], np.float32) for i, word in enumerate(TABLE)}


def find(words):
    assert not isinstance(words, str)
    return {word: (i, VECTORS[word]) for i, word in enumerate(TABLE) if word in words}


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("rock", ["rock"]),
        ("Rock", ["rock"]),
        ("bach", ["Bach"]),
        ("idm", ["IDM"]),
        ("hip hop", ["hip-hop"]),
        ("New Age", ["new_age"]),
        ("heavy metal", ["heavy", "metal"]),
        ("heavy/metal", ["heavy", "metal"]),
        ("no vocals", ["no", "vocals"]),
        ("no", ["no"]),
        ("metal metal rock", ["metal", "metal", "rock"]),
        ("clasical", ["classical"]),  # earlier in the table than clasnical
        ("Harpsicord", ["harpsichord"]),
        ("heavy clasical", ["heavy", "classical"]),
    ],
)
def test_a_tag_is_the_mean_of_its_words(tag, words):
    found = tag_vectors([tag], find)
    assert found.tags == (tag,) and found.missing == () and not found.partial
    np.testing.assert_array_equal(found.vectors, [np.mean([VECTORS[w] for w in words], axis=0)])
    assert found.vectors.dtype == np.float32


@pytest.mark.parametrize(
    "tag",
    ["polka", "by maxstack", "no", "the", "rokc", "lassical", "…", "clxssicxl", "🎸", "x1assical"],
)
def test_what_has_no_vector(tag):
    """Unknown words, little words alone, short misspelt words, a wrong first letter, two edits."""
    table = lambda words: {w: hit for w, hit in find(words).items() if w not in ("no", "the")}  # noqa: E731
    found = tag_vectors(["rock", tag], table)
    assert found.tags == ("rock",) and found.missing == (tag,)
    assert found.vectors.shape == (1, 2)


def test_misspelt_and_half_known_tags_are_told():
    found = tag_vectors(["clasical", "heavy zither", "rock", "polka"], find)
    assert found.spelling == {"clasical": "classical"}
    assert found.partial == {"heavy zither": ("zither",)}
    assert found.missing == ("polka",)
    np.testing.assert_array_equal(found.vectors[1], VECTORS["heavy"])


def test_whole_tags_alone_where_the_table_holds_tags():
    found = tag_vectors(["heavy metal", "clasical", "Rock", "hip hop"], find, words=False)
    assert found.tags == ("Rock", "hip hop")


def test_rare_words_of_a_long_table_explain_no_spelling():
    def late(words):
        return {w: (i + LAST_CORRECT, VECTORS[w]) for i, w in enumerate(TABLE) if w in words}

    found = tag_vectors(["clasical", "rock"], late)
    assert found.missing == ("clasical",)


def test_one_edit_away():
    strings = set(one_edit_away("abc"))
    assert {"ac", "ab", "abbc", "abcd", "azc", "acb"} <= strings
    assert not {"bc", "bac", "xbc", "abc de", "a", "abcde"} & strings
    assert all(string.startswith("a") for string in strings)
