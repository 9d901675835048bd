"""How many judgements a tagger needs, by which clips it asks about: a simulation on real labels.

  python -m tests.benchmarks.suggestions --manifest=manifest.csv --store=NAME=DIR \\
      [--store=…] --seeds=20 --out=results/reference/suggest/NAME

For each seed a third of the tracks is held back (or, with --use_splits, the clips of split `test`
are, always the same). Every tag begins with one clip that has it and one that has not, the same for
all strategies. Then, round after round, each tag asks a batch of judgements on the other clips, the
true labels answer, the heads are fitted again, and mAP on the held-back clips is noted. Written are
rounds.csv (a row per seed, strategy and round), README.md and a figure.
"""

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from scipy import stats
from scipy.special import expit
from tqdm import tqdm

import fsprobe
from extract.files import atomic_write
from extract.manifest import rank_tags, read_manifest
from fsprobe import shell
from fsprobe.listening.strategies import DEFAULT, RANDOM, STRATEGIES, choose
from fsprobe.pages.plot_style import OKABE_ITO, WIDTH, render, style
from fsprobe.tagger import labelled, options
from fsprobe.tagger.matching import parts_of, usual_embedding

TOTALS = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
TOTALS += (1024, 1536, 2048, 3072)  # judgements per tag, as far as there are clips
SHARE = 0.95  # of the mAP with all labels: enough
HELD_BACK = 1 / 3  # of the tracks
# 1/C, good for few and for all labels: with n judgements l2 = PENALTY / n, on features of mean
# squared length 1
PENALTY = 0.1


class Data(NamedTuple):
    """Standardised features of mean squared length 1 `[clip, dim]`, truth bool `[clip, tag]`,
    units int `[clip]`, test bool `[clip]` or None.
    """

    tags: tuple[str, ...]
    features: np.ndarray
    truth: np.ndarray
    units: np.ndarray
    test: np.ndarray | None


def load(manifest_path: Path, stores: Sequence[str], use_splits: bool, top: int | None) -> Data:
    manifest = labelled.clips_to_train_on(read_manifest(manifest_path), "all")
    opened = options.open_stores(stores)
    parts = parts_of(opened, usual_embedding(opened))
    manifest, _ = labelled.without_missing(manifest, parts, drop=True)
    tags, _ = labelled.trainable(manifest, [tag for tag, _ in rank_tags(manifest)][:top])
    everything = labelled.load(manifest, parts, tags)
    x = everything.features - everything.features.mean(axis=0)
    x /= np.where(x.std(axis=0) > 0, x.std(axis=0), 1) * math.sqrt(x.shape[1])
    split = dict(zip(manifest.clip_ids, manifest.splits, strict=True))
    test = np.array([split[clip] == "test" for clip in everything.clip_ids])
    return Data(tags, x, everything.positive > 0, everything.units, test if use_splits else None)


def held_back(data: Data, seed: int) -> np.ndarray:
    """bool `[clip]`."""
    if data.test is not None:
        return data.test
    units = np.random.default_rng(seed).permutation(data.units.max() + 1)
    return np.isin(data.units, units[: round(HELD_BACK * len(units))])


def fit(data: Data, pool: np.ndarray, known: np.ndarray, each: float) -> fsprobe.Head:
    """Heads from what is known, bool `[pool clip, tag]`; `each`: judgements of a tag."""
    truth = data.truth[pool]
    return fsprobe.fit(
        data.features[pool],
        (known & truth).astype(np.float32),
        (known & ~truth).astype(np.float32),
        l2=PENALTY / each,
        validation="none",
    )


def precision(data: Data, head: fsprobe.Head, test: np.ndarray, counted: np.ndarray) -> float:
    """mAP over the tags that are counted."""
    found = fsprobe.evaluate(fsprobe.score(head, data.features[test]), data.truth[test])
    return float(np.nanmean(np.asarray(found["average_precision"])[counted]))


def run_seed(data: Data, seed: int) -> tuple[dict[str, list[tuple[int, float]]], float, int]:
    """(per strategy (judgements per tag, mAP) of each round, mAP with all labels, pool's size)."""
    back = held_back(data, seed)
    pool, test = np.flatnonzero(~back), np.flatnonzero(back)
    truth = data.truth[pool]
    counted = np.flatnonzero((truth.sum(axis=0) > 1) & data.truth[test].any(axis=0))
    rng = np.random.default_rng((seed, 1))
    first = np.zeros(truth.shape, bool)
    for tag in counted:
        for value in (True, False):
            first[rng.choice(np.flatnonzero(truth[:, tag] == value)), tag] = True
    whole = np.ones(truth.shape, bool)
    best = precision(data, fit(data, pool, whole, len(pool)), test, counted)
    unit = data.features[pool] / np.linalg.norm(data.features[pool], axis=1, keepdims=True)
    curves: dict[str, list[tuple[int, float]]] = {}
    for strategy in STRATEGIES:
        known, rng = first.copy(), np.random.default_rng((seed, 2))
        head = fit(data, pool, known, TOTALS[0])
        curve = [(TOTALS[0], precision(data, head, test, counted))]
        for total in (total for total in TOTALS[1:] if total <= len(pool)):
            p = expit(np.asarray(fsprobe.score(head, data.features[pool])))
            for tag in counted:
                need = total - int(known[:, tag].sum())
                asked = choose(strategy, p[:, tag], known[:, tag], need, rng, unit.__getitem__)
                known[[one.place for one in asked], tag] = True
            head = fit(data, pool, known, total)
            curve.append((total, precision(data, head, test, counted)))
        curves[strategy] = curve
    return curves, best, len(pool)


