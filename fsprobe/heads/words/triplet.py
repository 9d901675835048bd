"""A map from features to word vectors, learnt from triplets (Choi et al., ISMIR 2019).

    f(x) = (x − μ)/σ W + c,   loss = mean max(0, margin − cos(f(x), s⁺) + cos(f(x), s⁻))

over triplets of a clip x, a seen tag s⁺ that it has and a seen tag s⁻ that it has not. A tag's
score is cos(f(x), s). Clips are drawn with one of their tags, as Choi et al. do; with `balanced`
(Won et al., ICASSP 2021) a tag is drawn first, then one of its clips, so that rare tags are heard
as often as common ones. Adam, a fixed number of steps.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fsprobe.heads.words.spectra import centred_words

_SAMPLES = 0x7419  # what a seed's key is for: drawing triplets
_INITIAL = 0x7420  # and the first weights


@dataclass(frozen=True)
class TripletConfig:
    """margin: of the cosines. balanced: draw tags first, then clips."""

    margin: float = 0.4
    learning_rate: float = 1e-3
    batch_size: int = 128
    steps: int = 1000
    balanced: bool = False


class TripletHead(NamedTuple):
    """kernel `[dim, word]` and bias `[word]` map features as the store holds them to the words'
    space; words `[tag, word]`: centred on the seen ones, of length 1.
    """

    kernel: Array
    bias: Array
    words: Array

    @property
    def dim(self) -> int:
        return self.kernel.shape[0]

    def score(self, features: Array) -> Array:
        """features `[clip, dim]` → cosines `[clip, tag]`."""
        return _unit(features @ self.kernel + self.bias) @ self.words.T


class Weights(NamedTuple):
    """On standardised features: kernel `[dim, word]`, bias `[word]`."""

    kernel: Array
    bias: Array


class Drawing(NamedTuple):
    """What triplets are drawn from; seen tags alone. tags, absent int32 `[clip, tag]`: a clip's
    tags come first, and the tags that it has not; num_tags, num_absent `[clip]`: how many. clips
    int32 `[clip, tag]`: a tag's clips come first; num_clips `[tag]`. tagged int32 `[clip]`: clips
    that have both come first, num_tagged `[]`; taught int32 `[tag]`: tags with such clips first,
    num_taught `[]`.
    """

    tags: Array
    num_tags: Array
    absent: Array
    num_absent: Array
    clips: Array
    num_clips: Array
    tagged: Array
    num_tagged: Array
    taught: Array
    num_taught: Array


def drawing(labels: Array, seen: Array) -> Drawing:
    """labels bool `[clip, tag]`, seen bool `[tag]`."""
    has, has_not = labels & seen, ~labels & seen
    usable = jnp.any(has, axis=1) & jnp.any(has_not, axis=1)
    has, has_not = has & usable[:, None], has_not & usable[:, None]
    taught = jnp.any(has, axis=0)
    first = lambda mask, axis: jnp.argsort(~mask, axis=axis, stable=True)  # noqa: E731
    return Drawing(
        first(has, 1),
        jnp.sum(has, axis=1),
        first(has_not, 1),
        jnp.sum(has_not, axis=1),
        first(has, 0),
        jnp.sum(has, axis=0),
        first(usable, 0),
        jnp.sum(usable),
        first(taught, 0),
        jnp.sum(taught),
    )


def draw(key: Array, source: Drawing, size: int, balanced: bool) -> tuple[Array, Array, Array]:
    """(clip, tag it has, tag it has not), int32 `[size]` each; every choice is uniform."""
    u, v, w = jax.random.uniform(key, (3, size))

    def pick(share: Array, count: Array) -> Array:
        return jnp.minimum((share * count).astype(jnp.int32), count - 1)

    if balanced:
        tag = source.taught[pick(u, source.num_taught)]
        clip = source.clips[pick(v, source.num_clips[tag]), tag]
    else:
        clip = source.tagged[pick(u, source.num_tagged)]
        tag = source.tags[clip, pick(v, source.num_tags[clip])]
    return clip, tag, source.absent[clip, pick(w, source.num_absent[clip])]


def hinge(weights: Weights, x: Array, positive: Array, negative: Array, margin: float) -> Array:
    """The loss `[]` of triplets: standardised features `[triplet, dim]`, unit words `[triplet,
    word]`.
    """
    mapped = _unit(x @ weights.kernel + weights.bias)
    return jnp.mean(jnp.maximum(0.0, margin - jnp.sum(mapped * (positive - negative), axis=1)))


def triplet(
    seed: Array, features: Array, labels: Array, words: Array, seen: Array, config: TripletConfig
) -> TripletHead:
    """Fit one seed. features `[clip, dim]`, labels bool `[clip, tag]`: the training clips'; words
    `[tag, word]`, zeros where there is no vector; seen bool `[tag]`. Without a clip that has a seen
    tag and lacks another, the first weights stay.
    """
    mean, deviation = jnp.mean(features, axis=0), jnp.std(features, axis=0)
    deviation = jnp.where(deviation > 1e-6 * jnp.max(deviation), deviation, jnp.inf)
    x = (features - mean) / deviation
    words = centred_words(words, seen)
    source = drawing(labels, seen & jnp.any(words != 0, axis=1))
    optimiser = optax.adam(config.learning_rate)

    def step(i: Array, state: tuple[Weights, optax.OptState]) -> tuple[Weights, optax.OptState]:
        weights, momenta = state
        clip, positive, negative = draw(
            sample_key(seed, i), source, config.batch_size, config.balanced
        )
        gradient = jax.grad(hinge)(
            weights, x[clip], words[positive], words[negative], config.margin
        )
        updates, momenta = optimiser.update(gradient, momenta)
        return optax.apply_updates(weights, updates), momenta

    first = initial_weights(seed, features.shape[1], words.shape[1])
    last, _ = jax.lax.fori_loop(
        0, jnp.where(source.num_tagged > 0, config.steps, 0), step, (first, optimiser.init(first))
    )
    kernel = last.kernel / deviation[:, None]
    return TripletHead(kernel, last.bias - mean @ kernel, words)


def initial_weights(seed: Array, dim: int, word: int) -> Weights:
    """N(0, 1/dim), no bias."""
    key = jax.random.fold_in(jax.random.key(seed), _INITIAL)
    return Weights(jax.random.normal(key, (dim, word)) / jnp.sqrt(dim), jnp.zeros(word))


def sample_key(seed: Array, step: Array) -> Array:
    """Of the triplets of one step."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _SAMPLES), step)


@partial(jax.jit, static_argnames="config")
def triplet_heads(
    seeds: Array, features: Array, labels: Array, words: Array, seen: Array, config: TripletConfig
) -> TripletHead:
    """Many seeds at once: seeds int32 `[seed]`, seen bool `[seed, tag]`, words `[tag, word]` or of
    each seed `[seed, tag, word]` → a TripletHead whose arrays have a leading axis `[seed]`.
    """

    def one(seed: Array, words: Array, seen: Array) -> TripletHead:
        return triplet(seed, features, labels, words, seen, config)

    return jax.vmap(one, in_axes=(0, None if words.ndim == 2 else 0, 0))(seeds, words, seen)


def _unit(vectors: Array) -> Array:
    square = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.where(square > 0, square, 1.0))
