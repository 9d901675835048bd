"""What it costs in mAP to choose strengths and epochs without validation clips: sweeps that differ
in --validation alone, side by side.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial

from fsprobe.config import KShot, shot_order
from fsprobe.pages.blocks import Block, Figure, Heading, Paragraph, Table
from fsprobe.reporting.comparisons import Pairs, compare_sweeps, named
from fsprobe.reporting.formatting import (
    INTERVAL,
    Series,
    Style,
    caption,
    difference_cells,
    interval,
    most_seeds,
    seeds_behind,
    slug,
    with_values,
)
from fsprobe.reporting.plots import curves
from fsprobe.reporting.statistics import summarise
from fsprobe.reporting.sweep_results import SweepResults

_VALID = "valid"  # what the others are compared with
_OTHERS = ("support", "none")

Ways = Mapping[str, SweepResults]  # a value of --validation → the sweep that used it


def validation_costs(sweeps: Sequence[SweepResults], style: Style) -> list[Block]:
    """A table and a figure for each solver that swept with --validation=valid and another."""
    found = [ways for ways in _groups(sweeps) if _VALID in ways and len(ways) > 1]
    blocks = [block for i, ways in enumerate(found) for block in _costs(ways, i + 1, style)]
    if not blocks:
        return []
    clips = {ways[_VALID].clips.get("valid", 0) for ways in found}
    known = f"{max(clips):,}" if len(clips) == 1 and max(clips) else "the"
    return [
        Heading(style.level, "What each --validation costs"),
        Paragraph(
            f"valid chooses strengths and epochs on {known} labelled validation clips, which one "
            "with K clips per tag does not have; support chooses them by cross-validation inside "
            "the support set; none takes a fixed strength, or every epoch. Everything else is the "
            "same, the episodes too."
        ),
        *blocks,
    ]


def _groups(sweeps: Sequence[SweepResults]) -> list[Ways]:
    """Sweeps of the same clips, features, solver and pool, by their --validation; of two that agree
    in it the first.
    """
    groups: dict[str, dict[str, SweepResults]] = {}
    for sweep in sweeps:
        settings = {k: v for k, v in sweep.configuration["solver"].items() if k != "validation"}
        drawn = [sweep.grid.tags, sweep.grid.on_scarce]
        rest = [sweep.manifest, sweep.test_clips, sweep.stores, settings, drawn]
        groups.setdefault(json.dumps(rest, sort_keys=True), {}).setdefault(sweep.validation, sweep)
    return list(groups.values())


def _costs(ways: Ways, number: int, style: Style) -> list[Block]:
    """The table and the figure of one solver; nothing where no episode is shared."""
    valid = ways[_VALID]
    others = {way: ways[way] for way in _OTHERS if way in ways}
    pairs = compare_sweeps(valid, others.values())
    if not pairs:
        return []
    n_way = max(n_way for _, n_way, _ in pairs)
    k_shots = sorted({k for _, n, k in pairs if n == n_way}, key=shot_order)
    series = _series(valid, others, pairs, n_way, k_shots)
    where = caption(valid, [n_way], k_shots, seeds_behind(series))
    return [
        _table(ways, others, pairs),
        Figure(
            f"{style.prefix}validation_{number}_{slug(valid.solver)}",
            "Line chart over K of mAP less that of --validation=valid: "
            + "; ".join(
                f"{name} {points[0].mean:+.4f} at K = {k_shots[0]}, {points[-1].mean:+.4f} at "
                f"K = {k_shots[-1]}"
                for name, points in series.items()
            )
            + ".",
            f"mAP less that of --validation=valid, over K; lines: mean, bars: {INTERVAL}. {where}",
            partial(curves, series, k_shots, "mAP less that of valid"),
        ),
    ]


def _table(ways: Ways, others: Ways, pairs: Pairs) -> Table:
    """Per embedding, N and K the mAP of each way, then the differences to `valid`."""
    valid, rows, counts = ways[_VALID], [], []
    shown = [way for way in (_VALID, *_OTHERS) if way in ways]
    for name in valid.embeddings:
        for n_way, k_shot in valid.cells(name):
            mine = [pairs.get((named(name, s), n_way, k_shot)) for s in others.values()]
            if not any(mine):
                continue
            values = [ways[way].summary(name, n_way, k_shot) for way in shown]
            counts += [value.n for value in values] + [pair.difference.n for pair in mine if pair]
            costs = [cell for pair in mine for cell in difference_cells(pair)]
            rows.append([name, str(n_way), str(k_shot), *map(interval, values), *costs])
    n_ways, k_shots = (n_way for _, n_way, _ in pairs), (k_shot for *_, k_shot in pairs)
    where = caption(valid, n_ways, k_shots, counts, seeds=most_seeds(ways.values()))
    folders = "; ".join(f"{way}: {sweep.label}" for way, sweep in ways.items())
    differences = [title for way in others for title in (f"{way} − {_VALID}", "Holm p")]
    return Table(
        f"mAP by --validation, solver {valid.solver}: mean [{INTERVAL}]; then the differences to "
        "valid over the seeds whose episodes are the same, with p of a paired permutation test "
        "(sign flips, two-sided) after Holm's correction over the differences of each N and K. "
        f"Folders: {folders}. {where}",
        ["embedding", "N", "K", *shown, *differences],
        rows,
    )


def _series(
    valid: SweepResults, others: Ways, pairs: Pairs, n_way: int, k_shots: Sequence[KShot]
) -> Series:
    """Embedding and way → the difference to `valid` at each K."""
    found = {
        f"{name}: {way}": [pairs.get((named(name, sweep), n_way, k_shot)) for k_shot in k_shots]
        for name in valid.embeddings
        for way, sweep in others.items()
    }
    return with_values(
        {
            name: [pair.difference if pair else summarise([]) for pair in mine]
            for name, mine in found.items()
        }
    )
