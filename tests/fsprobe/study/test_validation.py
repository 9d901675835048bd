"""What chooses strengths and epochs in a sweep: the validation clips, the support, or nothing."""

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from extract.errors import InputError
from extract.manifest import read_manifest, write_manifest
from fsprobe import metrics
from fsprobe.batch import by_seed
from fsprobe.batch.spec import Wanted
from fsprobe.config import GridConfig, SolverConfig, SweepConfig
from fsprobe.features import load_features
from fsprobe.heads.cross_validation import FOLDS
from fsprobe.heads.solvers.adam import adam
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.heads.solvers.solver import Settings
from fsprobe.study.execute import sweep
from fsprobe.study.grid import build_grid, probe_data, probe_keys, probe_specs
from fsprobe.study.notes import note_gaps
from fsprobe.study.tables import SolverRow, read_rows
from tests.support import probes, tiny

GRID = GridConfig(n_way=(3,), k_shot=(2, 5), num_seeds=2)
ADAM = SolverConfig(learning_rate=0.01, max_epochs=60, patience=5)


def solver_of(name: str, validation: str = "valid") -> SolverConfig:
    return replace(ADAM if name == "adam" else SolverConfig(name), validation=validation)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("validation")
    tiny.write_data(root)
    return root


def config(data: Path, out: str, solver: SolverConfig, **more: object) -> SweepConfig:
    settings: dict[str, object] = {
        "manifest": str(data / "manifest.csv"),
        "stores": (("good", str(data / "good")), ("poor", str(data / "poor"))),
        "embeddings": ("good",),
        "out": str(data / out),
        "grid": GRID,
        "solver": solver,
    }
    return SweepConfig(**settings | more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "validation"),
    [
        ("adam", "valid"),
        ("adam", "support"),
        pytest.param("adam", "none", marks=pytest.mark.slow),
        pytest.param("lbfgs", "valid", marks=pytest.mark.slow),
        ("lbfgs", "support"),
        ("lbfgs", "none"),
    ],
)
def test_every_probe_is_as_alone(data, name, validation):
    """The clips, folds and seeds of a probe reach its fit, whatever trains beside it.

    That a fit alone is right: tests/fsprobe/heads.
    """
    solver = solver_of(name, validation)
    sweeping = config(data, f"{name}-{validation}", solver)
    rows = {row.key: row for row in sweep(sweeping)}
    assert {row.validation for row in rows.values()} == {validation}
    clips = read_manifest(data / "manifest.csv")
    grid = build_grid(clips, GRID, validation=validation)
    features = load_features({"good": data / "good"}, grid.clips, "good")
    if name == "lbfgs":
        features -= features[grid.train].mean(axis=0)
    parts = probe_data(grid, features)
    specs = probe_specs(grid, probe_keys(GRID, "good", name), validation)
    for spec in (specs[0], specs[-1]):  # of both K, of both seeds
        row = rows[spec.key]
        assert (spec.folds is not None) == (validation == "support")
        task = probes.task(spec.support, spec.tags, spec.seed, spec.folds)
        if name == "adam":
            state = probes.fit(solver, task, parts)
            head, loss = adam(solver).head(state), float(state.progress.loss)
            assert (row.epochs, row.best_epoch) == (
                int(state.progress.epoch),
                int(state.progress.best_epoch),
            )
        else:
            (alone,) = (
                outcome
                for part in by_seed.fit_by_seed(
                    [spec],
                    parts,
                    SOLVERS["lbfgs"],
                    Settings(None, validation),
                    probes.mesh_of(1),
                    Wanted(heads=True),
                )
                for outcome in part
            )
            head, loss = alone.head, alone.val_loss
        scores = jnp.asarray(head.score(parts.test.features))
        precision = metrics.average_precision(
            scores.T, np.asarray(parts.test.positive)[:, spec.tags].T
        )
        assert row.mAP == pytest.approx(float(np.mean(precision)), abs=1e-3)
        if validation == "none":
            assert np.isnan(row.val_loss) and np.isnan(loss)
        else:
            assert row.val_loss == pytest.approx(loss, rel=1e-3)
        if validation == "none" and name == "adam":
            assert row.epochs == row.best_epoch == solver.max_epochs


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_without_validation_clips(data, name, tmp_path):
    """The support alone is enough; the default says what it lacks."""
    clips = read_manifest(data / "manifest.csv")
    splits = tuple(split.replace("valid", "") for split in clips.splits)
    write_manifest(tmp_path / "manifest.csv", replace(clips, splits=splits))
    few = {"manifest": str(tmp_path / "manifest.csv")}
    for validation in ("support", "none"):
        solver = solver_of(name, validation)
        rows = sweep(config(data, f"no-valid-{name}-{validation}", solver, **few))
        whole = sweep(config(data, f"{name}-{validation}", solver))
        # the validation clips had no say
        assert [row.mAP for row in rows] == pytest.approx([row.mAP for row in whole], abs=1e-6)
    with pytest.raises(InputError, match=r"no valid clip.*`validation=valid`"):
        sweep(config(data, f"no-valid-{name}", solver_of(name), **few))


