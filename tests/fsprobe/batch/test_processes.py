"""Two processes on one host: the rows of one process, one writer, and nobody left hanging.

Tolerance 1e-5, as in test_devices.
"""

import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from fsprobe.study.results import read_probes
from tests.support import tiny
from tests.support.commands import Commands
from tests.support.sweeping import (
    ROOT,
    SOLVERS,
    assert_same_rows,
    command,
    environment,
    sweep,
)

LARGE = int(os.environ.get("FSPROBE_KILLS", "0")) >= 20
LONG = ["--max_epochs=20000", "--patience=20000", "--learning_rate=1e-6"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    tiny.write_data(root)
    return root


def start_under_slurm(data: Path, out: str, *flags: str) -> list[subprocess.Popen[str]]:
    """By the variables that srun sets; JAX derives the port from the job's number."""
    job = {
        "SLURM_JOB_ID": str(random.randrange(4096)),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
    }
    return [
        subprocess.Popen(
            [*command(data, out, *flags), "--distributed"],
            cwd=ROOT,
            text=True,
            env=environment(data, 2) | job | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    data: Path,
    out: str,
    *flags: str,
    size_limit: int | None = None,
    second: list[str] | None = None,
    swap: tuple[str, str] = ("", ""),
) -> list[subprocess.Popen[str]]:
    """second: what the second process runs instead of `-m fsprobe.sweep`. swap: a piece of its
    flags, and another.
    """
    port = free_port()
    limit = (["prlimit", f"--fsize={size_limit}"], []) if size_limit else ([], [])
    python, *module = command(data, out, *flags)
    modules = (module, [flag.replace(*swap) for flag in [*(second or module[:2]), *module[2:]]])
    return [
        subprocess.Popen(
            [
                *limit[i],
                python,
                *modules[i],
                f"--coordinator=127.0.0.1:{port}",
                "--num_processes=2",
                f"--process_id={i}",
            ],
            cwd=ROOT,
            env=environment(data, 2),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]


def end(processes: list[subprocess.Popen[str]], seconds: float = 120) -> list[tuple[int, str, str]]:
    try:
        texts = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def wait_for_training(out: Path) -> None:
    deadline = time.monotonic() + 60
    while not (out / "probes.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2)


def wait_for_port(first: subprocess.Popen[str]) -> None:
    """Until the first process listens for the others."""
    (address,) = (arg for arg in first.args if arg.startswith("--coordinator="))
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_rows_of_one_process(data, solver):
    one = sweep(data, f"{solver[0]}-one", *solver)
    (code, said, errors), (other, silent, others) = end(start(data, f"{solver[0]}-two", *solver))
    assert (code, other) == (0, 0), errors + others
    assert (
        "probes in" in said and "probes in" not in silent and "MB" in errors and "MB" not in others
    )
    assert_same_rows(data / f"{solver[0]}-two", one)


def test_other_files_are_not_swept_together(data):
    others = data / "others" / "poor"
    tiny.write_store(
        others, tiny.manifest().clip_ids, tiny.features(tiny.manifest(), dim=5, seed=7)
    )
    swap = (f"poor={data / 'poor'}", f"poor={others}")
    (code, _, errors), (other, _, message) = end(start(data, "mixed", swap=swap))
    assert (code, other) == (
        2,
        2,
    ) and "process 1: flags, manifest or stores differ from those of process 0" in message
    assert message.count("\n") == 1 and not errors and not (data / "mixed").exists()


def test_unequal_devices_are_refused(data):
    three = (
        "import os, runpy\n"
        "os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=3'\n"
        "runpy.run_module('fsprobe.sweep', run_name='__main__', alter_sys=True)"
    )
    for code, _, errors in end(start(data, "unequal", second=["-c", three])):
        assert (
            code == 2 and "processes 0 to 1 have 2, 3 devices" in errors and errors.count("\n") == 1
        ), errors


@pytest.mark.slow
def test_what_is_done_is_known_to_both(data):
    for begin in (start, start_under_slurm):
        (code, _, errors), (other, _, _) = end(begin(data, "--solver=adam-two", "--solver=adam"))
        assert (code, other) == (0, 0), errors
    assert "holds 5 of 5 probes already" in errors and " MB" not in errors


@pytest.mark.parametrize("told", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_signal_to_either_stops_both(data, told):
    processes = start(data, f"told{told}", *LONG)
    wait_for_training(data / f"told{told}")
    processes[told].send_signal(signal.SIGTERM)
    results = end(processes)
    assert [code for code, _, _ in results] == [143, 143], results
    assert "run the same command to go on" in results[0][2] and "Traceback" not in results[0][2]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["init", "advance"])
def test_out_of_memory_on_the_second_halves_both(data, where):
    """The second process runs out of memory once: `where` begins with its first chunk."""
    once = (
        "import dataclasses, runpy, jax; from fsprobe.heads.solvers.registry import SOLVERS\n"
        "adam, left = SOLVERS['adam'], [1]\n"
        "def steps(*how):\n"
        "    own = adam.steps(*how)\n"
        "    def starved(*args):\n"
        "        if left and left.pop():\n"
        "            raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory')\n"
        f"        return own.{where}(*args)\n"
        f"    return own._replace({where}=starved)\n"
        "SOLVERS['adam'] = dataclasses.replace(adam, steps=steps)\n"
        "runpy.run_module('fsprobe.sweep', run_name='__main__', alter_sys=True)"
    )
    (code, _, errors), (other, _, others) = end(
        start(data, f"memory{where}", "--solver=adam", second=["-c", once])
    )
    assert (code, other) == (0, 0), errors + others
    assert (
        "out of memory: going on with chunks of 1/2 the size" in errors
        and "out of memory" not in others
    )
    assert_same_rows(data / f"memory{where}", sweep(data, f"memory{where}-one", "--solver=adam"))


@pytest.mark.slow
def test_bad_values_of_a_later_embedding_end_both_in_a_line(data):
    """The second process is slower to find them; started again, it sees no folder of results."""
    tiny.write_store(
        data / "bad", tiny.manifest().clip_ids, tiny.features(tiny.manifest(), dim=5, seed=7)
    )
    array = np.load(data / "bad" / "features.npy")
    array[3, 0] = np.nan
    np.save(data / "bad" / "features.npy", array)
    late = (
        "import runpy, time; from fsprobe import features\n"
        "real = features.load_standardized\n"
        "def load(*args):\n"
        "    time.sleep(1)\n"
        "    return real(*args)\n"
        "features.load_standardized = load\n"
        "runpy.run_module('fsprobe.sweep', run_name='__main__', alter_sys=True)"
    )
    flags = ("--solver=adam", f"--store=bad={data / 'bad'}")
    for swap in (("", ""), (f"{data / 'spoilt'}", f"{data / 'elsewhere'}")):
        results = end(start(data, "spoilt", *flags, second=["-c", late], swap=swap))
        assert [code for code, _, _ in results] == [2, 2], results
        assert all(
            "store 'bad'" in errors.splitlines()[-1] and "Traceback" not in errors
            for _, _, errors in results
        )
    assert {row.embedding for row in read_probes(data / "spoilt")} == {"poor"}


@pytest.mark.slow
def test_a_full_disk_on_the_first_stops_both(data):
    results = end(start(data, "full", "--num_seeds=40", size_limit=5000))
    assert [code for code, _, _ in results] == [2, 2], results
    assert (
        "make room and rerun" in results[0][2] and "Traceback" not in results[0][2] + results[1][2]
    )


@pytest.mark.skipif(not LARGE, reason="waits for heartbeats: FSPROBE_KILLS=20")
def test_a_lost_process_ends_the_other(data):
    processes = start(data, "lost", *LONG)
    wait_for_training(data / "lost")
    processes[1].kill()
    assert end(processes)[0][0] not in (0, -signal.SIGKILL)


@pytest.mark.skipif(not LARGE, reason="waits for heartbeats: FSPROBE_KILLS=20")
def test_a_process_that_fails_alone_ends_the_other(data):
    processes = start(data, "alone")
    processes[1].kill()
    processes[1].communicate()
    other = subprocess.Popen(
        [arg.replace("manifest.csv", "none.csv") for arg in processes[1].args],
        cwd=ROOT,
        env=environment(data, 2),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    results = end([processes[0], other])
    assert results[1][0] == 2 and "none.csv: No such file" in results[1][2]
    assert results[0][0] != 0


def test_who_waits_for_the_others_can_be_told_to_stop(data):
    waiting = {}
    for signum in (signal.SIGINT, signal.SIGTERM):
        waiting[signum], second = start(data, "waiting")
        second.kill()
        second.communicate()
    for first in waiting.values():
        wait_for_port(first)
    time.sleep(1)
    for signum, first in waiting.items():
        assert first.poll() is None, "it waits"
        first.send_signal(signum)
    for signum, (code, _, _) in zip(waiting, end([*waiting.values()], 10), strict=True):
        assert code in (-signum, 128 + signum)


def test_who_waits_in_vain_says_so(data):
    hasty = (
        "import runpy; from fsprobe.batch import processes\n"
        "processes.LONGEST_WAIT = 3\n"
        "runpy.run_module('fsprobe.sweep', run_name='__main__', alter_sys=True)"
    )
    python, _, _, *flags = command(
        data, "vain", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"
    )
    result = subprocess.run(
        [python, "-c", hasty, *flags],
        cwd=ROOT,
        env=environment(data, 1),
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert (
        result.returncode == 2 and ": the other processes have not come within 3 s" in result.stderr
    )
    assert result.stderr.count("\n") == 1 and not (data / "vain").exists()


def test_what_cannot_be_joined_is_one_line(data):
    taken = socket.create_server(("", 0))
    refused = (
        (["--distributed"], "--distributed: no cluster was found"),
        (["--coordinator=nowhere"], "--coordinator=nowhere: write it as HOST:PORT"),
        (["--coordinator=localhost:99999"], "--coordinator=localhost:99999: bind()"),
        ([f"--coordinator=localhost:{taken.getsockname()[1]}"], "Address already in use"),
        (
            ["--process_id=1", "--num_processes=2"],
            "--num_processes=2: --coordinator=HOST:PORT must",
        ),
        (["--distributed", "--coordinator=a:1"], "leave out --coordinator"),
        (["--process_id=2", "--num_processes=2"], "--process_id=2: it must be below"),
    )
    _, _, module, *given = command(data, "none")
    with Commands("fsprobe.study.execute", **environment(data, 1)) as served:
        for flags, message in refused:
            result = served.run(module, *given, *flags)
            errors = result.stderr
            assert result.returncode == 2 and message in errors and errors.count("\n") == 1, errors
