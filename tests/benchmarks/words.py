"""What words do for tags without examples, on real posteriors:

    python -m tests.benchmarks.words --data=PATH/mtat_posteriors --json=PATH

Features are the logits of both taggers that never heard MagnaTagATune, 100 numbers a clip; tags are
the 105 with ten training and five test clips, four fifths of them seen, drawn anew for each seed.
K = 0: ESZSL, ConSE and triplets, each with the words and with the words dealt out at random, and
the tags that have a near synonym among the seen ones apart. Strengths are chosen on seen tags,
never on unseen ones. launch/words.sh has the same in a sweep, with few shots.
"""

import csv
import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from extract.shell import run
from extract.word_vectors.sources import Config, obtain
from fsprobe import evaluate, fit
from fsprobe.heads.head import Head, score
from fsprobe.heads.words import conse
from fsprobe.heads.words.eszsl import zero_shot_heads
from fsprobe.heads.words.triplet import TripletConfig, triplet_heads
from fsprobe.words.vectors import near_synonyms

TAGGERS = ("msd_musicnn", "jamendo_musicnn")
SHUFFLED = 9000  # added to a seed, to deal out words
SEEN_L2 = 0.007  # of the seen tags' own heads, for ConSE; one for all, never tuned


class Split(NamedTuple):
    """features float32 `[clip, dim]`, labels bool `[clip, tag]`."""

    features: np.ndarray
    labels: np.ndarray


class Study(NamedTuple):
    """words float32 `[tag, word]`."""

    train: Split
    valid: Split
    test: Split
    tags: list[str]
    words: np.ndarray


def load(folder: Path, vectors: str) -> Study:
    """folder: of the posteriors, beside magnatagatune's annotations."""
    with gzip.open(folder.parent / "magnatagatune" / "annotations_final.csv.gz", "rt") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    given = {row[0]: np.array(row[1:-1]) == "1" for row in rows}
    ids = (folder / "clip_ids.txt").read_text().split()
    labels = np.array([given[clip] for clip in ids])
    with (folder / "split.csv").open(newline="") as file:
        part = {row["clip_id"]: row["split"] for row in csv.DictReader(file)}
    posteriors = [np.load(folder / f"{name}.npy", allow_pickle=False) for name in TAGGERS]
    likely = np.clip(np.concatenate(posteriors, axis=1).astype(np.float64), 1e-7, 1 - 1e-7)
    logits = np.log(likely / (1 - likely))
    split = np.array([part[clip] for clip in ids])
    count = {name: labels[split == name].sum(axis=0) for name in ("train", "test")}
    kept = np.flatnonzero((count["train"] >= 10) & (count["test"] >= 5))
    mean = logits[split == "train"].mean(axis=0)
    scale = np.sqrt(np.mean((logits[split == "train"] - mean) ** 2))
    features = ((logits - mean) / scale).astype(np.float32)
    tags = [header[1:-1][column] for column in kept]
    found = obtain(Config(vectors), tags)[0]
    assert found.tags == tuple(tags)
    splits = [
        Split(features[split == name], labels[split == name][:, kept])
        for name in ("train", "valid", "test")
    ]
    return Study(*splits, tags, found.vectors)


def unseen_tags(study: Study, seeds: int, share: float = 0.2) -> np.ndarray:
    """int `[seed, unseen]`, in random order."""
    count = round(share * len(study.tags))
    return np.array(
        [np.random.default_rng(seed).permutation(len(study.tags))[:count] for seed in range(seeds)]
    )


def seen_mask(study: Study, unseen: np.ndarray) -> np.ndarray:
    """bool `[seed, tag]`."""
    mask = np.ones((len(unseen), len(study.tags)), bool)
    np.put_along_axis(mask, unseen, False, axis=1)
    return mask


def shuffled(study: Study, seed: int) -> Study:
    """With the words dealt out among the tags."""
    order = np.random.default_rng(SHUFFLED + seed).permutation(len(study.tags))
    return study._replace(words=study.words[order])


def eszsl(study: Study, unseen: np.ndarray) -> list[Head]:
    """For each seed, the heads of its unseen tags."""
    heads, _ = zero_shot_heads(
        *study.train, study.words, seen_mask(study, unseen), study.valid, wanted=unseen
    )
    return [Head(*(jnp.asarray(leaf[i]) for leaf in heads)) for i in range(len(unseen))]


