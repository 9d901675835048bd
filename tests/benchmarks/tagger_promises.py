"""What a tagger promises from ten marked clips per tag, and what held-back tracks say.

  python -m tests.benchmarks.tagger_promises --manifest=manifest.csv --store=logmel=stores/logmel \\
      --draws=20 --out=results/reference/tagger

As the owner of a catalogue would: for each draw a third of the tracks is held back; of the others
ten clips per tag are marked, of different tracks as long as there are any; a tagger is trained on
them alone and scores the held-back tracks. Twice: with the prevalence of the marked clips, and with
that of all clips that are not held back. Writes promises.csv (a row per draw, prevalence and tag), README.md and two
figures.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score
from tqdm import tqdm

from extract.files import atomic_write
from extract.manifest import read_manifest
from fsprobe import shell
from fsprobe.heads.cross_validation import FOLDS
from fsprobe.pages.plot_style import GREY, MARKERS, OKABE_ITO, WIDTH, render, style
from fsprobe.tagger import labelled, options
from fsprobe.tagger.fitting import fit_heads
from fsprobe.tagger.judging.calibration import calibration_error, reliability
from fsprobe.tagger.judging.out_of_fold import Fitted
from fsprobe.tagger.labelled import Labelled
from fsprobe.tagger.matching import parts_of
from fsprobe.tagger.training import Rows, TrainConfig, train

MARKED = 10  # clips per tag
HELD_BACK = 1 / 3  # of the tracks
COMMON = 32  # held-back clips with a tag that tell its ROC-AUC well
COLUMNS = ("draw", "prevalence", "tag", "yes", "no", "verdict", "roc_auc", "low", "high")
COLUMNS += ("held_back_roc_auc", "average_precision", "held_back_average_precision")
COLUMNS += ("precision", "held_back_precision", "given", "held_back_positives", "threshold")


def draw(everything: Labelled, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(marked clips, held-back clips) of a draw."""
    rng = np.random.default_rng(seed)
    units = rng.permutation(everything.units.max() + 1)
    back = np.isin(everything.units, units[: round(HELD_BACK * len(units))])
    marked: list[int] = []
    for tag in rng.permutation(len(everything.tags)):
        clips = rng.permutation(np.flatnonzero((everything.positive[:, tag] > 0) & ~back))
        turn = dict.fromkeys(clips.tolist(), 0)
        for unit in np.unique(everything.units[clips]):
            for place, clip in enumerate(clips[everything.units[clips] == unit].tolist()):
                turn[clip] = place
        marked += sorted(clips.tolist(), key=turn.__getitem__)[:MARKED]
    return np.unique(marked), np.flatnonzero(back)


def of_pool(everything: Labelled, marked: np.ndarray, back: np.ndarray) -> Labelled:
    """All clips that are not held back; only the marked ones have labels. Equal shapes for all
    draws compile once.
    """
    pool = np.setdiff1d(np.arange(len(everything.clip_ids)), back)
    known = np.isin(pool, marked)[:, None]
    return Labelled(
        everything.tags,
        tuple(everything.clip_ids[clip] for clip in pool),
        everything.features[pool],
        np.where(known, everything.positive[pool], 0),
        np.where(known, everything.negative[pool], 0),
        everything.units[pool],
    )


def shares_of(everything: Labelled, back: np.ndarray) -> dict[str, float]:
    """tag → the share of the clips that are not held back that have it. A tag that none of them has
    counts half a clip: no prevalence is 0.
    """
    kept = np.setdiff1d(np.arange(len(everything.clip_ids)), back)
    counts = np.maximum(everything.positive[kept].sum(axis=0), 0.5)
    return dict(zip(everything.tags, (counts / len(kept)).tolist(), strict=True))


def fit_once() -> Callable[..., Fitted]:
    """fit_heads that remembers: two prevalences need the same heads."""
    known: dict[bytes, Fitted] = {}

    def fit(features: Any, positive: Any, negative: Any, units: Any, l2: Any) -> Fitted:
        key = positive.tobytes() + negative.tobytes()
        if key not in known:
            known[key] = fit_heads(features, positive, negative, units, l2)
        return known[key]

    return fit


