"""The same rows whatever they are computed on: 1, 2 or 8 devices, one core or all.

Tolerance 1e-5: another layout sums in another order. Converged probes of all clips have none: under
weak strengths a rounding shows in the ranking, so they are computed in one order.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from extract.manifest import write_manifest
from fsprobe.config import FULL
from fsprobe.study.results import read_per_tag, read_probes
from tests.support import tiny

ROOT = Path(__file__).parents[3]
GRID = ["--n_way=3", "--k_shot=2", "--num_seeds=5", "--max_epochs=40", "--learning_rate=0.01"]


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


def command(data: Path, out: str, *flags: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "fsprobe.sweep",
        f"--manifest={data / 'manifest.csv'}",
        f"--store=poor={data / 'poor'}",
        f"--out={data / out}",
        *GRID,
        *flags,
    ]


def environment(data: Path, devices: int) -> dict[str, str]:
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(data / "jax-cache"),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }


def sweep(
    data: Path, out: str, *flags: str, devices: int = 1, prefix: tuple[str, ...] = ()
) -> Path:
    result = subprocess.run(
        [*prefix, *command(data, out, *flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(data, devices),
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return data / out


def assert_same_rows(out: Path, expected: Path, full_exactly: bool = False) -> None:
    for read in (read_probes, read_per_tag):
        rows, others = read(out), read(expected)
        if full_exactly:
            assert [row for row in rows if row.k_shot == FULL] == [
                row for row in others if row.k_shot == FULL
            ]
        assert [row.key for row in rows] == [row.key for row in others]
        for field in ("mAP", "roc_auc", "val_loss", "average_precision"):
            if field in rows[0]._fields:
                np.testing.assert_allclose(
                    [getattr(row, field) for row in rows],
                    [getattr(row, field) for row in others],
                    atol=1e-5,
                    err_msg=field,
                )


SOLVERS = [["--solver=adam"], ["--solver=lbfgs", "--k_shot=full"]]  # full takes a path of its own


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