def of_conse(study: Study, unseen: np.ndarray, heads: Head) -> list[np.ndarray]:
    """For each seed, scores `[clip, unseen]` of the test clips. heads: of all tags."""
    found = []
    for tags, seen in zip(unseen, seen_mask(study, unseen), strict=True):
        words, mask = jnp.asarray(study.words), jnp.asarray(seen)
        top, _ = _choose_top(heads, words, mask, jnp.asarray(conse.TOPS), *study.valid)
        head = conse.conse(heads, words, mask, top)
        found.append(np.asarray(score(head, study.test.features))[:, tags])
    return found


_choose_top = jax.jit(conse.choose_top)


def of_triplets(study: Study, unseen: np.ndarray, balanced: bool) -> list[np.ndarray]:
    """As of_conse."""
    heads = triplet_heads(
        jnp.arange(len(unseen)),
        *map(jnp.asarray, study.train),
        jnp.asarray(study.words),
        jnp.asarray(seen_mask(study, unseen)),
        TripletConfig(balanced=balanced),
    )
    one = lambda i: jax.tree.map(lambda leaf: leaf[i], heads)  # noqa: E731
    return [
        np.asarray(score(one(i), study.test.features))[:, tags] for i, tags in enumerate(unseen)
    ]


def judged(study: Study, unseen: np.ndarray, scores: list[np.ndarray]) -> dict[str, Any]:
    """Means over seeds and deviations, and mAP with and without a near synonym among the seen."""
    near = near_synonyms(study.tags)
    rows, twins, others = [], [], []
    for tags, seen, values in zip(unseen, seen_mask(study, unseen), scores, strict=True):
        found = evaluate(values, study.test.labels[:, tags])
        rows.append((found["mAP"], found["roc_auc"]))
        has_twin = (near[tags] & seen).any(axis=1)
        twins += found["average_precision"][has_twin].tolist()
        others += found["average_precision"][~has_twin].tolist()
    precision, area = np.mean(rows, axis=0).tolist()
    spread, spread_area = np.std(rows, axis=0, ddof=1).tolist()
    return {
        "mAP": precision,
        "mAP_sd": spread,
        "roc_auc": area,
        "roc_auc_sd": spread_area,
        "mAP_near_synonym_seen": float(np.mean(twins)) if twins else None,
        "near_synonyms": len(twins),
        "mAP_others": float(np.mean(others)),
    }


def zero_shot(study: Study, unseen: np.ndarray) -> dict[str, Any]:
    """Every method, with the words and with shuffled ones."""
    dealt = [shuffled(study, seed) for seed in range(len(unseen))]
    heads = fit(*study.train, l2=SEEN_L2)

    def one_by_one(method: Any) -> list[np.ndarray]:
        return [method(one, unseen[i : i + 1])[0] for i, one in enumerate(dealt)]

    def by_head(study: Study, unseen: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(score(head, study.test.features)) for head in eszsl(study, unseen)]

    methods = {
        "eszsl": by_head,
        "conse": partial(of_conse, heads=heads),
        "triplet": partial(of_triplets, balanced=False),
        "triplet balanced": partial(of_triplets, balanced=True),
    }
    found = {}
    for name, method in methods.items():
        found[name] = judged(study, unseen, method(study, unseen))
        if not name.startswith("triplet"):  # a compilation each
            found[f"{name} shuffled"] = judged(study, unseen, one_by_one(method))
    return found


def main() -> None:
    values = flags.FLAGS
    study = load(Path(values.data), values.vectors)
    unseen = unseen_tags(study, values.seeds)
    figures = {
        "vectors": values.vectors,
        "seeds": values.seeds,
        "tags": len(study.tags),
        "chance_mAP": float(study.test.labels.mean()),
        "zero_shot": zero_shot(study, unseen),
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if values.json:
        Path(values.json).write_text(text + "\n")


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "The folder mtat_posteriors.", required=True)
    flags.DEFINE_string("vectors", "minilm", "As --vectors of extract.words.")
    flags.DEFINE_integer("seeds", 20, "Draws of unseen tags.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    run(main)
