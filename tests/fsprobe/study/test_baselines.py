"""Sweeps of the baselines: each probe is what `fsprobe.fit` gives for its support set, whatever is
unknown, stopped or simplified. That a fit is right: tests/fsprobe/heads/solvers.
"""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fsprobe
from extract.errors import InputError
from extract.manifest import Manifest, read_manifest, write_manifest
from fsprobe.config import GridConfig, SolverConfig, SweepConfig
from fsprobe.features import load_features
from fsprobe.heads.solvers.registry import SOLVERS, validation_of
from fsprobe.pages.blocks import to_markdown
from fsprobe.study.execute import OutOfTime, sweep
from fsprobe.study.grid import build_grid, probe_data, probe_keys, probe_specs
from fsprobe.study.tables import ProbeRow, SolverRow, read_rows
from tests.support import fake_results, tiny
from tests.support.report_blocks import blocks_of, text_of

BASELINES = [name for name, solver in SOLVERS.items() if solver.baseline]
FILES = ("probes.csv", "per_tag.csv", "solver.csv")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """manifest.csv, where a third of the absent tags are unknown, and all.csv, where none is."""
    root = tmp_path_factory.mktemp("baselines")
    clips = tiny.write_data(root)
    write_manifest(root / "all.csv", clips)
    write_manifest(root / "manifest.csv", with_unknown(clips))
    return root


def with_unknown(clips: Manifest) -> Manifest:
    rng = np.random.default_rng(5)
    names = sorted({tag for tags in clips.tags for tag in tags})
    absent = (set(names) - set(tags) for tags in clips.tags)
    known = (tuple(sorted(tag for tag in tags if rng.random() > 1 / 3)) for tags in absent)
    return replace(clips, not_tags=tuple(known))


def config(data: Path, out: str, solver: SolverConfig, **more: object) -> SweepConfig:
    settings: dict[str, object] = {
        "manifest": str(data / "manifest.csv"),
        "stores": (("good", str(data / "good")),),
        "out": str(data / out),
        "grid": GridConfig(n_way=(3,), k_shot=(4, "full"), num_seeds=2),
        "solver": solver,
    }
    return SweepConfig(**settings | more)  # type: ignore[arg-type]


def solver_of(name: str, validation: str) -> SolverConfig:
    """With that validation where there is something to choose."""
    if "validation" not in SOLVERS[name].settings:
        return SolverConfig(name)
    return SolverConfig(name, validation=validation)


CASES = [
    ("ridge", "support", "manifest.csv"),
    pytest.param("ridge", "none", "all.csv", marks=pytest.mark.slow),
    ("prototypes", "support", "manifest.csv"),
    ("lc_protonets", "none", "manifest.csv"),
]


@pytest.mark.parametrize(("name", "validation", "manifest"), CASES)
def test_every_probe_is_as_fitted_alone(data, name, validation, manifest):
    solver = solver_of(name, validation)
    out = f"{name}-{validation}-{manifest}"
    sweeping = config(data, out, solver, manifest=str(data / manifest))
    rows = {row.key: row for row in sweep(sweeping)}
    heeded = validation_of(name, validation)
    grid = build_grid(
        read_manifest(data / manifest), sweeping.grid, data / manifest, validation=heeded
    )
    parts = probe_data(grid, load_features({"good": data / "good"}, grid.clips, "good"))
    assert (parts.test.negative is None) == (manifest == "all.csv")
    for spec in probe_specs(grid, probe_keys(sweeping.grid, "good", name), heeded):
        train, _, test = (part.of_tags(spec.tags) for part in parts[:3])
        support = [None if part is None else part[spec.support] for part in train]
        head = fsprobe.fit(*support, solver=name, validation=validation)
        scores = fsprobe.score(head, test.features)
        expected = fsprobe.evaluate(scores, test.positive, test.negative)
        row = rows[spec.key]
        assert row.mAP == pytest.approx(expected["mAP"], abs=1e-4)
        assert row.roc_auc == pytest.approx(expected["roc_auc"], abs=1e-4)
        assert row.validation == (validation if name == "ridge" else "")
        assert 0 < row.macro_f1 <= 1 and 0 < row.micro_f1 <= 1


@pytest.mark.parametrize("name", BASELINES)
def test_stopped_again_and_again_it_ends_as_an_undisturbed_one(data, name):
    grid = GridConfig(n_way=(3,), k_shot=(2, "full"), num_seeds=2)
    solver = solver_of(name, "support")
    whole, stopped = (config(data, f"{name}-{out}", solver, grid=grid) for out in ("whole", "cut"))
    sweep(whole)
    stops = 0
    while True:
        try:
            sweep(replace(stopped, timeout_minutes=1e-6))
            break
        except OutOfTime:
            stops += 1
    assert stops > 1
    for file in FILES:
        assert (data / stopped.out / file).read_bytes() == (data / whole.out / file).read_bytes()