def rows_of(
    number: int, name: str, rows: Rows, test: np.ndarray, yes: np.ndarray, p: np.ndarray
) -> list[dict[str, Any]]:
    """A row per tag with a positive among the held-back clips."""
    found = []
    for tag, title in enumerate(rows.tags):
        record, labels = rows.training[title], yes[:, tag]
        if not 0 < labels.sum() < len(labels):
            continue
        given = p[:, tag] >= rows.threshold[tag]
        found.append(
            {
                "draw": number,
                "prevalence": name,
                "tag": title,
                "yes": record["positives"],
                "no": record["negatives"],
                "verdict": record["verdict"].partition(":")[0],
                "roc_auc": record["roc_auc"],
                "low": record["roc_auc_interval"][0],
                "high": record["roc_auc_interval"][1],
                "held_back_roc_auc": roc_auc_score(labels, p[:, tag]),
                "average_precision": record["average_precision"],
                "held_back_average_precision": average_precision_score(labels, p[:, tag]),
                "precision": record["precision"],
                "held_back_precision": labels[given].mean() if given.any() else None,
                "given": int(given.sum()),
                "held_back_positives": int(labels.sum()),
                "threshold": float(rows.threshold[tag]),
            }
        )
    return found


def run(everything: Labelled, draws: int) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """(rows, per prevalence `[clip, 3]`: raw sigmoid, probability and label of held-back clips)."""
    table: list[dict[str, Any]] = []
    scored: dict[str, list[np.ndarray]] = {"labels": [], "catalogue": []}
    for number in tqdm(range(draws), desc="draws", dynamic_ncols=True):
        marked, back = draw(everything, number)
        data, fit = of_pool(everything, marked, back), fit_once()
        yes, shares = everything.positive[back], shares_of(everything, back)
        for name, prevalence in (("labels", "labels"), ("catalogue", shares)):
            rows = train(data, fit, TrainConfig(prevalence=prevalence, folds=FOLDS))
            z = everything.features[back] @ rows.kernel.T + rows.bias
            p = expit(rows.calibration[:, 0] * z + rows.calibration[:, 1])
            table += rows_of(number, name, rows, back, yes, p)
            scored[name].append(np.stack([expit(z).ravel(), p.ravel(), yes.ravel()], axis=1))
    return table, {name: np.concatenate(parts) for name, parts in scored.items()}


