"""The same rows whatever they are computed on: 1, 2 or 8 devices, one core or all.

Tolerance 1e-5: another layout sums in another order. Converged probes of all clips have none: with
a weak penalty, differences of rounding change the ranking of clips, so every layout sums these
probes in the same order.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from extract.manifest import write_manifest
from tests.support import tiny
from tests.support.sweeping import SOLVERS, assert_same_rows, sweep


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Clips enough for XLA's threads to share a sum, if they were let."""
    root = tmp_path_factory.mktemp("devices")
    clips = tiny.manifest(4000, seed=3)
    write_manifest(root / "manifest.csv", clips)
    mix = np.random.default_rng(4).standard_normal((40, 40))
    tiny.write_store(
        root / "poor", clips.clip_ids, (tiny.features(clips, 40, 2.0) @ mix).astype(np.float32)
    )
    return root


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_any_devices_and_cores_and_twice_byte_for_byte(data, solver):
    one, two, eight = (
        sweep(data, f"{solver[0]}{devices}", *solver, devices=devices) for devices in (1, 2, 8)
    )
    core = str(min(os.sched_getaffinity(0)))
    on_core = sweep(data, f"{solver[0]}-core", *solver, prefix=("taskset", "-c", core))
    for out in (two, eight, on_core):
        assert_same_rows(out, one, full_exactly=True)
    again = sweep(data, f"{solver[0]}-again", *solver)
    for name in ("probes.csv", "per_tag.csv", "solver.csv", "episodes.csv"):
        assert (again / name).read_bytes() == (one / name).read_bytes()
