"""fsprobe.train as people run it: a tagger from a manifest and stores, grown, edited, compared."""

import json
import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression

from extract.manifest import Manifest, write_manifest
from fsprobe.heads.solvers.solver import SCALES
from fsprobe.tagger.file import TENSORS, read_tagger
from tests.support.fake_tagger import write_store
from tests.support.word_sweeps import write_words

pytestmark = pytest.mark.slow  # every command starts JAX


@pytest.fixture(scope="module")
def run(commands):
    """A command with some flags."""

    def command(module: str, *flags: object) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = commands.run(module, *map(str, flags))
        return done

    return command


@pytest.fixture(scope="module")
def trained(run):
    """What fsprobe.train says with some flags."""

    def train(*flags: object) -> str:
        result = run("fsprobe.train", *flags)
        assert result.returncode == 0, result.stderr
        said: str = result.stdout
        return said

    return train


@pytest.fixture(scope="module")
def data(trained, tmp_path_factory):
    """120 clips of 40 tracks, three tags by a linear model and one of a single clip; the tagger of
    the first three (flags, folder).
    """
    root = tmp_path_factory.mktemp("train")
    rng = np.random.default_rng(0)
    tracks = np.repeat(rng.standard_normal((40, 8)), 3, axis=0)
    features = (tracks + 0.1 * rng.standard_normal((120, 8))).astype(np.float32)
    has = tracks @ rng.standard_normal((8, 3)) > [0.5, 1.5, 2.5]
    tags = [[f"tag {i}" for i in range(3) if row[i]] for row in has]
    tags[5].append("rare <b>")
    ids = tuple(f"c{i}" for i in range(120))
    splits = tuple("" if i >= 114 else "train" for i in range(120))
    clips = Manifest(
        ids,
        tuple(f"{i // 3}.ogg" for i in range(120)),
        splits,
        tuple(map(tuple, tags)),
        starts=tuple(10.0 * (i % 3) for i in range(120)),
        durations=(10.0,) * 120,
        tracks=tuple(f"track {i // 3}" for i in range(120)),
    )
    write_manifest(root / "m.csv", clips)
    write_store(root / "store", features, ids)
    write_store(root / "other", features, ids, provenance={"weights": {"w": "ab" * 32}})
    (root / "first.txt").write_text("tag 0\ntag 1\ntag 2\n")
    flags = [f"--manifest={root / 'm.csv'}", f"--store=store={root / 'store'}"]
    said = trained(
        *flags,
        "--folds=3",
        f"--tags=file:{root / 'first.txt'}",
        f"--out={root / 't.safetensors'}",
        f"--report={root / 'page'}",
        f"--audio_root={root / 'audio'}",
    )
    return root, flags, clips, features, said


def test_the_contract(data):
    root, _, clips, features, said = data
    with safe_open(root / "t.safetensors", framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in TENSORS}
        metadata = file.metadata()
    tags = json.loads(metadata["tags"])
    assert sorted(tags) == ["tag 0", "tag 1", "tag 2"]
    record = json.loads(metadata["training"])["tag 0"]
    carried = sum("tag 0" in tags for tags in clips.tags[:114])
    assert record["positives"] == carried and record["negatives"] == 114 - carried
    needed = {"positives", "negatives", "tracks", "roc_auc", "roc_auc_interval", "strength"}
    assert {*needed, "prevalence"} <= record.keys()
    assert "prevalence: that of the labels" in said and "tag 2" in said
    # at its strength the head is scikit-learn's, on the clips that have a split
    row = tags.index("tag 0")
    y = np.array(["tag 0" in tags for tags in clips.tags])[:114]
    model = LogisticRegression(C=1 / (114 * record["strength"]), tol=1e-10, max_iter=10_000)
    model.fit(features[:114].astype(np.float64), y)
    np.testing.assert_allclose(tensors["kernel"][row], model.coef_[0], rtol=5e-3, atol=1e-3)
    np.testing.assert_allclose(tensors["bias"][row], model.intercept_[0], rtol=5e-3, atol=1e-3)


def test_the_page_is_playable_and_escapes(data):
    root, *_ = data
    page = (root / "page" / "report.html").read_text("utf-8")
    sources = re.findall(r'<audio[^>]* src="([^"]*)"', page)
    assert sources and all(re.fullmatch(r"\.\./audio/\d+\.ogg#t=\d+,\d+", s) for s in sources)
    assert "<script" not in page and "alert(" not in page
    figures = {path.name for path in (root / "page" / "figures").iterdir()}
    assert {"reliability.png", "reliability_1.svg", "roc_auc.png"} <= figures


