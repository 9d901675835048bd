"""Testing heads: one program for all probes of a sweep."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fsprobe.batch.spec import Wanted
from fsprobe.heads.data import Data, Task
from fsprobe.heads.evaluate import TagMetrics, evaluate_task


class Tested(NamedTuple):
    """One probe, or many with leading axes. weight_norms: `[dim]`, or None. head: or None."""

    metrics: TagMetrics
    weight_norms: Any
    head: Any

    def at(self, place: Any, n_way: int) -> "Tested":
        """The probe at an index of the leading axes of many, as NumPy arrays, without the padding
        of its tags.
        """
        mine: Tested = jax.tree.map(lambda leaf: leaf[place], self)
        metrics, head = jax.tree.map(lambda leaf: leaf[:n_way], (mine.metrics, mine.head))
        return Tested(metrics, mine.weight_norms, head)


def over_devices(
    function: Callable[..., Any],
    mesh: Mesh,
    lanes: int,
    mapped: tuple[Any, ...],
    shared: tuple[Any, ...],
) -> Any:
    """Apply function(*one row of each of `mapped`, *shared) along the leading axis of `mapped`:
    sharded over devices, then mapped, then vmapped over lanes.
    """

    def on_device(mapped: tuple[Any, ...], shared: tuple[Any, ...]) -> Any:
        return lax.map(
            lambda mine: function(*mine, *shared),
            mapped,
            batch_size=lanes if lanes > 1 else None,
        )

    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(P("probe"), P()), out_specs=P("probe"), check_vma=False
    )(mapped, shared)


@partial(jax.jit, static_argnames=("mesh", "lanes", "wanted"))
def test_tasks(
    heads: Any, tasks: Task, data: Data, mesh: Mesh, lanes: int, wanted: Wanted
) -> Tested:
    """Test heads `[probe, …]` on tasks `[probe, …]`. Tasks without tags cost nothing."""

    def one(head: Any, task: Task, data: Data) -> Tested:
        norms = None
        if wanted.norms:
            norms = jnp.sum(jnp.abs(head.kernel) * task.tag_mask[:, None], axis=0)
        metrics = evaluate_task(head, task, data, wanted.tagged)
        return Tested(metrics, norms, head if wanted.heads else None)

    return over_devices(one, mesh, lanes, (heads, tasks), (data,))
