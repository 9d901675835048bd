"""Every output format holds any tag, and is read back by another program's rules."""

import csv
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extract.manifest import Manifest
from fsprobe.tagger.outputs import (
    Place,
    Tagged,
    file_name,
    places_of,
    tags_by_file,
    write_csv,
    write_jsonl,
    write_labels,
    write_playlists,
)
from fsprobe.tagger.partial_files import RECORD
from fsprobe.tagger.report import relative_url
from fsprobe.tagger.tagging import Items
from tests.support.fake_tagger import HOSTILE


@pytest.fixture
def tagged():
    """Clip i has tags i and i + 1; the last clip none."""
    names = (*(f"dir/clip {i}.ogg" for i in range(len(HOSTILE))), 'clip "q",\u2028', "bare")
    rows = [
        (i, t % len(HOSTILE), 0.9 - 0.01 * t) for i in range(len(HOSTILE) + 1) for t in (i, i + 1)
    ]
    return Tagged(names, HOSTILE, np.array(rows, RECORD))


def test_csv(tmp_path, tagged):
    write_csv(tmp_path / "tags.csv", tagged)
    with (tmp_path / "tags.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file, strict=True))
    assert header == ["clip_id", "tag", "probability"]
    assert [(name, tag) for name, tag, _ in rows] == [
        (tagged.names[r["item"]], tagged.tags[r["tag"]]) for r in tagged.records
    ]
    np.testing.assert_allclose(
        [float(p) for *_, p in rows], tagged.records["probability"], atol=5e-7
    )


def test_csv_equals_the_csv_module_byte_for_byte_where_nothing_needs_quotes(tmp_path):
    plain = Tagged(("a", "b"), ("x",), np.array([(0, 0, 0.5), (1, 0, 0.25)], RECORD), "track")
    write_csv(tmp_path / "t.csv", plain)
    assert (
        tmp_path / "t.csv"
    ).read_bytes() == b"track,tag,probability\na,x,0.500000\nb,x,0.250000\n"


def test_json_lines(tmp_path, tagged):
    write_jsonl(tmp_path / "tags.jsonl", tagged)
    text = (tmp_path / "tags.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    assert [row["clip_id"] for row in rows] == list(tagged.names)
    assert rows[-1]["tags"] == [] and rows[0]["tags"][0]["tag"] == HOSTILE[0]
    assert sum(len(row["tags"]) for row in rows) == len(tagged.records)


def test_playlists(tmp_path, tagged):
    root, folder = tmp_path / "music", tmp_path / "lists"
    places = [Place(name) for name in tagged.names[:-2]] + [Place("#1.ogg"), None]
    written = write_playlists(folder, tagged, places, root)
    assert len(written) == len(HOSTILE) == len({p.name.casefold() for p in written})
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == set(written)
    for path in written:
        lines = path.read_text("utf-8").split("\n")
        assert lines[0] == "#EXTM3U" and lines[1].startswith("#PLAYLIST:") and lines[-1] == ""
        files = [line for line in lines[2:-1] if not line.startswith("#")]
        assert files and len(files) == len(lines[2:-1]) // 2
        for name in files:
            assert (folder / name).resolve().is_relative_to(root)


def test_a_playlist_is_in_order_of_probability_without_repeats(tmp_path):
    records = np.array([(0, 0, 0.2), (1, 0, 0.8), (2, 0, 0.5)], RECORD)
    places = [Place("a.ogg", 0.0, 3.0), Place("b.ogg"), Place("a.ogg", 3.0, 3.0)]
    (path,) = write_playlists(tmp_path, Tagged(("1", "2", "3"), ("x",), records), places, None)
    lines = path.read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["b.ogg", "a.ogg"]


def test_audacity_labels(tmp_path, tagged):
    places = [[Place("../up/a.ogg", 10.0 * i, 10.0)] for i in range(len(HOSTILE))]
    places += [[Place("whole.ogg")], []]
    written = write_labels(tmp_path / "labels", tagged, places)
    assert [p.parent for p in written] == [tmp_path / "labels"]
    lines = written[0].read_text("utf-8").removesuffix("\n").split("\n")
    assert len(lines) == 2 * len(HOSTILE)
    for line in lines:
        start, end, label = line.split("\t")
        assert float(end) == float(start) + 10 and label.strip()
    assert [float(line.split("\t")[0]) for line in lines] == sorted(
        float(line.split("\t")[0]) for line in lines
    )


@given(st.lists(st.text(min_size=1), min_size=2, max_size=8, unique=True))
@example(["caf\u00e9", "cafe\u0301"])
def test_file_names_are_safe_and_never_shared(texts):
    names = [file_name(text, ".m3u8") for text in texts]
    assert len({unicodedata.normalize("NFC", name.casefold()) for name in names}) == len(texts)
    for name in names:
        assert Path(name).name == name and not name.startswith((".", "-", " "))
        assert len(os.fsencode(name)) <= 100 and name.endswith(".m3u8")
        assert not set(name) & set('/\\:*?"<>|\0\n\r\t')


def test_plain_tags_keep_their_names():
    assert file_name("female vocal", ".m3u8") == "female vocal.m3u8"
    assert file_name("drum_n-bass 90.s", ".txt") == "drum_n-bass 90.s.txt"
    assert file_name("CON", "").startswith("_") and file_name("nul.x", "").startswith("_")


def test_a_page_plays_a_clip_s_part_of_its_file(tmp_path):
    """One with a duration alone was played to the end of the file."""
    url = relative_url(tmp_path / "music", tmp_path / "page")
    parts = {(None, None): "", (None, 10.0): "#t=0,10", (5.0, None): "#t=5", (5.0, 2.5): "#t=5,7.5"}
    for (start, duration), part in parts.items():
        assert url(Place("a b.ogg", start, duration)) == f"../music/a%20b.ogg{part}"


def test_one_file_has_one_place_however_its_path_is_written():
    """Else it is two files to change, and the second change takes back the first."""
    manifest = Manifest(tuple("abc"), ("d/x.ogg", "./d//x.ogg", ""), ("test",) * 3, ((),) * 3)
    items = Items(manifest.clip_ids, (np.arange(3),), np.arange(1, 4))
    places = places_of(items, manifest.clip_ids, manifest)
    assert places == [[Place("d/x.ogg")], [Place("d/x.ogg")], []]
    tagged = Tagged(items.names, ("s", "t"), np.array([(0, 0, 0.9), (1, 1, 0.8)], RECORD))
    assert tags_by_file(tagged, places) == {"d/x.ogg": ["s", "t"]}
