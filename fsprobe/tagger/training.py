"""From marked clips to the rows of a tagger: heads, their calibration, thresholds and verdicts.

Each tag's row depends on its own labels and, where it has too few for a slope of its own, on the
pooled one; so a tag is added or refitted without the others.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from extract.errors import InputError
from extract.manifest import Manifest
from fsprobe.config import AUTO
from fsprobe.heads.cross_validation import FOLDS
from fsprobe.tagger.judging import calibration, promises, thresholds
from fsprobe.tagger.judging.calibration import Judged, Line
from fsprobe.tagger.judging.out_of_fold import Fitted, OutOfFold, out_of_fold
from fsprobe.tagger.judging.thresholds import Promise, Rule
from fsprobe.tagger.judging.verdicts import auc_interval, roc_auc, verdict
from fsprobe.tagger.labelled import Counts, Labelled, count
from fsprobe.tagger.matching import Part, source_of
from fsprobe.tagger.tagger import Tagger

LABELS = "labels"
UNJUDGED_SLOPE = 1.0  # of logits, where no tag could be judged: nobody stores it
UNJUDGED_HIGHEST = 0.9  # no higher probability where nothing could be judged
_MARGIN = 1.5  # clips to come may score higher than those known, by this

# (features [clip, dim], positive, negative [clip, tag], units [clip], l2) → heads
FitHeads = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float | str], Fitted]


@dataclass(frozen=True)
class TrainConfig:
    """rule: how thresholds are chosen. prevalence: `labels`, one number for all tags, or one per
    tag. l2: a strength for all, or `auto`: one for each. folds: of the cross-validation.
    """

    rule: Rule = field(default_factory=Rule)
    prevalence: str | float | Mapping[str, float] = LABELS
    l2: float | str = AUTO
    folds: int = FOLDS


class Rows(NamedTuple):
    """What training gives, row by row: tensors as in a tagger, `training` per tag, and the
    out-of-fold scores behind them. pooled_slope: None where no tag could be judged.
    """

    tags: tuple[str, ...]
    kernel: np.ndarray
    bias: np.ndarray
    calibration: np.ndarray
    threshold: np.ndarray
    training: dict[str, dict[str, Any]]
    pooled_slope: float | None
    held_out: OutOfFold


def train(
    labelled: Labelled,
    fit: FitHeads,
    config: TrainConfig,
    pooled_slope: float | None = None,
) -> Rows:
    """Heads for all tags of `labelled`, judged out of fold. pooled_slope: of the tagger that the
    rows go to, if it has one.
    """
    features, positive, negative = labelled.features, labelled.positive, labelled.negative
    prevalence = [prevalence_of(tag, config) for tag in labelled.tags]
    held_out = out_of_fold(
        lambda yes, no: fit(features, yes, no, labelled.units, config.l2),
        features,
        positive,
        negative,
        labelled.units,
        config.folds,
    )
    kernel, bias, strengths, scales = fit(features, positive, negative, labelled.units, config.l2)
    counts = count(positive, negative, labelled.units)
    aucs = [
        roc_auc(held_out.logits[:, tag], positive[:, tag], negative[:, tag], held_out.folds)
        if counts[tag].tracks_positive > 1
        else math.nan
        for tag in range(len(labelled.tags))
    ]
    data = [judged_clips(held_out.logits[:, tag], labelled, tag) for tag in range(len(aucs))]
    judged = [one for (_, one), auc in zip(data, aucs, strict=True) if not math.isnan(auc)]
    if pooled_slope is None and judged:
        pooled_slope = calibration.fit_lines(judged)[0].slope
    slope = UNJUDGED_SLOPE if pooled_slope is None else pooled_slope
    rows = []
    for tag, auc in enumerate(aucs):
        if math.isnan(auc):
            _, fitted = judged_clips(features @ kernel[tag] + bias[tag], labelled, tag)
            rows.append(_unjudged(fitted, slope, prevalence[tag], config.rule))
        else:
            clips, known = data[tag]
            folds = held_out.folds[clips]
            rows.append(_row(known, folds, slope, prevalence[tag], config.rule, auc))
    chosen = {"strength": strengths} | ({} if scales is None else {"prior_scale": scales})
    training = {
        name: _record(rows[tag], counts[tag], config)
        | {key: float(values[tag]) for key, values in chosen.items()}
        for tag, name in enumerate(labelled.tags)
    }
    return Rows(
        labelled.tags,
        kernel.astype(np.float32),
        bias.astype(np.float32),
        np.array([row.line for row in rows], np.float32),
        np.array([row.promise.threshold for row in rows], np.float32),
        training,
        pooled_slope,
        held_out,
    )


def tagger_of(rows: Rows, parts: Sequence[Part], embedding: str, manifest: Manifest) -> Tagger:
    """A new tagger of these rows. manifest: of the clips that it learnt from, whose usual length
    it records.
    """
    lengths = [length for length in manifest.durations if length]
    seconds = statistics.median(lengths) if lengths else None
    shared = {"pooled_slope": rows.pooled_slope, "clip_seconds": seconds}
    return Tagger(
        tags=rows.tags,
        kernel=rows.kernel,
        bias=rows.bias,
        calibration=rows.calibration,
        threshold=rows.threshold,
        embedding=embedding,
        sources=tuple(source_of(part) for part in parts),
        training=rows.training,
        shared={key: value for key, value in shared.items() if value is not None},
    )


def prevalence_of(tag: str, config: TrainConfig) -> float | None:
    """What the caller says of it; None: as in the labels. Raises InputError where a tag is not
    among those said.
    """
    if isinstance(config.prevalence, str):
        return None
    if isinstance(config.prevalence, Mapping):
        if tag not in config.prevalence:
            raise InputError(f"`prevalence`: tag {tag!r} is not in the file; add a line for it")
        return config.prevalence[tag]
    return config.prevalence


class _Row(NamedTuple):
    line: Line
    promise: Promise
    auc: float
    average_precision: float
    prevalence: float
    pooled: bool
    highest: float


def judged_clips(logits: np.ndarray, labelled: Labelled, tag: int) -> tuple[np.ndarray, Judged]:
    """(rows of `labelled`, what they say of a tag): clips with a logit and a known label."""
    positive, negative = labelled.positive[:, tag], labelled.negative[:, tag]
    rows = np.flatnonzero(~np.isnan(logits) & (positive + negative > 0))
    columns = (logits, positive, negative)
    return rows, Judged(*(column[rows].astype(np.float64) for column in columns))


def _row(
    data: Judged,
    folds: np.ndarray,
    slope: float,
    prevalence: float | None,
    rule: Rule,
    auc: float,
) -> _Row:
    """A tag with scores out of fold."""
    line, pooled = calibration.calibrate(data, slope)
    share = data.base_rate if prevalence is None else prevalence
    line = calibration.shift(line, data.base_rate, share)
    p = calibration.probability(line, data.logits)
    chosen = thresholds.choose(p, data.positive, data.negative, share, rule)
    promise = promises.promise(data, folds, slope, share, rule)
    promise = promise._replace(threshold=chosen.threshold)
    precision = thresholds.average_precision(p, data.positive, data.negative, share)
    return _Row(line, promise, auc, precision, share, pooled, 1.0)


def _unjudged(fitted: Judged, slope: float, prevalence: float | None, rule: Rule) -> _Row:
    """A tag of which nothing is known out of fold: the pooled slope on the scores of the clips it
    was fitted to, flattened until no probability is high.
    """
    share = fitted.base_rate if prevalence is None else prevalence
    (line,) = calibration.fit_lines([fitted], slope)
    line = calibration.shift(line, fitted.base_rate, share)
    largest = _MARGIN * float(np.abs(fitted.logits).max())
    line = calibration.at_most(line, UNJUDGED_HIGHEST - 1e-3, largest)
    promise = thresholds.without_judgement(rule)
    return _Row(line, promise, math.nan, math.nan, share, True, UNJUDGED_HIGHEST)


def _record(row: _Row, counts: Counts, config: TrainConfig) -> dict[str, Any]:
    interval = auc_interval(row.auc, counts.tracks_positive, counts.tracks_negative)
    numbers = {
        "roc_auc": row.auc,
        "average_precision": row.average_precision,
        "precision": row.promise.precision,
        "recall": row.promise.recall,
        "f1": row.promise.f1,
    }
    return {
        "positives": int(counts.positives),
        "negatives": int(counts.negatives),
        "tracks": counts.tracks_positive,
        "tracks_negative": counts.tracks_negative,
        **{key: None if math.isnan(value) else value for key, value in numbers.items()},
        "roc_auc_interval": list(interval),
        "prevalence": row.prevalence,
        "prevalence_from": "labels" if isinstance(config.prevalence, str) else "given",
        "threshold_rule": str(config.rule),
        "slope": "pooled" if row.pooled else "own",
        "highest_probability": row.highest,
        "verdict": verdict(
            row.auc, interval, counts.positives, counts.negatives, counts.tracks_positive
        ),
    }
