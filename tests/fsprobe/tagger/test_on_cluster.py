"""Tags of a store of many shards by a cluster are those of one machine."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError
from extract.store import open_store, shard_name
from fsprobe.tagger import tagging
from fsprobe.tagger.matching import Part, parts_of
from fsprobe.tagger.on_cluster import ScoreOnCluster
from fsprobe.tagger.tagger import Tagger
from fsprobe.tagger.tagging import items_by_clip, items_by_track, tag_items
from tests.support.fake_cluster import FakeCluster, FakeRef
from tests.support.fake_tagger import random_tagger, write_store

CLIPS, SHARDS = 300, 4


@pytest.fixture
def sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Tagger, list[Part]]:
    """A tagger, and a store of four shards in blocks of 32 clips, some of which have failed."""
    monkeypatch.setattr(tagging, "BLOCK", 32)
    rng = np.random.default_rng(0)
    bounds = [CLIPS * shard // SHARDS for shard in range(SHARDS + 1)]
    for shard, (first, last) in enumerate(itertools.pairwise(bounds)):
        folder = write_store(
            tmp_path / "s" / shard_name(shard, SHARDS),
            rng.standard_normal((last - first, 7)),
            tuple(f"c{row:04}" for row in range(first, last)),
            (rng.random(last - first) < 0.9).astype(np.uint8),
        )
        meta = json.loads((folder / "store.json").read_text())
        (folder / "store.json").write_text(json.dumps(meta | {"embedding": "s"}))
    parts = parts_of({"s": open_store(tmp_path / "s")}, "s")
    return random_tagger(tuple("abcde"), parts), parts


@pytest.mark.parametrize("losses", [0.0, 0.3])
@pytest.mark.parametrize("by", ["clip", "track"])
@pytest.mark.parametrize("top", [0, 2])
def test_the_same_bytes_as_on_one_machine(
    sharded: tuple[Tagger, list[Part]], tmp_path: Path, losses: float, by: str, top: int
) -> None:
    tagger, parts = sharded
    items = items_by_clip(parts)
    if by == "track":
        items = items_by_track(parts, {c: f"t{i % 90}" for i, c in enumerate(items.names)})
    cluster = FakeCluster(losses=losses, seed=1)
    found = []
    for name, score in (
        ("here", tagging.score_here),
        ("there", ScoreOnCluster(cluster)),
    ):  # type: ignore[arg-type]
        scores = tmp_path / f"{name}.npy"
        work = tmp_path / name
        found.append(tag_items(tagger, parts, items, top, work, {}, scores, score))
    np.testing.assert_array_equal(found[0], found[1])
    assert (tmp_path / "here.npy").read_bytes() == (tmp_path / "there.npy").read_bytes()
    assert bool(cluster.lost) == bool(losses)
    assert cluster.most <= 8


def test_what_is_always_lost_ends_the_run(
    sharded: tuple[Tagger, list[Part]], tmp_path: Path
) -> None:
    tagger, parts = sharded
    score = ScoreOnCluster(FakeCluster(deadly=lambda arguments: True))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="lost 5 times, at last because its process died"):
        tag_items(tagger, parts, items_by_clip(parts), 0, tmp_path / "w", {}, score=score)


def test_a_clip_that_is_not_finite_is_named(
    sharded: tuple[Tagger, list[Part]], tmp_path: Path
) -> None:
    tagger, parts = sharded
    file = tmp_path / "s" / shard_name(2, SHARDS) / "features.npy"
    features = np.load(file)
    row = int(np.flatnonzero(parts[0].store.status[150:])[3])
    features[row] = np.nan
    np.save(file, features)
    with pytest.raises(InputError, match=f"NaN or Inf in the features of clip 'c{150 + row:04}'"):
        tag_items(
            tagger,
            parts,
            items_by_clip(parts),
            0,
            tmp_path / "w",
            {},
            score=ScoreOnCluster(FakeCluster()),  # type: ignore[arg-type]
        )


def score_all(tagger: Tagger, parts: list[Part], work: Path, score: ScoreOnCluster) -> None:
    tag_items(tagger, parts, items_by_clip(parts), 0, work, {}, score=score)


def test_a_node_that_does_not_see_the_store_is_named(
    sharded: tuple[Tagger, list[Part]], tmp_path: Path
) -> None:
    tagger, parts = sharded
    (tmp_path / "s").rename(tmp_path / "elsewhere")  # the command has it open
    score = ScoreOnCluster(FakeCluster())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"node .*features.npy: No such file.* the same paths"):
        score_all(tagger, parts, tmp_path / "w", score)


def test_a_cluster_that_never_answers_ends_with_what_it_waited_for(
    sharded: tuple[Tagger, list[Part]], tmp_path: Path
) -> None:
    class Silent(FakeCluster):
        def wait(self, refs: Sequence[FakeRef], seconds: float) -> list[FakeRef]:
            return []

    score = ScoreOnCluster(Silent(cpus=0), patience=0.1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"nothing has finished for 0 s: 2 blocks .* 0 CPUs"):
        score_all(*sharded, tmp_path / "w", score)