def test_tags_unknown_of_every_validation_clip_are_named(capsys):
    """Of t0 alone they say yes or no."""
    clips = tiny.manifest()
    valid = [split == "valid" for split in clips.splits]
    tags = [tuple(f"t{i}" for i in range(1 if there else 6)) for there in valid]
    absent = tuple(
        tuple(tag for tag in told if tag not in mine)
        for told, mine in zip(tags, clips.tags, strict=True)
    )
    known = tuple(
        tuple(tag for tag in mine if tag in told)
        for told, mine in zip(tags, clips.tags, strict=True)
    )
    grid = build_grid(replace(clips, tags=known, not_tags=absent), GRID)
    note_gaps(grid, None, "support")
    note_gaps(build_grid(clips, GRID), None, "valid")
    assert "unknown of every" not in capsys.readouterr().err
    note_gaps(grid, None, "valid")
    said = capsys.readouterr().err
    assert "5 of 6 tags are unknown of every validation clip" in said
    assert all(tag in said for tag in ("t1", "t2", "t3", "t4", "t5")) and "t0" not in said


def test_near_copies_are_in_one_fold_of_every_cell(data):
    clips = read_manifest(data / "manifest.csv")
    clips = replace(clips, tracks=tuple(f"{i // 18}" for i in range(len(clips))))
    config = GridConfig(n_way=(2, 5), k_shot=(2, 3, "full"), num_seeds=3)
    grid = build_grid(clips, config, validation="support")
    for spec in probe_specs(grid, probe_keys(config, "good", "adam"), "support"):
        tracks = grid.tracks[spec.support]
        for track in np.unique(tracks):
            assert len(set(spec.folds[tracks == track])) == 1


def test_folds_share_out_the_clips_of_every_cell(data):
    config = GridConfig(n_way=(2, 5), k_shot=(2, 4, "full"), num_seeds=3)
    grid = build_grid(read_manifest(data / "manifest.csv"), config, validation="support")
    for spec in probe_specs(grid, probe_keys(config, "good", "adam"), "support"):
        sizes = np.bincount(spec.folds, minlength=FOLDS)
        assert len(sizes) == FOLDS and sizes.max() <= max(2, 2 * len(spec.support) / FOLDS)
        for tag in spec.tags:  # what is held out leaves positives to learn from
            positives = spec.folds[grid.positive[spec.support, tag]]
            assert len(positives) < 3 or len(set(positives)) > 1


def test_side_by_side_is_combined_of_the_two(data):
    grid = replace(GRID, k_shot=(2,), num_seeds=1)
    sides = ("good+poor", "poor+good", "combined")
    sweeping = config(data, "beside", ADAM, embeddings=sides, grid=grid)
    rows = sweep(sweeping)
    found = {
        name: [row[5:] for row in rows if row.embedding == name] for name in sweeping.embeddings
    }
    assert found["good+poor"] == found["combined"] != found["poor+good"]


def test_what_did_not_converge_is_marked_and_counted(data, monkeypatch, capsys):
    solver = SolverConfig("lbfgs")
    grid = replace(GRID, k_shot=(2, "full"), num_seeds=1)
    sweep(config(data, "converged", solver, grid=grid))
    solved = read_rows(data / "converged" / "solver.csv", SolverRow)
    assert len(solved) == 2 and all(row.converged == 1 and row.gap <= 1e-3 for row in solved)
    assert "did not converge" not in capsys.readouterr().err
    own = SOLVERS["lbfgs"]

    def far(*arguments):
        return own.cell(*arguments)._replace(gap=jnp.float32(0.5))

    monkeypatch.setitem(SOLVERS, "lbfgs", replace(own, cell=far))
    sweep(config(data, "far", solver, grid=grid))
    solved = read_rows(data / "far" / "solver.csv", SolverRow)
    assert [(row.k_shot, row.converged) for row in solved] == [(2, 0), ("full", 1)]
    assert "1 of 2 probes did not converge (column `converged` of solver.csv)" in (
        capsys.readouterr().err
    )
