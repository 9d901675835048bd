"""fsprobe.reporting.published: figures stand only beside their own split."""

import pytest

from fsprobe.reporting import published
from tests.support import fake_results
from tests.support.report_blocks import text_of

CLEAN = {"train": 15_247, "valid": 1_529, "test": 4_332}
UNFILTERED = {"train": 18_706, "valid": 1_825, "test": 5_329}


@pytest.mark.parametrize(
    "clips, present, absent",
    [(CLEAN, "Harmonic CNN", "Jukebox"), (UNFILTERED, "Jukebox", "Harmonic CNN")],
)
def test_published_figures_stand_only_beside_their_own_split(tmp_path, clips, present, absent):
    path = fake_results.write(
        tmp_path / "a", n_way=(50,), num_tags=50, k_shot=("full",), num_seeds=2, clips=clips
    )
    text = text_of(path)
    assert present in text and absent not in text


@pytest.mark.parametrize(
    "change",
    [
        {"n_way": (40,)},
        {"test_clips": "tagged"},
        {"tags": "all"},
        {"clips": CLEAN | {"test": 4331}},
        {"extras": False},
    ],
)
def test_published_figures_do_not_stand_beside_anything_else(tmp_path, change):
    base = {"n_way": (50,), "num_tags": 50, "k_shot": ("full",), "num_seeds": 2, "clips": CLEAN}
    text = text_of(fake_results.write(tmp_path / "a", **(base | change)))
    assert "No published figure stands beside these" in text and "Won et al." not in text


def test_published_splits_are_never_mixed():
    assert {figure.split for figure in published.CLEAN} == {published.CLEAN_SPLIT}
    assert {figure.split for figure in published.UNFILTERED} == {published.UNFILTERED_SPLIT}
