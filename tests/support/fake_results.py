"""Results directories with a known answer, written by hand: their format is a contract."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsprobe.study.tables import EpisodeRow, ProbeRow, TagRow, columns_of

QUALITY = {"poor": 0.5, "good": 1.0, "combined": 1.4}  # in this order better and better


def write(
    path: Path,
    quality: Mapping[str, float] = QUALITY,
    n_way: Sequence[int] = (5, 10),
    k_shot: Sequence[int | str] = (1, 5, 10, 20, "full"),
    num_seeds: int = 6,
    seed: int = 0,
    num_tags: int = 12,
    ranks_from: int = 1,
    tags: str = "top50",
    test_clips: str = "all",
    solver: str = "adam",
    validation: str = "valid",
    noise: float = 0.02,
    clips: Mapping[str, int] | None = None,
    extras: bool = True,
    unscored: Sequence[str] = (),
    manifest: str = "a" * 64,
    dataset: str = "made-up clips",
    rename: Mapping[str, str] | None = None,
) -> Path:
    """A finished sweep: metrics rise with quality and K, fall with the tag's rank, and vary by
    `noise` over seeds.

    unscored: tags whose metrics are empty. ranks_from: the rank of the pool's first tag. rename:
    tags by other names.
    """
    path.mkdir(parents=True)
    counts = {"train": 3000, "valid": 300, "test": 900} if clips is None else dict(clips)
    pool = [
        (rename or {}).get(name, name) for name in (f"t{ranks_from + i}" for i in range(num_tags))
    ]
    of_tag = {
        tag: (ranks_from + i, max(4000 // (ranks_from + i + 2), 1)) for i, tag in enumerate(pool)
    }
    probes, per_tag, episodes = [], [], []
    order = {
        s: np.random.default_rng([s, 1]).permutation(pool)[: max(n_way)].tolist()
        for s in range(seed, seed + num_seeds)
    }
    widths = {name: 8 for name in quality if name != "combined"}
    norms: dict[str, list[np.ndarray]] = {name: [] for name in quality}
    for e, (name, level) in enumerate(quality.items()):
        dim = sum(widths.values()) if name == "combined" else 8
        pattern = np.random.default_rng([e, 2]).random(dim) + 0.1
        for n in n_way:
            for k in k_shot:
                for s in order:
                    rng = np.random.default_rng([s, e, n, 30 if k == "full" else k, 3])
                    gain = 1 - math.exp(-(40 if k == "full" else k) / 8)
                    key: Any = (name, solver, n, k, s)
                    rows = []
                    for tag in order[s][:n]:
                        rank, train = of_tag[tag]
                        value = float(
                            np.clip(
                                0.1
                                + 0.3 * level * gain
                                - 0.002 * rank
                                + noise * rng.standard_normal(),
                                0.01,
                                0.99,
                            )
                        )
                        rows.append(
                            TagRow(
                                *key,
                                tag=tag,
                                average_precision=math.nan if tag in unscored else value,
                                roc_auc=math.nan if tag in unscored else 0.5 + value / 2,
                                test_positives=0 if tag in unscored else max(train // 4, 2),
                            )
                        )
                    scored = [row for row in rows if row.tag not in unscored]
                    mean = lambda values: float(np.mean(values)) if values else math.nan  # noqa: E731
                    probes.append(
                        ProbeRow(
                            *key,
                            num_train=counts.get("train", 3000) if k == "full" else n * int(k),
                            mAP=mean([row.average_precision for row in scored]),
                            roc_auc=mean([r.roc_auc for r in scored]),
                            chance_mAP=mean([row.test_positives / 900 for row in scored]),
                            val_loss=0.2,
                            best_epoch=9,
                            epochs=19,
                            validation=validation,
                            macro_f1=mean([0.9 * row.average_precision for row in scored]),
                            micro_f1=mean([0.8 * row.average_precision for row in scored]),
                        )
                    )
                    per_tag += rows
                    norms[name].append(
                        pattern + (0 if k == "full" else 1 / int(k)) * rng.random(dim)
                    )
    for s, drawn in order.items():
        episodes += [
            EpisodeRow(s, position, tag, shot, f"c{s}_{position}_{shot}")
            for position, tag in enumerate(drawn)
            for shot in range(max((k for k in k_shot if k != "full"), default=0))
        ]
    for file, kind, rows in (
        ("probes.csv", ProbeRow, probes),
        ("per_tag.csv", TagRow, per_tag),
        ("episodes.csv", EpisodeRow, episodes),
    ):
        columns = columns_of(kind, with_words=False)
        write_csv(path / file, columns, [row[: len(columns)] for row in rows])
    singles = [name for name in quality if name != "combined"]
    run = {
        "versions": {"fsprobe": "0"},
        "devices": ["cpu: cpu"],
        "git_commit": None,
        "complete": True,
        "wall_time_s": 1.5,
        "configuration": {
            "manifest_sha256": manifest,
            "stores": [[name, "b" * 64] for name in singles],
            "embeddings": list(quality),
            "missing": "error",
            "grid": {
                "n_way": list(n_way),
                "k_shot": list(k_shot),
                "num_seeds": num_seeds,
                "seed": seed,
                "tags": tags,
                "on_scarce": "fewer",
                "test_clips": test_clips,
            },
            "solver": {
                "name": solver,
                "learning_rate": 1e-4,
                "max_epochs": 400,
                "validation": validation,
            },
        },
    }
    if extras:
        run |= {
            "dataset": {"name": dataset, "clips": counts, "num_tags": num_tags},
            "combined_parts": [[name, width] for name, width in widths.items()],
        }
        write_csv(
            path / "tags.csv",
            ("tag", "rank", "train", "valid", "test"),
            [
                (tag, rank, train, train // 10, max(train // 4, 2))
                for tag, (rank, train) in of_tag.items()
            ],
        )
        write_csv(
            path / "cooccurrence.csv",
            ("tag_a", "tag_b", "clips"),
            [
                (a, b, 1 + (i * j) % 30)
                for i, a in enumerate(pool)
                for j, b in enumerate(pool)
                if i < j
            ],
        )
        (path / "weight_norms").mkdir()
        for name, array in norms.items():
            np.save(path / "weight_norms" / f"{name}.npy", np.array(array, np.float32))
        if solver == "lbfgs":
            write_csv(
                path / "solver.csv",
                (*ProbeRow._fields[:5], "l2", "gradient_norm", "iterations", "gap", "converged"),
                [(*row[:5], 0.01, 1e-7, 40, 1e-7, 1) for row in probes],
            )
    (path / "run.json").write_text(json.dumps(run))
    return path


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([["" if value != value else value for value in row] for row in rows])


def edit_run(path: Path, change: Any) -> None:
    """Apply change(run) to run.json."""
    run = json.loads((path / "run.json").read_text())
    change(run)
    (path / "run.json").write_text(json.dumps(run))


def drop_probes(path: Path, keep: Any) -> None:
    """Keep the lines of probes.csv for which keep(fields) holds."""
    with (path / "probes.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    write_csv(
        path / "probes.csv",
        header,
        [row for row in rows if keep(dict(zip(header, row, strict=True)))],
    )