def needed(curve: Sequence[tuple[int, float]], goal: float, most: int) -> float:
    """Judgements per tag until mAP reaches the goal for good: between two rounds by a straight line
    over their logarithm; the whole pool's number where it never does.
    """
    totals, values = np.array(curve).T
    below = np.flatnonzero(values < goal)
    if not below.size:
        return float(totals[0])
    last = int(below[-1])
    if last == len(totals) - 1:
        return float(most)
    share = (goal - values[last]) / (values[last + 1] - values[last])
    return float(totals[last] * (totals[last + 1] / totals[last]) ** share)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high): Student's 95% interval."""
    mean = float(values.mean())
    reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else math.nan
    return mean, mean - reach, mean + reach


def table(
    curves: dict[str, list[list[tuple[int, float]]]], bests: Sequence[float], pools: Sequence[int]
) -> list[str]:
    """A line per strategy: judgements needed, and its ratio to random's, paired by seed."""
    needs = {
        name: np.array(
            [
                needed(curve, SHARE * best, most)
                for curve, best, most in zip(mine, bests, pools, strict=True)
            ]
        )
        for name, mine in curves.items()
    }
    lines = [
        "| strategy | judgements per tag | of random's, 95% interval | p | seeds that never |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name, numbers in needs.items():
        never = int((numbers >= np.array(pools)).sum())
        middle = math.exp(np.log(numbers).mean())
        if name == RANDOM:
            lines.append(f"| {name} | {middle:.0f} | | | {never} |")
            continue
        logs = np.log(numbers / needs[RANDOM])
        mean, low, high = (math.exp(value) for value in interval(logs))
        p = stats.ttest_1samp(logs, 0).pvalue if len(logs) > 1 and np.ptp(logs) else math.nan
        lines.append(
            f"| {name} | {middle:.0f} | {mean:.2f} ({low:.2f} to {high:.2f}) | {p:.2g} | {never} |"
        )
    return lines


def draw(curves: dict[str, list[list[tuple[int, float]]]], best: float) -> Figure:
    with style():
        figure = Figure(figsize=(WIDTH, 3.9))
        axes = figure.add_subplot()
        for (name, mine), color in zip(curves.items(), OKABE_ITO, strict=False):
            totals = [total for total, _ in min(mine, key=len)]
            values = np.array([[value for _, value in curve[: len(totals)]] for curve in mine])
            reach = 1.96 * values.std(axis=0) / math.sqrt(len(values))
            axes.plot(
                totals, values.mean(axis=0), marker="o", markersize=3, color=color, label=name
            )
            axes.fill_between(
                totals, values.mean(axis=0) - reach, values.mean(axis=0) + reach,
                color=color, alpha=0.15, linewidth=0,
            )  # fmt: skip
        axes.axhline(SHARE * best, color="black", linestyle=":", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlabel("judgements per tag")
        axes.set_ylabel("mAP of held-back clips")
        axes.legend(loc="lower right")
        return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--store", action="append", required=True, help="NAME=DIR")
    parser.add_argument("--use_splits", action="store_true")
    parser.add_argument("--top", type=int, default=None, help="the most frequent tags")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data = load(args.manifest, args.store, args.use_splits, args.top)
    curves: dict[str, list[list[tuple[int, float]]]] = {name: [] for name in STRATEGIES}
    bests, pools = [], []
    with shell.computing():
        for seed in tqdm(range(args.seeds), desc="seeds", dynamic_ncols=True):
            found, best, most = run_seed(data, seed)
            bests.append(best)
            pools.append(most)
            for name, curve in found.items():
                curves[name].append(curve)
    with atomic_write(args.out / "rounds.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("seed", "strategy", "judgements_per_tag", "mAP", "mAP_all_labels"))
        for name, mine in curves.items():
            for seed, curve in enumerate(mine):
                writer.writerows(
                    (seed, name, total, f"{value:.6f}", f"{bests[seed]:.6f}")
                    for total, value in curve
                )
    with atomic_write(args.out / "rounds.png", binary=True) as file:
        file.write(render(draw(curves, float(np.mean(bests))))[0])
    names = " and ".join(text.partition("=")[0] for text in args.store)
    text = (
        f"# Which clips to ask about: {names}\n\n"
        f"`python -m tests.benchmarks.suggestions`, {args.seeds} seeds: {len(data.truth)} clips, "
        f"{len(data.tags)} tags. Judgements per tag until the mAP of held-back clips is "
        f"{SHARE:.0%} of that with all labels ({np.mean(bests):.3f}), geometric mean over seeds; "
        "the ratio to random is paired by seed, its interval and p by Student's t of logarithms. "
        "Every tag began with one clip that has it and one that has not. The default of "
        f"`fsprobe.suggest` is {DEFAULT}.\n\n"
        + "\n".join(table(curves, bests, pools))
        + "\n\n![mAP over judgements per tag](rounds.png)\n"
    )
    with atomic_write(args.out / "README.md") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
