"""Nothing is lost: killed, interrupted, out of time or out of disk, a sweep that is started again
ends as an undisturbed one, byte for byte, and trains no finished probe twice.

FSPROBE_KILLS=20 kills it twenty times; the ordinary suite is short.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsprobe.batch import memory
from fsprobe.config import SolverConfig
from tests.support import tiny

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("FSPROBE_KILLS", "4"))
EPOCHS = 2000 if KILLS < 20 else 12000
FILES = ("probes.csv", "per_tag.csv", "solver.csv", "episodes.csv", "tags.csv", "cooccurrence.csv")
FILES += ("heads/good.safetensors",)
# so little memory that one probe fills a device: 60 chunks on two devices
SIZES = memory.Sizes(train=60, valid=20, test=40, dim=12, n_tags=6)
ENOUGH = SIZES.data_bytes + sum(
    memory.adam(SIZES, n_tags=4, n_clips=128, config=SolverConfig(), validate_every=10)
)
GRID = [
    "--n_way=2",
    "--n_way=4",
    "--k_shot=1",
    "--k_shot=3",
    "--num_seeds=30",
    f"--device_memory_gb={ENOUGH / 1e9:.9f}",
    "--save_heads",
]


ADAM = ["--learning_rate=1e-4", f"--max_epochs={EPOCHS}", f"--patience={EPOCHS}"]


def start(data: Path, out: str, *flags: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    env = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(data / "jax-cache"),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    return subprocess.Popen(
        [
            *prefix,
            sys.executable,
            "-m",
            "fsprobe.sweep",
            f"--manifest={data / 'manifest.csv'}",
            f"--store=good={data / 'good'}",
            f"--out={data / out}",
            *GRID,
            *([] if "--solver=lbfgs" in flags else ADAM),
            *flags,
        ],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    errors = process.communicate(timeout=120)[1]
    return process.returncode, errors


def lines(out: Path) -> list[str]:
    """Of probes.csv: the finished probes."""
    return (
        (out / "probes.csv").read_text().splitlines()[1:] if (out / "probes.csv").exists() else []
    )


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES if (out / name).exists()}


def wait_for_more(process: subprocess.Popen[str], out: Path) -> None:
    count, deadline = len(lines(out)), time.monotonic() + 60
    while len(lines(out)) == count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A tiny data set; `whole` below it, what an undisturbed sweep finds."""
    root = tmp_path_factory.mktemp("durability")
    tiny.write_data(root)
    code, errors = end(start(root, "whole"))
    assert code == 0 and len(lines(root / "whole")) == 120, errors
    assert "60 chunks, 1 a device" in errors
    return root


def test_kill_9_at_random_moments(data):
    rng, out, held = random.Random(0), data / "killed", [0]
    for kill in range(KILLS):
        before = lines(out)
        process = start(data, "killed")
        if kill % 4 == 3:
            time.sleep(rng.uniform(0, 3))  # while it starts, perhaps
        else:
            wait_for_more(process, out)
            time.sleep(rng.uniform(0, 0.1))
        process.kill()
        held += map(int, re.findall(r"holds (\d+) of 120", end(process)[1]))
        after = lines(out)
        assert after[: len(before)] == before and len(set(after)) == len(after), (
            "finished probes stay untouched"
        )
    assert held == sorted(held) and len(set(held)) > KILLS // 2 and len(lines(out)) < 120
    code, errors = end(start(data, "killed"))
    assert code == 0 and f"holds {len(after)} of 120" in errors
    assert contents(out) == contents(data / "whole")


def test_kill_9_of_converged_probes(data):
    flags = ("--solver=lbfgs", "--num_seeds=300", "--device_memory_gb=0")
    assert end(start(data, "whole-lbfgs", *flags))[0] == 0
    process = start(data, "killed-lbfgs", *flags)
    wait_for_more(process, data / "killed-lbfgs")
    process.kill()
    end(process)
    count = len(lines(data / "killed-lbfgs"))
    code, errors = end(start(data, "killed-lbfgs", *flags))
    assert code == 0 and 0 < count < 1200 and f"holds {count} of 1200" in errors
    assert contents(data / "killed-lbfgs") == contents(data / "whole-lbfgs")


@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_told_to_stop(data, signum, expected):
    out = f"told{expected}"
    process = start(data, out)
    wait_for_more(process, data / out)
    process.send_signal(signum)
    code, errors = end(process)
    assert code == expected and "Traceback" not in errors
    count = len(lines(data / out))
    assert (
        0 < count < 120
        and f"{count} of 120 probes are in {data / out}; run the same command to go on" in errors
    )
    code, errors = end(start(data, out))
    assert code == 0 and f"holds {count} of 120" in errors
    assert contents(data / out) == contents(data / "whole")


def test_out_of_time(data):
    codes = []
    while 0 not in codes:
        before = lines(data / "timed")
        code, errors = end(
            start(data, "timed", *(["--timeout_minutes=0.02"] if len(codes) < 2 else []))
        )
        codes.append(code)
        assert lines(data / "timed")[: len(before)] == before or code == 0
        assert code == 0 or "run the same command to go on" in errors
    assert codes == [75, 75, 0]
    assert contents(data / "timed") == contents(data / "whole")


def test_a_full_disk(data):
    heads = "--nosave_heads"  # whose file is made in full before the first row
    assert end(start(data, "no-heads", heads))[0] == 0
    code, errors = end(start(data, "full", heads, prefix=("prlimit", "--fsize=8000")))
    reason = "per_tag.csv: File too large; make room and rerun"
    assert code == 2 and reason in errors.splitlines()[-1]
    assert "Traceback" not in errors
    before = lines(data / "full")
    assert 0 < len(before) < 120
    code, errors = end(start(data, "full", heads))
    assert code == 0 and f"holds {len(before)} of 120" in errors
    assert contents(data / "full") == contents(data / "no-heads")


def test_a_full_disk_when_heads_are_begun(data):
    code, errors = end(start(data, "full-heads", prefix=("prlimit", "--fsize=8000")))
    assert code == 2 and "File too large; make room and rerun" in errors.splitlines()[-1]
    assert end(start(data, "full-heads"))[0] == 0
    assert contents(data / "full-heads") == contents(data / "whole")


def test_two_at_once(data):
    first = start(data, "both")
    wait_for_more(first, data / "both")
    code, errors = end(start(data, "both"))
    assert code == 2 and "another sweep is writing here" in errors and errors.count("\n") == 1
    assert end(first)[0] == 0
    assert contents(data / "both") == contents(data / "whole")
