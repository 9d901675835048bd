"""Files of word vectors as their makers write them, and as they arrive broken."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError
from extract.word_vectors.text_files import find_in_csv, find_in_text

GLOVE = "the 0.1 0.2 -3e-1\nrock 1 2 3\njazz 4 5 6\n"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        GLOVE,
        GLOVE[:-1],
        "3 3\n" + GLOVE,  # word2vec, fastText
        GLOVE.replace("\n", " \n"),  # word2vec ends its rows with a blank
        GLOVE.replace("\n", "\r\n"),
        GLOVE.replace(" ", "\t"),
        GLOVE.replace(" ", "  "),
        GLOVE + "\n",
        "\ufeff" + GLOVE[GLOVE.index("rock") :],  # as Windows saves UTF-8
        GLOVE.replace("rock", " rock"),
        ". . . 7 8 9\n" + GLOVE.replace("the", "name@domain.com and", 1),  # GloVe 840B
        b"\xff\xfe 7 8 9\n" + GLOVE.encode(),  # word2vec cuts words in the middle of a character
    ],
)
def test_the_forms_of_a_text_file(tmp_path, text):
    if isinstance(text, str) and text.startswith(". "):
        text = "a 0 0 0\n" + text
    found = find_in_text(write(tmp_path / "vectors.txt", text), {"rock", "jazz", "polka"})
    assert set(found) == {"rock", "jazz"}
    np.testing.assert_array_equal(found["rock"][1], np.array([1, 2, 3], np.float32))
    assert found["rock"][1].dtype == np.float32
    assert found["rock"][0] < found["jazz"][0]


def test_compressed_and_exact(tmp_path):
    path = tmp_path / "vectors.vec.gz"
    path.write_bytes(gzip.compress(GLOVE.encode()))
    place, vector = find_in_text(path, {"the"})["the"]
    assert place == 0
    np.testing.assert_array_equal(vector, np.array([0.1, 0.2, -0.3], np.float32))
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[:10] + b"\xff" + whole[11:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            find_in_text(path, {"the"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rock 1 2 3\njazz 4 5\npop 1 2 3\n", "line 2: 2 numbers instead of 3"),
        ("rock 1 2 3\njazz 4 5 6 7\n", "line 2: 4 numbers instead of 3"),
        ("rock 1 2 3\nrest nan 5 6\n", "line 2: 'nan' is no finite number"),
        ("rock 1 2 3\njazz 4 inf 6\n", "line 2: 'inf' is no finite number"),
        ("rock 1 2 3\njazz 4 1e999 6\n", "line 2: '1e999' is no finite number"),
        ("rock 1 2 3\njazz 4 5 six\n", "line 2: 'six' is no number"),
        ("rock 1 2 3\njazz 4 - 6\n", "line 2: '-' is no number"),
        ("rock 1 2 3\njazz 4 5 6\nrock 1 2 3\n", "line 3: 'rock' stands twice"),
        ("3 3\nrock 1 2 3\njazz 4 5 6\n", "2 words, its first line says 3"),
        ("2 4\nrock 1 2 3\njazz 4 5 6\n", "line 2: 3 numbers instead of 4"),
        ("rock\njazz\n", "line 1: 0 numbers instead of some"),
        ("", "no words in it"),
        ("3 3\n", "no words in it"),
        (b"3 2\nrock \x00\x00\x80\x3f\x00\x00\x00\x40\n", "not a text file"),
        (b"PK\x03\x04 rest", "not a text file"),
        (b"x" * (1 << 21), "not a text file"),
    ],
)
def test_bad_rows_are_named(tmp_path, text, message):
    path = write(tmp_path / "vectors.txt", text)
    with pytest.raises(InputError) as caught:
        find_in_text(path, {"rock", "jazz"})
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) <= 300 + len(str(path))


def test_a_large_file_is_not_held(tmp_path):
    """20 MB, of which the peak of what Python holds is a small part: the same for any size."""
    row = " ".join(["0.12345"] * 100)
    path = tmp_path / "large.txt"
    with path.open("w") as file:
        file.writelines(f"word{i} {row}\n" for i in range(25_000))
    assert path.stat().st_size > 2e7
    tracemalloc.start()
    found = find_in_text(path, {"word7", "word24999"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(found) == {"word7", "word24999"}
    assert peak < 2e6


@pytest.mark.parametrize("header", ["tag,v1,v2\n", ""])
def test_csv(tmp_path, header):
    path = write(tmp_path / "v.csv", header + 'rock,1,2\nhip hop,3,4.5\n"a, b",5,6\n')
    found = find_in_csv(path, {"rock", "hip hop", "a, b", "polka", "tag"})
    assert set(found) == {"rock", "hip hop", "a, b"}
    np.testing.assert_array_equal(found["hip hop"][1], np.array([3, 4.5], np.float32))


def test_csv_of_a_tag_named_tag(tmp_path):
    path = write(tmp_path / "v.csv", "tag,1,2\nrock,3,4\n")
    assert set(find_in_csv(path, {"tag", "rock"})) == {"tag", "rock"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tag,v1,v2\nrock,1,2\njazz,3\n", "line 3: 1 numbers instead of 2"),
        ("rock,1,2\njazz,3,4,5\n", "line 2: 3 numbers instead of 2"),
        ("rock,1,2\njazz,3,nan\n", "line 2: 'nan' is no finite number"),
        ("rock,1,2\njazz,3,\n", "line 2: '' is no number"),
        ("rock,1,2\njazz,3,4\nrock,5,6\n", "line 3: tag 'rock' stands already on line 1"),
        ("tag\nrock\n", "line 2: 0 numbers"),
        ("tag,v1\n", "no rows"),
        ('rock,"1\n', "not readable as a CSV"),
        (b"rock\xff,1,2\n", "not readable as a CSV"),
    ],
)
def test_bad_csv(tmp_path, text, message):
    path = write(tmp_path / "v.csv", text)
    with pytest.raises(InputError) as caught:
        find_in_csv(path, {"rock"})
    assert message in str(caught.value) and str(path) in str(caught.value)
