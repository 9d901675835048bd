"""What words do in a sweep: probes without examples (K = 0), and the priors of few-shot ones.

A row is a seed with its own words, or with words dealt out anew (`shuffled`), as a control. All of
a row's tags get heads, so that unseen tags are judged beside the seen ones.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsprobe import annotation_metrics
from fsprobe.batch.spec import Outcome, ProbeSpec
from fsprobe.heads.data import Data, Labelled
from fsprobe.heads.evaluate import TagMetrics
from fsprobe.heads.head import Head, score
from fsprobe.heads.words.prior import unit_prior
from fsprobe.heads.words.registry import ZERO_SHOT, Made, ZeroShot, way_of_priors
from fsprobe.study import records
from fsprobe.study.grid import Grid
from fsprobe.study.results import FinishedProbe
from fsprobe.study.seen_tags import SeenTags
from fsprobe.study.tables import MapRow, ProbeKey, ZeroShotRow
from fsprobe.words.config import NONE, WORDS

_BLOCK = 16  # rows at a time
_SHOWN = 5  # tags that a row of zero_shot_tags.csv names


def _made(
    way: ZeroShot, pairs: Sequence[tuple[int, str]], grid: Grid, words: SeenTags, data: Data
) -> Iterator[tuple[tuple[int, str], Made]]:
    """What is made of (seed, kind of words) pairs, in blocks as they are asked for."""
    assert grid.seen is not None
    # what is not known to be there counts as absent
    prepared = way.prepare(*(Labelled(part.features, part.positive) for part in data[:2]))
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        vectors = [words.vectors if kind == WORDS else words.shuffled(seed) for seed, kind in block]
        seeds = np.array([seed for seed, _ in block], np.int32)
        seen = np.array([grid.seen[seed] for seed, _ in block])
        yield from zip(block, way.heads(prepared, seeds, np.array(vectors), seen), strict=True)


def priors(
    specs: Sequence[ProbeSpec], grid: Grid, words: SeenTags, data: Data
) -> tuple[Head, list[ProbeSpec]]:
    """(w₀ of each seed and kind of words, float32 `[prior, position, dim]`; the specs with theirs).

    Scaled so that logits have a deviation of 1 over the training clips.
    """
    pairs = list(dict.fromkeys((spec.seed, spec.key.prior) for spec in specs))
    tags = {episode.seed: episode.tags for episode in grid.episodes}
    train = jnp.asarray(data.train.features)
    found = []
    for (seed, _), made in _made(way_of_priors(), pairs, grid, words, data):
        mine = Head(*(jnp.asarray(leaf[tags[seed]]) for leaf in made.head))
        found.append(jax.tree.map(np.asarray, _unit_prior(mine, train)))
    place = {pair: i for i, pair in enumerate(pairs)}
    return (
        jax.tree.map(lambda *leaves: np.stack(leaves), *found),
        [replace(spec, prior=place[spec.seed, spec.key.prior]) for spec in specs],
    )


_unit_prior = jax.jit(unit_prior)


def by_words(spec: ProbeSpec) -> bool:
    """Has the probe no example?"""
    return spec.key.k_shot == 0


def few_shots(specs: Sequence[ProbeSpec]) -> tuple[list[ProbeSpec], list[ProbeSpec]]:
    """(those without a prior, those with one)."""
    shots = [spec for spec in specs if not by_words(spec)]
    plain = [spec for spec in shots if spec.key.prior in ("", NONE)]
    return plain, [spec for spec in shots if spec.key.prior not in ("", NONE)]


def zero_shot(
    specs: Sequence[ProbeSpec], grid: Grid, words: SeenTags, data: Data, done: Collection[ProbeKey]
) -> Iterator[list[FinishedProbe]]:
    """Probes without examples; a list for each row. done: keys to leave out."""
    open_ = [spec for spec in specs if spec.key not in done]
    for name in dict.fromkeys(spec.key.zero_shot for spec in open_):
        mine = [spec for spec in open_ if spec.key.zero_shot == name]
        pairs = list(dict.fromkeys((spec.seed, spec.key.prior) for spec in mine))
        for pair, made in _made(ZERO_SHOT[name], pairs, grid, words, data):
            scores = np.asarray(score(made.head, data.test.features))
            yield [
                _finished(spec, made, scores, grid)
                for spec in mine
                if (spec.seed, spec.key.prior) == pair
            ]


def _finished(spec: ProbeSpec, made: Made, scores: np.ndarray, grid: Grid) -> FinishedProbe:
    """scores float32 `[clip, tag]`, of all tags of the pool."""
    assert grid.seen is not None
    tags, seen = spec.tags, grid.seen[spec.seed]
    known = grid.judged(tags, slice(None))
    positive = grid.positive[grid.test] & known
    unseen = np.isin(np.arange(len(grid.pool)), tags)
    found = annotation_metrics.evaluate_zero_shot(
        scores, positive, seen, unseen=unseen, known=known
    )
    ranking = annotation_metrics.retrieval(scores[:, tags], positive[:, tags], known[:, tags].T)
    auc, precision, at_10, _ = map(np.asarray, ranking)
    zeros = np.zeros(len(tags), np.int32)
    metrics = TagMetrics(precision, auc, zeros, zeros, positive[:, tags].sum(axis=0))
    finished = records.finished_probe(grid, Outcome(spec, metrics, float("nan"), 0, 0), "")
    return finished._replace(
        tags=[
            tag._replace(precision_at_10=float(value))
            for tag, value in zip(finished.tags, at_10, strict=True)
        ],
        zero_shot=_zero_shot_rows(spec.key, found, made.chosen),
        map=_map_rows(spec, made, scores, positive, grid.pool, seen),
    )


def _zero_shot_rows(key: ProbeKey, found: dict[str, float], chosen: str) -> list[ZeroShotRow]:
    """A row for each TASK/TAGS/CLIPS of evaluate_zero_shot."""
    k = annotation_metrics.K
    columns = ("mAP", "roc_auc", f"precision_at_{k}", f"hit_at_{k}")
    rows: list[Any] = [
        [*group.split("/"), *(found[f"{group}/{column}"] for column in columns), chosen]
        for group in dict.fromkeys(name.rpartition("/")[0] for name in found)
    ]
    return [ZeroShotRow(*key, *row) for row in rows]


def _map_rows(
    spec: ProbeSpec,
    made: Made,
    scores: np.ndarray,
    positive: np.ndarray,
    pool: Sequence[str],
    seen: np.ndarray,
) -> list[MapRow]:
    """nearest: of the tags' mean scores on the tag's test clips, above those on all, the highest:
    where the map puts these clips among the words.
    """
    mine = positive[:, spec.tags].T
    at = mine.astype(np.float64) @ (scores - scores.mean(axis=0))
    at /= np.maximum(mine.sum(axis=1, keepdims=True), 1)
    every = np.ones(len(pool), bool)
    rows: list[Any] = [
        (
            pool[tag],
            _named(at[i], pool, every) if positive[:, tag].any() else "",
            _named(made.leaning[:, tag], pool, seen),
        )
        for i, tag in enumerate(spec.tags)
    ]
    return [MapRow(*spec.key, *texts) for texts in rows]


def _named(weights: np.ndarray, pool: Sequence[str], counted: np.ndarray) -> str:
    """The tags of greatest weight, as TAG=WEIGHT|…."""
    order = np.argsort(np.where(counted, -weights, np.inf), kind="stable")[:_SHOWN]
    return "|".join(f"{pool[tag]}={weights[tag]:.3g}" for tag in order if counted[tag])
