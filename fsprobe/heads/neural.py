"""The probe as a network that is trained in steps: its layers, and the head it becomes."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from fsprobe.heads.head import Head, HiddenHead

Params = Any


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
        return kernel @ x.T + bias[:, None] if by_tag else Head(kernel, bias).score(x)


class LinearProbe(nn.Module):
    """`[clip, dim]` → logits `[clip, tag]`, or `[tag, clip]` by_tag."""

    n_tags: int

    @nn.compact
    def __call__(self, x: Array, by_tag: bool = False) -> Array:
        # initial weights depend on the name
        return TagLinear(self.n_tags, name="Dense_0")(x, by_tag)


class HiddenProbe(nn.Module):
    """`[clip, dim]` → dense, ReLU, dropout 0.5 if it is given a key → LinearProbe."""

    n_tags: int
    hidden: int

    @nn.compact
    def __call__(self, x: Array, by_tag: bool = False, dropout: Array | None = None) -> Array:
        x = nn.relu(LinearProbe(self.hidden, name="Hidden_0")(x))
        x = nn.Dropout(0.5, deterministic=dropout is None)(x, rng=dropout)
        return LinearProbe(self.n_tags, name="Output_0")(x, by_tag)


def probe_module(n_tags: int, hidden: int) -> nn.Module:
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


def to_head(params: Params) -> Head | HiddenHead:
    """The trained probe as a head."""
    layers = params["params"]
    if "Output_0" not in layers:
        return Head(**layers["Dense_0"])
    return HiddenHead(*(Head(**layers[name]["Dense_0"]) for name in ("Hidden_0", "Output_0")))
