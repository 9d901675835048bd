"""The ways there are from words to heads. Add one: a `ZeroShot`, and its name here.

A way is written for rows: a row is a seed's seen tags with the words that each tag has there (a
control deals them out anew). What it makes of a row is a head with `score`, of all tags; those of
seen ones are by their words alone too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsprobe.heads.cross_validation import assign_folds
from fsprobe.heads.data import Labelled
from fsprobe.heads.head import Head
from fsprobe.heads.solvers import logistic
from fsprobe.heads.solvers.solver import Path, Settings
from fsprobe.heads.strengths import least
from fsprobe.heads.words import conse, eszsl
from fsprobe.heads.words.triplet import TripletConfig, triplet_heads

SEEN_STRENGTHS = tuple(np.logspace(-2, -6, 5).tolist())  # of the seen tags' own heads, relative


class Made(NamedTuple):
    """Of one row: its head, what was chosen on held-out seen tags, and the weight that each seen
    tag has in each tag's scores, float `[seen tag, tag]`.
    """

    head: Any
    chosen: str
    leaning: np.ndarray


@dataclass(frozen=True)
class ZeroShot:
    """name: of --zero_shot. about: a line of its help.

    prepare(train, valid) → what all rows share: Labelled clips, whose unknown labels count as 0;
    without validation clips the training clips choose. heads(prepared, seeds, words, seen) → what
    is made of each row: seeds int32 `[row]`; words float32 `[row, tag, word]`, zeros where there is
    no vector; seen bool `[row, tag]`.

    linear: its heads are `Head`s, so that few-shot heads can be pulled to them.
    """

    name: str
    about: str
    prepare: Callable[[Labelled, Labelled], Any]
    heads: Callable[[Any, np.ndarray, np.ndarray, np.ndarray], list[Made]]
    linear: bool = False


def _eszsl_prepare(train: Labelled, valid: Labelled) -> eszsl.Prepared:
    return eszsl.prepare(*train[:2], valid[:2] if len(valid.features) else None)


def _eszsl_heads(
    prepared: eszsl.Prepared, seeds: np.ndarray, words: np.ndarray, seen: np.ndarray
) -> list[Made]:
    heads, chosen = eszsl.heads_of(prepared, words, seen)
    strengths = zip(chosen.feature.tolist(), chosen.word.tolist(), strict=True)
    return [
        Made(
            head,
            f"feature_l2={feature_l2:.3g} word_l2={word_l2:.3g}",
            eszsl.leaning(vectors, mask, word_l2),
        )
        for head, (feature_l2, word_l2), vectors, mask in zip(
            _apart(heads, len(seeds)), strengths, words, seen, strict=True
        )
    ]


def _conse_prepare(train: Labelled, valid: Labelled) -> tuple[Head, Labelled]:
    """(the tags' own heads, each of the strength that suits it best; the clips that choose)."""
    held_out = valid if len(valid.features) else train
    how = "valid" if len(valid.features) else "support"
    folds = assign_folds(np.asarray(train.positive))
    path = _own_heads(train, folds, held_out, Settings(None, how, SEEN_STRENGTHS))
    best = jax.vmap(least, in_axes=1)(path.loss)
    tags = jnp.arange(best.size)
    return Head(path.kernel[best, tags], path.bias[best, tags]), held_out


@jax.jit
def _own_heads(train: Labelled, folds: Any, held_out: Labelled, settings: Settings) -> Path:
    return logistic.path(train, jnp.ones(len(train.features), bool), folds, held_out, settings)


def _conse_heads(
    prepared: tuple[Head, Labelled], seeds: np.ndarray, words: np.ndarray, seen: np.ndarray
) -> list[Made]:
    own, held_out = prepared
    made = []
    for row in zip(jnp.asarray(words), jnp.asarray(seen), strict=True):
        top, _ = _choose_top(own, *row, jnp.asarray(conse.TOPS), *held_out[:2])
        head = conse.conse(own, *row, top)
        leaning = np.asarray(head.similarity) * np.asarray(head.seen)[:, None]
        made.append(Made(head, f"top={int(top)}", leaning))
    return made


_choose_top = jax.jit(conse.choose_top)


def _triplet_prepare(train: Labelled, valid: Labelled) -> Labelled:
    return Labelled(jnp.asarray(train.features), jnp.asarray(train.positive) > 0.5)


def _triplet_heads(
    config: TripletConfig,
    prepared: Labelled,
    seeds: np.ndarray,
    words: np.ndarray,
    seen: np.ndarray,
) -> list[Made]:
    rows = (jnp.asarray(part) for part in (words, seen))
    heads = triplet_heads(jnp.asarray(seeds), *prepared[:2], *rows, config)
    return [
        Made(head, f"steps={config.steps}", (head.words @ head.words.T) * mask[:, None])
        for head, mask in zip(_apart(heads, len(seeds)), seen, strict=True)
    ]


def _apart(heads: Any, count: int) -> list[Any]:
    """Heads with a leading axis `[row]`, one by one."""
    heads = jax.tree.map(np.asarray, heads)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], heads) for i in range(count)]


ZERO_SHOT: dict[str, ZeroShot] = {
    way.name: way
    for way in (
        ZeroShot("eszsl", "a linear map in closed form", _eszsl_prepare, _eszsl_heads, True),
        ZeroShot("conse", "the words of the likeliest seen tags", _conse_prepare, _conse_heads),
        ZeroShot(
            "triplet",
            "a map by max-margin triplets",
            _triplet_prepare,
            partial(_triplet_heads, TripletConfig()),
        ),
        ZeroShot(
            "triplet_balanced",
            "the same, tags drawn before clips",
            _triplet_prepare,
            partial(_triplet_heads, TripletConfig(balanced=True)),
        ),
    )
}


def way_of_priors() -> ZeroShot:
    """The first whose heads few-shot heads can be pulled to."""
    return next(way for way in ZERO_SHOT.values() if way.linear)
