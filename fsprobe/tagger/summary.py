"""What training says on the terminal: counts before it, and each tag's verdict after it."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsprobe.config import AUTO
from fsprobe.heads.cross_validation import FOLDS as INNER
from fsprobe.heads.fitting import STRENGTHS
from fsprobe.pages.text_table import text_table
from fsprobe.tagger.changes import Difference
from fsprobe.tagger.labelled import Counts
from fsprobe.tagger.outputs import one_line
from fsprobe.tagger.training import TrainConfig

_ITERATIONS = 40  # of a fit, a usual number
_WIDTH = 28  # characters of a tag in a table


def plan(
    tags: Sequence[str], counts: Sequence[Counts], clips: int, dim: int, config: TrainConfig
) -> str:
    """Counts per tag, memory and time, without training."""
    rows = [
        ("tag", "yes", "no", "tracks with it"),
        *(
            (one_line(tag), str(c.positives), str(c.negatives), str(c.tracks_positive))
            for tag, c in zip(tags, counts, strict=True)
        ),
    ]
    strengths = 1 if config.l2 != AUTO else len(STRENGTHS) * (INNER + 1)
    fits = (config.folds + 1) * strengths
    # features and a copy of them on the device; labels and scores of every strength
    size = 4 * (2 * clips * dim + clips * len(tags) * (strengths + 8))
    work = 4.0 * fits * _ITERATIONS * clips * dim * len(tags)
    return (
        f"{text_table(rows, widest=_WIDTH)}\n\n{clips} clips × {dim} dimensions, {len(tags)} tags: "
        f"{fits} fits, about {size / 1e9:.2f} GB and {duration(work / _rate() + 10)}"
    )


def _rate() -> float:
    """FLOP/s of a float32 product on this machine, right now."""
    a = np.ones((512, 512), np.float32)
    start = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * 512**3 / (time.perf_counter() - start) / 4  # fits reach about a quarter of it


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`: no more digits than an estimate has."""
    if seconds < 90:
        return f"{math.ceil(seconds / 10) * 10} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def verdicts(tags: Sequence[str], training: Mapping[str, Mapping[str, Any]]) -> str:
    """A line per tag."""
    rows: list[Sequence[str]] = [("tag", "prevalence", "AP", "precision", "recall", "verdict")]
    for tag in tags:
        record = training[tag]
        numbers = [record[key] for key in ("average_precision", "precision", "recall")]
        rows.append(
            (
                one_line(tag),
                f"{record['prevalence']:.3g}",
                *("–" if value is None else f"{value:.2f}" for value in numbers),
                one_line(record["verdict"]),
            )
        )
    return text_table(rows, (0, 5), _WIDTH)


def statement(config: TrainConfig) -> str:
    """Which prevalence probabilities are stated for."""
    if isinstance(config.prevalence, str):
        where = (
            "that of the labels. Marked clips are no random sample: if you know how common the "
            "tags are, say so with --prevalence"
        )
    elif isinstance(config.prevalence, Mapping):
        where = "each tag's in the file"
    else:
        where = f"{config.prevalence:g} for every tag"
    return (
        "Judged out of fold, by track. Probabilities, precision, recall at the threshold "
        f"({config.rule}) and average precision (AP) are stated for a prevalence: {where}."
    )


def differences(found: Sequence[Difference]) -> str:
    """A line per tag that is not the same, and how many are."""
    rows = [
        ("tag", "", "mean |Δp|", "largest", "clips that flip"),
        *(
            (one_line(tag), state, *("–" if math.isnan(n) else f"{n:.4f}" for n in numbers))
            for tag, state, *numbers in found
            if state != "same"
        ),
    ]
    same = sum(difference.state == "same" for difference in found)
    shown = text_table(rows, (0, 1), _WIDTH) + "\n" if len(rows) > 1 else ""
    return f"{shown}{same} tags are the same"