def test_label_combinations_left_out_are_counted_and_said(tmp_path, capsys):
    """18 tags of which a clip has half: 160 such clips have twice 8,192 closed combinations."""
    labels = np.random.default_rng(0).random((180, 18)) < 0.5
    labels[:2, 2:] = False  # clips of two tags or fewer lose no combination
    concerned = int(np.sum(labels[:160].sum(axis=1) > 2))
    assert concerned < 160
    clips = Manifest(
        tuple(f"c{i:03}" for i in range(180)),
        ("",) * 180,
        ("train",) * 160 + ("test",) * 20,
        tuple(tuple(f"t{j:02}" for j in np.flatnonzero(row)) for row in labels),
    )
    write_manifest(tmp_path / "manifest.csv", clips)
    tiny.write_store(tmp_path / "good", clips.clip_ids, tiny.features(clips))
    grid = GridConfig(n_way=(18,), k_shot=(1, "full"), num_seeds=1)
    sweep(config(tmp_path, "lc", SolverConfig("lc_protonets"), grid=grid))
    said = (
        "1 of 2 probes have more than 8,192 label combinations: single tags and the commonest "
        f"pairs of tags stand for all; this concerns up to {concerned} support clips of a probe (column "
        "`clips_cut` of solver.csv)"
    )
    assert said in capsys.readouterr().err
    (row,) = read_rows(tmp_path / "lc" / "solver.csv", SolverRow)
    assert (row.k_shot, row.clips_cut, row.converged) == ("full", concerned, 1)
    text = text_of(tmp_path / "lc")
    assert said.replace("`", r"\`").replace("clips_cut", r"clips_cut") in text
    assert "Convergence" not in text and "nan" not in text


def test_label_combinations_left_out_are_said_where_sweeps_are_compared(tmp_path):
    grid = {"n_way": (5,), "k_shot": (1, "full"), "num_seeds": 2}
    folders = [
        fake_results.write(tmp_path / name, solver=name, **grid)
        for name in ("lbfgs", "lc_protonets")
    ]
    splits = [
        fake_results.write(
            tmp_path / f"split{i}", solver="lc_protonets", manifest=str(i) * 64, **grid
        )
        for i in range(2)
    ]
    for path in (folders[1], splits[1]):
        key = ("good", "lc_protonets", 5, "full", 1)
        header = [*ProbeRow._fields[:5], "l2", "gradient_norm", "iterations", "gap", "converged"]
        row = [*key, "", "", 0, "", 1, 39]
        fake_results.write_csv(path / "solver.csv", [*header, "clips_cut"], [row])
    for paths, label in ((folders, "lc_protonets"), (splits, "split1")):
        text = to_markdown(blocks_of(*paths, each=False), str).replace("\\", "")
        said = f"{label}: 1 of 12 probes have more than 8,192 label combinations"
        assert text.count(said) == 1 and text.count("label combinations") == 1


def test_fit_warns_of_label_combinations_left_out():
    rng = np.random.default_rng(0)
    labels, features = rng.random((160, 18)) < 0.5, rng.standard_normal((160, 4))
    concerned = int(np.sum(labels.sum(axis=1) > 2))
    said = rf"more than 8,192 label combinations: .*; this concerns {concerned} of 160 clips"
    with pytest.warns(UserWarning, match=said) as warned:
        fsprobe.fit(features, labels, solver="lc_protonets")
    (warning,) = (one for one in warned if "label combinations" in str(one.message))
    assert warning.filename == __file__
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*label combinations")
        fsprobe.fit(features, labels[:, :8], solver="lc_protonets")


@pytest.mark.parametrize(
    ("solver", "more", "message"),
    [
        (
            SolverConfig("prototypes"),
            {"save_heads": True},
            "`save_heads`: with `solver=prototypes`",
        ),
        (SolverConfig("lc_protonets"), {"weight_norms": True}, "`weight_norms`: with"),
        (SolverConfig(hidden=4), {"save_heads": True}, "`save_heads`: with `hidden=4`"),
        (SolverConfig("ridge", hidden=4), {}, r"`hidden=4`: only `solver=adam` heeds it"),
        (SolverConfig("prototypes", l2=1.0), {}, r"`l2=1.0`: only `solver=lbfgs\|ridge` heeds it"),
        (SolverConfig("lbfgs", weight_decay=0.1), {}, "`weight_decay=0.1`: only `solver=adam`"),
        (SolverConfig("ridge", restore_best=False), {}, "`restore_best=False`: only `solver=adam`"),
        (SolverConfig("prototypes", validation="support"), {}, "`validation=support`: only"),
        (SolverConfig("magic"), {}, "`solver=magic`: use one of adam, lbfgs, ridge"),
    ],
)
def test_what_a_solver_cannot_serve_is_refused_before_anything_is_written(
    data, solver, more, message
):
    with pytest.raises(InputError, match=message):
        sweep(config(data, "refused", solver, **more))
    assert not (data / "refused").exists()
