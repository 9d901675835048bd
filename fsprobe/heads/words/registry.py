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


class Rows(NamedTuple):
    """seeds int32 `[row]`; words float32 `[row, tag, word]`, zeros where there is no vector; seen
    bool `[row, tag]`.
    """

    seeds: np.ndarray
    words: np.ndarray
    seen: np.ndarray


class Made(NamedTuple):
    """Of each row: heads, what was chosen on held-out seen tags, and the weight that each seen tag
    has in each tag's scores, float `[seen tag, tag]`.
    """

    heads: list[Any]
    chosen: list[str]
    leaning: list[np.ndarray]


@dataclass(frozen=True)
class ZeroShot:
    """name: of --zero_shot. about: a line of its help.

    prepare(train, valid) → what all rows share: Labelled clips, whose unknown labels count as 0;
    without validation clips the training clips choose. heads(prepared, rows) → Made.

    linear: its heads are `Head`s, so that few-shot heads can be pulled to them.
    """

    name: str
    about: str
    prepare: Callable[[Labelled, Labelled], Any]
    heads: Callable[[Any, Rows], Made]
    linear: bool = False


def _eszsl_prepare(train: Labelled, valid: Labelled) -> eszsl.Prepared:
    chosen_on = valid[:2] if len(valid.features) else None
    return eszsl.prepare(*train[:2], chosen_on)


def _eszsl_heads(prepared: eszsl.Prepared, rows: Rows) -> Made:
    heads, chosen = eszsl.heads_of(prepared, rows.words, rows.seen)
    return Made(
        _apart(heads, len(rows.seeds)),
        [
            f"feature_l2={feature:.3g} word_l2={word:.3g}"
            for feature, word in zip(chosen.feature.tolist(), chosen.word.tolist(), strict=True)
        ],
        [
            eszsl.leaning(words, seen, l2)
            for words, seen, l2 in zip(rows.words, rows.seen, chosen.word, strict=True)
        ],
    )


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
    real = jnp.ones(train.features.shape[0], bool)
    return logistic.path(train, real, folds, held_out, settings)


def _conse_heads(prepared: tuple[Head, Labelled], rows: Rows) -> Made:
    own, held_out = prepared
    made = Made([], [], [])
    for words, seen in zip(rows.words, rows.seen, strict=True):
        arrays = jnp.asarray(words), jnp.asarray(seen)
        top, _ = _choose_top(own, *arrays, jnp.asarray(conse.TOPS), *held_out[:2])
        head = conse.conse(own, *arrays, top)
        made.heads.append(head)
        made.chosen.append(f"top={int(top)}")
        made.leaning.append(np.asarray(head.similarity) * np.asarray(head.seen)[:, None])
    return made


_choose_top = jax.jit(conse.choose_top)


def _triplet_prepare(train: Labelled, valid: Labelled) -> Labelled:
    return Labelled(jnp.asarray(train.features), jnp.asarray(train.positive) > 0.5)


def _triplet_heads(config: TripletConfig, prepared: Labelled, rows: Rows) -> Made:
    arrays = (jnp.asarray(part) for part in (rows.words, rows.seen))
    heads = triplet_heads(jnp.asarray(rows.seeds), *prepared[:2], *arrays, config)
    made = _apart(heads, len(rows.seeds))
    cosines = [head.words @ head.words.T for head in made]
    leaning = [cosine * seen[:, None] for cosine, seen in zip(cosines, rows.seen, strict=True)]
    return Made(made, [f"steps={config.steps}"] * len(made), leaning)


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
