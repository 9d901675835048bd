"""fsprobe.reporting.sections.embeddings_by_tag: which embedding, or layer, carries which tag."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from fsprobe.pages.blocks import Bullets, Figure
from fsprobe.reporting.reading import read_sweep
from tests.support import fake_results
from tests.support.report_blocks import blocks_of, draw, headings, names, tables

LAYERS = {
    "timbral": 0.6,
    "cnn1": 0.9,
    "penultimate": 1.0,
    "timbral+cnn1+penultimate": 1.2,
    "combined": 1.3,
}
TITLE = "Which embedding carries which tag"


def edit_tags(path: Path, change) -> None:
    """Apply change(row) → average precision to each row of per_tag.csv; mAP follows."""
    with (path / "per_tag.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_probe: dict = {}
    for row in rows:
        row["average_precision"] = change(row)
        key = tuple(row[name] for name in ("embedding", "n_way", "k_shot", "seed"))
        by_probe.setdefault(key, []).append(float(row["average_precision"]))
    fake_results.write_csv(path / "per_tag.csv", list(rows[0]), [list(r.values()) for r in rows])
    with (path / "probes.csv").open(newline="") as file:
        probes = list(csv.DictReader(file))
    for probe in probes:
        key = tuple(probe[name] for name in ("embedding", "n_way", "k_shot", "seed"))
        probe["mAP"] = np.mean(by_probe[key])
    fake_results.write_csv(path / "probes.csv", list(probes[0]), [list(r.values()) for r in probes])


@pytest.fixture(scope="module")
def layers(tmp_path_factory) -> Path:
    """Layers of which cnn1 carries t3 alone, by 0.2 at every seed and a little more at some."""
    path = tmp_path_factory.mktemp("layers") / "a"
    fake_results.write(path, LAYERS, n_way=(5, 12), k_shot=(1, 5, "full"), num_seeds=8)
    edit_tags(
        path,
        lambda row: (
            float(row["average_precision"])
            + (0.2 if (row["tag"], row["embedding"]) == ("t3", "cnn1") else 0)
        ),
    )
    return path


def test_the_best_single_embedding_of_a_tag_and_its_lead_over_penultimate(layers):
    blocks = blocks_of(layers)
    draw(blocks)
    assert TITLE in headings(blocks)
    assert {"embeddings_by_tag_5", "embeddings_by_tag_full"} <= names(blocks)
    few, full = tables(blocks, "Average precision per tag and embedding")
    assert "N = 12; K = 5; 8 seeds" in few.caption and "K = full" in full.caption
    assert list(few.header) == [
        *("tag", "drawn", *LAYERS, "best single", "lead over penultimate", "Holm p")
    ]
    sweep = read_sweep(layers, "x")
    by_seed = {
        name: np.array([row.average_precision for row in rows])
        for name, rows in sweep.rows_by_tag(list(LAYERS), 12, 5)["t3"].items()
    }
    row = next(row for row in few.rows if row[0] == "t3")
    assert row[1] == "8" and row[2:7] == [f"{values.mean():.4f}" for values in by_seed.values()]
    lead = by_seed["cnn1"] - by_seed["penultimate"]
    assert row[7] == "cnn1" and row[8].startswith(f"{lead.mean():+.4f} [")
    # scipy's exact test of all 2^8 flips, times two: timbral is compared with penultimate as well
    expected = scipy.stats.permutation_test(
        (lead,), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert row[9] == f"{2 * expected:.4f}"
    assert row[7] != "combined" and {row[7] for row in few.rows} <= set(list(LAYERS)[:3])


def test_a_layer_is_listed_with_its_tags(layers):
    lists = [block for block in blocks_of(layers) if isinstance(block, Bullets)]
    (items,) = [block.items for block in lists if "timbral at K = 5" in block.items[0]]
    cnn1 = next(item for item in items if item.startswith("cnn1"))
    assert "t3" in cnn1.partition("best for")[2] and "ahead of penultimate" in cnn1
    assert "(t3)" in cnn1.partition("p < 0.05")[2]


def test_labels_do_not_overlap_and_boxes_stand_on_the_best(layers):
    figure = next(
        block
        for block in blocks_of(layers)
        if isinstance(block, Figure) and block.name == "embeddings_by_tag_5"
    ).draw()
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
    tags = [label.get_text() for label in axes.get_yticklabels()]
    box = axes.patches[tags.index("t3")]
    assert round(box.get_x() + box.get_width() / 2) == list(LAYERS).index("cnn1")
    assert round(box.get_y() + box.get_height() / 2) == tags.index("t3")


def test_without_a_penultimate_layer_the_lead_is_over_the_best_on_average(tmp_path):
    path = fake_results.write(
        tmp_path / "a", {"poor": 0.5, "good": 1.0, "fair": 0.7}, n_way=(5,), k_shot=(5,)
    )
    (table,) = tables(blocks_of(path), "Average precision per tag and embedding")
    assert "lead over good" in table.header


@pytest.mark.parametrize(
    ("name", "reference"), [("net_penultimate", "net_penultimate"), ("mine", "good")]
)
def test_a_longer_name_with_that_word_is_the_reference(tmp_path, name, reference):
    path = fake_results.write(
        tmp_path / "a", {"poor": 0.5, "good": 1.0, name: 0.7}, n_way=(5,), k_shot=(5,), num_seeds=2
    )
    (table,) = tables(blocks_of(path), "Average precision per tag and embedding")
    assert f"lead over {reference}" in table.header


def test_two_single_embeddings_are_too_few_and_tags_without_metric_are_left_out(tmp_path):
    path = fake_results.write(tmp_path / "a", {"a": 0.5, "b": 1.0, "a+b": 1.2, "combined": 1.2})
    assert TITLE not in headings(blocks_of(path))
    path = fake_results.write(tmp_path / "b", LAYERS, n_way=(12,), unscored=("t3", "t4"))
    blocks = blocks_of(path)
    draw(blocks)
    table, _ = tables(blocks, "Average precision per tag and embedding")
    assert {row[0] for row in table.rows}.isdisjoint(("t3", "t4")) and len(table.rows) == 10
    path = fake_results.write(tmp_path / "c", LAYERS, unscored=[f"t{i}" for i in range(1, 13)])
    assert TITLE not in headings(blocks_of(path))


def test_a_layer_ahead_of_the_reference_is_counted_where_another_is_the_best(tmp_path):
    quality = {"penultimate": 0.5, "second": 0.9, "first": 1.0}
    path = fake_results.write(tmp_path / "a", quality, (12,), (20,), num_seeds=8, noise=0.001)
    (items,) = [b.items for b in blocks_of(path) if isinstance(b, Bullets) and "mean" in b.items[0]]
    second = next(item for item in items if item.startswith("second"))
    assert "best for 0 of 12 tags; ahead of penultimate with p < 0.05 for 12 (t1, t2" in second
