"""The page on a tagger: what each tag promises, how well its probabilities are calibrated, and the
clips to hear: the surest, and the mistakes.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from scipy.special import expit

from fsprobe.pages.blocks import Block, Bullets, Figure, Heading, Paragraph, Sounds, Table
from fsprobe.pages.plot_style import GREY, OKABE_ITO, WIDTH, short, style
from fsprobe.tagger.judging.calibration import (
    TOO_FEW,
    calibration_error,
    cross_fitted,
    reliability,
)
from fsprobe.tagger.labelled import Labelled
from fsprobe.tagger.outputs import Place
from fsprobe.tagger.summary import statement
from fsprobe.tagger.training import Rows, TrainConfig, judged_clips

_PANELS = 12  # reliability diagrams in one figure
_CLIPS = 3  # of each kind to play
_BINS = 5
_PROBABILITY = "probability out of fold, at the prevalence of the labels"


class Scored(NamedTuple):
    """Clips of one tag with a score out of fold. probability: calibrated on the other folds; raw:
    the plain sigmoid of the logit; label: 1 or 0; clip: row of Labelled. All `[clip]`.
    """

    probability: np.ndarray
    raw: np.ndarray
    label: np.ndarray
    clip: np.ndarray


def page(
    rows: Rows,
    labelled: Labelled,
    config: TrainConfig,
    source: str,
    places: Mapping[str, Place],
    url: Callable[[Place], str],
) -> list[Block]:
    """All blocks. source: the features' name. places: clip_id → its sound, where there is one."""
    scored = {
        tag: _scored(rows, labelled, i)
        for i, tag in enumerate(rows.tags)
        if rows.training[tag]["roc_auc"] is not None
    }
    blocks: list[Block] = [
        Heading(1, f"Tags of a tagger, {len(rows.tags)} trained"),
        Paragraph(
            f"Heads on {source}, {len(labelled.clip_ids)} marked clips of "
            f"{len(np.unique(labelled.units))} tracks. {statement(config)} Intervals of ROC-AUC "
            "are 95% intervals that count tracks, not clips."
        ),
        _table(rows),
    ]
    if scored:
        blocks += [
            Figure(
                "roc_auc",
                "ROC-AUC of each tag with its interval",
                "ROC-AUC out of fold, with 95% intervals; chance is 0.5.",
                lambda: _intervals(scored, rows.training),
            ),
            *_calibration(scored),
        ]
    blocks.append(Heading(2, "Tag by tag"))
    for tag in rows.tags:
        verdict = rows.training[tag]["verdict"]
        blocks += [Heading(3, tag), Paragraph(f"{verdict[0].upper()}{verdict[1:]}.")]
        if tag in scored:
            blocks += _clips(tag, scored[tag], labelled, places, url)
    return blocks


def relative_url(audio_root: Path, out: Path) -> Callable[[Place], str]:
    """Place → where its sound is, seen from a page in `out`; a clip's part of a file as a media
    fragment.
    """

    def url(place: Place) -> str:
        path = os.path.relpath((audio_root / place.path).absolute(), out.absolute())
        end = "" if place.duration is None else f",{(place.start or 0) + place.duration:g}"
        part = f"#t={place.start or 0:g}{end}" if end or place.start is not None else ""
        return quote(Path(path).as_posix()) + part

    return url


def _scored(rows: Rows, labelled: Labelled, tag: int) -> Scored:
    """Of a tag that could be judged."""
    clips, data = judged_clips(rows.held_out.logits[:, tag], labelled, tag)
    assert rows.pooled_slope is not None  # of this tag, if of no other
    p = cross_fitted(data, rows.held_out.folds[clips], rows.pooled_slope)
    known = ~np.isnan(p)
    label = data.positive > data.negative
    return Scored(p[known], expit(data.logits[known]), label[known].astype(float), clips[known])


def _table(rows: Rows) -> Table:
    first = ("tag", "verdict", "yes", "no", "ROC-AUC", "interval", "prevalence", "AP")
    header = (*first, "threshold", "precision", "recall")
    lines = []
    for tag, threshold in zip(rows.tags, rows.threshold, strict=True):
        record = rows.training[tag]
        low, high = record["roc_auc_interval"]
        lines.append(
            [
                tag,
                record["verdict"].partition(":")[0],
                str(record["positives"]),
                str(record["negatives"]),
                _number(record["roc_auc"]),
                f"{low:.2f} to {high:.2f}",
                f"{record['prevalence']:.3g}",
                _number(record["average_precision"]),
                f"{threshold:.3g}",
                _number(record["precision"]),
                _number(record["recall"]),
            ]
        )
    caption = (
        "What each tag promises. AP, precision and recall at the threshold are stated for the "
        "prevalence beside them."
    )
    return Table(caption, header, lines, left=2)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _calibration(scored: Mapping[str, Scored]) -> list[Block]:
    together = Scored(*map(np.concatenate, zip(*scored.values(), strict=True)))
    errors = [calibration_error(p, together.label) for p in (together.raw, together.probability)]
    names = list(scored)
    groups = [names[i : i + _PANELS] for i in range(0, len(names), _PANELS)]
    return [
        Heading(2, "Calibration"),
        Paragraph(
            "Of the clips that get a probability near 0.3, three in ten should have the tag. Each "
            "fold's probabilities come from a calibration that was fitted to the other folds, at "
            "the prevalence of the labels; only the slope that tags of fewer than "
            f"{TOO_FEW} yes or no share is of all folds."
        ),
        Bullets(
            [
                f"expected calibration error of the plain sigmoid: {errors[0]:.3f}",
                f"of the calibrated probabilities: {errors[1]:.3f}",
            ]
        ),
        Figure(
            "reliability",
            "Share of clips with the tag against the probability, before and after calibration",
            "All tags together: share of clips that have the tag, by probability in ten bins.",
            lambda: _together(together),
        ),
        *(
            Figure(
                f"reliability_{number + 1}",
                f"Reliability diagrams of {', '.join(group)}",
                f"Tag by tag, in {_BINS} bins; the area of a dot is its number of clips.",
                partial(_panels, {tag: scored[tag] for tag in group}),
            )
            for number, group in enumerate(groups)
        ),
    ]


