"""Many probes at once = each probe alone, whatever runs beside it, however it is padded, on any
device.

Tolerance 1e-5: batched products may sum in another order, and a few hundred Adam steps pass that
on.
"""

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fsprobe import metrics
from fsprobe.batch import lanes
from fsprobe.batch.memory import Sizes
from fsprobe.batch.packing import CPU_EPOCHS, Chunk, pack_probes
from fsprobe.batch.spec import ProbeSpec
from fsprobe.config import SolverConfig
from fsprobe.heads.data import Data
from fsprobe.heads.solvers.adam import adam
from fsprobe.heads.solvers.solver import Steps
from tests.support import probes
from tests.support.probes import mesh_of

CONFIG = SolverConfig(learning_rate=0.01, max_epochs=25, patience=5)


@pytest.fixture(scope="module")
def data() -> Data:
    return probes.directed((60, 30, 80), 10, 8)


def specs(count: int = 5) -> list[ProbeSpec]:
    rng = np.random.default_rng(1)
    return [
        ProbeSpec(
            i,
            10 + i,
            rng.permutation(60)[: [3, 9, 24, 1, 60][i % 5]],
            rng.permutation(8)[: [1, 2, 8][i % 3]],
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def one_by_one(data) -> dict[int, tuple[np.ndarray, np.ndarray, float, int]]:
    """Each probe unpadded, unbatched."""

    def alone(spec: ProbeSpec) -> tuple[np.ndarray, np.ndarray, float, int]:
        state = probes.fit(CONFIG, probes.task(spec.support, spec.tags, spec.seed), data)
        scores = adam(CONFIG).head(state).score(data.test.features).T
        labels = data.test.positive[:, spec.tags].T
        return (
            np.asarray(metrics.average_precision(scores, labels)),
            np.asarray(metrics.roc_auc(scores, labels)),
            float(state.progress.loss),
            int(state.progress.epoch),
        )

    return {spec.key: alone(spec) for spec in specs()}


@dataclass(eq=False)
class Traced:
    """The steps of Adam, and how often `advance` has been traced: once for each program."""

    config: SolverConfig
    count: int = field(default=0)

    @property
    def steps(self) -> Steps:
        own = adam(self.config)

        def advance(*arguments: Any) -> Any:
            self.count += 1
            return own.advance(*arguments)

        return own._replace(advance=advance)


@pytest.mark.parametrize("num_devices", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_retiring_what_is_done_changes_nothing(data, num_devices, monkeypatch):
    """In lockstep, lanes are given up once few still train."""
    config = SolverConfig(learning_rate=0.05, max_epochs=300, patience=3)
    mesh, clock = mesh_of(num_devices), itertools.count(step=1000)
    # a clock that hurries: an epoch at a time
    monkeypatch.setattr(lanes, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    ticks: list[int] = []
    found = {}
    for side_by_side in (16 // num_devices, 1):
        chunk = Chunk(8, 72, side_by_side, 14, tuple(specs(14)))
        traced = Traced(config)
        found[side_by_side] = lanes.train_chunk(
            chunk, data, traced.steps, config, mesh, ticks.append
        )
        retired = 4 - num_devices if side_by_side > 1 else 1  # 16, 4 and 1 lanes; or 8 and 2
        assert traced.count == retired
    assert 2 * 14 < sum(ticks) < 2 * 14 * config.max_epochs
    assert len({outcome.epochs for outcome in found[1]}) > 4
    for mine, theirs in zip(*found.values(), strict=True):
        assert mine.spec.key == theirs.spec.key and mine.epochs == theirs.epochs
        assert mine.val_loss == pytest.approx(theirs.val_loss, abs=1e-5)
        np.testing.assert_allclose(
            mine.metrics.average_precision, theirs.metrics.average_precision, atol=1e-5
        )


@pytest.mark.parametrize(
    ("num_devices", "side_by_side", "validate_every"), [(1, 1, 10), (1, 4, 1), (2, 3, 1)]
)
def test_together_as_alone(data, one_by_one, num_devices, side_by_side, validate_every):
    chunk = Chunk(8, 72, side_by_side, 5, tuple(specs()))
    steps = adam(CONFIG, validate_every)
    outcomes = lanes.train_chunk(chunk, data, steps, CONFIG, mesh_of(num_devices))
    assert [outcome.spec.key for outcome in outcomes] == list(range(5))
    for outcome in outcomes:
        precision, auc, loss, epochs = one_by_one[outcome.spec.key]
        np.testing.assert_allclose(outcome.metrics.average_precision, precision, atol=1e-5)
        np.testing.assert_allclose(outcome.metrics.roc_auc, auc, atol=1e-5)
        assert outcome.val_loss == pytest.approx(loss, abs=1e-5) and outcome.epochs == epochs


def test_padding_is_inert(data):
    one = tuple(specs(3)[2:])
    tight, loose = (
        lanes.train_chunk(Chunk(*shape, 1, 1, one), data, adam(CONFIG), CONFIG, mesh_of(1))[0]
        for shape in ((8, 24), (16, 200))
    )
    np.testing.assert_allclose(
        tight.metrics.average_precision, loose.metrics.average_precision, atol=1e-5
    )
    assert tight.val_loss == pytest.approx(loose.val_loss, abs=1e-5)


def test_every_probe_is_packed_once_where_it_fits():
    many = specs(40)
    sizes = Sizes(60, 30, 80, 10, 8)
    buckets = pack_probes(many, sizes, "cpu", 2, CONFIG)
    chunks = [chunk for bucket in buckets for chunk in bucket.chunks(2)]
    assert sorted(spec.key for chunk in chunks for spec in chunk.specs) == list(range(40))
    for chunk in chunks:
        for spec in chunk.specs:
            assert len(spec.tags) <= chunk.n_tags and len(spec.support) <= chunk.n_clips
    assert buckets == pack_probes(many, sizes, "cpu", 2, CONFIG)


def test_epochs_are_validated_together_where_that_is_sound_and_quick():
    """Linear probes with a validation set, one by one, whose epochs are short."""

    def every(platform: str, clips: int, **solver: object) -> int:
        spec = ProbeSpec(0, 0, np.arange(clips), np.arange(3))
        config = SolverConfig(**solver)  # type: ignore[arg-type]
        (bucket,) = pack_probes([spec], Sizes(4000, 30, 80, 10, 50), platform, 1, config)
        return bucket.validate_every

    assert every("cpu", 1) == every("cpu", 2048) == CPU_EPOCHS > 1
    assert every("gpu", 1) == every("cpu", 2049) == every("cpu", 1, hidden=4) == 1
    assert every("cpu", 1, validation="support") == every("cpu", 1, validation="none") == 1


def test_large_probes_share_no_chunk_on_a_cpu():
    large = [ProbeSpec(i, i, np.arange(16_000), np.arange(50)) for i in range(8)]
    (bucket,) = pack_probes(large, Sizes(16_000, 30, 80, 10, 50), "cpu", 2, CONFIG)
    assert bucket.per_device <= 2


def test_one_trace_per_shape(data):
    config = SolverConfig(learning_rate=0.01, max_epochs=30, patience=30)
    traced, ticks = Traced(config), list[int]()
    steps = traced.steps
    for first in (0, 2, 4):  # three chunks of the same shape, many blocks of epochs each
        chunk = Chunk(8, 64, 1, 2, tuple(specs(6)[first : first + 2]))
        lanes.train_chunk(chunk, data, steps, config, mesh_of(2), ticks.append)
    assert len(ticks) > 3, "each chunk must take several blocks"
    assert traced.count == 1
    assert 3 * 2 < sum(ticks) < 3 * 2 * 30, "the last block is told by whoever has the outcomes"


@pytest.mark.parametrize(("probes", "lanes"), [(1, 1), (5, 8), (40, 64), (1000, 256)])
def test_an_accelerator_has_hardly_more_places_than_probes(probes, lanes):
    many = [ProbeSpec(i, i, np.arange(8), np.arange(3)) for i in range(probes)]
    (bucket,) = pack_probes(many, Sizes(4000, 30, 80, 10, 50), "gpu", 1, CONFIG)
    assert bucket.lanes == bucket.per_device == lanes
