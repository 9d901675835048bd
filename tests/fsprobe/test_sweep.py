"""The whole path on a tiny corpus, as a user runs it; and everything a user can get wrong."""

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from extract.errors import InputError
from extract.manifest import Manifest, read_manifest, write_manifest
from fsprobe import features, shell
from fsprobe.batch import processes
from fsprobe.config import GridConfig, SolverConfig, SweepConfig, from_json
from fsprobe.study import provenance
from fsprobe.study.execute import sweep
from fsprobe.study.results import read_per_tag, read_probes
from fsprobe.study.tables import SolverRow, read_rows
from tests.support import tiny

ROOT = Path(__file__).parents[2]
GRID = [
    "--n_way=2",
    "--n_way=5",
    "--k_shot=1",
    "--k_shot=full",
    "--num_seeds=2",
    "--max_epochs=30",
    "--learning_rate=0.01",
]


@pytest.fixture
def data(tmp_path) -> Path:
    tiny.write_data(tmp_path)
    return tmp_path


@pytest.fixture
def run(commands):
    """fsprobe.sweep of both stores below a folder, with some flags."""

    def command(data: Path, *flags: str) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = commands.run(
            "fsprobe.sweep",
            f"--manifest={data / 'manifest.csv'}",
            f"--store=good={data / 'good'}",
            f"--store=poor={data / 'poor'}",
            f"--out={data / 'out'}",
            *flags,
        )
        return done

    return command


SMALLEST = {"n_way": (1,), "k_shot": (1,), "num_seeds": 1}


