"""From specs to outcomes: hands every probe to what trains its kind."""

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from fsprobe import gram, lbfgs, primal, vectorize
from fsprobe.config import SolverConfig
from fsprobe.converged import Settings
from fsprobe.probe import Data
from fsprobe.vectorize import Outcome, ProbeSpec

_GRAM_CLIPS = 4096  # a Gram matrix of 64 MiB


def train(specs: Sequence[ProbeSpec], data: Data, config: SolverConfig, mesh: Mesh,
          tick: Callable[[float], None] = lambda probes: None, *, tagged: bool = False,
          norms: bool = False) -> Iterator[list[Outcome]]:
    """Train and test every probe; lists of outcomes as they become ready.

    tick is told how much more was done, in probes. tagged: test on clips with one of the probe's tags. norms: hand back
    weight_norms.
    """
    if config.name == "lbfgs":
        l2 = None if isinstance(config.l2, str) else jnp.float32(config.l2)
        for outcomes in _converge(specs, data, mesh, Settings(l2, tagged, norms)):
            tick(len(outcomes))
            yield outcomes
        return
    for chunk in vectorize.plan(specs, data.train.shape[1], jax.default_backend(), mesh.size, config.hidden):
        yield list(vectorize.train(chunk, data, config, mesh, lambda epochs: tick(epochs / config.max_epochs),
                                   tagged, norms))


def _converge(specs: Sequence[ProbeSpec], data: Data, mesh: Mesh, settings: Settings) -> Iterator[list[Outcome]]:
    scale = float(jnp.mean(jnp.sum(data.train**2, axis=1)))
    weak = settings.l2 is not None and settings.l2 < lbfgs.WEAKEST_DUAL * scale
    limit = -1 if weak else min(_GRAM_CLIPS, data.train.shape[0] - 1)  # probes on every clip share their support set
    yield from gram.by_seed([spec for spec in specs if len(spec.support) <= limit], data, settings, mesh)
    yield from primal.by_support([spec for spec in specs if len(spec.support) > limit], data, settings, mesh)
