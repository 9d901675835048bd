"""Whether unlabelled clips help a few-shot probe: sweeps with and without, paired by seed.

  python -m tests.benchmarks.unlabelled --manifest=manifest.csv --store=NAME=DIR [--store=…] \\
      --seeds=20 --work=.cache/unlabelled --out=results/reference/unlabelled

Regularised and converged probes, strengths by cross-validation inside the support. Every way and
weight sees the same episodes; the difference of mAP is paired by seed (sign-flip test, Holm's
correction over all lines of the table). Writes differences.csv and README.md.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

from extract.files import atomic_write
from fsprobe import shell
from fsprobe.config import GridConfig, SolverConfig, SweepConfig
from fsprobe.reporting.statistics import holm, paired_difference, summarise
from fsprobe.study.execute import sweep

SHOTS = (1, 5, 10, 20)
SETTINGS = (
    ("none", 0.0),
    ("weak_negatives", 0.1),
    ("weak_negatives", 1.0),
    ("self_training", 0.1),
    ("self_training", 1.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--store", action="append", required=True, help="NAME=DIR")
    parser.add_argument("--n_way", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    stores = tuple(tuple(text.split("=", 1)) for text in args.store)
    embedding = "combined" if len(stores) > 1 else stores[0][0]
    grid = GridConfig((args.n_way,), SHOTS, args.seeds, on_scarce="fewer")
    found: dict[tuple[str, float], dict[tuple[Any, int], float]] = {}
    for way, weight in SETTINGS:
        solver = SolverConfig(
            "lbfgs", validation="support", unlabelled=way, unlabelled_weight=weight
        )
        config = SweepConfig(
            args.manifest,
            stores,  # type: ignore[arg-type]
            (embedding,),
            str(args.work / f"{way}_{weight:g}"),
            grid=grid,
            solver=solver,
        )
        with shell.computing():
            rows = sweep(config)
        found[way, weight] = {(row.k_shot, row.seed): row.mAP for row in rows}
    write(args, found)


def write(args: argparse.Namespace, found: dict[tuple[str, float], Any]) -> None:
    plain = found["none", 0.0]
    table = []
    for (way, weight), values in found.items():
        for shot in SHOTS if way != "none" else ():
            a, b = (
                {seed: value for (k, seed), value in one.items() if k == shot}
                for one in (values, plain)
            )
            table.append((way, weight, shot, summarise(list(b.values())), paired_difference(a, b)))
    adjusted = holm([row[-1].p for row in table])
    with atomic_write(args.out / "differences.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ("way", "weight", "k_shot", "mAP_without", "difference", "low", "high", "p")
        )
        writer.writerows(
            (way, weight, shot, f"{without.mean:.6f}", f"{d.mean:.6f}", f"{d.low:.6f}",
             f"{d.high:.6f}", f"{p:.6f}")
            for (way, weight, shot, without, d), p in zip(table, adjusted, strict=True)
        )  # fmt: skip
    lines = [
        "| way | weight | K | mAP without | difference of mAP, 95% interval | p, Holm |",
        "|:--|--:|--:|--:|--:|--:|",
        *(
            f"| {way} | {weight:g} | {shot} | {without.mean:.4f} | {d.mean:+.4f} ({d.low:+.4f} to "
            f"{d.high:+.4f}) | {p:.3f} |"
            for (way, weight, shot, without, d), p in zip(table, adjusted, strict=True)
        ),
    ]
    better, worse = (
        ", ".join(
            f"{way} {weight:g} at K = {shot}"
            for (way, weight, shot, _, d), p in zip(table, adjusted, strict=True)
            if p < 0.05 and sign * d.mean > 0
        )
        for sign in (1, -1)
    )
    text = (
        f"# Unlabelled clips\n\n`python -m tests.benchmarks.unlabelled`, {args.n_way} tags, "
        f"{args.seeds} seeds, {' and '.join(text.partition('=')[0] for text in args.store)}: mAP with the "
        "unlabelled clips less that without, paired by seed; sign-flip test. Unlabelled are all "
        "training clips beside the support. The weight is what they count together, as a share of "
        "the labelled ones.\n\n"
        + "\n".join(lines)
        + f"\n\nBetter, with p below 0.05: {better or 'nowhere'}. Worse: {worse or 'nowhere'}.\n"
    )
    with atomic_write(args.out / "README.md") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