def test_an_added_tag_leaves_the_others_bytes(trained, run, data, tmp_path):
    root, flags, *_ = data
    (tmp_path / "new.txt").write_text("rare <b>\ntag 1\n")
    out = tmp_path / "grown.safetensors"
    said = trained(
        *flags,
        f"--update={root / 't.safetensors'}",
        f"--tags=file:{tmp_path / 'new.txt'}",
        f"--out={out}",
        f"--diff={root / 't.safetensors'}",
        "--prevalence=0.2",
        "--folds=3",
        f"--report={tmp_path / 'page'}",
    )
    assert "# Tags of a tagger, 2 trained\n" in (tmp_path / "page" / "report.md").read_text()
    old, new = read_tagger(root / "t.safetensors"), read_tagger(out)
    assert new.tags == (*old.tags, "rare <b>")
    for tag in ("tag 0", "tag 2"):
        i = old.tags.index(tag)
        for name in TENSORS:
            assert getattr(old, name)[i].tobytes() == getattr(new, name)[i].tobytes()
        assert old.training[tag] == new.training[tag]
    # tag 1 is refitted for another prevalence: the same head, as far as fits converge
    i = old.tags.index("tag 1")
    # (folds are dealt to the tags of a run together, so its strength may be the next one)
    old_row, new_row = old.kernel[i], new.kernel[i]
    assert old_row @ new_row > 0.999 * np.linalg.norm(old_row) * np.linalg.norm(new_row)
    assert new.training["tag 1"]["prevalence"] == 0.2
    assert "2 tags are the same" in said and re.search(r"rare <b> +added", said)
    assert re.search(r"tag 1 +changed +0\.\d+", said)
    rare = new.training["rare <b>"]
    assert rare["verdict"].startswith("cannot be judged: 1 yes")
    result = run(
        "fsprobe.tag",
        f"--tagger={out}",
        f"--store=s={root / 'store'}",
        f"--out={tmp_path / 'o.csv'}",
        f"--all_scores={tmp_path / 's.npy'}",
    )
    assert result.returncode == 0, result.stderr
    assert np.load(tmp_path / "s.npy")[:, 3].max() <= np.float32(0.9)


def test_a_new_tag_starts_from_its_name(trained, run, data, tmp_path):
    root, flags, *_ = data
    (tmp_path / "new.txt").write_text("rare <b>\ntag 1\n")
    names = ["tag 0", "tag 1", "tag 2"]
    write_words(tmp_path / "words", names, np.random.default_rng(3).standard_normal((3, 6)))
    given = [f"--update={root / 't.safetensors'}", f"--tags=file:{tmp_path / 'new.txt'}"]
    prior = ["--prior=words", f"--words={tmp_path / 'words'}", "--folds=3"]
    said = trained(*flags, *given, *prior, f"--out={tmp_path / 'grown.safetensors'}")
    assert "no vector of 'rare <b>': no prior for them" in said
    old, new = read_tagger(root / "t.safetensors"), read_tagger(tmp_path / "grown.safetensors")
    assert new.training["tag 1"]["prior_scale"] in SCALES
    for tag in ("tag 0", "tag 2"):
        i = old.tags.index(tag)
        assert old.kernel[i].tobytes() == new.kernel[i].tobytes()
    alone = run("fsprobe.train", *flags, "--prior=words", f"--out={tmp_path / 'x.safetensors'}")
    assert alone.returncode == 2 and "belong together" in alone.stderr


def test_edits(trained, data, tmp_path):
    root, *_ = data
    out = tmp_path / "e.safetensors"
    trained(
        f"--update={root / 't.safetensors'}", "--remove=tag 2", "--rename=tag 0=a=b", f"--out={out}"
    )
    old, new = read_tagger(root / "t.safetensors"), read_tagger(out)
    assert set(new.tags) == {"a=b", "tag 1"}
    i, j = old.tags.index("tag 0"), new.tags.index("a=b")
    assert old.kernel[i].tobytes() == new.kernel[j].tobytes()
    said = trained(f"--update={root / 't.safetensors'}", f"--diff={out}")
    assert "1 tags are the same" in said and "added" in said and "removed" in said
    same = tmp_path / "same.safetensors"  # what was there is compared with, not what is written
    same.write_bytes((root / "t.safetensors").read_bytes())
    said = trained(f"--update={same}", "--remove=tag 2", f"--out={same}", f"--diff={same}")
    assert "2 tags are the same" in said and re.search("tag 2 +removed", said)


