"""What the benchmarks refuse; what they measure is in results/benchmarks."""

import subprocess
import sys
from pathlib import Path


def test_a_sweep_that_is_there_already_is_not_timed(tmp_path):
    (tmp_path / "ridge").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.accelerator", f"--out={tmp_path}"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "it holds a sweep of ridge" in done.stderr
    assert done.stderr.count("\n") == 1
