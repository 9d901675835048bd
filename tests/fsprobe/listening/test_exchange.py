"""Judgements to and from manifests, Label Studio and Audacity."""

import json
from dataclasses import replace

import numpy as np
import pytest

from extract.errors import InputError
from extract.manifest import Manifest, read_manifest, write_manifest
from fsprobe.listening.exchange import explicit, merged, read_labels
from fsprobe.listening.judgements import New
from fsprobe.tagger.labelled import labels
from fsprobe.tagger.outputs import Place, Tagged, write_labels
from fsprobe.tagger.partial_files import RECORD

CLIPS = Manifest(
    ("a", "b", "c", "d"),
    ("music/a.ogg", "music/b.ogg", "long.ogg", "long.ogg"),
    ("train", "", "test", ""),
    (("rock",), ("slow", "rock"), (), ()),
    starts=(None, None, 0.0, 10.0),
    durations=(None, None, 10.0, 10.0),
)


def test_an_export_without_a_judgement_trains_the_same_tagger():
    for manifest in (CLIPS, explicit(CLIPS), replace(CLIPS, not_tags=((), (), ("rock",), ()))):
        exported = merged(manifest, {})
        assert exported.not_tags is not None
        manifest, exported = manifest.used(), exported.used()
        for before, after in zip(
            *(labels(one, ["rock", "slow"]) for one in (manifest, exported)), strict=True
        ):
            np.testing.assert_array_equal(before, after)


def test_a_manifest_without_not_tags_says_no_of_what_it_does_not_list():
    assert explicit(CLIPS).not_tags == (("slow",), (), ("rock", "slow"), ())
    said = Manifest(*(column[:1] for column in (("a",), ("",), ("",), ((),))), not_tags=(("x",),))
    assert explicit(said) is said


def test_a_judgement_counts_more_than_the_manifest(tmp_path):
    current = {
        ("a", "rock"): "no",
        ("a", "slow"): "unknown",
        ("c", "calm"): "yes",
        ("d", "rock"): "no",
        ("elsewhere", "rock"): "yes",
    }
    full = merged(CLIPS, current)
    assert full.tags == ((), ("slow", "rock"), ("calm",), ())
    assert full.not_tags == (("rock",), (), ("rock", "slow"), ("rock",))
    write_manifest(tmp_path / "m.csv", full)
    assert read_manifest(tmp_path / "m.csv") == full
    entries, unknown = read_labels(tmp_path / "m.csv", CLIPS)
    assert unknown == 0 and set(entries) == {
        New("b", "slow", "yes"),
        New("b", "rock", "yes"),
        New("c", "calm", "yes"),
        *(New(*pair, "no") for pair in (("a", "rock"), ("c", "rock"), ("c", "slow"))),
        New("d", "rock", "no"),
    }


