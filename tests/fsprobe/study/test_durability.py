"""Nothing is lost: killed, interrupted, out of time or out of disk, a sweep that is started again
ends as an undisturbed one, byte for byte, and trains no finished probe twice.

FSPROBE_KILLS=20 kills it twenty times. The fast part stops one sweep in every way, one after the
other. Processes that are to be stopped are started as a user's; the others are forked.
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
from tests.support.commands import Commands

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


def flags_of(data: Path, out: str, *flags: str) -> list[str]:
    return [
        f"--manifest={data / 'manifest.csv'}",
        f"--store=good={data / 'good'}",
        f"--out={data / out}",
        *GRID,
        *([] if "--solver=lbfgs" in flags else ADAM),
        *flags,
    ]


class Sweeps:
    """Sweeps on a tiny data set; `whole` in its folder is what an undisturbed one finds."""

    def __init__(self, commands: Commands, data: Path) -> None:
        self.commands, self.data = commands, data

    def run(self, out: str, *flags: str) -> tuple[int, str]:
        """(exit code, stderr) of a sweep that nobody stops."""
        done = self.commands.run("fsprobe.sweep", *flags_of(self.data, out, *flags))
        return done.returncode, done.stderr

    def start(self, out: str, *flags: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fsprobe.sweep", *flags_of(self.data, out, *flags)]
        # it reads the cache of programs and never writes: a kill between two files would spoil it
        env = self.commands.environment | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}
        return subprocess.Popen(
            [*prefix, *command],
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


def contents(out: Path, *but: str) -> dict[str, bytes]:
    names = [name for name in FILES if (out / name).exists() and name not in but]
    return {name: (out / name).read_bytes() for name in names}


def wait_for_more(process: subprocess.Popen[str], out: Path) -> None:
    count, deadline = len(lines(out)), time.monotonic() + 60
    while len(lines(out)) == count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def sweeps(commands, tmp_path_factory) -> Sweeps:
    root = tmp_path_factory.mktemp("durability")
    tiny.write_data(root)
    made = Sweeps(commands, root)
    code, errors = made.run("whole")
    assert code == 0 and len(lines(root / "whole")) == 120, errors
    assert "60 chunks, 1 a device" in errors
    return made


def test_stopped_in_every_way(sweeps):
    """Killed, interrupted, told to stop and out of time; a second one meanwhile is refused."""
    out = sweeps.data / "stopped"
    ways = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
    for signum, expected in ways.items():
        before = lines(out)
        process = sweeps.start("stopped")
        wait_for_more(process, out)
        if signum == signal.SIGINT:
            process.send_signal(signal.SIGSTOP)  # it writes here, however long the other takes
            code, errors = sweeps.run("stopped")
            assert code == 2 and "another sweep is writing here" in errors
            assert errors.count("\n") == 1
            process.send_signal(signal.SIGCONT)
        process.send_signal(signum)
        code, errors = end(process)
        assert code == expected and "Traceback" not in errors
        assert not before or f"holds {len(before)} of 120" in errors
        after = lines(out)
        assert len(before) < len(after) < 120 and len(set(after)) == len(after)
        assert after[: len(before)] == before, "finished probes stay untouched"
        if signum != signal.SIGKILL:
            left = f"{len(after)} of 120 probes are in {out}; run the same command to go on"
            assert left in errors
    code, errors = sweeps.run("stopped", "--timeout_minutes=0.0001")
    assert code == 75 and "run the same command to go on" in errors
    before = lines(out)
    assert before[: len(after)] == after and len(before) < 120
    code, errors = sweeps.run("stopped")
    assert code == 0 and f"holds {len(before)} of 120" in errors
    assert contents(out) == contents(sweeps.data / "whole")


@pytest.mark.slow
def test_kill_9_at_random_moments(sweeps):
    rng, out, held = random.Random(0), sweeps.data / "killed", [0]
    for kill in range(KILLS):
        before = lines(out)
        process = sweeps.start("killed")
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
    code, errors = sweeps.run("killed")
    assert code == 0 and f"holds {len(after)} of 120" in errors
    assert contents(out) == contents(sweeps.data / "whole")


@pytest.mark.slow
def test_kill_9_of_converged_probes(sweeps):
    flags = ("--solver=lbfgs", "--num_seeds=100", "--device_memory_gb=0")
    whole, killed = (sweeps.data / name for name in ("whole-lbfgs", "killed-lbfgs"))
    assert sweeps.run(whole.name, *flags)[0] == 0
    process = sweeps.start(killed.name, *flags)
    wait_for_more(process, killed)
    process.kill()
    end(process)
    count = len(lines(killed))
    code, errors = sweeps.run(killed.name, *flags)
    assert code == 0 and 0 < count < 400 and f"holds {count} of 400" in errors
    assert contents(killed) == contents(whole)


@pytest.mark.slow
def test_a_full_disk(sweeps):
    heads = "--nosave_heads"  # whose file is made in full before the first row
    code, errors = end(sweeps.start("full", heads, prefix=("prlimit", "--fsize=8000")))
    reason = "per_tag.csv: File too large; make room and rerun"
    assert code == 2 and reason in errors.splitlines()[-1]
    assert "Traceback" not in errors
    before = lines(sweeps.data / "full")
    assert 0 < len(before) < 120
    code, errors = sweeps.run("full", heads)
    assert code == 0 and f"holds {len(before)} of 120" in errors
    assert contents(sweeps.data / "full") == contents(sweeps.data / "whole", FILES[-1])


@pytest.mark.slow
def test_a_full_disk_when_heads_are_begun(sweeps):
    code, errors = end(sweeps.start("full-heads", prefix=("prlimit", "--fsize=8000")))
    assert code == 2 and "File too large; make room and rerun" in errors.splitlines()[-1]
    assert sweeps.run("full-heads")[0] == 0
    assert contents(sweeps.data / "full-heads") == contents(sweeps.data / "whole")
