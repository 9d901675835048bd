"""Testing many heads: metrics, weight norms and, if wanted, the heads themselves."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fsprobe.batch.spec import Wanted
from fsprobe.heads.data import Data, Labelled, Task
from fsprobe.heads.evaluate import TagMetrics, evaluate_head
from fsprobe.heads.head import Head


class Tested(NamedTuple):
    """One probe. weight_norms: `[dim]`, or None. head: or None."""

    metrics: TagMetrics
    weight_norms: Any
    head: Any

    def at(self, place: Any, n_way: int) -> "Tested":
        """Of many, as NumPy arrays, the probe at an index of their leading axes, without padding
        of its tags.
        """
        metrics = TagMetrics(*(np.asarray(part)[place][:n_way] for part in self.metrics))
        norms = None if self.weight_norms is None else np.asarray(self.weight_norms)[place]
        head = None if self.head is None else Head(*(leaf[place][:n_way] for leaf in self.head))
        return Tested(metrics, norms, head)


def test_head(
    head: Any, support: Labelled, real: Array, test: Labelled, tag_mask: Array, wanted: Wanted
) -> Tested:
    """One head; arguments as of `evaluate_head`."""
    metrics = evaluate_head(head, support, real, test, tag_mask, wanted.tagged)
    norms = None
    if wanted.norms:
        norms = jnp.sum(jnp.abs(head.kernel) * tag_mask[:, None], axis=0)
    return Tested(metrics, norms, head if wanted.heads else None)


def test_task(head: Any, task: Task, data: Data, wanted: Wanted) -> Tested:
    """One probe of few clips."""
    support = task.labelled_support(data.train)
    test = data.test.of_tags(task.tags)
    return test_head(head, support, task.clip_mask, test, task.tag_mask, wanted)


def over_devices(
    function: Callable[..., Any],
    mesh: Mesh,
    lanes: int,
    mapped: tuple[Any, ...],
    shared: tuple[Any, ...],
) -> Any:
    """function(*one's mapped, *shared) along the leading axis of mapped: sharded, then mapped, then
    vmapped.
    """

    def on_device(mapped: tuple[Any, ...], shared: tuple[Any, ...]) -> Any:
        one = lambda mine: function(*mine, *shared)  # noqa: E731
        return lax.map(one, mapped, batch_size=lanes if lanes > 1 else None)

    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(P("probe"), P()), out_specs=P("probe"), check_vma=False
    )(mapped, shared)


@partial(jax.jit, static_argnames=("head_of", "mesh", "lanes", "wanted"))
def test_tasks(
    states: Any,
    tasks: Task,
    data: Data,
    head_of: Callable[[Any], Any],
    mesh: Mesh,
    lanes: int,
    wanted: Wanted,
) -> Tested:
    """Tasks `[probe, …]`, whose heads are head_of(state) for states `[probe, …]`."""

    def one(state: Any, task: Task, data: Data) -> Tested:
        return test_task(head_of(state), task, data, wanted)

    return over_devices(one, mesh, lanes, (states, tasks), (data,))
