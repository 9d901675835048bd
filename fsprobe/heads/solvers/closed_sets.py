"""Which sets of tags some clips have in common: the closed sets of formal concept analysis.

A set of tags is closed if none can be added to it without losing a clip that carries all of it.
Sets that the same clips carry lie in one closed set: of 500 clips with 50 tags there are about
2,700, where one clip of 19 tags alone has half a million subsets. They are found one after another
in lexical order, each from the one before (Ganter 1984, NextClosure).
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def closed_sets(carries: Array, real: Array, most: int) -> tuple[Array, Array, Array]:
    """(all non-empty closed sets that some clip carries, bool `[most, tag]`; their number, int32
    `[]`: that many first rows are real; whether there are more than `most`, bool `[]`). Where there
    are, the closed sets of single tags and of the commonest pairs of tags instead; some repeat.

    carries: bool `[clip, tag]`; real: bool `[clip]`, False for padding.
    """
    carries &= real[:, None]
    holders, everyone = _bits(carries.T), _bits(real)
    n_tags = carries.shape[1]
    lower = jnp.tri(n_tags, k=-1, dtype=bool)  # `[i, j]`: j comes before i

    def closure(clips: Array) -> Array:
        """Of sets of clips: the tags that all of them carry."""
        lacking = clips[..., None, :] & ~holders
        return lax.reduce(lacking, np.uint32(0), lax.bitwise_or, (lacking.ndim - 1,)) == 0

    def following(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """Ganter's step: the last tag i whose closure with the members before it adds none before
        it.
        """
        found, count, last = state
        within = lax.associative_scan(
            jnp.bitwise_and, jnp.where(last[:, None], holders, ~np.uint32(0))
        )
        within = jnp.concatenate([everyone[None], within[:-1] & everyone]) & holders
        grown = closure(within)
        fits = ~last & ~jnp.any(grown & ~last & lower, axis=1)
        tag = n_tags - 1 - jnp.argmax(fits[::-1])
        found = found.at[count].set(grown[tag], mode="drop")
        return found, count + jnp.any(within[tag] > 0), grown[tag]

    first = closure(everyone)
    found = jnp.zeros((most, n_tags), bool).at[0].set(first)
    found, count, _ = lax.while_loop(
        lambda state: (state[1] <= most) & ~jnp.all(state[2]),
        following,
        (found, jnp.int32(jnp.any(first) & jnp.any(real)), first),
    )

    def commonest() -> tuple[Array, Array]:
        together = carries.T.astype(jnp.float32) @ carries.astype(jnp.float32)
        singles = jnp.where(jnp.eye(n_tags, dtype=bool) & (together > 0), jnp.inf, together)
        clips, pairs = lax.top_k(jnp.where(lower, 0.0, singles).ravel(), min(most, n_tags**2))
        pair = holders[pairs // n_tags] & holders[pairs % n_tags]
        table = jnp.zeros((most, n_tags), bool).at[: pairs.size].set(closure(pair))
        return table, jnp.sum(clips > 0)

    return *lax.cond(count > most, commonest, lambda: (found, count)), count > most


def _bits(values: Array) -> Array:
    """bool `[…, clip]` as uint32 `[…, word]`."""
    octets = jnp.packbits(values, axis=-1)
    octets = jnp.pad(octets, [(0, 0)] * (octets.ndim - 1) + [(0, -octets.shape[-1] % 4)])
    return lax.bitcast_convert_type(octets.reshape(*octets.shape[:-1], -1, 4), jnp.uint32)
