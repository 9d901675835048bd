"""extract.manifests.tags: lists, missing values and spellings, as people's tables have them."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import InputError
from extract.manifests.tags import TagStyle, clean, doubts, fold, one_spelling, read_tags

# What people write, and what an invisible or a look-alike character does to it.
PAIRS = [
    ("Rock", "rock"),
    ("rock", " rock "),
    ("hip hop", "hip\u00a0hop"),
    ("hip hop", "hip  hop"),
    ("Café", "Cafe\u0301"),
    ("rock", "rock\u200b"),
    ("rock", "\ufeffrock"),
    ("rock", "ro\u00adck"),
    ("Straße", "STRASSE"),
    ("ｒｏｃｋ", "rock"),
    ("ﬁddle", "fiddle"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_spellings_of_one_name(one, other):
    assert fold(one) == fold(other)
    (sentence,) = doubts({one: 3, other: 4}, TagStyle())
    assert "differ only in case, blanks, Unicode form or invisible characters" in sentence
    assert sentence.endswith("--normalize_tags makes them one")
    first, second = sentence.removeprefix("the tags ").split(" differ")[0].split(" and ")
    assert first != second and (first + second).isprintable()
    style = TagStyle(normalize=True)
    assert read_tags(one, style, "") == read_tags(other, style, "") == (fold(one),)
    assert doubts({fold(one): 7}, style) == []


@pytest.mark.parametrize(
    ("one", "other"), [("rock", "rocks"), ("hip hop", "hip-hop"), ("60s", "70s"), ("C", "C#")]
)
def test_other_names_stay_apart(one, other):
    assert fold(one) != fold(other)
    assert doubts({one: 3, other: 4}, TagStyle()) == []


@given(st.text(max_size=8))
def test_folding_twice_changes_nothing(text):
    assert fold(fold(text)) == fold(text) == fold(clean(text))
    assert clean(clean(text)) == clean(text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert fold(unicodedata.normalize(form, text)) == fold(text)


@pytest.mark.parametrize(
    ("text", "separator", "tags"),
    [
        ("rock|jazz", "|", ("rock", "jazz")),
        ("", "|", ()),
        ("rock, jazz", ",", ("rock", "jazz")),
        ("rock,jazz,rock,", ",", ("rock", "jazz")),
        (" ; rock ;jazz", ";", ("rock", "jazz")),
        ("rock / pop", " / ", ("rock", "pop")),
        ("rock, jazz", "|", ("rock, jazz",)),
        (str(["rock", "jazz"]), "list", ("rock", "jazz")),
        (str(("rock",)), "list", ("rock",)),
        (str(["rock 'n' roll", 'a "b"']), "list", ("rock 'n' roll", 'a "b"')),
        (str(np.array(["rock", "jazz"])), "list", ("rock", "jazz")),
        ('["rock", null, "jazz"]', "list", ("rock", "jazz")),
        (str([np.nan, "rock"]), "list", ("rock",)),
        ("[rock, jazz]", "list", ("rock", "jazz")),
        ("[]", "list", ()),
        ("rock", "list", ("rock",)),
        ("", "list", ()),
    ],
)
def test_separators(text, separator, tags):
    assert read_tags(text, TagStyle(separator), "") == tags


@pytest.mark.parametrize(
    ("text", "style", "complaint"),
    [
        ("rock| jazz", TagStyle(), "tag ' jazz' .*--normalize_tags mends blanks"),
        ("rock||jazz", TagStyle(), "t.csv, line 2: tag ''"),
        ("rock, a|b", TagStyle(","), "t.csv, line 2: tag 'a|b' holds a"),
        ("[['rock'], ['jazz']]", TagStyle("list"), "t.csv, line 2: .* is not read as a list"),
        ("['rock', open('x')]", TagStyle("list"), "is not read as a list of tags"),
    ],
)
def test_refused(text, style, complaint):
    with pytest.raises(InputError, match=complaint.replace("|", r"\|")):
        read_tags(text, style, "t.csv, line 2")
    with pytest.raises(InputError, match="--tag_separator is empty"):
        TagStyle("")


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "NULL", "N/A", "<NA>", "-"])
def test_missing_values(missing):
    (sentence,) = doubts({missing: 8, "rock": 2}, TagStyle())
    assert f"the tag {missing!r} (8 clips) looks like a missing value" in sentence
    assert "--normalize_tags" in sentence
    assert read_tags(f"{missing}|Rock", TagStyle(normalize=True), "") == ("rock",)


@pytest.mark.parametrize(
    ("tag", "flag"),
    [
        ("rock, jazz", "--tag_separator=,"),
        ("rock;jazz", "--tag_separator=';'"),
        ("['rock', 'jazz']", "--tag_separator=list"),
        ("['rock' 'jazz']", "--tag_separator=list"),
        ('{"rock"}', "--tag_separator=list"),
        ("['rock'", "--tag_separator=list"),  # after --tag_separator=,
    ],
)
def test_tags_that_look_like_lists(tag, flag):
    (sentence,) = doubts({tag: 8, "rock": 1}, TagStyle())
    assert f"the tag {tag!r} (8 clips) looks like a list" in sentence
    assert sentence.endswith(flag)


def test_sentences_are_one_a_kind_and_short():
    lists = {f"rock {i}, jazz{' and blues' * 50}": 100 + i for i in range(500)}
    spelt = {f"{text}{i}": 1 for i in range(500) for text in ("Tag", "tag")}
    found = doubts({**lists, "nan": 1, "None": 1, **spelt}, TagStyle())
    assert len(found) == 3
    assert "rock 499" in found[0] and "and 499 more like it" in found[0]
    assert "500 tags have several spellings" in found[2]
    assert all(len(sentence) < 250 for sentence in found)
    assert doubts({"rock 'n' roll": 1, "R&B": 1, "(live)": 1, "lo-fi": 1}, TagStyle()) == []


def test_groups_have_one_spelling():
    notes = []
    names = ["Queen", "Queen ", "queen", "Bjo\u0308rk", "Björk", "Björk", "", " ", "\u200b", "nan"]
    assert one_spelling(names, notes.append) == (
        *("Queen",) * 3,
        *("Björk",) * 3,
        *("",) * 3,
        "nan",
    )
    assert len(notes) == 2
    assert r"'Bjo\u0308rk' and 'Bj\xf6rk' are taken as one, and so on for 2 groups" in notes[0]
    assert "'nan' (1 clips) looks like a missing value" in notes[1]
    assert one_spelling(["a", "b"], notes.append) == ("a", "b")
    assert len(notes) == 2
