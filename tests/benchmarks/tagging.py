"""A large store to tags: against a plain NumPy product in blocks, and scikit-learn's predict_proba.

  python -m tests.benchmarks.tagging                       one million clips, 1.6 GB, made and deleted
  python -m tests.benchmarks.tagging --clips=100000 --dims=400 --tags=200 --top=5 --json=out.json

All in one run and one process each: the plain product over the memory-mapped features, this
project's scores, its scores with the best tags of each clip, the CSV, and all scores into an array.
Memory is the process's growth without file-backed pages (anonymous memory, from /proc).
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from extract.store import Store, open_store
from fsprobe.tagger.matching import Part, source_of
from fsprobe.tagger.outputs import Tagged, write_csv
from fsprobe.tagger.tagger import Tagger
from fsprobe.tagger.tagging import Scorer, in_order, items_by_clip, tag_items
from tests.benchmarks.machine import describe, seconds

BLOCK = 4096
SHARE = 25  # scikit-learn predicts one block of so many


def make_store(path: Path, clips: int, dims: int) -> Store:
    """A generated store, written block by block; both arrays are one file."""
    path.mkdir(parents=True)
    features = np.lib.format.open_memmap(path / "features.npy", "w+", np.float32, (clips, dims))
    rng = np.random.default_rng(0)
    for start in tqdm(range(0, clips, BLOCK), desc="store", dynamic_ncols=True):
        part = features[start : start + BLOCK]
        rng.standard_normal(out=(block := np.empty(part.shape, np.float32)), dtype=np.float32)
        part[:] = block
    features.flush()
    (path / "features_framenorm.npy").hardlink_to(path / "features.npy")
    np.save(path / "status.npy", np.ones(clips, np.uint8))
    (path / "clip_ids.txt").write_text("".join(f"clip{row:08}\n" for row in range(clips)))
    meta = {"format_version": 1, "embedding": "generated", "dim": dims, "aggregation": "none"}
    meta |= {"provenance": {}, "created": "2026-01-01T00:00:00Z", "checksums": {}}
    (path / "store.json").write_text(json.dumps(meta))
    return open_store(path)


def make_tagger(part: Part, tags: int) -> Tagger:
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((tags, part.width)).astype(np.float32) / np.sqrt(part.width)
    return Tagger(
        tags=tuple(f"tag {number}" for number in range(tags)),
        kernel=(3 * kernel).astype(np.float32),
        bias=np.full(tags, -3, np.float32),
        calibration=np.tile(np.float32([0.8, 0.1]), (tags, 1)),
        threshold=np.full(tags, 0.5, np.float32),
        embedding=part.name,
        sources=(source_of(part),),
    )


def plain_product(part: Part, tagger: Tagger) -> None:
    kernel = np.ascontiguousarray(tagger.kernel.T)
    for start in range(0, len(part.store), BLOCK):
        np.asarray(part.store.features[start : start + BLOCK]) @ kernel


def scores_only(part: Part, tagger: Tagger) -> None:
    scorer = Scorer(tagger, [part])

    def block(start: int) -> None:
        scorer.logits([slice(start, min(start + BLOCK, len(part.store)))])

    for _ in in_order(block, range(0, len(part.store), BLOCK)):
        pass


def scikit_learn(part: Part, tagger: Tagger) -> float:
    """Seconds of predict_proba of one-vs-rest logistic regressions in the same blocks, from one
    block of SHARE.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    few = np.asarray(part.store.features[: 2 * len(tagger.tags)])
    labels = np.eye(len(tagger.tags), dtype=int).repeat(2, axis=0)
    model = OneVsRestClassifier(LogisticRegression(max_iter=1)).fit(few, labels)
    for estimator, kernel, bias in zip(model.estimators_, tagger.kernel, tagger.bias, strict=True):
        estimator.coef_, estimator.intercept_ = kernel[None], np.array([bias])

    blocks = range(0, len(part.store), BLOCK)

    def predict() -> None:
        for start in blocks[::SHARE]:
            model.predict_proba(np.asarray(part.store.features[start : start + BLOCK]))

    return seconds(predict) * len(blocks) / len(blocks[::SHARE])


class Memory:
    """The most anonymous memory of this process while the block runs, bytes, above the start."""

    def __enter__(self) -> "Memory":
        self.start, self.most, self.running = self._now(), 0, True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()

    def _watch(self) -> None:
        while self.running:
            self.most = max(self.most, self._now() - self.start)
            time.sleep(0.02)

    @staticmethod
    def _now() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return 1024 * int(line.split()[1])
        return 0


def measure(store: Store, tags: int, top: int, folder: Path, repeats: int) -> dict[str, float]:
    part = Part("generated", store, "features")
    tagger = make_tagger(part, tags)
    found: dict[str, float] = {}
    plain_product(part, tagger)  # the file into the system's cache
    found["plain_product_s"] = seconds(lambda: plain_product(part, tagger), repeats)
    found["scores_s"] = seconds(lambda: scores_only(part, tagger), repeats)
    items = items_by_clip([part])
    with Memory() as memory:
        start = time.perf_counter()
        records = tag_items(tagger, [part], items, top, folder / "work", {})
        found["scores_and_best_s"] = time.perf_counter() - start
        start = time.perf_counter()
        write_csv(folder / "tags.csv", Tagged(items.names, tagger.tags, records))
        found["csv_s"] = time.perf_counter() - start
    found["rows"] = len(records)
    found["memory_gb"] = memory.most / 1e9
    shutil.rmtree(folder / "work")
    start = time.perf_counter()
    path = folder / "scores.npy"
    tag_items(tagger, [part], items, top, folder / "work", {}, path)
    found["scores_best_and_array_s"] = time.perf_counter() - start
    path.unlink()
    found["scikit_learn_s"] = scikit_learn(part, tagger)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=400)
    parser.add_argument("--tags", type=int, default=200)
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="Where the store is made; default: a temporary folder.")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    # terminated or not, the store is deleted
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        store = make_store(folder / "generated", args.clips, args.dims)
        found = measure(store, args.tags, args.top, folder, args.repeats)
    finally:
        shutil.rmtree(folder)
    print(f"{args.clips:,} clips × {args.dims} dimensions × {args.tags} tags; {describe()}")
    for name, value in found.items():
        print(f"{name:26} {value:12,.2f}")
    print(f"{'scores / plain product':26} {found['scores_s'] / found['plain_product_s']:12.2f}")
    extra = found["scores_and_best_s"] - found["scores_s"] + found["csv_s"]
    print(f"{'best tags and CSV, s more':26} {extra:12.2f}")
    if args.json:
        args.json.write_text(json.dumps(found | vars(args) | {"json": str(args.json)}, indent=1))


if __name__ == "__main__":
    main()
