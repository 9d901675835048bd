"""What this machine can do at most, and how much memory this process took."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np


def seconds(function: Callable[[], object], repeats: int = 1) -> float:
    """The least wall time of a call, s."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_flops() -> float:
    """FLOP/s of a large float32 matrix product on all cores, by NumPy's BLAS."""
    a = np.ones((2048, 2048), np.float32)
    return 2 * 2048**3 / seconds(lambda: a @ a, 5)


def copy_bandwidth() -> float:
    """Bytes read and written per second by copies far larger than the caches, all cores at it."""
    cores = len(os.sched_getaffinity(0))
    arrays = [(np.ones(2**25, np.float32), np.empty(2**25, np.float32)) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:

        def copy() -> None:
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), arrays))

        copy()
        return 2 * sum(a.nbytes for a, _ in arrays) / seconds(copy, 5)


def peak_memory() -> int:
    """Bytes resident at most, so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(command: list[str], **environment: str) -> tuple[float, int]:
    """(seconds, bytes resident at most) of a command. Raises CalledProcessError if it fails.

    A small process in between starts it: a child's peak counts that of the process that forked it.
    """
    measure = (
        "import resource, subprocess, sys, time; start = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", measure, *command],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
    )
    taken, kib = done.stdout.split()
    return float(taken), 1024 * int(kib)


class Programs:
    """Counts the programs that XLA compiles and that take longer than a tenth of a second: those
    that a newcomer waits for.
    """

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, seconds: float, **_: Any) -> None:
        self.count += event.endswith("backend_compile_duration") and seconds > 0.1


def describe() -> str:
    """Cores and processor, for the head of a table."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        "unknown",
    )
    return f"{len(os.sched_getaffinity(0))} cores, {model}"