def test_label_studio(tmp_path):
    def task(url, *results, **more):
        return {"id": 1, "data": {"audio": url}, "annotations": [{"result": list(results), **more}]}

    def chosen(*choices):
        return {"type": "choices", "from_name": "t", "value": {"choices": list(choices)}}

    region = {"type": "labels", "value": {"start": 9.0, "end": 19.0, "labels": ["piano"]}}
    tasks = [
        task("/data/local-files/?d=root/music/a.ogg", chosen("rock", "calm")),
        task("https://host/x/music/b.ogg?token=1", chosen("slow")),
        task("/data/upload/3/long.ogg", region, chosen("dark")),
        task("/data/upload/3/other.ogg", chosen("rock")),
        task("music/b.ogg", chosen("never"), was_cancelled=True),
        {"id": 9, "audio": "music/a.ogg", "mood": {"choices": ["happy"]}},
        {"data": {"audio": "music/a.ogg"}, "annotations": [{"result": 5}]},
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    entries, unknown = read_labels(path, CLIPS)
    assert {(e.clip, e.tag) for e in entries} == {
        ("a", "rock"),
        ("a", "calm"),
        ("b", "slow"),
        ("d", "piano"),
        ("c", "dark"),
        ("d", "dark"),
        ("a", "happy"),
    }
    assert unknown == 1 and {e.value for e in entries} == {"yes"}


def test_a_time_beyond_all_floats_is_one_at_the_end(tmp_path):
    value = {"labels": ["x"], "start": 5, "end": "END"}
    task = {"data": {"audio": "long.ogg"}, "annotations": [{"result": [{"value": value}]}]}
    (tmp_path / "x.json").write_text(json.dumps([task]).replace('"END"', "9" * 400))
    assert {entry.clip for entry in read_labels(tmp_path / "x.json", CLIPS)[0]} == {"c", "d"}


def read_min(tmp_path, *tasks):
    path = tmp_path / "min.json"
    path.write_text(json.dumps(tasks))
    entries, unknown = read_labels(path, CLIPS)
    return {(entry.clip, entry.tag) for entry in entries}, unknown


def test_label_studio_s_short_form_has_single_choices_as_texts_and_regions_as_lists(tmp_path):
    url = "/data/local-files/?d=root/music/"
    told = {"annotator": 1, "annotation_id": 5, "created_at": "2026-01-01T00:00:00Z"}
    told |= {"updated_at": "2026-01-01T00:00:01Z", "lead_time": 3.5}
    regions = [
        {"start": 9.0, "end": 19.0, "channel": 0, "labels": ["piano", "slow"]},
        {"start": 0.0, "end": 10.0, "labels": ["guitar"], "choices": "loud"},
    ]
    found, unknown = read_min(
        tmp_path,
        {
            "artist": "Bob",
            "of": ["x"],
            "audio": url + "a.ogg",
            "title": "Ode",
            "id": 3,
            "mood": "calm",
            **told,
        },
        {"id": 4, "audio": url + "b.ogg", "mood": "happy", "kind": {"choices": ["rock", "slow"]}},
        {"audio": "/data/upload/1/long.ogg", "id": 5, "label": regions, "note": ["dark"], **told},
        {"id": 6, "audio": "other.ogg", "mood": "calm"},
    )
    assert unknown == 1 and found == {
        ("a", "calm"),
        ("b", "happy"),
        ("b", "rock"),
        ("b", "slow"),
        ("d", "piano"),
        ("d", "slow"),
        ("c", "guitar"),
        ("c", "loud"),
        ("c", "dark"),
        ("d", "dark"),
    }


def test_an_audacity_track_of_several_files_names_them(tmp_path):
    clips = Manifest(("a", "b"), ("a/x.mp3", "b/x.mp3"), ("", ""), ((), ()))
    path = tmp_path / "x.txt"
    path.write_text("0\t1\trock\n")
    with pytest.raises(InputError, match=r"x\.txt: 2 audio files .*: a/x\.mp3, b/x\.mp3;") as said:
        read_labels(path, clips)
    renamed = path.rename(tmp_path / str(said.value).rpartition(" ")[2])
    assert read_labels(renamed, clips)[0] == [New("a", "rock", "yes")]


def test_audacity(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text(
        "1.000000\t8.000000\tguitar\n\\\t100.0\t200.0\n12.0\t13.0\trock 0.87\n10.0\t20.0\t-slow\n"
        "15.0\t15.0\tpoint\n"
    )
    entries, _ = read_labels(path, CLIPS)
    assert entries == [
        New("c", "guitar", "yes"),
        New("d", "rock", "yes"),
        New("d", "slow", "no"),
        New("d", "point", "yes"),
    ]


def test_tags_of_signs_come_back_from_audacity_as_they_went(tmp_path):
    tags = ("-", "--", "-slow", "+-slow", "++-", "+", "+slow", "- -", "slow-", "1.00")
    records = np.array([(0, tag, 0.9) for tag in range(len(tags))], RECORD)
    tagged = Tagged(("c",), tags, records)
    (path,) = write_labels(tmp_path, tagged, [[Place("long.ogg", 0.0, 10.0)]])
    entries, _ = read_labels(path, CLIPS)
    assert sorted(entries) == sorted(New("c", tag, "yes") for tag in tags)
    path.write_text(path.read_text().replace("\t+-slow", "\t-+-slow"))  # somebody says no
    assert New("c", "-slow", "no") in read_labels(path, CLIPS)[0]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.xml", "", "name a manifest"),
        ("x.json", "{", "not JSON"),
        ("x.json", '{"a": 1}', "not a list of tasks"),
        ("x.json", "[1]", "not a list of tasks"),
        ("x.json", '[{"data": 1}]', "data are 1"),
        ("nobody.txt", "0\t1\tx", "no audio file"),
        ("long.txt", "0 1 x", "line 1"),
        ("long.txt", "0\tx\ty", "line 1"),
        ("long.txt", "0\t5\ta|b", "tag"),
        ("x.csv", "a,b\n", "clip_id"),
    ],
)
def test_what_is_no_export(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        read_labels(tmp_path / name, CLIPS)
