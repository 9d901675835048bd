"""Many probes at once = each probe alone, whatever runs beside it, however it is padded, on any
device.

Tolerance 1e-5: batched products may sum in another order, and a few hundred Adam steps pass that
on.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from fsprobe import metrics
from fsprobe.batch import lanes as vectorize
from fsprobe.batch.lanes import Chunk, ProbeSpec
from fsprobe.batch.memory import Sizes
from fsprobe.config import SolverConfig
from fsprobe.heads import adam as solvers
from fsprobe.heads import head as probe
from fsprobe.heads.head import Data, Task, fit_probe

CONFIG = SolverConfig(learning_rate=0.01, max_epochs=25, patience=5)


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((8, 10))
    parts: list[jax.Array] = []
    for n in (60, 30, 80):
        y = rng.random((n, 8)) < 0.3
        parts += [jnp.array(y @ mix + rng.standard_normal((n, 10)), jnp.float32), jnp.array(y)]
    return Data(*parts)


def specs(count: int = 7) -> list[ProbeSpec]:
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


def alone(spec: ProbeSpec, data: Data) -> tuple[np.ndarray, np.ndarray, float, int]:
    """One probe by fit_probe, unpadded, unbatched."""
    task = Task(
        *(
            jnp.asarray(part, jnp.int32)
            for part in (spec.seed, spec.support, len(spec.support), spec.tags, len(spec.tags))
        )
    )
    params, progress = fit_probe(solvers.adam(CONFIG), task, data, CONFIG.max_epochs)
    scores = probe.logits(params, data.test).T
    labels = data.test_labels[:, spec.tags].T
    return (
        np.asarray(metrics.average_precision(scores, labels)),
        np.asarray(metrics.roc_auc(scores, labels)),
        float(progress.loss),
        int(progress.epoch),
    )


@pytest.fixture(scope="module")
def one_by_one(data) -> dict[int, tuple[np.ndarray, np.ndarray, float, int]]:
    return {spec.key: alone(spec, data) for spec in specs()}


@pytest.mark.parametrize("num_devices", [1, 2])
def test_retiring_what_is_done_changes_nothing(data, num_devices, monkeypatch):
    config = SolverConfig(learning_rate=0.05, max_epochs=300, patience=3)
    mesh, chunk = mesh_of(num_devices), Chunk(8, 72, 16 // num_devices, tuple(specs(14)))
    monkeypatch.setattr(vectorize, "_BLOCK_SECONDS", 0.0)  # an epoch at a time
    sizes, ticks, take = [], [], vectorize._take
    monkeypatch.setattr(
        vectorize,
        "_take",
        lambda tree, origin, mesh: sizes.append(origin.size) or take(tree, origin, mesh),
    )
    retired = list(vectorize.train(chunk, data, config, mesh, ticks.append))
    assert sizes == [4, 1][: 3 - num_devices] and 14 < sum(ticks) < 14 * config.max_epochs
    monkeypatch.setattr(vectorize, "_SHRINK", 1000)
    together = list(vectorize.train(chunk, data, config, mesh))
    assert len({outcome.epochs for outcome in together}) > 4 and len(sizes) == 3 - num_devices
    for mine, theirs in zip(retired, together, strict=True):
        assert mine.spec is theirs.spec and mine.epochs == theirs.epochs
        assert mine.val_loss == pytest.approx(theirs.val_loss, abs=1e-5)
        np.testing.assert_allclose(mine.average_precision, theirs.average_precision, atol=1e-5)


def mesh_of(num_devices: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:num_devices]), ("probe",))


@pytest.mark.parametrize(
    ("count", "num_devices", "lanes"), [(9, 2, 1), (9, 4, 1), (3, 8, 1), (10, 2, 3), (1, 1, 16)]
)
def test_probes_are_dealt_like_cards(count, num_devices, lanes):
    places = vectorize._deal(count, num_devices, lanes)
    size = vectorize.multiple_of(num_devices * lanes, count)
    assert len(set(places)) == count and places.max() < size
    np.testing.assert_array_equal(
        places // (size // num_devices), np.arange(count) % num_devices
    )  # whose each is


@pytest.mark.parametrize(
    ("num_devices", "lanes", "validate_every"), [(1, 1, 10), (1, 4, 1), (2, 3, 1)]
)
def test_together_as_alone(data, one_by_one, num_devices, lanes, validate_every):
    chunk = Chunk(8, 72, lanes, tuple(specs()), validate_every)
    outcomes = list(vectorize.train(chunk, data, CONFIG, mesh_of(num_devices)))
    assert [outcome.spec.key for outcome in outcomes] == list(range(7))
    for outcome in outcomes:
        precision, auc, loss, epochs = one_by_one[outcome.spec.key]
        np.testing.assert_allclose(outcome.average_precision, precision, atol=1e-5)
        np.testing.assert_allclose(outcome.roc_auc, auc, atol=1e-5)
        assert outcome.val_loss == pytest.approx(loss, abs=1e-5) and outcome.epochs == epochs


def test_padding_is_inert(data):
    one = specs(3)[2:]
    tight, loose = (
        next(vectorize.train(Chunk(*room, 1, tuple(one)), data, CONFIG, mesh_of(1)))
        for room in ((8, 24), (16, 200))
    )
    np.testing.assert_allclose(tight.average_precision, loose.average_precision, atol=1e-5)
    assert tight.val_loss == pytest.approx(loose.val_loss, abs=1e-5)


def test_plan_packs_every_probe_once_into_room_that_fits():
    many = specs(40)
    sizes = Sizes(60, 30, 80, 10, 8)
    buckets = vectorize.plan(many, sizes, "cpu", 2, CONFIG)
    chunks = [chunk for bucket in buckets for chunk in bucket.chunks(2)]
    assert sorted(spec.key for chunk in chunks for spec in chunk.specs) == list(range(40))
    for chunk in chunks:
        for spec in chunk.specs:
            assert len(spec.tags) <= chunk.n_tags and len(spec.support) <= chunk.n_clips
    assert buckets == vectorize.plan(many, sizes, "cpu", 2, CONFIG)


def test_epochs_are_validated_together_where_that_is_sound_and_quick():
    """Linear probes, one by one, whose epochs are short."""

    def every(platform: str, clips: int, hidden: int = 0) -> int:
        spec = ProbeSpec(0, 0, np.arange(clips), np.arange(3))
        config = SolverConfig(hidden=hidden)
        (bucket,) = vectorize.plan([spec], Sizes(4000, 30, 80, 10, 50), platform, 1, config)
        assert bucket.chunks(1)[0].validate_every == bucket.validate_every
        return bucket.validate_every

    assert every("cpu", 1) == every("cpu", 2048) == 10
    assert every("gpu", 1) == every("cpu", 2049) == every("cpu", 1, hidden=4) == 1


def test_large_probes_share_no_chunk_on_a_cpu():
    large = [ProbeSpec(i, i, np.arange(16_000), np.arange(50)) for i in range(8)]
    (bucket,) = vectorize.plan(large, Sizes(16_000, 30, 80, 10, 50), "cpu", 2, CONFIG)
    assert bucket.per_device <= 2


def test_one_trace_per_shape(data):
    config = SolverConfig(
        learning_rate=0.01, max_epochs=30, patience=30
    )  # a solver nobody else has compiled
    before = vectorize._advance._cache_size()
    ticks: list[int] = []
    for first in (0, 2, 4):  # three chunks of the same room, many blocks of epochs each
        list(
            vectorize.train(
                Chunk(8, 64, 1, tuple(specs()[first : first + 2])),
                data,
                config,
                mesh_of(2),
                ticks.append,
            )
        )
    assert len(ticks) > 3, "each chunk must take several blocks"
    assert vectorize._advance._cache_size() - before == 1
    assert 3 * 2 < sum(ticks) < 3 * 2 * 30, "the last block is told by whoever has the outcomes"
