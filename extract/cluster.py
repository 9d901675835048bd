"""Ray: processes on the nodes of a cluster, or of this machine. The only module that imports it.

Ray retries nothing here. What is lost with a process or a node comes back as `Lost`, and whoever
asked decides: so retries are counted where their reason is kept.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from tqdm import tqdm

from extract.errors import InputError
from extract.files import is_disk_full
from extract.shell import ONE_THREAD, handling, num_cores

Ref = Any  # what will be a value; of a type of Ray's
Actor = Any
ACCELERATORS = ("GPU", "TPU")  # as Ray names them
_CONNECT = 10.0  # seconds
_FETCH = 300.0  # seconds for a value that is ready to come here
_WORD = 60.0  # seconds without a result before it says what it waits for, and between such words


class Lost(NamedTuple):
    """Why there is no value. cause: its `process` died, its `node` left, an `object` that it needs
    was lost with another node, or the object store has no `space`.
    """

    reason: str
    cause: str


class Node(NamedTuple):
    """cpus: whole ones. accelerators: how many; kind: of ACCELERATORS, or empty."""

    cpus: int
    accelerators: int = 0
    kind: str = ""


def available() -> Any:
    """The package. Raises InputError, naming the extra, if it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise InputError(f"{error}; engine ray needs: pip install 'fsprobe[ray]'") from error
    return ray


