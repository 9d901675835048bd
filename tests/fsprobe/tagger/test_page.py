"""fsprobe.tagger.report: the page says what its numbers are of."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fsprobe.pages.blocks import Figure, Sounds, Table
from fsprobe.pages.plot_style import style
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


@pytest.mark.parametrize("tags", [3, 12])
def test_labels_below_the_reliability_diagrams_do_not_touch(tags):
    labelled, config = clips(90, tags=tags, shares=(0.4,) * tags), TrainConfig()
    blocks = page(train(labelled, fit_heads, config), labelled, config, "x", {}, str)
    (block,) = (b for b in blocks if isinstance(b, Figure) and b.name == "reliability_1")
    with style():
        figure = block.draw()
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        labels = [label for axes in figure.axes for label in axes.get_xticklabels()]
        shown = [label for label in labels if 0 <= label.get_position()[0] <= 1]
        ends = sorted((box.x0, box.x1) for box in (label.get_window_extent() for label in shown))
    assert len(ends) >= 2 * min(tags, 4)
    assert all(right < left for (_, right), (left, _) in itertools.pairwise(ends))
    assert ends[-1][1] <= figure.bbox.width
