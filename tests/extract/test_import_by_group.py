"""Vectors per group or track, as a store."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from extract.storage.check import verify
from extract.store import open_store


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """Clips 1 and 3 of artist x, 2 of y, 4 of z, 5 of none."""
    path = tmp_path / "manifest.csv"
    rows = ["1,,train,,t1,x", "2,,train,,t2,y", "3,,test,,t3,x", "4,,test,,t4,z", "5,,test,,t5,"]
    path.write_text("clip_id,path,split,tags,track,group\n" + "\n".join(rows) + "\n")
    return path


def imported(grouped: Path, name: str, text: str, *flags: str) -> subprocess.CompletedProcess[str]:
    folder = grouped.parent
    (folder / f"{name}.csv").write_text(text)
    command = [sys.executable, "-m", "extract.import_arrays", f"--features={folder}/{name}.csv"]
    more = [f"--manifest={grouped}", "--name=side", f"--store={folder}/{name}", *flags]
    return subprocess.run([*command, *more], capture_output=True, text=True, cwd=Path.cwd())


def test_a_vector_per_group_goes_to_its_clips(grouped: Path) -> None:
    result = imported(grouped, "s", "group,a,b\ny,0.1,2\nx,0.3,4\n", "--by=group")
    assert result.returncode == 0, result.stderr
    assert "2 of 5 clips get no vector, of 1 groups without one or of none" in result.stderr
    store = open_store(grouped.parent / "s")
    assert store.clip_ids == ("1", "2", "3")
    np.testing.assert_allclose(store.features, [[0.3, 4], [0.1, 2], [0.3, 4]])
    assert verify(grouped.parent / "s").problems == ()
    again = imported(grouped, "s", "group,a,b\ny,0.1,2\nx,0.3,4\n", "--by=group")
    assert again.returncode == 0 and "as before" in again.stdout


def test_the_same_vectors_in_other_groups_are_another_store(grouped: Path) -> None:
    vectors = "group,a,b\ny,0.1,2\nx,0.3,4\n"
    assert imported(grouped, "s", vectors, "--by=group").returncode == 0
    grouped.write_text(grouped.read_text().replace("t3,x", "t3,y"))  # of the same clips
    again = imported(grouped, "s", vectors, "--by=group")
    assert again.returncode == 2 and "is not this store; name another" in again.stderr


def test_a_vector_per_track_named_by_numbers_or_in_a_file(grouped: Path) -> None:
    result = imported(grouped, "t", "track,a,b\nt5,1.5,2\nt1,3.5,4\n", "--by=track")
    assert result.returncode == 0, result.stderr
    assert open_store(grouped.parent / "t").clip_ids == ("1", "5")
    (grouped.parent / "ids.txt").write_text("x\nz\n")
    ids = f"--clip_ids={grouped.parent / 'ids.txt'}"
    result = imported(grouped, "u", "a,b\n1.5,2\n3.5,7\n", "--by=group", ids)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(open_store(grouped.parent / "u").features[:, 0], [1.5, 1.5, 3.5])


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("group,a\nq,1.5\n", ["--by=group"], "none of the 1 rows is a group of the manifest"),
        ("group,a\nx,1.5\nx,2.5\n", ["--by=group"], "group 'x' stands twice"),
        ("group,a\nx,nan\n", ["--by=group"], "NaN or Inf"),
        ("a,b\n1.5,2\n", ["--by=group"], "a .csv with a group column"),
        ("clip_id,a\n1,2.5\n", [], "--by=group (or track) and --manifest belong together"),
    ],
)
def test_groups_that_do_not_fit(grouped: Path, text: str, flags: list[str], message: str) -> None:
    result = imported(grouped, "s", text, *flags)
    assert result.returncode == 2 and message in result.stderr
    assert result.stderr.count("\n") == 1 and not (grouped.parent / "s").exists()