def summary(table: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """(prevalence, what, promised, held back) over all tags and draws that could be judged."""
    lines = []
    for name in dict.fromkeys(row["prevalence"] for row in table):
        rows = [r for r in table if r["prevalence"] == name and r["roc_auc"] is not None]
        common = [row for row in rows if row["held_back_positives"] >= COMMON]
        stated = [row for row in rows if row["precision"] is not None and row["given"]]
        given = sum(row["given"] for row in stated)
        promised = sum(row["precision"] * row["given"] for row in stated) / max(given, 1)
        right = sum(row["held_back_precision"] * row["given"] for row in stated) / max(given, 1)
        means = [
            [np.mean([row[f"{prefix}{key}"] for row in rows]) for prefix in ("", "held_back_")]
            for key in ("roc_auc", "average_precision")
        ]
        inside = [
            np.mean([row["low"] <= row["held_back_roc_auc"] <= row["high"] for row in some])
            for some in (rows, common)
        ]
        above = np.mean([row["low"] <= row["held_back_roc_auc"] for row in rows])
        lines += [
            (name, "ROC-AUC", *(f"{value:.3f}" for value in means[0])),
            (name, "mAP", *(f"{value:.3f}" for value in means[1])),
            (name, f"share of right tags, of {given} given", f"{promised:.3f}", f"{right:.3f}"),
        ]
    lines += [
        ("any", "ROC-AUC inside its 95% interval", "0.950", f"{inside[0]:.3f}"),
        ("any", f"… where {COMMON} held-back clips have the tag", "0.950", f"{inside[1]:.3f}"),
        ("any", "ROC-AUC at or above the interval's lower end", "0.975", f"{above:.3f}"),
    ]
    return lines


def calibration(scored: dict[str, np.ndarray]) -> str:
    """Expected calibration errors on held-back clips, as a sentence."""
    errors = {
        name: [calibration_error(rows[:, column], rows[:, 2]) for column in (0, 1)]
        for name, rows in scored.items()
    }
    parts = [f"{error[1]:.3f} with the prevalence of the {name}" for name, error in errors.items()]
    plain = next(iter(errors.values()))[0]
    return (
        f"Expected calibration error of held-back clips, ten bins: {plain:.3f} of the heads' plain "
        f"sigmoid; calibrated {' and '.join(parts)}."
    )


def draw_reliability(scored: dict[str, np.ndarray]) -> Figure:
    with style():
        figure = Figure(figsize=(WIDTH, 3.9))
        axes = figure.add_subplot()
        curves = [("plain sigmoid", scored["labels"][:, 0], scored["labels"][:, 2], GREY, "s")]
        for (name, rows), color, marker in zip(scored.items(), OKABE_ITO, "o^", strict=False):
            curves.append((f"prevalence of the {name}", rows[:, 1], rows[:, 2], color, marker))
        for name, p, labels, color, marker in curves:
            bins = np.array(reliability(p, labels))
            axes.plot(bins[:, 0], bins[:, 1], marker=marker, color=color, label=name)
        axes.plot([0, 1], [0, 1], linestyle=":", color=GREY, linewidth=1)
        axes.set_xlabel("probability")
        axes.set_ylabel("share of held-back clips with the tag")
        axes.legend(loc="upper left")
        return figure


def draw_promises(table: list[dict[str, Any]]) -> Figure:
    rows = [r for r in table if r["prevalence"] == "labels" and r["roc_auc"] is not None]
    with style():
        figure = Figure(figsize=(WIDTH, 4.2))
        axes = figure.add_subplot()
        for i, tag in enumerate(sorted({r["tag"] for r in rows})):
            mine = [r for r in rows if r["tag"] == tag]
            x, y = ([r[key] for r in mine] for key in ("roc_auc", "held_back_roc_auc"))
            turn, place = divmod(i, len(OKABE_ITO))  # another marker once the colours are used up
            marker = MARKERS[turn % len(MARKERS)]
            axes.scatter(x, y, 14, color=OKABE_ITO[place], marker=marker, alpha=0.7, label=tag)
        lowest = min((min(r["roc_auc"], r["held_back_roc_auc"]) for r in rows), default=0)
        axes.plot([lowest, 1], [lowest, 1], linestyle=":", color=GREY, linewidth=1)
        axes.set_xlabel("ROC-AUC promised, out of fold")
        axes.set_ylabel("ROC-AUC on held-back tracks")
        figure.legend(loc="outside upper left", ncols=3, fontsize=7)
        return figure


def write(out: Path, table: list[dict[str, Any]], scored: dict[str, np.ndarray], text: str) -> None:
    with atomic_write(out / "promises.csv") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in table:
            writer.writerow(
                {key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()}
            )
    for name, figure in (
        ("reliability", draw_reliability(scored)),
        ("promises", draw_promises(table)),
    ):
        with atomic_write(out / f"{name}.png", binary=True) as file:
            file.write(render(figure)[0])
    with atomic_write(out / "README.md") as file:
        file.write(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--store", required=True, help="NAME=DIR")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    manifest = labelled.clips_to_train_on(read_manifest(args.manifest), "all")
    stores = options.open_stores([args.store])
    name = next(iter(stores))
    tags, _ = labelled.trainable(manifest, sorted({tag for row in manifest.tags for tag in row}))
    everything = labelled.load(manifest, parts_of(stores, name), tags)
    with shell.computing():
        table, scored = run(everything, args.draws)
    lines = summary(table)
    units = everything.units.max() + 1
    text = (
        f"# What a tagger promises, and what held-back tracks say\n\n"
        f"`python -m tests.benchmarks.tagger_promises --manifest=… --store={name}=… "
        f"--draws={args.draws}`: {len(everything.clip_ids)} clips of {units} tracks, "
        f"{len(tags)} tags, features {name}; {MARKED} marked clips per tag, a third of the tracks "
        f"held back, {args.draws} draws. Prevalence: of the marked clips (labels), or of all clips "
        "that are not held back (catalogue).\n\n"
        "| prevalence | | promised | held back |\n|:--|:--|--:|--:|\n"
        + "".join(f"| {' | '.join(line)} |\n" for line in lines)
        + f"\n{calibration(scored)}\n\nMeans over tags and draws. An interval speaks of the tag's "
        "ROC-AUC; that of few held-back tracks varies by itself, so fewer than 95% lie inside. "
        "Marked clips hold rare tags far more often than the catalogue does: with their "
        "prevalence probabilities are too high.\n\n![ROC-AUC promised and held back](promises.png)"
        "\n\n![Reliability on held-back tracks](reliability.png)\n"
    )
    write(args.out, table, scored, text)
    print(text)


if __name__ == "__main__":
    main()
