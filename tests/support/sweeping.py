"""Sweeps as a user starts them, in processes of their own, and the comparison of their rows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from fsprobe.config import FULL
from fsprobe.study.results import read_per_tag, read_probes

ROOT = Path(__file__).parents[2]
GRID = ["--n_way=3", "--k_shot=2", "--num_seeds=5"]
ADAM = ["--max_epochs=40", "--learning_rate=0.01"]


def command(data: Path, out: str, *flags: str) -> list[str]:
    solvers = [flag for flag in flags if flag.startswith("--solver=") and flag != "--solver=adam"]
    return [
        sys.executable,
        "-m",
        "fsprobe.sweep",
        f"--manifest={data / 'manifest.csv'}",
        f"--store=poor={data / 'poor'}",
        f"--out={data / out}",
        *GRID,
        *([] if solvers else ADAM),
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