class Cluster:
    """A context manager: joins the cluster at `address` (empty: what RAY_ADDRESS names), or starts
    one on this machine and ends it on the way out.

    Entering raises InputError if there is no cluster at that address.
    """

    def __init__(self, address: str = ""):
        self.address = address or os.environ.get("RAY_ADDRESS", "") or "local"
        self._ray = available()
        self._functions: dict[tuple[Any, int], Any] = {}

    def __enter__(self) -> Self:
        if self.address.startswith("ray://"):
            raise InputError(
                f"`ray_address={self.address}`: run the command on a node of the cluster, with "
                "`ray_address=auto`"
            )
        self._ours = not self._ray.is_initialized()
        if self._ours:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
            # Ray takes SIGTERM over; whoever had it before has it afterwards
            with handling({signal.SIGTERM: signal.getsignal(signal.SIGTERM)}):
                self._connect()
        return self

    def _connect(self) -> None:
        alone = self.address == "local"
        options = {"num_cpus": num_cores(), "include_dashboard": False} if alone else {}
        try:
            if self.address not in ("local", "auto"):  # for which Ray waits minutes
                host, _, port = self.address.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), _CONNECT).close()
            self._ray.init(
                address=self.address, log_to_driver=False, logging_level="ERROR", **options
            )
        except (OSError, ValueError, RuntimeError, self._ray.exceptions.RayError) as error:
            why = str(error).strip().partition("\n")[0]
            raise InputError(
                f"`ray_address={self.address}`: no Ray cluster answers ({why[:90]}); start one by "
                "launch/ray.sh, or leave the flag out; RAY_AUTH_MODE=token if it wants a token"
            ) from error

    def __exit__(self, *exception: object) -> None:
        if self._ours:
            self._ray.shutdown()

    def nodes(self) -> dict[str, Node]:
        """Id → node, of those that are alive."""
        found = {}
        for node in self._ray.nodes():
            resources = node["Resources"]
            kind = next((name for name in ACCELERATORS if resources.get(name, 0) >= 1), "")
            if node["Alive"]:
                accelerators = int(resources[kind]) if kind else 0
                found[node["NodeID"]] = Node(int(resources.get("CPU", 0)), accelerators, kind)
        return found

    def put(self, value: Any) -> Ref:
        """A copy that every node fetches once."""
        return self._ray.put(value)

    def submit(self, function: Callable[..., Any], *arguments: Any, returns: int = 1) -> list[Ref]:
        """function(*arguments) as a task on one CPU of any node, with one thread; a Ref for each of
        the values that it returns.
        """
        key = (function, returns)
        if key not in self._functions:
            self._functions[key] = self._ray.remote(
                num_cpus=1,
                num_returns=returns,
                max_retries=0,
                scheduling_strategy="SPREAD",
                runtime_env={"env_vars": dict(ONE_THREAD)},
            )(function)
        refs = self._functions[key].remote(*arguments)
        return list(refs) if returns > 1 else [refs]

    def start(
        self,
        kind: Callable[..., Any],
        *arguments: Any,
        node: str,
        cpus: int,
        accelerator: str,
        environment: Mapping[str, str],
    ) -> Actor:
        """An instance of a class in a process of its own on that node, with one accelerator of that
        kind, if any.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        needs: dict[str, Any] = {"num_gpus": 1} if accelerator == "GPU" else {}
        needs |= {"resources": {accelerator: 1}} if accelerator not in ("", "GPU") else {}
        return self._ray.remote(
            num_cpus=cpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": dict(environment)},
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            **needs,
        )(kind).remote(*arguments)

    def call(self, actor: Actor, method: str, *arguments: Any) -> Ref:
        return getattr(actor, method).remote(*arguments)

    def kill(self, actor: Actor) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(actor)

    def wait(self, refs: Sequence[Ref], seconds: float) -> list[Ref]:
        """Those that are there or lost; at most so long for the first."""
        if not refs:
            time.sleep(seconds)
            return []
        first, _ = self._ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
        if not first:
            return []
        done, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        return list(done or first)

    def get(self, ref: Ref) -> Any:
        """The value, or Lost. Raises InputError and a full disk's OSError as the task did,
        RuntimeError on a bug in it, InputError if this machine's own node is gone.
        """
        try:
            return self._ray.get(ref, timeout=_FETCH)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, self._ray.exceptions.RayError):
                return self._lost(cause)
            if isinstance(cause, InputError) or is_disk_full(cause):
                raise cause from None
            if isinstance(cause, ImportError):
                raise InputError(f"a node: {cause}; install the same on every node") from error
            raise RuntimeError(str(error)) from None
        except (self._ray.exceptions.RayError, TimeoutError) as error:
            return self._lost(error)

    def _lost(self, error: Exception) -> Lost:
        kinds = self._ray.exceptions
        why = " ".join(str(error).split())
        if isinstance(error, kinds.LocalRayletDiedError):
            raise InputError("Ray's node on this machine is gone; run the same command again")
        if isinstance(error, kinds.ObjectStoreFullError | kinds.OutOfDiskError):
            return Lost("Ray's object store is full", "space")
        if isinstance(error, kinds.OutOfMemoryError):
            return Lost("its node ran out of memory", "process")
        if isinstance(error, kinds.ObjectLostError | TimeoutError):
            return Lost("the node that held its audio left the cluster", "object")
        unplaced = kinds.TaskUnschedulableError | kinds.ActorUnschedulableError
        if isinstance(error, kinds.NodeDiedError | unplaced):
            return Lost("its node left the cluster", "node")
        if getattr(error, "actor_init_failed", False):
            said = str(error).strip().splitlines()[-1]
            return Lost(f"it did not start: {said[:120]}", "process")
        if isinstance(error, kinds.RayActorError) and "node" in why and "dead" in why:
            return Lost("its node left the cluster", "node")
        if isinstance(error, kinds.WorkerCrashedError | kinds.RayActorError):
            return Lost("its process died", "process")
        return Lost(why[:120] or type(error).__name__, "process")


def _say(message: str) -> None:
    tqdm.write(message, file=sys.stderr)  # above the bar


class Watchdog:
    """No wait for a cluster without an end, and none without a word. patience: seconds in which
    something must finish. say: where its words go.
    """

    def __init__(
        self,
        patience: float,
        say: Callable[[str], None] = _say,
        word: float = _WORD,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._patience, self._say, self._word, self._clock = patience, say, word, clock
        self._heard = self._said = clock()

    def look(self, heard: bool, waiting: Callable[[], str]) -> None:
        """Called again and again while there is work; heard: something has finished since. Raises
        InputError when patience is over.
        """
        now = self._clock()
        if heard:
            self._heard = self._said = now
        silent = now - self._heard
        if silent >= self._patience:
            raise InputError(
                f"nothing has finished for {silent:.0f} s: {waiting()}; finished clips are kept, "
                "the same command goes on from there"
            )
        if now - self._said >= self._word:
            self._said = now
            self._say(f"nothing has finished for {silent:.0f} s: {waiting()}")