def config(data: Path, **grid: object) -> SweepConfig:
    defaults: dict[str, object] = {"n_way": (2, 5), "k_shot": (1, 3), "num_seeds": 2}
    return SweepConfig(
        str(data / "manifest.csv"),
        (("good", str(data / "good")), ("poor", str(data / "poor"))),
        ("good", "combined"),
        str(data / "out"),
        grid=GridConfig(**defaults | grid),  # type: ignore[arg-type]
        solver=SolverConfig(learning_rate=0.01, max_epochs=20),
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """Data, and in `out` the sweep of `config`; to read only."""
    root = tmp_path_factory.mktemp("swept")
    tiny.write_data(root)
    sweep(config(root))
    return root


def test_from_files_to_table_and_again(run, data):
    first = run(data, *GRID)
    assert first.returncode == 0, first.stderr
    rows = read_probes(data / "out")
    assert [(row.embedding, row.n_way, row.k_shot, row.seed) for row in rows] == [
        (embedding, n_way, k_shot, seed)
        for embedding in ("good", "poor", "combined")
        for n_way in (2, 5)
        for k_shot in (1, "full")
        for seed in range(2)
    ]
    assert {row.num_train for row in rows if row.k_shot == "full"} == {60}
    assert all(row.num_train == row.n_way * row.k_shot for row in rows if row.k_shot != "full")
    mean = {
        name: np.mean([row.mAP for row in rows if row.embedding == name and row.k_shot == "full"])
        for name in ("good", "poor")
    }
    chance = np.mean([row.chance_mAP for row in rows])
    assert mean["good"] > mean["poor"] + 0.05 > chance + 0.05, "better features must tag better"
    assert "good: mean ± standard deviation over 2 seeds" in first.stdout
    assert all(f"K={k_shot}" in first.stdout for k_shot in (1, "full")) and "N=5" in first.stdout
    meta = json.loads((data / "out" / "run.json").read_text())
    assert (
        meta["complete"]
        and meta["flags"]["n_way"] == [2, 5]
        and len(meta["configuration"]["stores"]) == 2
    )

    files = {
        name: (data / "out" / name).read_bytes()
        for name in ("probes.csv", "per_tag.csv", "episodes.csv")
    }
    second = run(data, *GRID)
    assert second.returncode == 0 and "holds 24 of 24 probes already" in second.stderr
    assert {name: (data / "out" / name).read_bytes() for name in files} == files
    assert second.stdout == first.stdout


@pytest.mark.parametrize("name", [pytest.param("adam", marks=pytest.mark.slow), "lbfgs"])
def test_as_a_library_it_writes_the_commands_bytes(run, data, name):
    sweeping = config(data, n_way=(2,), k_shot=(1, "full"))
    solver = sweeping.solver if name == "adam" else SolverConfig(name)
    sweeping = replace(sweeping, solver=solver, save_heads=True, weight_norms=True)
    with shell.computing():
        sweep(sweeping)
    result = run(
        data,
        *("--n_way=2", "--k_shot=1", "--k_shot=full", "--num_seeds=2"),
        *(("--learning_rate=0.01", "--max_epochs=20") if name == "adam" else ()),
        *("--embedding=good", "--embedding=combined"),
        *(f"--solver={name}", "--save_heads", "--weight_norms", f"--out={data / 'command'}"),
    )
    assert result.returncode == 0, result.stderr
    written, other = (
        {
            path.relative_to(data / out).as_posix(): path.read_bytes()
            for path in (data / out).rglob("*")
            if path.is_file() and path.name != "run.json" and not path.name.startswith(".")
        }
        for out in ("out", "command")
    )
    assert {"probes.csv", "heads/good.safetensors", "weight_norms/combined.npy"} <= set(written)
    assert written.keys() == other.keys()
    for file, content in written.items():
        assert content == other[file], file
    runs = [json.loads((data / out / "run.json").read_text()) for out in ("out", "command")]
    assert runs[0]["configuration"] == runs[1]["configuration"]
    for kind, part in ((GridConfig, "grid"), (SolverConfig, "solver")):
        assert from_json(kind, runs[1]["configuration"][part]) == getattr(sweeping, part)


def test_episodes_file_says_what_was_used(swept):
    rows = read_probes(swept / "out")
    clips = read_manifest(swept / "manifest.csv")
    about = {
        clip: (split, tags)
        for clip, split, tags in zip(clips.clip_ids, clips.splits, clips.tags, strict=True)
    }
    lines = [
        line.split(",") for line in (swept / "out" / "episodes.csv").read_text().splitlines()[1:]
    ]
    assert len(lines) == 2 * 5 * 3
    for seed, _, tag, _, clip in lines:
        assert about[clip][0] == "train" and tag in about[clip][1], (seed, clip)
    for row in rows:
        used = {
            clip
            for seed, position, _, shot, clip in lines
            if int(seed) == row.seed and int(position) < row.n_way and int(shot) < row.k_shot
        }
        assert len(used) == row.num_train == row.n_way * row.k_shot
    tags = {(int(seed), tag) for seed, _, tag, _, _ in lines}
    assert {(row.seed, row.tag) for row in read_per_tag(swept / "out") if row.n_way == 5} == tags


def test_means_are_those_of_the_tags(swept):
    rows = read_probes(swept / "out")
    tags = read_per_tag(swept / "out")
    for row in rows:
        mine = [tag for tag in tags if tag.key == row.key]
        assert len(mine) == row.n_way
        assert row.mAP == pytest.approx(np.mean([tag.average_precision for tag in mine]), abs=1e-6)
        assert row.chance_mAP == pytest.approx(
            np.mean([tag.test_positives for tag in mine]) / 40, abs=1e-6
        )


def test_order_of_rows_in_the_manifest_changes_nothing(data, swept):
    expected = [row for row in read_probes(swept / "out") if row.embedding == "good"]
    clips = read_manifest(data / "manifest.csv")
    write_manifest(
        data / "manifest.csv", clips.take(np.random.default_rng(0).permutation(len(clips)).tolist())
    )
    assert sweep(replace(config(data), embeddings=("good",))) == expected
    first, second = (path / "out" / "episodes.csv" for path in (swept, data))
    assert first.read_bytes() == second.read_bytes()


# converged probes stop within 1e-6 of the least objective, and other neighbours centre the clips
# otherwise
@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [
        ({}, 1e-5),
        ({"name": "lbfgs"}, 5e-4),
        pytest.param({"name": "lbfgs", "l2": 1e-3}, 5e-4, marks=pytest.mark.slow),
    ],
)
def test_a_probe_does_not_depend_on_the_rest_of_the_grid(data, solver, tolerance):
    every = config(data, n_way=(4, 5), k_shot=(3,), num_seeds=2)
    every = replace(every, embeddings=("good",))
    if solver:
        every = replace(every, solver=SolverConfig(**solver))
    whole = {row.key: row for row in sweep(every)}
    for row in sweep(
        replace(
            every, grid=replace(every.grid, n_way=(4,), seed=1, num_seeds=1), out=str(data / "part")
        )
    ):
        assert row.mAP == pytest.approx(whole[row.key].mAP, abs=tolerance)
        assert row.val_loss == pytest.approx(whole[row.key].val_loss, abs=tolerance)
    strengths = [
        {row.key: row.l2 for row in read_rows(Path(out) / "solver.csv", SolverRow)}
        for out in (every.out, data / "part")
    ]
    assert all(l2 == pytest.approx(strengths[0][key], rel=1e-5) for key, l2 in strengths[1].items())