def _together(scored: Scored) -> Drawing:
    with style():
        figure = Drawing(figsize=(WIDTH, 3.9))
        axes = figure.add_subplot()
        for name, p, color, marker in (
            ("plain sigmoid", scored.raw, GREY, "s"),
            ("calibrated", scored.probability, OKABE_ITO[0], "o"),
        ):
            bins = np.array(reliability(p, scored.label))
            axes.plot(bins[:, 0], bins[:, 1], marker=marker, color=color, label=name)
        _diagonal(axes)
        axes.set_xlabel("probability")
        axes.set_ylabel("share of clips with the tag")
        axes.legend(loc="upper left")
        return figure


def _panels(scored: Mapping[str, Scored]) -> Drawing:
    with style():
        columns = min(4, len(scored))
        lines = math.ceil(len(scored) / columns)
        figure = Drawing(figsize=(WIDTH, 0.5 + 1.55 * lines))
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        grid[0, 0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])  # 1.0 would run into the next 0.0
        for axes in grid.flat[len(scored) :]:
            axes.set_visible(False)
        for axes, (tag, one) in zip(grid.flat, scored.items(), strict=False):
            bins = np.array(reliability(one.probability, one.label, bins=_BINS))
            sizes = 6 + 120 * bins[:, 2] / bins[:, 2].sum()
            axes.scatter(bins[:, 0], bins[:, 1], sizes, color=OKABE_ITO[0], alpha=0.8)
            _diagonal(axes)
            axes.set_title(short(" ".join(tag.split()), 18), fontsize=8)
        figure.supxlabel("probability", fontsize=9)
        figure.supylabel("share with the tag", fontsize=9)
        return figure


def _diagonal(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], linestyle=":", color=GREY, linewidth=1)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.05, 1.05)


def _intervals(tags: Iterable[str], training: Mapping[str, Mapping[str, Any]]) -> Drawing:
    ranked = sorted(tags, key=lambda tag: training[tag]["roc_auc"])
    auc = np.array([training[tag]["roc_auc"] for tag in ranked])
    ends = np.array([training[tag]["roc_auc_interval"] for tag in ranked])
    reach = np.abs(ends.T - auc)
    with style():
        figure = Drawing(figsize=(WIDTH, 1.0 + 0.2 * len(ranked)))
        axes = figure.add_subplot()
        y = np.arange(len(ranked))
        axes.errorbar(auc, y, xerr=reach, linestyle="", marker="o", markersize=4, capsize=2)
        axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
        axes.set_yticks(y, [short(" ".join(tag.split())) for tag in ranked], fontsize=8)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(-0.7, len(ranked) - 0.3)
        axes.set_xlabel("ROC-AUC out of fold")
        return figure


def _clips(
    tag: str,
    scored: Scored,
    labelled: Labelled,
    places: Mapping[str, Place],
    url: Callable[[Place], str],
) -> list[Block]:
    """The surest clips with the tag; those with it that look least like it, and those without it
    that look most like it.
    """
    with_tag = np.flatnonzero(scored.label > 0)
    without = np.flatnonzero(scored.label == 0)
    falling = with_tag[np.argsort(-scored.probability[with_tag], kind="stable")]
    wrong = without[np.argsort(-scored.probability[without], kind="stable")]
    kinds = (
        ("Surest with the tag", falling[:_CLIPS]),
        ("With the tag, least sure", falling[::-1][: min(_CLIPS, max(len(falling) - _CLIPS, 0))]),
        ("Without the tag, most like it", wrong[:_CLIPS]),
    )
    blocks: list[Block] = []
    for caption, picked in kinds:
        clips = []
        for row in picked.tolist():
            clip = labelled.clip_ids[scored.clip[row]]
            place = places.get(clip)
            clips.append((f"{clip}: {scored.probability[row]:.2f}", url(place) if place else ""))
        if clips:
            blocks.append(Sounds(f"{caption}; {_PROBABILITY}", clips))
    return blocks
