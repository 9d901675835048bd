"""Real frozen features of MagnaTagATune's test clips: the published metric, and the paper's
protocol on them.
"""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from extract.manifest import Manifest, apply_split_file, write_manifest
from fsprobe.config import GridConfig, SolverConfig, SweepConfig
from fsprobe.metrics import average_precision, roc_auc
from fsprobe.study.execute import sweep
from tests.support import tiny

TAGGER_COLUMNS = """
guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,
indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,sitar,
solo,man,classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,
female voice,choral""".replace("\n", "").split(",")  # of mtat_musicnn.npy, from its README


@pytest.fixture(scope="module")
def clips(real_data: Path) -> Manifest:
    with gzip.open(
        real_data / "magnatagatune" / "annotations_final.csv.gz", "rt", newline=""
    ) as file:
        header, *rows = csv.reader(file, delimiter="\t")
    return Manifest(
        tuple(row[0] for row in rows),
        tuple(row[-1] for row in rows),
        ("",) * len(rows),
        tuple(
            tuple(tag for tag, flag in zip(header[1:-1], row[1:-1], strict=True) if flag == "1")
            for row in rows
        ),
    )


def test_the_published_figure_of_a_tagger(real_data, clips):
    folder = real_data / "mtat_posteriors"
    tags = dict(zip(clips.clip_ids, clips.tags, strict=True))
    labels = np.array(
        [
            [tag in tags[clip] for tag in TAGGER_COLUMNS]
            for clip in (folder / "clip_ids.txt").read_text().split()
        ]
    )
    scores = np.load(folder / "mtat_musicnn.npy", allow_pickle=False)
    per_tag = {
        metric: np.asarray(metric(scores.T, labels.T), np.float64)
        for metric in (roc_auc, average_precision)
    }
    assert per_tag[roc_auc].mean() == pytest.approx(0.910897708562001, abs=1e-6)
    assert per_tag[average_precision].mean() == pytest.approx(0.450874, abs=1e-6)


# an independent PyTorch run, 5 seeds: mean and standard deviation of mAP and ROC-AUC; see its README
REFERENCE = {
    ("msd_musicnn", 10): (0.2268, 0.0012, 0.7486, 0.0023),
    ("jamendo_musicnn", 10): (0.2107, 0.0016, 0.7154, 0.0021),
    ("combined", 10): (0.3386, 0.0050, 0.8370, 0.0008),
    ("msd_musicnn", 1): (0.1486, 0.0138, 0.6092, 0.0162),
    ("jamendo_musicnn", 1): (0.1297, 0.0042, 0.5695, 0.0074),
    ("combined", 1): (0.2165, 0.0058, 0.7098, 0.0101),
}


@pytest.mark.parametrize(
    "embeddings",
    [("jamendo_musicnn",), pytest.param(("msd_musicnn", "combined"), marks=pytest.mark.slow)],
    ids="-".join,
)
def test_the_protocol_agrees_with_an_independent_run(real_data, clips, tmp_path, embeddings):
    folder = real_data / "mtat_posteriors"
    write_manifest(tmp_path / "manifest.csv", apply_split_file(clips, folder / "split.csv")[0])
    ids = tuple((folder / "clip_ids.txt").read_text().split())
    stores = tuple(
        (name, str(tiny.write_store(tmp_path / name, ids, np.load(folder / f"{name}.npy"))))
        for name in ("msd_musicnn", "jamendo_musicnn")
    )
    rows = sweep(
        SweepConfig(
            str(tmp_path / "manifest.csv"),
            stores,
            embeddings,
            str(tmp_path / "out"),
            solver=SolverConfig(),
            grid=GridConfig(n_way=(50,), k_shot=(1, 10), num_seeds=5, on_scarce="fewer"),
        )
    )
    assert {row.embedding for row in rows} == set(embeddings)
    for (embedding, k_shot), (mean_ap, std_ap, mean_auc, std_auc) in REFERENCE.items():
        if embedding not in embeddings:
            continue
        mine = [row for row in rows if row.embedding == embedding and row.k_shot == k_shot]
        for values, mean, std in (
            ([row.mAP for row in mine], mean_ap, std_ap),
            ([row.roc_auc for row in mine], mean_auc, std_auc),
        ):
            # two means of five seeds: within four standard errors of their difference, from both
            # spreads
            error = np.hypot(std, np.std(values, ddof=1)) / np.sqrt(5)
            assert abs(np.mean(values) - mean) < 4 * error, (
                embedding,
                k_shot,
                np.mean(values),
                mean,
            )
