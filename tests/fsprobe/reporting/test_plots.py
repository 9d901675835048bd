"""fsprobe.reporting.plots and tag_plots: the same numbers give the same bytes, every point is drawn, nothing
breaks at the edges.
"""

import hashlib
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fsprobe.pages import plot_style
from fsprobe.reporting import plots, tag_plots
from fsprobe.reporting.statistics import Summary, summarise

NONE, ONE = summarise([]), summarise([0.25])


def some(level: float) -> Summary:
    return Summary(5, level, 0.02, level - 0.02, level + 0.02)


def every_figure():
    grid = np.array([[0.1, 0.2], [0.3, math.nan]])
    return {
        "curves": plots.curves(
            {"a": [some(0.2), ONE, some(0.4)], "combined": [NONE, some(0.3), some(0.5)]},
            [1, 5, "full"],
            "mAP",
            [0.1, 0.1, 0.1],
        ),
        "shares": plots.weight_share_bars([("a", some(0.6), 0.5), ("b$_<&>", ONE, 0.5)]),
        "heatmaps": plots.heatmaps(
            [2, 5],
            [1, "full"],
            {"mAP": grid, "ROC-AUC": grid + 0.4, "chance": grid[:1]},
            {"mAP": (0.1, 0.3), "ROC-AUC": (0.5, 0.7), "chance": (0.1, 0.3)},
        ),
        "tag_counts": tag_plots.tag_counts(
            ["x", "y" * 60], {"train": [9, 3], "valid": [1, 0], "test": [2, 1]}
        ),
        "long_tail": tag_plots.long_tail([(1, 90), (3, 0)], [(2, 30), (60, 4)]),
        "cooccurrence": tag_plots.cooccurrence(
            ["x", "y"], np.array([[math.nan, 0.5], [0.25, math.nan]])
        ),
        "tag_scatter": tag_plots.tag_scatter(
            {
                "a": [
                    tag_plots.TagPoint(False, 40, 0.5, 0.8, 0.2, 5, 2),
                    tag_plots.TagPoint(True, 3, 0.1, 0.6, 0.01, 5, 2),
                ]
            },
            {40: 0.2, 3: 0.01},
        ),
    }


NAMES = list(every_figure())


@pytest.fixture(scope="module")
def rendered() -> dict[str, tuple[bytes, str]]:
    return {name: plot_style.render(figure) for name, figure in every_figure().items()}


@pytest.mark.parametrize("name", NAMES)
def test_png_and_svg_without_dates_scripts_or_links(rendered, name):
    png, svg = rendered[name]
    assert png.startswith(b"\x89PNG") and b"Software" not in png and b"tIME" not in png
    ElementTree.fromstring(svg)  # well-formed
    assert "<dc:date>" not in svg and "<script" not in svg
    assert 'href="http' not in svg and "url(http" not in svg
    assert len(svg) < 200_000


