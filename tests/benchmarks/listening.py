"""From a catalogue and no label at all to a tagger, by a listener who knows the true tags.

  python -m tests.benchmarks.listening --tags=catalogue/tags.csv --audio_root=catalogue/audio \\
      --store=musicnn=stores/musicnn --draws=3 --out=results/reference/listening

tags.csv (clip,tags,track) stands for the listener's ears alone. For each draw a third of the tracks
is held back. Of the others the commands of the README make a manifest without a label;
fsprobe.review is started on it, asked for questions over HTTP as the page asks, and told the true answers one by
one; the heads are fitted again now and then. At some numbers of judgements fsprobe.review --export,
fsprobe.train and fsprobe.tag make a tagger and score the held-back clips. Writes rounds.csv,
README.md and a figure of ROC-AUC over judgements.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score
from tqdm import tqdm

from extract.files import atomic_write, read_csv
from extract.manifest import read_manifest, write_manifest
from fsprobe.pages.plot_style import GREY, OKABE_ITO, WIDTH, render, style
from fsprobe.tagger import options
from fsprobe.tagger.file import read_tagger

MARKS = (20, 40, 70, 100, 150)  # judgements; at 6 seconds each the last are fifteen minutes
SECONDS = 6.0  # of listening for a judgement
REFIT = 20  # judgements between two fits
HELD_BACK = 1 / 3  # of the tracks


def truth_of(path: Path) -> tuple[dict[str, frozenset[str]], dict[str, str], list[str]]:
    """(clip → its tags, clip → its track, all tags)."""
    rows = [row for _, row in read_csv(path, ("clip", "tags", "track"))]
    tags = {row["clip"]: frozenset(row["tags"].split("|")) for row in rows}
    names = sorted({tag for mine in tags.values() for tag in mine})
    return tags, {row["clip"]: row["track"] for row in rows}, names


def command(module: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", module, *flags], check=True, stdout=subprocess.DEVNULL)


class Page:
    """A running fsprobe.review, asked as its page asks."""

    def __init__(self, *flags: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fsprobe.review", *flags, "--port=0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = [self.process.stdout.readline() for _ in range(2)][1].strip()
        if not self.address:
            raise RuntimeError("fsprobe.review did not start; its message is above")

    def get(self, path: str, **query: Any) -> Any:
        with urllib.request.urlopen(f"{self.address}{path}?{urllib.parse.urlencode(query)}") as a:
            return json.load(a)

    def post(self, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{self.address}{path}", data, headers)
            ) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 422:  # no tag has a yes and a no yet
                return None
            raise

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def listen(page: Page, truth: dict[str, frozenset[str]], first: int, last: int) -> None:
    """Judgements number first to last, one question at a time from batches of REFIT."""
    asked: list[dict[str, Any]] = []
    for number in range(first, last):
        if number % REFIT == 0:
            page.post("fit", {})
            asked = []
        if not asked:
            asked = page.get("questions", strategy="uncertain", count=REFIT, window="listener")
        one = asked.pop(0)
        value = "yes" if one["tag"] in truth[one["clip"]] else "no"
        entry = {"clip": one["clip"], "tag": one["tag"], "value": value, "key": str(number)}
        page.post("judge", {"entries": [entry]})


def judge(work: Path, store: str, back: Sequence[str], truth: dict[str, frozenset[str]],
          names: Sequence[str]) -> tuple[float, float, int]:  # fmt: skip
    """(ROC-AUC, mAP of the held-back clips, tags with a head) of the tagger of the labels so far; a
    tag without a head counts 0.5 and its share of the clips.
    """
    labelled, tagger = f"{work / 'labelled.csv'}", f"{work / 'tagger.safetensors'}"
    command("fsprobe.review", f"--manifest={work / 'manifest.csv'}",
            f"--labels={work / 'labels.sqlite'}", f"--export={labelled}")  # fmt: skip
    command("fsprobe.train", f"--manifest={labelled}", f"--store={store}", f"--out={tagger}")
    command("fsprobe.tag", f"--tagger={tagger}", f"--store={store}", f"--out={work / 'tags.csv'}",
            f"--all_scores={work / 'scores.npy'}")  # fmt: skip
    scores, tags = np.load(work / "scores.npy"), read_tagger(tagger).tags
    (opened,) = options.open_stores([store]).values()
    row_of = {clip: row for row, clip in enumerate(opened.clip_ids)}
    rows = [row_of[clip] for clip in back]
    areas, precisions = [], []
    for name in names:
        y = np.array([name in truth[clip] for clip in back])
        if not 0 < y.sum() < len(y):
            continue
        s = scores[rows, tags.index(name)] if name in tags else np.zeros(len(y))
        areas.append(roc_auc_score(y, s))
        precisions.append(average_precision_score(y, s))
    return float(np.mean(areas)), float(np.mean(precisions)), len(tags)


def run_draw(args: argparse.Namespace, draw: int) -> list[tuple[Any, ...]]:
    """(draw, judgements, ROC-AUC, mAP, tags) at each mark."""
    truth, tracks, names = truth_of(args.tags)
    order = np.random.default_rng(draw).permutation(sorted(set(tracks.values())))
    back_tracks = set(order[: round(HELD_BACK * len(order))].tolist())
    with tempfile.TemporaryDirectory(prefix="fsprobe-listening-") as folder:
        work, found = Path(folder), []
        whole = work / "whole.csv"
        command("extract.prepare", "--dataset=folder", f"--audio_root={args.audio_root}",
                f"--out={whole}")  # fmt: skip
        manifest = read_manifest(whole)
        held = [tracks[clip] in back_tracks for clip in manifest.clip_ids]
        mine = [row for row, out in enumerate(held) if not out]
        write_manifest(work / "manifest.csv", manifest.take(mine))
        back = [clip for clip, out in zip(manifest.clip_ids, held, strict=True) if out]
        page = Page(
            f"--manifest={work / 'manifest.csv'}", f"--audio_root={args.audio_root}",
            f"--store={args.store}", f"--labels={work / 'labels.sqlite'}", f"--seed={draw}",
            *(f"--tag={name}" for name in names),
        )  # fmt: skip
        try:
            for first, last in zip((0, *MARKS), MARKS, strict=False):
                listen(page, truth, first, last)
                found.append((draw, last, *judge(work, args.store, back, truth, names)))
        finally:
            page.close()
    return found


def figure_of(rows: Sequence[tuple[Any, ...]]) -> Figure:
    with style():
        figure = Figure(figsize=(WIDTH, 3.6))
        axes = figure.add_subplot()
        for draw in sorted({row[0] for row in rows}):
            mine = [row for row in rows if row[0] == draw]
            axes.plot([r[1] for r in mine], [r[2] for r in mine], color=GREY, linewidth=1)
        means = [np.mean([r[2] for r in rows if r[1] == mark]) for mark in MARKS]
        axes.plot(MARKS, means, marker="o", color=OKABE_ITO[0], label="mean of the draws")
        axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1)
        axes.set_xlabel("judgements (ten are a minute of listening)")
        axes.set_ylabel("ROC-AUC of held-back tracks")
        axes.legend(loc="lower right")
        return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=Path, required=True)
    parser.add_argument("--audio_root", type=Path, required=True)
    parser.add_argument("--store", required=True, help="NAME=DIR")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [
        row
        for draw in tqdm(range(args.draws), desc="draws", dynamic_ncols=True)
        for row in run_draw(args, draw)
    ]
    with atomic_write(args.out / "rounds.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("draw", "judgements", "roc_auc", "mAP", "tags"))
        writer.writerows((d, n, f"{auc:.6f}", f"{m:.6f}", tags) for d, n, auc, m, tags in rows)
    with atomic_write(args.out / "rounds.png", binary=True) as file:
        file.write(render(figure_of(rows))[0])
    lines = ["| judgements | minutes | ROC-AUC | mAP | tags with a head |", "|--:|--:|--:|--:|--:|"]
    for mark in MARKS:
        values = np.array([row[2:] for row in rows if row[1] == mark])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(3, math.nan)
        mean = values.mean(axis=0)
        lines.append(
            f"| {mark} | {mark * SECONDS / 60:.0f} | {mean[0]:.3f} ± {spread[0]:.3f} | "
            f"{mean[1]:.3f} ± {spread[1]:.3f} | {mean[2]:.1f} |"
        )
    text = (
        "# Fifteen minutes of listening, from no label at all\n\n"
        f"`python -m tests.benchmarks.listening`, {args.draws} draws of a third of the tracks held "
        "back; of the others fsprobe.review asks (its default strategy), the true tags answer. Mean "
        f"± standard deviation over draws; {SECONDS:g} seconds of listening for a judgement. A tag "
        "without a head counts as chance.\n\n" + "\n".join(lines) + "\n\n"
        "![ROC-AUC of held-back tracks over judgements](rounds.png)\n"
    )
    with atomic_write(args.out / "README.md") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
