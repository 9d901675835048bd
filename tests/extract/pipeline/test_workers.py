"""What decoding processes are given to work with, and what their deaths cost."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from extract.pipeline.workers import Job, Task, outcomes
from extract.shell import ONE_THREAD, environment


def num_threads(audio: np.ndarray) -> np.ndarray:
    """Of every linear algebra library in this process, at most."""
    import threadpoolctl

    np.ones((300, 300)) @ np.ones((300, 300))
    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return np.array([[max(pools, default=1)]], np.float32)


def test_linear_algebra_of_a_worker_has_one_thread(tmp_path: Path) -> None:
    """Several workers with a thread per core each would wait for cores more than they compute."""
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    before = dict(os.environ)
    job = Job(8000, tmp_path / "scratch", num_threads)
    (found,) = outcomes([Task(tmp_path / "a.wav")], job, 1)
    np.testing.assert_array_equal(found.array, [[1]])
    assert dict(os.environ) == before


def test_an_environment_for_a_while() -> None:
    before = dict(os.environ)
    with environment({**ONE_THREAD, "PATH": "/nowhere"}):
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert os.environ["PATH"] == "/nowhere"
    assert dict(os.environ) == before


def hangs_or_dies_once(folder: Path, samples: np.ndarray) -> np.ndarray:
    """Hangs on a loud clip; the first process that decodes one of middling level dies."""
    level = float(samples.max())
    if level > 0.7:
        time.sleep(600)
    mark = folder / f"died at {level:.1f}"
    if level > 0.3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return samples[:4].reshape(2, 2)


def test_stuck_decoders_cost_the_clips_that_wait_no_attempt(tmp_path: Path) -> None:
    """Clips that need both of their attempts, after two that hang."""
    levels = (0.9, 0.9, 0.4, 0.5, 0.1)
    for i, level in enumerate(levels):
        soundfile.write(tmp_path / f"{i}.wav", np.full(100, level), 8000)
    tasks = [Task(tmp_path / f"{i}.wav") for i in range(len(levels))]
    job = Job(8000, tmp_path / "scratch", partial(hangs_or_dies_once, tmp_path))
    found = list(outcomes(tasks, job, 2, limit=4.0))
    late = "decoding took longer than 4 s"
    assert [result.reason for result in found] == [late, late, "", "", ""]
    assert [result.array is None for result in found] == [True, True, False, False, False]
    assert len(list(tmp_path.glob("died at *"))) == 2