@pytest.mark.slow
def test_bytes_repeat_whatever_the_hash_seed_and_the_users_settings(rendered, tmp_path):
    (tmp_path / "matplotlibrc").write_text(
        "font.size: 30\nfigure.facecolor: red\nsvg.fonttype: none\n"
    )
    code = (
        "import hashlib\n"
        "from tests.fsprobe.reporting.test_plots import every_figure\n"
        "from fsprobe.pages.plot_style import render\n"
        "for name, figure in every_figure().items():\n"
        "    png, svg = render(figure); print(name, hashlib.sha256(png + svg.encode()).hexdigest())"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # not this process's
    more = {"PYTHONHASHSEED": seed, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | more,
    ).stdout
    assert other.splitlines() == [
        f"{name} {hashlib.sha256(png + svg.encode()).hexdigest()}"
        for name, (png, svg) in rendered.items()
    ]


def test_every_value_is_drawn_and_no_other():
    axes = every_figure()["curves"].axes[0]
    drawn = {line.get_label() for line in axes.get_lines()}
    assert "chance (prevalence)" in drawn
    points = [
        line for container in axes.containers for line in container if hasattr(line, "get_ydata")
    ]
    assert sorted(y for line in points for y in line.get_ydata() if not math.isnan(y)) == [
        0.2,
        0.25,
        0.3,
        0.4,
        0.5,
    ]
    texts = [text.get_text() for axes in every_figure()["heatmaps"].axes for text in axes.texts]
    assert texts == [
        ".100",
        ".200",
        ".300",
        ".500",
        ".600",
        ".700",
        ".100",
        ".200",
    ]  # the absent cell stays blank


def test_categories_differ_in_more_than_colour():
    looks = [plot_style.look(f"e{i}", i) for i in range(7)]
    for key in ("color", "marker", "linestyle"):
        assert len({str(getattr(look, key)) for look in looks}) == 7
    assert {look.color for look in looks} <= set(plot_style.OKABE_ITO)


def test_more_categories_than_colours_have_looks_of_their_own():
    looks = [plot_style.look(f"e{i}", i) for i in range(49)]
    assert len({(look.color, look.marker) for look in looks}) == 49
    assert len({(look.color, str(look.linestyle)) for look in looks}) == 49


def test_long_names_that_differ_in_their_ends_stay_different():
    names = [f"a_network_of_a_long_name.layer_{i}" for i in range(12)]
    cut = [plot_style.short(name) for name in names]
    assert len(set(cut)) == 12 and max(map(len, cut)) == 24
    assert plot_style.short("x" * 24) == "x" * 24


def test_a_single_seed_has_a_point_and_no_interval():
    figure = plots.curves({"a": [ONE, ONE]}, [1, 5], "mAP")
    bars = figure.axes[0].containers[0].lines[2][0].get_segments()
    assert all(np.ptp(bar[:, 1]) == 0 for bar in bars)
    plot_style.render(figure)


@pytest.mark.parametrize("k_shots", [[1], [1, 5, 10, 15, 20, "full"]])
@pytest.mark.parametrize("count", [2, 30])
def test_every_point_is_nearest_to_its_own_k(k_shots, count):
    series = {f"e{i}": [some(0.2)] * len(k_shots) for i in range(count)}
    (axes,) = plots.curves(series, k_shots, "mAP").axes
    ticks = axes.get_xticks()
    drawn = np.array([container.lines[0].get_xdata() for container in axes.containers])
    nearest = np.abs(drawn[..., None] - ticks).argmin(-1)
    np.testing.assert_array_equal(nearest, np.broadcast_to(np.arange(len(k_shots)), drawn.shape))
    assert np.ptp(drawn, axis=0).max() < 0.4 * np.ptp(axes.get_xlim())


@pytest.mark.parametrize("k_shots", [["full"], [1], [3, "full"]])
def test_curves_of_few_cells(k_shots):
    plot_style.render(plots.curves({"a": [some(0.2)] * len(k_shots)}, k_shots, "mAP"))


@pytest.mark.parametrize("length", [3, 16, 24, 60])
def test_a_legend_is_as_wide_as_its_figure_at_most(length):
    series = {f"{i}".ljust(length, "w"): [some(0.1 * i)] * 2 for i in range(9)}
    figure = plots.curves(series, [1, 5], "mAP")
    (drawn,) = figure.legends
    assert drawn.get_window_extent().width <= figure.bbox.width
    assert len(drawn.get_texts()) == 9


@pytest.mark.parametrize("length", [3, 12, 24])
@pytest.mark.parametrize("count", [2, 14, 15, 20])
def test_the_labels_of_cooccurrence_are_whole(count, length):
    names = [f"x{i}".ljust(length, "w") for i in range(count)]
    figure = tag_plots.cooccurrence(names, np.where(np.eye(count), math.nan, 0.1))
    with plot_style.style():
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        for label in (figure.axes[0].xaxis.label, figure.axes[0].yaxis.label):
            extent = label.get_window_extent()
            assert min(extent.x0, extent.y0) >= -1
            assert extent.x1 <= figure.bbox.x1 + 1 and extent.y1 <= figure.bbox.y1 + 1
