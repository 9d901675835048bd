"""The official MagnaTagATune files give the published counts and lists. Needs FSPROBE_DATA or
../shared/data.
"""

import collections
import os
import subprocess
import sys
from pathlib import Path

import pytest

from extract.datasets import magnatagatune
from extract.manifest import apply_split_file, rank_tags, read_manifest

REPO = Path(__file__).parents[2]
DATA = Path(os.environ.get("FSPROBE_DATA", REPO.parent / "shared" / "data"))
MTAT = DATA / "magnatagatune"
pytestmark = pytest.mark.skipif(not MTAT.is_dir(), reason=f"no {MTAT}")


@pytest.fixture(scope="module")
def official():
    manifest = magnatagatune.read_annotations(MTAT / "annotations_final.csv.gz")
    magnatagatune.check_clip_info(MTAT / "clip_info_final.csv.gz", manifest)
    return manifest


def listed(name):
    return set((MTAT / name).read_text().split())


def test_annotations(official):
    ranked = rank_tags(official)
    assert len(official) == 25_863
    assert len(ranked) == 188
    assert ranked[:3] == [("guitar", 4852), ("classical", 4272), ("slow", 3547)]
    counts = dict(ranked)
    assert counts["pop"] == counts["no vocal"] == 995
    assert counts["female voice"] == counts["metal"] == 505
    assert ranked[49][1] > ranked[50][1]  # no tie decides what the top 50 are


def test_clean_split(official):
    clean = magnatagatune.select(official, "clean")
    clips = {
        split: {c for c, own in zip(clean.clip_ids, clean.splits, strict=True) if own == split}
        for split in ("train", "valid", "test")
    }
    assert {split: len(ids) for split, ids in clips.items()} == {
        "train": 15_247,
        "valid": 1_529,
        "test": 4_332,
    }
    assert clips["valid"] == listed("clean_valid.txt")
    assert clips["test"] == listed("clean_test.txt")
    assert len(clean) == 21_108
    assert len(rank_tags(clean)) == 188
    # Without the three empty clips the top 50 are still the same tags.
    top = {tag for tag, _ in rank_tags(official)[:50]}
    assert {tag for tag, _ in rank_tags(clean)[:50]} == top
    train = collections.Counter(
        tag
        for own, tags in zip(clean.splits, clean.tags, strict=True)
        if own == "train"
        for tag in tags
        if tag in top
    )
    assert train.most_common(1) == [("guitar", 3469)]
    assert min(train.items(), key=lambda item: item[1]) == ("metal", 286)


def test_all_split_keeps_untagged_and_tail_only_clips(official):
    everything = magnatagatune.select(official, "all")
    assert everything.clip_ids == official.clip_ids
    unused = [
        c for c, split in zip(everything.clip_ids, everything.splits, strict=True) if not split
    ]
    assert unused == ["35644", "55753", "57881"]
    top = {tag for tag, _ in rank_tags(official)[:50]}
    tail_only = [
        tags
        for own, tags in zip(everything.splits, everything.tags, strict=True)
        if own and tags and top.isdisjoint(tags)
    ]
    assert len(tail_only) == 531
    assert collections.Counter(tag for tags in tail_only for tag in tags).most_common(1) == [
        ("jazz", 55)
    ]


def test_split_file_of_the_posteriors(official):
    split_file = DATA / "mtat_posteriors" / "split.csv"
    if not split_file.is_file():
        pytest.skip(f"no {split_file}")
    manifest, unknown = apply_split_file(magnatagatune.select(official, "clean"), split_file)
    counts = collections.Counter(manifest.splits)
    assert unknown == 0
    assert (counts["train"], counts["valid"], counts["test"], counts[""]) == (
        2_993,
        449,
        890,
        15_247 + 1_529,
    )


def test_command(tmp_path):
    out = tmp_path / "manifest.csv"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "extract.prepare",
            "--dataset=magnatagatune",
            f"--annotations={MTAT / 'annotations_final.csv.gz'}",
            f"--clip_info={MTAT / 'clip_info_final.csv.gz'}",
            f"--out={out}",
        ],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "15247 train, 1529 valid, 4332 test; 188 tags" in done.stdout
    assert len(read_manifest(out)) == 21_108
