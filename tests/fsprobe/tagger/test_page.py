"""fsprobe.tagger.report: the page says what its numbers are of."""

from fsprobe.pages.blocks import Sounds, Table
from fsprobe.tagger.report import page
from fsprobe.tagger.training import TrainConfig, train
from tests.fsprobe.tagger.test_training import clips
from tests.support.plain_fit import fit_heads


def test_numbers_at_a_stated_prevalence_and_those_that_are_not():
    """Thresholds are of the prevalence, so of few digits after the point nothing is left; the clips
    are shown with what the labels' own prevalence gives.
    """
    labelled, config = clips(90), TrainConfig(prevalence=0.002)
    rows = train(labelled, fit_heads, config)
    blocks = page(rows, labelled, config, "x", {}, str)
    (table,) = (block for block in blocks if isinstance(block, Table))
    column = table.header.index("threshold")
    for line, threshold in zip(table.rows, rows.threshold, strict=True):
        assert abs(float(line[column]) / threshold - 1) < 0.01
    captions = {block.caption for block in blocks if isinstance(block, Sounds)}
    assert captions and all("at the prevalence of the labels" in text for text in captions)