def change(data: Path, **fields: object) -> Manifest:
    clips = replace(read_manifest(data / "manifest.csv"), **fields)  # type: ignore[arg-type]
    write_manifest(data / "manifest.csv", clips)
    return clips


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def no_split(name: str):
    return lambda data: change(
        data,
        splits=tuple(
            split.replace(name, "") for split in read_manifest(data / "manifest.csv").splits
        ),
    )


BAD_INPUT = {
    "no column": (
        lambda data: edit(data / "manifest.csv", "tags", "labels"),
        [],
        "column 'tags' is missing",
    ),
    "twice a clip": (
        lambda data: edit(data / "manifest.csv", "c001", "c000"),
        [],
        "clip_id 'c000' stands already",
    ),
    "no manifest": (
        lambda data: (data / "manifest.csv").unlink(),
        [],
        "manifest.csv: No such file",
    ),
    "truncated": (
        lambda data: os.truncate(data / "good" / "features.npy", 3000),
        [],
        "good/features.npy",
    ),
    "short store": (
        lambda data: (data / "good" / "clip_ids.txt").write_text("c000\n"),
        [],
        "good/features.npy",
    ),
    "objects": (
        lambda data: np.save(
            data / "good" / "features.npy", np.array([{}] * 120), allow_pickle=True
        ),
        [],
        "good/features.npy",
    ),
    "absent clip": (
        lambda data: edit(data / "good" / "clip_ids.txt", "c007", "c999"),
        [],
        "clip 'c007' is not in it",
    ),
    "no validation": (no_split("valid"), [], "manifest.csv: no valid clip"),
    "no test": (no_split("test"), [], "manifest.csv: no test clip"),
    "scarce": (None, ["--k_shot=40"], "40 are needed; lower --k_shot, or pass --on_scarce=fewer"),
    "not UTF-8": (
        lambda data: (data / "t.txt").write_bytes(b"caf\xe9"),
        ["--tags=file:{data}/t.txt"],
        "not UTF-8",
    ),
    "no tags file": (None, ["--tags=file:{data}/no.txt"], "--tags=file:"),
    "no number": (None, ["--learning_rate=nan"], "--learning_rate=nan: use a finite number"),
    "no memory": (None, ["--device_memory_gb=inf"], "--device_memory_gb=inf: use a finite number"),
    "huge batch": (None, ["--batch_size=99999999999"], "--batch_size=99999999999: use"),
    "odd l2": (None, ["--solver=lbfgs", "--l2=0"], "--l2=0: use a positive number"),
    "hidden lbfgs": (
        None,
        ["--solver=lbfgs", "--hidden=4"],
        "--hidden=4: only --solver=adam",
    ),
    "decay of lbfgs": (
        None,
        ["--solver=lbfgs", "--weight_decay=0.1"],
        "--weight_decay=0.1: only --solver=adam heeds it",
    ),
    "unlabelled clips of adam": (
        None,
        ["--unlabelled=weak_negatives"],
        "--unlabelled=weak_negatives: only --solver=lbfgs heeds it",
    ),
    "nothing to choose": (
        None,
        ["--solver=prototypes", "--validation=support"],
        "--validation=support: only --solver=adam|lbfgs|ridge heeds it",
    ),
    "hidden norms": (None, ["--hidden=4", "--weight_norms"], "has no weight per feature and tag"),
    "prototypes' heads": (
        None,
        ["--solver=prototypes", "--save_heads"],
        "--save_heads: with --solver=prototypes a head has no weight per feature and tag",
    ),
    "sides": (None, ["--embedding=good+best"], "--embedding=good+best: unknown"),
    "same sides": (None, ["--embedding=good+good"], "a store stands in it twice"),
    "no validation clips": (no_split("valid"), ["--solver=lbfgs"], "--validation=valid chooses"),
    "odd validation": (None, ["--validation=test"], "--validation"),
    "odd name": (None, ["--store=../x=y"], "a name is letters"),
    "N above pool": (None, ["--n_way=7"], "--n_way=7 is above the pool of 6 tags"),
    "unknown embedding": (
        None,
        ["--embedding=best"],
        "--embedding=best: unknown; there are good, poor, combined",
    ),
    "unknown tag": (
        lambda data: (data / "t.txt").write_text("t77"),
        ["--tags=file:{data}/t.txt"],
        "tag 't77'",
    ),
    "odd K": (None, ["--k_shot=some"], "--k_shot=some"),
    "odd store": (None, ["--store=x"], "--store=x: write it as"),
    "twice a store": (None, ["--store=good=y"], "'good' is given twice"),
    "unknown flag": (None, ["--n_shot=1"], "n_shot"),
    "argument": (None, ["tags"], "unexpected argument 'tags'"),
    "no flagfile": (None, ["--flagfile={data}/none.cfg"], "none.cfg"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_code_2(run, data, case):
    spoil, flags, message = BAD_INPUT[case]
    if spoil:
        spoil(data)
    result = run(data, "--n_way=2", "--k_shot=1", *(flag.format(data=data) for flag in flags))
    assert result.returncode == 2, result.stderr
    assert message in result.stderr and result.stderr.count("\n") == 1 and not result.stdout
    assert not (data / "out").exists(), "nothing half-written"


def test_not_finite_features_name_the_clip(run, data):
    array = np.load(data / "good" / "features.npy")
    array[3, 0] = np.nan  # c003 is a validation clip, so it is read whatever the episode
    np.save(data / "good" / "features.npy", array)
    result = run(data, "--n_way=2", "--k_shot=1")
    assert result.returncode == 2 and "NaN or Inf in the features of clip 'c003'" in result.stderr
    assert not (data / "out").exists()


def test_later_values_are_read_in_their_turn_and_spoil_no_earlier_row(run, data):
    array = np.load(data / "poor" / "features.npy")
    array[3, 0] = np.nan
    np.save(data / "poor" / "features.npy", array)
    result = run(data, "--n_way=2", "--k_shot=1", "--num_seeds=2")
    assert result.returncode == 2 and result.stderr.splitlines()[-1].startswith(
        "fsprobe.sweep: store 'poor'"
    )
    assert {row.embedding for row in read_probes(data / "out")} == {"good"}


def test_one_embedding_is_held_at_a_time(data, monkeypatch):
    alive, real = [], features.load_standardized

    def load(*args):
        gc.disable()  # what waits for the collector counts as held
        assert not [held for held in alive if held() is not None]
        matrix = real(*args)
        alive.append(
            weakref.ref(matrix.features.base)
        )  # the bytes, which views and JAX's arrays hold
        return matrix

    monkeypatch.setattr(features, "load_standardized", load)
    try:
        sweep(replace(config(data, **SMALLEST), embeddings=("good", "poor", "combined")))
    finally:
        gc.enable()
    assert len(alive) == 3


def test_features_that_no_device_holds_are_the_users(data, monkeypatch):
    def place(tree, sharding):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    monkeypatch.setattr(processes, "place", place)
    with pytest.raises(InputError, match="MB of features of good do not fit on a device"):
        sweep(config(data, **SMALLEST))


def test_missing_drop_uses_the_same_clips_for_every_embedding_and_keeps_the_tags(run, data, swept):
    edit(data / "poor" / "clip_ids.txt", "c004", "c999")  # a test clip
    result = run(
        data,
        "--n_way=5",
        "--k_shot=3",
        "--num_seeds=1",
        "--max_epochs=2",
        "--missing=drop",
        *("--embedding=good", "--embedding=poor"),
    )
    assert (
        result.returncode == 0 and "1 clips dropped" in result.stderr and "'c004'" in result.stderr
    )
    counts = {}
    for row in read_per_tag(data / "out"):
        counts.setdefault((row.seed, row.tag), set()).add(row.test_positives)
    assert all(len(values) == 1 for values in counts.values())
    order = [
        {
            line.split(",")[2]: line.split(",")[1]
            for line in (path / "out" / "episodes.csv").read_text().splitlines()
            if line.startswith("0,")
        }
        for path in (swept, data)
    ]
    assert order[0] == order[1], "tags are ranked, and drawn, over every clip of the manifest"


def test_compiled_programs_do_not_pile_up(data):
    """Some 7,000 memory mappings for an embedding of the paper's grid; past 65,530 XLA crashes."""
    client = jax.devices()[0].client
    jax.clear_caches()
    gc.collect()
    before = len(client.live_executables())
    sweep(config(data, **SMALLEST))
    gc.collect()
    assert len(client.live_executables()) <= before


def test_fewer_says_how_scarce(run, data):
    result = run(
        data,
        "--n_way=6",
        "--k_shot=40",
        "--num_seeds=1",
        "--max_epochs=2",
        "--on_scarce=fewer",
        "--embedding=good",
    )
    assert result.returncode == 0, result.stderr
    assert "supports have fewer than K = 40 clips; the smallest is of 't" in result.stderr


def test_a_tag_without_test_positives_is_empty_counted_and_out_of_the_mean(run, data):
    clips = read_manifest(data / "manifest.csv")
    change(
        data,
        tags=tuple(
            tuple(tag for tag in tags if tag != "t1" or split != "test")
            for tags, split in zip(clips.tags, clips.splits, strict=True)
        ),
    )
    result = run(
        data, "--n_way=6", "--k_shot=2", "--num_seeds=1", "--max_epochs=5", "--embedding=good"
    )
    assert result.returncode == 0, result.stderr
    assert (
        "1 of 6 tags have no positive or no negative test clip" in result.stderr
        and "(t1)" in result.stderr
    )
    tags = read_per_tag(data / "out")
    empty = [row for row in tags if np.isnan(row.average_precision)]
    assert [(row.tag, row.test_positives) for row in empty] == [("t1", 0)] and np.isnan(
        empty[0].roc_auc
    )
    (probe,) = read_probes(data / "out")
    assert probe.mAP == pytest.approx(np.nanmean([row.average_precision for row in tags]), abs=1e-6)


def test_another_configuration_in_the_same_directory(run, swept):
    before = (swept / "out" / "probes.csv").read_bytes()
    result = run(swept, "--n_way=2", "--k_shot=1")
    assert (
        result.returncode == 2
        and "another configuration" in result.stderr
        and result.stderr.count("\n") == 1
    )
    assert (swept / "out" / "probes.csv").read_bytes() == before


def test_another_pool_in_the_same_file_of_tags(data):
    """Its rows would stand beside those of the tags before, whose episodes it would replace."""
    tags = data / "tags.txt"
    sweeping = config(data, **SMALLEST, tags=f"file:{tags}")
    tags.write_text("t0\nt1\n")
    rows = sweep(sweeping)
    tags.write_text("t1\n\nt0\n")  # the same pool
    assert sweep(sweeping) == rows
    episodes = (data / "out" / "episodes.csv").read_bytes()
    tags.write_text("t2\n")
    with pytest.raises(InputError, match="another configuration: tags_sha256 was"):
        sweep(sweeping)
    assert (data / "out" / "episodes.csv").read_bytes() == episodes


def test_a_file_of_tags_is_known_by_them_whatever_their_order_in_the_manifest(data):
    """So that reports take sweeps of two manifests that differ in their clips together."""
    (data / "tags.txt").write_text("t0\nt1\n")
    sweeping = config(data, **SMALLEST, tags=f"file:{data / 'tags.txt'}")
    clips = read_manifest(data / "manifest.csv")
    found = set()
    for rare in ("t0", "t1"):
        tags = tuple(tuple(tag for tag in row if tag != rare) for row in clips.tags[1:])
        manifest = replace(clips, tags=(("t0", "t1"), *tags))
        found.add(provenance.identity(sweeping, {}, manifest)["tags_sha256"])
    assert len(found) == 1


def test_a_damaged_directory_is_made_whole(run, data, swept):
    shutil.copytree(swept / "out", data / "out")
    files = {path.name: path.read_bytes() for path in (data / "out").glob("*.csv")}
    probes = files["probes.csv"].splitlines(keepends=True)
    (data / "out" / "per_tag.csv").unlink()
    (data / "out" / "episodes.csv").write_bytes(files["episodes.csv"][:40])
    (data / "out" / "probes.csv").write_bytes(b"".join([*probes, probes[1]]))
    sweep(config(data))
    assert {path.name: path.read_bytes() for path in (data / "out").glob("*.csv")} == files
    edit(data / "out" / "probes.csv", "good,adam,2,1,0", "good,adam,9,1,0")
    result = run(
        data,
        "--n_way=2",
        "--n_way=5",
        "--k_shot=1",
        "--k_shot=3",
        "--num_seeds=2",
        "--learning_rate=0.01",
        "--max_epochs=20",
        "--embedding=good",
        "--embedding=combined",
    )
    assert result.returncode == 2 and "is not of this configuration" in result.stderr


def test_a_store_that_changed_is_not_resumed(run, data):
    flags = ["--n_way=2", "--k_shot=1", "--num_seeds=1", "--max_epochs=2", "--embedding=good"]
    array = np.load(data / "good" / "features.npy")
    digest = hashlib.sha256((data / "good" / "features.npy").read_bytes()).hexdigest()
    edit(
        data / "good" / "store.json",
        '"checksums": {}',
        f'"checksums": {{"features.npy": "{digest}"}}',
    )
    assert run(data, *flags).returncode == 0
    assert run(data, *flags).returncode == 0
    np.save(data / "good" / "features.npy", array[::-1])
    result = run(data, *flags)
    assert (
        result.returncode == 2 and "not what it was when the store was completed" in result.stderr
    )


def test_a_probe_that_diverges_has_no_metric(run, data):
    result = run(
        data,
        "--n_way=2",
        "--k_shot=1",
        "--num_seeds=1",
        "--max_epochs=5",
        "--learning_rate=1e38",
        "--embedding=good",
    )
    assert result.returncode == 0, result.stderr
    assert "1 probes never had a finite validation loss" in result.stderr
    assert [row.mAP for row in read_probes(data / "out")] == [pytest.approx(np.nan, nan_ok=True)]


def test_converged_probes_from_files_to_table(run, data):
    result = run(
        data,
        "--n_way=4",
        "--k_shot=2",
        "--k_shot=full",
        "--num_seeds=2",
        "--solver=lbfgs",
        "--weight_norms",
        "--standardize=train",
        *("--embedding=good", "--embedding=poor"),
    )
    assert result.returncode == 0, result.stderr
    rows = read_rows(data / "out" / "solver.csv", SolverRow)
    assert [row.key for row in rows] == [row.key for row in read_probes(data / "out")] and len(
        rows
    ) == 8
    assert all(row.l2 > 0 and row.gradient_norm < 1e-2 for row in rows)
    assert np.isfinite(
        np.load(data / "out" / "weight_norms" / "poor.npy", allow_pickle=False)
    ).all()
    good, poor = (
        np.mean([row.mAP for row in read_probes(data / "out") if row.embedding == name])
        for name in ("good", "poor")
    )
    assert good > poor


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_tagged_test_clips(data, swept, solver):
    base = replace(config(data), embeddings=("good",))
    if solver == "lbfgs":
        base = replace(base, solver=SolverConfig(solver))
    rows = sweep(replace(base, grid=replace(base.grid, test_clips="tagged")))
    tagged = {(row.key, row.tag): row for row in read_per_tag(data / "out")}
    clips = read_manifest(data / "manifest.csv")
    for row in rows:
        tags = {tag for key, tag in tagged if key == row.key}
        mine = [
            set(clip) & tags
            for clip, split in zip(clips.tags, clips.splits, strict=True)
            if split == "test"
        ]
        counted = [clip for clip in mine if clip]
        assert 0 < len(counted) < len(mine)
        assert row.chance_mAP == pytest.approx(
            sum(map(len, counted)) / len(counted) / len(tags), abs=1e-6
        )
    if solver == "lbfgs":
        every = sweep(replace(base, out=str(data / "all")))
    else:
        every = read_probes(swept / "out")
    whole = {row.key: row.mAP for row in every}
    assert all(row.mAP >= whole[row.key] - 1e-6 for row in rows), (
        "fewer negatives, and never a lower precision"
    )


def test_smallest_sweep(data):
    rows = sweep(config(data, **SMALLEST, tags="top:1"))
    assert [row.num_train for row in rows] == [1, 1] and all(0 <= row.mAP <= 1 for row in rows)


def test_help_teaches():
    result = subprocess.run(
        [sys.executable, "-m", "fsprobe.sweep", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0 and "python -m fsprobe.sweep --manifest" in result.stdout
    assert "--k_shot" in result.stdout and "--restore_best" in result.stdout.replace("[no]", "")
