"""python -m extract.words, from its flags to the directory that it writes."""

import json
from pathlib import Path

import numpy as np
import pytest

from extract.manifest import Manifest, write_manifest
from fsprobe.words.vectors import load_words

GLOVE = "the 1 1\nrock 1 2\nclassical 3 4\nheavy 5 6\nmetal 7 8\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest of three clips and a file of word vectors."""
    tags = (("rock", "clasical"), ("rock", "heavy metal"), ("xylorimba",))
    manifest = Manifest(("a", "b", "c"), ("",) * 3, ("train", "test", ""), tags)
    write_manifest(tmp_path / "manifest.csv", manifest)
    (tmp_path / "glove.txt").write_text(GLOVE)
    return tmp_path


@pytest.fixture
def words(folder, commands):
    """extract.words with these flags, of which FOLDER names the folder."""

    def run(*flags: str):
        return commands.run(
            "extract.words", *(flag.replace("FOLDER", str(folder)) for flag in flags)
        )

    return run


ARGUMENTS = ("--vectors=FOLDER/glove.txt", "--manifest=FOLDER/manifest.csv", "--out=FOLDER/out")


def test_the_directory_is_the_contract(folder, words):
    (folder / "more.txt").write_text("the rock\n\nrock\n")
    done = words(*ARGUMENTS, "--tags=file:FOLDER/more.txt")
    assert done.returncode == 0, done.stderr
    assert "4 of 5 tags have a vector of 2 values" in done.stdout
    assert "without a vector: xylorimba" in done.stdout
    assert "clasical as classical" in done.stdout
    vectors = np.load(folder / "out" / "vectors.npy", allow_pickle=False)
    assert vectors.dtype == np.float32
    tags = (folder / "out" / "tags.txt").read_text().splitlines()
    assert tags == ["rock", "clasical", "heavy metal", "the rock"]
    np.testing.assert_array_equal(vectors, [[1, 2], [3, 4], [6, 7], [1, 1.5]])
    meta = json.loads((folder / "out" / "words.json").read_text())
    assert meta["source"] == "glove.txt" and meta["dim"] == 2 and len(meta["sha256"]) == 64
    assert meta["missing"] == ["xylorimba"] and meta["prompt"] == []
    assert meta["spelling"] == {"clasical": "classical"}
    assert {"version", "licence"} <= meta.keys()
    loaded = load_words(folder / "out")
    assert list(loaded.tags) == tags
    np.testing.assert_array_equal(loaded.vectors, vectors)


def test_a_csv_of_tags(folder, words):
    (folder / "v.csv").write_text("tag,v1,v2\nrock,1,2\nheavy metal,3,4\nclassical,5,6\n")
    done = words("--vectors=FOLDER/v.csv", *ARGUMENTS[1:])
    assert done.returncode == 0, done.stderr
    assert load_words(folder / "out").tags == ("rock", "heavy metal")
    assert "without a vector: clasical, xylorimba" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (ARGUMENTS[1:], "--vectors is missing"),
        (ARGUMENTS[:2], "--out is missing"),
        ((ARGUMENTS[0], ARGUMENTS[2]), "--manifest is missing"),
        (("--vectors=FOLDER/none.txt", *ARGUMENTS[1:]), "none.txt: no such file"),
        ((*ARGUMENTS, "--prompt=music with {}"), "--prompt is for sentence encoders (minilm)"),
        (("--vectors=minilm", *ARGUMENTS[1:], "--prompt=music"), "--prompt 'music' has no {}"),
        ((*ARGUMENTS, "--wheel=x.whl"), "--wheel is for vectors glove and minilm"),
        ((*ARGUMENTS, "--tags=rock"), "--tags=rock: give --tags=file:PATH"),
        ((*ARGUMENTS, "--tags=file:FOLDER/absent.txt"), "absent.txt"),
        (("--vectors=glove", *ARGUMENTS[1:], "--wheel=FOLDER/glove.txt"), "SHA-256"),
        ((*ARGUMENTS[:2], "--out=FOLDER/glove.txt"), "is a file; name a directory"),
    ],
)
def test_bad_flags_are_one_line(folder, words, flags, message):
    done = words(*flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (folder / "out").exists()


def test_no_tag_in_common(folder, words):
    (folder / "glove.txt").write_text("zwölf 1 2\n")
    done = words(*ARGUMENTS)
    assert done.returncode == 2
    assert "none of the 4 tags ('rock', 'clasical', 'heavy metal', …) has a vector" in done.stderr
