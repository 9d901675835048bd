"""One linear probe: its module, its loss, and what it means to fit it.

Everything here is written for ONE probe; `fsprobe.batch.lanes` runs many. Ragged probes are padded:
a task's arrays have room for more clips and tags than it uses, and `n_way` and `num_support` say
how many are real.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

Params = Any


class Data(NamedTuple):
    """What all probes of one embedding share. features float32 `[clip, dim]`, labels bool `[clip,
    tag]`.
    """

    train: Array
    train_labels: Array
    valid: Array
    valid_labels: Array
    test: Array
    test_labels: Array


class Task(NamedTuple):
    """What makes one probe its own. `[clip]` and `[tag]` are padded.

    seed: int32 `[]`. support: int32 `[clip]`, rows of Data.train. num_support: int32 `[]`.
    tags: int32 `[tag]`, columns of the labels, in episode order. n_way: int32 `[]`.
    """

    seed: Array
    support: Array
    num_support: Array
    tags: Array
    n_way: Array

    @property
    def tag_mask(self) -> Array:
        """bool `[tag]`: is the column real."""
        return jnp.arange(self.tags.shape[0]) < self.n_way


class Progress(NamedTuple):
    """Where training stands; scalars. loss is the validation loss of the weights that would be
    tested now.
    """

    epoch: Array
    loss: Array
    best_loss: Array
    best_epoch: Array
    done: Array


class Solver(NamedTuple):
    """How a probe is fitted, as three pure functions of one probe. A state has a field `progress:
    Progress`.

    init(task, data) → state; it reads no support clip. advance(state, task, data, num_epochs) →
    state after at least that many more epochs, unless done before. weights(state) → the params to
    test.
    """

    init: Callable[[Task, Data], Any]
    advance: Callable[[Any, Task, Data, Array | int], Any]
    weights: Callable[[Any], Params]


def tagwise_uniform(key: Array, shape: tuple[int, ...], dim: int) -> Array:
    """U(−1/√dim, 1/√dim), as torch.nn.Linear, a row of `[tag, …]` from a key of its own: more tags
    change no other.
    """

    def row(i: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, i), shape[1:], minval=-1.0, maxval=1.0)

    return jax.vmap(row)(jnp.arange(shape[0])) / jnp.sqrt(dim)


class TagLinear(nn.Module):
    """`[clip, dim]` → `[clip, tag]`, or `[tag, clip]` by_tag.

    Why flax.linen.Dense is not used: with the kernel `[tag, dim]` and the logits by_tag, XLA's
    products and updates on a CPU run along rows, and training on few clips is faster
    (results/benchmarks/NOTES.md).
    """

    n_tags: int

    @nn.compact
    def __call__(self, x: Array, by_tag: bool) -> Array:
        dim = x.shape[-1]
        kernel = self.param("kernel", tagwise_uniform, (self.n_tags, dim), dim)
        bias = self.param("bias", tagwise_uniform, (self.n_tags,), dim)
        if by_tag:
            return kernel @ x.T + bias[:, None]
        spare = (
            -self.n_tags % 16 if self.n_tags > 8 and self.n_tags % 8 else 0
        )  # 64 tags are faster than 50
        return (x @ jnp.pad(kernel, ((0, spare), (0, 0))).T + jnp.pad(bias, (0, spare)))[
            :, : self.n_tags
        ]


class LinearProbe(nn.Module):
    """`[clip, dim]` → logits `[clip, tag]`, or `[tag, clip]` by_tag. Sigmoid is the business of
    loss and reader.
    """

    n_tags: int

    @nn.compact
    def __call__(self, x: Array, by_tag: bool = False) -> Array:
        return TagLinear(self.n_tags, name="Dense_0")(
            x, by_tag
        )  # initial weights depend on the name


class HiddenProbe(nn.Module):
    """`[clip, dim]` → dense, ReLU, dropout 0.5 if it is given a key → LinearProbe."""

    n_tags: int
    hidden: int

    @nn.compact
    def __call__(self, x: Array, by_tag: bool = False, dropout: Array | None = None) -> Array:
        x = nn.relu(LinearProbe(self.hidden, name="Hidden_0")(x))
        x = nn.Dropout(0.5, deterministic=dropout is None)(x, rng=dropout)
        return LinearProbe(self.n_tags, name="Output_0")(x, by_tag)


def bce(logits: Array, labels: Array, mask: Array) -> Array:
    """Binary cross-entropy averaged over the entries where mask is true."""
    losses = jnp.maximum(logits, 0.0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return jnp.sum(jnp.where(mask, losses, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def module(n_tags: int, hidden: int) -> nn.Module:
    """The probe itself; hidden = 0: a linear one."""
    return HiddenProbe(n_tags, hidden) if hidden else LinearProbe(n_tags)


def logits(
    params: Params, x: Array, *, by_tag: bool = False, dropout: Array | None = None
) -> Array:
    """`[clip, dim]` → `[clip, tag]`, or `[tag, clip]` by_tag, with the probe that `params` belong
    to.

    dropout: a key, to train a hidden layer.
    """
    layers = params["params"]
    if "Output_0" not in layers:
        out: Array = LinearProbe(layers["Dense_0"]["bias"].size).apply(params, x, by_tag)
    else:
        hidden, n_tags = (layers[name]["Dense_0"]["bias"].size for name in ("Hidden_0", "Output_0"))
        out = HiddenProbe(n_tags, hidden).apply(params, x, by_tag, dropout)
    return out


def fit_probe(solver: Solver, task: Task, data: Data, max_epochs: int) -> tuple[Params, Progress]:
    """Fit one probe from its initialisation to its end."""
    state = solver.advance(solver.init(task, data), task, data, max_epochs)
    return solver.weights(state), state.progress
