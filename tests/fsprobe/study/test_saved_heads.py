"""--save_heads: a head, scored with NumPy alone on what the store holds, gives the sweep's metrics.

To 1e-5: the head on raw features is the probe on standardised ones but for float32's rounding.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.metrics import average_precision_score, roc_auc_score

from extract.manifest import Manifest, write_manifest
from fsprobe.batch import dispatch
from fsprobe.config import GridConfig, SolverConfig, SweepConfig
from fsprobe.study.execute import sweep
from fsprobe.study.results import read_per_tag, read_probes
from tests.support import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Features that are neither centred nor of one scale."""
    root = tmp_path_factory.mktemp("heads")
    clips = tiny.manifest()
    write_manifest(root / "manifest.csv", clips)
    for name, dim, noise in (("good", 12, 0.5), ("poor", 5, 2.0)):
        array = tiny.features(clips, dim, noise) * np.linspace(0.5, 20, dim) + 30
        tiny.write_store(root / name, clips.clip_ids, array.astype(np.float32))
    return root


def config(data: Path, out: str, solver: SolverConfig, **more: object) -> SweepConfig:
    settings: dict[str, object] = {
        "manifest": str(data / "manifest.csv"),
        "stores": (("good", str(data / "good")), ("poor", str(data / "poor"))),
        "embeddings": ("good", "combined"),
        "out": str(data / out),
        "save_heads": True,
        "grid": GridConfig(n_way=(3,), k_shot=(2, "full"), num_seeds=2),
        "solver": solver,
    }
    return SweepConfig(**settings | more)  # type: ignore[arg-type]


ADAM = SolverConfig(learning_rate=0.01, max_epochs=20)
LBFGS = SolverConfig("lbfgs")


def features_of(data: Path, embedding: str, standardize: str) -> np.ndarray:
    """As NumPy opens them."""
    if embedding == "good":
        name = "features_framenorm.npy" if standardize == "frame" else "features.npy"
        array: np.ndarray = np.load(data / "good" / name, allow_pickle=False)
        return array
    parts = [np.load(data / name / "features_framenorm.npy") for name in ("good", "poor")]
    return np.hstack(parts)


def assert_heads_give_the_metrics(
    data: Path, clips: Manifest, sweeping: SweepConfig, known: np.ndarray | None = None
) -> None:
    """known: bool `[clip, tag]`, of the tags t0, t1, …; None: all."""
    pool = [f"t{i}" for i in range(6)]
    test = np.array([split == "test" for split in clips.splits])
    labels = np.array([[tag in tags for tag in pool] for tags in clips.tags])
    known = np.ones(labels.shape, bool) if known is None else known
    rows = read_per_tag(sweeping.out)
    order: dict[object, list[object]] = {}
    for row in rows:
        order.setdefault(row.key, []).append(row)
    assert len(order) == len(read_probes(sweeping.out)) > 0
    for embedding in sweeping.embeddings:
        x = features_of(data, embedding, sweeping.solver.standardize)
        path = Path(sweeping.out) / "heads" / f"{embedding}.safetensors"
        with safe_open(path, "np") as file:
            names = set(file.keys())
            for key, mine in order.items():
                if key.embedding != embedding:
                    continue
                place = f"{key.n_way}/{key.k_shot}/{key.seed}"
                kernel = file.get_tensor(f"{place}/kernel")
                bias = file.get_tensor(f"{place}/bias")
                names -= {f"{place}/kernel", f"{place}/bias"}
                assert kernel.shape == (key.n_way, x.shape[1]) and bias.shape == (key.n_way,)
                assert kernel.dtype == bias.dtype == np.float32
                scores = x.astype(np.float64) @ kernel.T + bias
                for i, row in enumerate(mine):
                    tag = pool.index(row.tag)
                    kept = test & known[:, tag]
                    truth = labels[kept, tag], scores[kept, i]
                    assert row.test_positives == truth[0].sum()
                    assert row.average_precision == pytest.approx(
                        average_precision_score(*truth), abs=1e-5
                    )
                    assert row.roc_auc == pytest.approx(roc_auc_score(*truth), abs=1e-5)
        assert not names, "a tensor of no probe"


# each standardisation once, each solver on features that are centred and on others
@pytest.mark.parametrize(
    ("solver", "standardize", "embeddings"),
    [
        (ADAM, "none", ("good", "combined")),
        (ADAM, "train", ("good",)),
        (LBFGS, "frame", ("good", "combined")),
        (LBFGS, "train", ("good",)),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_scored_with_numpy_alone(data, solver, standardize, embeddings):
    solver = replace(solver, standardize=standardize)
    sweeping = config(data, f"{solver.name}-{standardize}", solver, embeddings=embeddings)
    sweep(sweeping)
    assert_heads_give_the_metrics(data, tiny.manifest(), sweeping)


@pytest.mark.parametrize("solver", [ADAM, LBFGS], ids=["adam", "lbfgs"])
def test_a_stopped_sweep_goes_on_to_the_same_file(data, solver, monkeypatch):
    """What is not fitted yet is NaN. Kills at any moment: test_durability.py."""
    grid = GridConfig(n_way=(2,), k_shot=(1, 3), num_seeds=20)  # more than trains at a time
    whole, broken = (
        config(data, f"{solver.name}-{name}", solver, grid=grid, embeddings=("good",))
        for name in ("whole", "broken")
    )
    sweep(whole)
    real = dispatch.train

    def stopping(*arguments, **more):
        outcomes = real(*arguments, **more)
        yield next(outcomes)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(dispatch, "train", stopping)
        with pytest.raises(KeyboardInterrupt):
            sweep(broken)
    with safe_open(Path(broken.out) / "heads" / "good.safetensors", "np") as file:
        empty = [name for name in file.keys() if np.isnan(file.get_tensor(name)).all()]  # noqa: SIM118
        assert 0 < len(empty) < len(list(file.keys()))
    sweep(broken)
    for name in ("heads/good.safetensors", "probes.csv"):
        assert (Path(broken.out) / name).read_bytes() == (Path(whole.out) / name).read_bytes()


@pytest.mark.parametrize("solver", [ADAM, LBFGS], ids=["adam", "lbfgs"])
def test_what_is_not_known_counts_nowhere(data, solver, tmp_path):
    """A manifest with not_tags: clips in neither list are left out of a tag's metrics."""
    clips = tiny.manifest()
    pool = [f"t{i}" for i in range(6)]
    rng = np.random.default_rng(5)
    absent = tuple(
        tuple(tag for tag in pool if tag not in tags and rng.random() < 0.5) for tags in clips.tags
    )
    clips = replace(clips, not_tags=absent)
    write_manifest(tmp_path / "manifest.csv", clips)
    known = np.array(
        [
            [tag in yes or tag in no for tag in pool]
            for yes, no in zip(clips.tags, absent, strict=True)
        ]
    )
    assert 0.5 < known.mean() < 0.8
    few = {"manifest": str(tmp_path / "manifest.csv"), "embeddings": ("good",)}
    sweeping = config(data, f"known-{solver.name}", solver, **few)
    rows = sweep(sweeping)
    assert_heads_give_the_metrics(data, clips, sweeping, known)
    test = np.array([split == "test" for split in clips.splits])
    labels = np.array([[tag in tags for tag in pool] for tags in clips.tags])
    prevalence = labels[test].sum(axis=0) / known[test].sum(axis=0)
    per_tag = read_per_tag(sweeping.out)
    for row in rows:
        mine = [pool.index(tag.tag) for tag in per_tag if tag.key == row.key]
        assert row.chance_mAP == pytest.approx(prevalence[mine].mean(), abs=1e-6)
