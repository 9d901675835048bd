"""Several sweeps side by side: their values, what does not compare, and paired differences."""

from collections.abc import Sequence

from fsprobe.pages.blocks import Block, Bullets, Heading, Paragraph, Table
from fsprobe.reporting.comparisons import compare_sweeps, mismatch
from fsprobe.reporting.formatting import (
    INTERVAL,
    Style,
    caption_of,
    difference_table,
    interval,
    most_seeds,
    notes_of,
    seed_count,
    test_set,
)
from fsprobe.reporting.statistics import summarise
from fsprobe.reporting.sweep_results import SweepResults, cells_of, grouped


def side_by_side(sweeps: Sequence[SweepResults], style: Style) -> list[Block]:
    """Values beside each other, what does not compare, what a solver left out, and paired
    differences to the first sweep where they compare.
    """
    first, others = sweeps[0], sweeps[1:]
    notes = [note for sweep in others for note in _notes(first, sweep)] + notes_of(sweeps)
    groups = grouped(sweeps, lambda sweep: sweep.manifest)
    blocks: list[Block] = [Heading(style.level, "The folders side by side")]
    blocks += [Bullets(notes)] if notes else []
    blocks += [_values_table(group) for group in groups]
    if len(groups) > 1:
        blocks.append(Paragraph("There is a table for each manifest."))
    return [*blocks, *(block for sweep in others for block in _differences(first, sweep))]


def _notes(first: SweepResults, sweep: SweepResults) -> list[str]:
    """Why values of the two differ, or do not compare, beyond what is being compared."""
    notes = []
    if why := mismatch(first, sweep):
        notes.append(
            f"{sweep.label} does not compare with {first.label}: {why}. Their differences are not "
            "shown."
        )
    notes += [
        f"The store {name} of {sweep.label} holds other features than that of {first.label}."
        for name, digest in first.stores.items()
        if sweep.stores.get(name, digest) != digest
    ]
    if sweep.configuration["solver"] != first.configuration["solver"]:
        notes.append(f"{sweep.label} was trained with other solver settings than {first.label}.")
    if sweep.words != first.words:
        notes.append(f"{sweep.label} has other settings of words than {first.label}.")
    return notes


def _values_table(sweeps: Sequence[SweepResults]) -> Table:
    """mAP of sweeps of one manifest, a column each."""
    rows, counts = [], []
    for name in dict.fromkeys(name for sweep in sweeps for name in sweep.embeddings):
        for n_way, k_shot in cells_of(sweeps):
            values = [
                sweep.summary(name, n_way, k_shot) if name in sweep.embeddings else summarise([])
                for sweep in sweeps
            ]
            if any(value.n for value in values):
                rows.append([name, str(n_way), str(k_shot), *map(interval, values)])
                counts += [value.n for value in values]
    made = " ".join(
        f"{sweep.label}: tags {sweep.grid.tags}, solver {sweep.solver}, test set {test_set(sweep)}."
        for sweep in sweeps
    )
    return Table(
        f"mAP: mean [{INTERVAL}]; {seed_count(counts, most_seeds(sweeps))}. "
        f"Data set: {sweeps[0].dataset}. {made}",
        ["embedding", "N", "K", *(sweep.label for sweep in sweeps)],
        rows,
    )


def _differences(first: SweepResults, sweep: SweepResults) -> list[Block]:
    """mAP of `sweep` less that of `first` on the episodes that both have."""
    if mismatch(first, sweep):
        return []
    pairs = list(compare_sweeps(first, [sweep]).values())
    if not pairs:
        return [
            Paragraph(
                f"{sweep.label} and {first.label} share no episode (other tags, seeds or largest "
                "K): their differences cannot be paired."
            )
        ]
    solver = " and ".join(dict.fromkeys([sweep.solver, first.solver]))
    return [
        difference_table(
            f"mAP of {sweep.label} less mAP of {first.label}, over the seeds whose episodes are "
            f"the same in both: mean [{INTERVAL}], p of a paired permutation test, and after "
            f"Holm's correction over the rows of each N and K. "
            f"{caption_of(first, pairs, solver)}",
            pairs,
        )
    ]
