"""A head: a fitted value that gives logits for the features of any clip.

A head is any NamedTuple of arrays with a method `score` and a property `dim`, the dimensions of the
features that it takes; the linear `Head` is the usual one. Heads that a sweep tests have two more
methods: `block` gives the head of some of the tags, and `padded` appends tags that mean nothing, up
to a given number.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from fsprobe.heads.precision import in_float32


class Head(NamedTuple):
    """A linear head: kernel float32 `[tag, dim]`, bias float32 `[tag]`."""

    kernel: Array
    bias: Array

    @property
    def dim(self) -> int:
        return self.kernel.shape[1]

    def score(self, features: Array) -> Array:
        """`[clip, dim]` → logits `[clip, tag]`."""
        n_tags = self.bias.shape[0]
        # 64 tags are faster than 50
        spare = -n_tags % 16 if n_tags > 8 and n_tags % 8 else 0
        kernel = jnp.pad(self.kernel, ((0, spare), (0, 0)))
        return (features @ kernel.T + jnp.pad(self.bias, (0, spare)))[:, :n_tags]

    def block(self, start: Array, size: int) -> "Head":
        """The head of `size` tags from `start` on."""
        return Head(*(lax.dynamic_slice_in_dim(leaf, start, size) for leaf in self))

    def padded(self, n_tags: int) -> "Head":
        """With rows of zeros up to n_tags tags."""
        spare = n_tags - self.bias.shape[0]
        return Head(jnp.pad(self.kernel, ((0, spare), (0, 0))), jnp.pad(self.bias, (0, spare)))


class HiddenHead(NamedTuple):
    """A head with a hidden layer of rectified units."""

    hidden: Head
    output: Head

    @property
    def dim(self) -> int:
        return self.hidden.dim

    def score(self, features: Array) -> Array:
        """`[clip, dim]` → logits `[clip, tag]`."""
        return self.output.score(jax.nn.relu(self.hidden.score(features)))

    def block(self, start: Array, size: int) -> "HiddenHead":
        """The head of `size` tags from `start` on."""
        return HiddenHead(self.hidden, self.output.block(start, size))

    def padded(self, n_tags: int) -> "HiddenHead":
        """With rows of zeros up to n_tags tags."""
        return HiddenHead(self.hidden, self.output.padded(n_tags))


class StandardizedHead(NamedTuple):
    """A head that is not linear and was fitted to standardised features, for features as they are.
    scale: `[dim]`, 1 over the deviation, 0 where there is none.
    """

    head: Any
    mean: Array
    scale: Array

    @property
    def dim(self) -> int:
        return self.mean.shape[0]

    def score(self, features: Array) -> Array:
        """`[clip, dim]` → logits `[clip, tag]`."""
        return self.head.score((features - self.mean) * self.scale)


@in_float32
def score(head: Any, features: ArrayLike) -> Array:
    """Logits `[clip, tag]` of features `[clip, dim]`. Raises ValueError where they do not fit."""
    features = jnp.asarray(features, jnp.float32)
    if features.ndim != 2 or features.shape[1] != head.dim:
        raise ValueError(f"features {features.shape}: the head takes [clip, {head.dim}]")
    return _score(head, features)


@jax.jit
def _score(head: Any, features: Array) -> Array:
    return head.score(features)


def on_raw_features(head: Any, mean: np.ndarray, deviation: np.ndarray) -> Any:
    """A head for features x as they are, from a head for (x − mean) / deviation. A linear one stays
    a `Head`.

    mean, deviation: `[dim]`; a deviation of 0 says that the dimension was set to 0: it has no
    weight in the head. Summed in float64.
    """
    divisor = np.where(deviation > 0, deviation, np.inf)
    if not isinstance(head, Head):
        if not np.any(mean) and np.all(deviation == 1):
            return head
        return StandardizedHead(head, *(jnp.float32(part) for part in (mean, 1 / divisor)))
    kernel = np.asarray(head.kernel, np.float64) / divisor
    bias = np.asarray(head.bias, np.float64) - kernel @ np.asarray(mean, np.float64)
    return Head(kernel.astype(np.float32), bias.astype(np.float32))  # type: ignore[arg-type]