@pytest.mark.parametrize(
    "more", ["--threshold=rate", "--prevalence=0.1", "--dry_run", "--tags=all", "--report=page"]
)
def test_what_is_for_training_is_not_passed_over_without_it(run, data, tmp_path, more):
    """--threshold left every threshold as it was, --dry_run wrote the file."""
    update, out = f"--update={data[0] / 't.safetensors'}", tmp_path / "e.safetensors"
    result = run("fsprobe.train", update, "--remove=tag 2", more, f"--out={out}")
    assert result.returncode == 2 and "is for training: give --manifest" in result.stderr
    assert not out.exists()


def test_a_dry_run_counts_and_writes_nothing(trained, data, tmp_path):
    _, flags, *_ = data
    said = trained(*flags, "--dry_run", f"--out={tmp_path / 'x.safetensors'}")
    assert re.search(r"rare <b> +1 +113 +1\n", said) and "GB" in said
    assert not list(tmp_path.iterdir())


def test_unknown_labels_come_from_not_tags(trained, data, tmp_path):
    _, flags, clips, *_ = data
    not_tags = tuple(
        ("tag 0",) if i % 2 and "tag 0" not in clips.tags[i] else () for i in range(120)
    )
    write_manifest(tmp_path / "m.csv", replace(clips, not_tags=not_tags))
    said = trained(f"--manifest={tmp_path / 'm.csv'}", flags[1], "--dry_run")
    no = sum("tag 0" in tags for tags in not_tags[:114])
    assert re.search(rf"tag 0 +\d+ +{no} +", said)
    assert "left out: 'tag 1', no clip is known not to have it" in said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--update={t}"], "--tags"),
        (["--update={t}", "--tags=all", "--store=store={root}/other"], "given twice"),
        (["--update={t}", "--tags=all", "--embedding=x"], "--embedding=x"),
        (["--threshold=precision:2"], "--threshold=precision:2"),
        (["--prevalence=1.5"], "between 0 and 1"),
        (["--prevalence={root}/none.csv"], "--prevalence"),
        (["--split=valid"], "--split=valid"),
        (["--tags=file:{root}/none"], "no such file"),
        (["--embedding=store+x"], "unknown"),
        (["--remove=x"], "--update"),
        (["--unlabelled=weak_negatives", "--unlabelled_weight=nan"], "--unlabelled_weight=nan"),
        (["--unlabelled=weak_negatives", "--unlabelled_weight=1e39"], "at most 1e+06"),
        (["--unlabelled_weight=2"], "--unlabelled_weight: goes with --unlabelled=weak_negatives"),
        (
            [
                "--update={t}",
                "--tags=all",
                "--prior=words",
                "--words={root}/words",
                "--teacher=x",
                "--unlabelled=self_training",
            ],
            "--teacher=x: with --prior=words",
        ),
        (["--l2=-1"], "--l2=-1"),
        (["--out={root}"], ": is a directory; name a file"),
        (["--report={root}/m.csv"], "--report={root}/m.csv: is a file"),
        (["--out={root}/m.csv"], "is the file of --manifest too"),
        (["--tags=file:{root}/first.txt", "--out={root}/first.txt"], "is the file of --tags too"),
        (["--store=combined={root}/store"], "the name 'combined' is taken"),
        (["--store=x"], "--store=x: write it as --store=NAME=DIR"),
    ],
)
def test_refusals_are_one_line(run, data, more, words):
    root, flags, *_ = data
    filled = [flag.format(root=root, t=root / "t.safetensors") for flag in more]
    result = run("fsprobe.train", *flags, f"--out={root / 'never.safetensors'}", *filled)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert words.format(root=root) in result.stderr and len(result.stderr) <= 301
    assert not (root / "never.safetensors").exists()


def test_a_store_of_other_weights_is_refused(run, data):
    root, flags, *_ = data
    update = [f"--update={root / 't.safetensors'}", "--tags=all", f"--out={root / 'never'}"]
    result = run("fsprobe.train", flags[0], f"--store=store={root / 'other'}", *update)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert not (root / "never").exists()
