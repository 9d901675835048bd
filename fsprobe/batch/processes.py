"""Several processes as one program, through jax.distributed: one per node of a cluster or host of a
TPU pod.

Every process runs the same sweep over one mesh of all devices, and gets every outcome. The first
process leads: it alone writes the results and prints. Whatever can differ between processes (the
clock, signals, a full disk, memory) is settled at meetings, which all processes reach in the same
order. A process that fails in another way exits at once, and the others are ended when its
heartbeat is missing.
"""

import atexit
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from extract.errors import InputError
from extract.shell import Terminated, complain, handling

_HEARTBEAT = 30  # s without one: the process is lost
LONGEST_WAIT = 300  # s to wait for the other processes
_NO_MEMORY = (
    -1
)  # said when a device is out of memory; 0: all is well; above: the exit code one leaves with


_KNOWN: list[BaseException] = []  # what this process leaves with, where every process knows


class OutOfMemory(MemoryError):
    """Raised on every process where a device of one of them is out of memory."""


def _everybody_knows(error: BaseException) -> BaseException:
    """Note that the others leave too, with this error's exit code."""
    _KNOWN[:] = [error]
    return error


def leads() -> bool:
    """Is this the process that writes and prints?"""
    return jax.process_index() == 0


def place(tree: Any, sharding: Sharding) -> Any:
    """NumPy arrays, the same on every process, as global arrays."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__), tree
    )


def settled(tree: Any) -> Any:
    """Global arrays, once every device has computed them. XLA ends the program where one device of
    a CPU waits 60 s for another within a collective operation, so anything that takes long has to
    end before one begins. Raises OutOfMemory.
    """
    jax.block_until_ready(tree)
    _meet()
    return tree


def fetch(tree: Any) -> Any:
    """Global arrays as whole NumPy arrays on every process; arrays of one process as they are.
    Raises OutOfMemory.
    """
    settled(tree)
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def agreed(value: Any) -> Any:
    """The first process's value, on every process: an array of the same shape on all. Raises
    OutOfMemory.
    """
    _meet()
    return multihost_utils.broadcast_one_to_all(value)


def require_devices_alike() -> None:
    """Raise InputError, on every process, where the processes have different numbers of devices:
    arrays could not be divided evenly.
    """
    owners = [device.process_index for device in jax.devices()]
    counts = [owners.count(i) for i in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise _everybody_knows(
            InputError(
                f"processes 0 to {len(counts) - 1} have {', '.join(map(str, counts))} devices, and "
                "must have equally many; of CPUs, set "
                "XLA_FLAGS=--xla_force_host_platform_device_count=COUNT alike"
            )
        )


def require_same(value: Any, what: str) -> None:
    """Raise InputError, and end the other processes, where this process's value is not that of the
    first. value: as for JSON.
    """
    digest = np.frombuffer(
        hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest(), np.uint8
    )
    expected = agreed(digest)
    with in_step():
        if not np.array_equal(digest, expected):
            raise InputError(
                f"process {jax.process_index()}: {what} differ from those of process 0; run the "
                f"same "
                "command on the same files everywhere"
            )


@contextlib.contextmanager
def in_step() -> Iterator[None]:
    """A block that may raise on one process only: then the others exit too, with the same exit code
    and without a message.
    """
    if jax.process_count() == 1:
        yield
        return
    code = 0
    try:
        yield
    except BaseException as error:
        code = _exit_code(error)
        _everybody_knows(error)
        raise
    finally:
        _meet(code)


def is_out_of_memory(error: BaseException) -> bool:
    """Does the error say that a device of this process is out of memory?"""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def ran_out(error: BaseException) -> bool:
    """Is a device of any process out of memory? Every process asks this, and gets the answer before
    any of them goes on.
    """
    if isinstance(error, OutOfMemory):
        return True
    if not is_out_of_memory(error):
        return False
    with contextlib.suppress(OutOfMemory):
        _meet(_NO_MEMORY)
    return True


def _meet(code: int = 0) -> None:
    """Tell the other processes how this one fares, and raise if one of them leaves or is out of
    memory. The next meeting is the same for all, whatever happened since the last.
    """
    if jax.process_count() == 1:
        return
    codes = multihost_utils.process_allgather(np.int32(code))
    if code <= 0 < codes.max():
        raise _everybody_knows(SystemExit(int(codes.max())))
    if codes.max() <= 0 and codes.min() == _NO_MEMORY:
        raise OutOfMemory


@contextlib.contextmanager
def joined(coordinator: str, num_processes: int, process_id: int, detect: bool) -> Iterator[None]:
    """Join the other processes, if there are any to join. Raises InputError if they can't be found.

    coordinator: HOST:PORT of the first process. detect: ask Slurm, the TPU pod or another
    environment JAX knows.
    """
    if not coordinator and not detect:
        yield
        return
    if not detect and not re.fullmatch(r".+:\d+", coordinator):
        raise InputError(f"`coordinator={coordinator}`: write it as HOST:PORT")
    # SIGTERM is ours to handle
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    where = "`distributed`" if detect else f"`coordinator={coordinator}`"
    known: dict[str, Any] = {
        "coordinator_address": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
        "cluster_detection_method": "deactivate",
    }
    waiting = threading.Timer(LONGEST_WAIT, _give_up, [where])
    waiting.start()
    try:
        if not detect:
            _require_port(coordinator, ours=process_id == 0)
        # JAX waits for the others without letting Python see a signal
        with handling(dict.fromkeys((signal.SIGINT, signal.SIGTERM), signal.SIG_DFL)):
            jax.distributed.initialize(
                **({} if detect else known),
                initialization_timeout=2 * LONGEST_WAIT,
                heartbeat_timeout_seconds=_HEARTBEAT,
            )
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{where}: {'no cluster was found: ' if detect else ''}{error}") from None
    finally:
        waiting.cancel()
    try:
        yield
    except BaseException as error:
        if (
            error not in _KNOWN
        ):  # JAX's way out waits for the others, who wait for us: leave before it
            atexit.register(os._exit, _exit_code(error))
        raise


def _give_up(where: str) -> None:
    """Before JAX does, which would crash."""
    complain(
        f"{where}: the other processes have not come within {LONGEST_WAIT} s; look for their "
        "errors, and start all anew"
    )
    os._exit(2)


def _require_port(coordinator: str, ours: bool) -> None:
    """Wait until the first process listens. Raises InputError where that is us and we can't: JAX
    would crash.
    """
    host, _, port = coordinator.rpartition(":")
    while True:
        try:
            if ours:
                with socket.socket() as listener:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind(("", int(port)))
            else:
                socket.create_connection((host, int(port)), timeout=5).close()
            return
        except (OSError, OverflowError) as error:
            if ours or isinstance(error, OverflowError):
                raise InputError(
                    f"`coordinator={coordinator}`: {error}; the first process listens there, on a "
                    "free port"
                ) from None
        time.sleep(0.2)


def _exit_code(error: BaseException) -> int:
    codes = {Terminated: 143, KeyboardInterrupt: 130, InputError: 2, OSError: 2}
    return getattr(
        error,
        "exit_code",
        next((code for kind, code in codes.items() if isinstance(error, kind)), 1),
    )
