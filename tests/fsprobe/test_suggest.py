"""fsprobe.suggest and the exchange of fsprobe.review as people run them."""

import csv
import stat
import subprocess

import pytest

from extract.manifest import Manifest, read_manifest, write_manifest
from fsprobe.listening.judgements import Judgements, New
from fsprobe.tagger.file import write_tagger
from tests.support.fake_tagger import make

CLIPS, TAGS = 50, ("a", "b", "c")


@pytest.fixture
def command(commands):
    """A command of fsprobe with some flags."""

    def run(module: str, *flags: object) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = commands.run(f"fsprobe.{module}", *map(str, flags))
        return done

    return run


@pytest.fixture
def flags(tmp_path):
    tagger, (part,) = make(tmp_path / "mine", TAGS, CLIPS)
    write_tagger(tmp_path / "t.safetensors", tagger)
    known = tuple(("a", "b") if row < 10 else () for row in range(CLIPS))
    manifest = Manifest(part.store.clip_ids, ("",) * CLIPS, ("train",) * CLIPS, known)
    write_manifest(tmp_path / "m.csv", manifest)
    return [
        f"--tagger={tmp_path / 't.safetensors'}",
        f"--store=mine={tmp_path / 'mine'}",
        f"--manifest={tmp_path / 'm.csv'}",
    ]


def suggested(command, tmp_path, *given):
    out = tmp_path / "next.csv"
    done = command("suggest", *given, f"--out={out}")
    assert done.returncode == 0, done.stderr
    with out.open(newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_a_clip_is_asked_about_once_and_nothing_that_is_known(command, tmp_path, flags):
    labels = Judgements(tmp_path / "labels.sqlite")
    labels.add([New(f"c{row:04}", "c", "unknown") for row in range(10, 20)], "me")
    labels.close()
    rows = suggested(
        command, tmp_path, *flags, f"--labels={tmp_path / 'labels.sqlite'}", "--count=30"
    )
    assert list(rows[0]) == ["clip_id", "tag", "score", "reason"]
    assert len({row["clip_id"] for row in rows}) == 30
    assert [row["tag"] for row in rows[:3]] == ["a", "b", "c"]
    for row in rows:
        known = range(10, 20) if row["tag"] == "c" else range(10)  # `c` is not in the manifest
        assert int(row["clip_id"][1:]) not in known
        assert 0 <= float(row["score"]) <= 1 and row["reason"] == "nearest to 0.5"


def test_the_help_names_the_strategies(command):
    said = command("suggest", "--help").stdout
    assert "--strategy: <uncertain|top|diverse|balanced|random>" in said


@pytest.mark.parametrize("strategy", ["uncertain", "top", "diverse", "balanced", "random"])
def test_every_strategy_each_tag(command, tmp_path, flags, strategy):
    rows = suggested(command, tmp_path, *flags, f"--strategy={strategy}", "--each_tag", "--count=4", "--tag=b",
                     "--tag=c")  # fmt: skip
    assert [row["tag"] for row in rows] == ["b"] * 4 + ["c"] * 4
    if strategy == "top":
        scores = [float(row["score"]) for row in rows[:4]]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--tag=nothing",), "--tag=nothing"),
        (("--labels=nowhere.sqlite",), "fsprobe.review makes it"),
        (("--count=0",), "count"),
        (("--seed=-1",), "seed"),
        (("--out={root}/m.csv",), "is the file of --manifest too"),
    ],
)
def test_refusals(command, tmp_path, flags, more, says):
    done = command("suggest", *flags, *(flag.format(root=tmp_path) for flag in more))
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


def test_judgements_go_to_a_manifest_and_come_back(command, tmp_path, flags):
    labels, manifest = tmp_path / "labels.sqlite", flags[2]
    (tmp_path / "more.csv").write_text(
        "clip_id,path,split,tags,not_tags\nc0020,,train,new,a\nc0021,,,,new\nother,,,new,\n"
    )
    done = command("review", manifest, f"--labels={labels}", f"--import={tmp_path / 'more.csv'}",
                   f"--export={tmp_path / 'out.csv'}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 judgements; 1 of clips that the manifest lacks" in done.stdout
    exported = read_manifest(tmp_path / "out.csv")
    assert exported.not_tags is not None
    labels_of = zip(exported.tags, exported.not_tags, strict=True)
    rows = dict(zip(exported.clip_ids, labels_of, strict=True))
    assert rows["c0020"] == (("new",), ("b", "a")) and rows["c0021"] == ((), ("a", "b", "new"))
    assert rows["c0000"] == (("a", "b"), ()) and rows["c0030"] == ((), ("a", "b"))


def test_an_export_says_which_judgements_training_leaves_out(command, tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("clip_id,path,split,tags\nin,,train,a\nout,,,\nother,,,\n")
    (tmp_path / "more.csv").write_text("clip_id,path,split,tags\nin,,,b\nout,,,b\n")
    done = command("review", f"--manifest={manifest}", f"--labels={tmp_path / 'labels.sqlite'}",
                   f"--import={tmp_path / 'more.csv'}", f"--export={tmp_path / 'out.csv'}")  # fmt: skip
    assert done.returncode == 0 and "1 judged clips have no split" in done.stdout


@pytest.mark.parametrize("name", ["labels", "import"])
def test_an_export_does_not_take_the_place_of_what_it_is_made_of(command, tmp_path, flags, name):
    paths = {"labels": tmp_path / "labels.sqlite", "import": tmp_path / "more.csv"}
    Judgements(paths["labels"]).close()
    paths["import"].write_text("clip_id,path,split,tags\nc0020,,train,a\n")
    given = [f"--{flag}={path}" for flag, path in paths.items()]
    before = paths[name].read_bytes()
    done = command("review", flags[2], *given, f"--export={paths[name]}")
    assert done.returncode == 2 and f"is the file of --{name} too" in done.stderr
    assert paths[name].read_bytes() == before and Judgements(paths["labels"]).current() == {}


def test_an_export_of_no_judgements_is_refused(command, tmp_path, flags):
    """A file that is not there was made, and the manifest written as it was."""
    labels, out = tmp_path / "mistyped.sqlite", tmp_path / "out.csv"
    done = command("review", flags[2], f"--labels={labels}", f"--export={out}")
    assert done.returncode == 2 and "no such file" in done.stderr
    assert not labels.exists() and not out.exists()


def test_the_page_needs_a_folder_of_audio_and_keeps_its_token(command, tmp_path, flags):
    labels = tmp_path / "labels.sqlite"
    done = command("review", *flags, f"--labels={labels}", "--audio_root=/nowhere")
    assert done.returncode == 2 and "--audio_root=/nowhere" in done.stderr
    done = command("review", *flags[1:], f"--labels={labels}")
    assert done.returncode == 2 and "--audio_root is required" in done.stderr
    token = tmp_path / "labels.sqlite.token"
    token.write_text("short")
    done = command("review", *flags, f"--labels={labels}", f"--audio_root={tmp_path}")
    assert done.returncode == 2 and "no token" in done.stderr
    token.write_text("x" * 30)
    token.chmod(0o644)
    done = command("review", *flags, f"--labels={labels}", f"--audio_root={tmp_path}")
    assert done.returncode == 2 and "chmod 600" in done.stderr
    assert stat.S_IMODE(token.stat().st_mode) == 0o644
