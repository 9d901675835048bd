import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError
from extract.storage.array_files import read_array_file
from extract.storage.arrays import import_arrays
from extract.storage.check import verify
from extract.store import open_store

IDS = ("a", "b", "c")
ARRAY = np.array([[1, 2, 3, 4], [5, 5, 5, 5], [0, 0, 0, 8]], np.float32)


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    path = tmp_path / "ids.txt"
    path.write_text("a\nb\nc\n")
    return path


def test_an_array_is_a_vector_per_clip(tmp_path: Path, ids: Path) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    assert import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "s") == (3, 4, True)
    store = open_store(tmp_path / "s")
    assert (store.name, store.dim, store.clip_ids) == ("mine", 4, IDS)
    np.testing.assert_array_equal(store.features, ARRAY)
    root = np.sqrt(1.25)
    expected = [
        [-1.5 / root, -0.5 / root, 0.5 / root, 1.5 / root],
        [0] * 4,
        [-2 / np.sqrt(12)] * 3 + [6 / np.sqrt(12)],
    ]
    np.testing.assert_allclose(store.features_framenorm, expected, rtol=1e-6)
    assert (store.meta["sample_rate"], store.meta["window"], store.meta["hop"]) == (
        None,
        None,
        None,
    )
    assert len(store.meta["provenance"]["sha256"]) == 64
    report = verify(tmp_path / "s")
    assert (report.done, report.checksums, report.problems) == (3, 4, ())


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", ">f4", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_numbers_in_any_layout(tmp_path: Path, ids: Path, dtype: str, order: str) -> None:
    array = ARRAY.astype(dtype)
    np.save(tmp_path / "x.npy", np.asarray(array, order=order))  # type: ignore[call-overload]
    import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "s")
    np.testing.assert_array_equal(open_store(tmp_path / "s").features, array.astype(np.float32))


def test_npz_and_its_key(tmp_path: Path, ids: Path) -> None:
    np.savez(tmp_path / "one.npz", x=ARRAY)
    np.savez(tmp_path / "two.npz", x=ARRAY, y=ARRAY + 1)
    import_arrays(tmp_path / "one.npz", ids, "mine", tmp_path / "s")
    import_arrays(tmp_path / "two.npz", ids, "mine", tmp_path / "t", key="y")
    np.testing.assert_array_equal(open_store(tmp_path / "s").features, ARRAY)
    np.testing.assert_array_equal(open_store(tmp_path / "t").features, ARRAY + 1)
    with pytest.raises(InputError, match=r"holds x, y; choose one by --key"):
        import_arrays(tmp_path / "two.npz", ids, "mine", tmp_path / "u")
    with pytest.raises(InputError, match="no array 'z'"):
        import_arrays(tmp_path / "two.npz", ids, "mine", tmp_path / "u", key="z")


@pytest.mark.parametrize(
    "text",
    [
        "clip_id,x,y\na,1,2\nb,3,4e0\nc,5,-6\n",
        "\ufeffclip_id,x,y\r\na,1,2\r\n\r\nb,3,4\r\nc,5,-6",
    ],
)
def test_csv_with_a_clip_id_column(tmp_path: Path, ids: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text, newline="", encoding="utf-8")
    import_arrays(tmp_path / "x.csv", None, "mine", tmp_path / "s")
    import_arrays(tmp_path / "x.csv", ids, "mine", tmp_path / "t")
    for store in ("s", "t"):
        assert open_store(tmp_path / store).clip_ids == IDS
        np.testing.assert_array_equal(
            open_store(tmp_path / store).features, [[1, 2], [3, 4], [5, -6]]
        )
    ids.write_text("a\nc\nb\n")
    with pytest.raises(InputError, match="give only one of them"):
        import_arrays(tmp_path / "x.csv", ids, "mine", tmp_path / "u")


@pytest.mark.parametrize("header", ["", "x,y\n"])
def test_csv_of_numbers_alone(tmp_path: Path, ids: Path, header: str) -> None:
    (tmp_path / "x.csv").write_text(header + "1,2\n3,4\n5,-6\n")
    import_arrays(tmp_path / "x.csv", ids, "mine", tmp_path / "s")
    np.testing.assert_array_equal(open_store(tmp_path / "s").features, [[1, 2], [3, 4], [5, -6]])
    with pytest.raises(InputError, match="give --clip_ids"):
        import_arrays(tmp_path / "x.csv", None, "mine", tmp_path / "t")


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch exploded",)


def npy(array: np.ndarray) -> Callable[[Path], object]:
    return lambda path: np.save(path, array, allow_pickle=True)


def raw(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "make", "named"),
    [
        ("x.npy", npy(ARRAY[:2]), "2 rows, but .*ids.txt names 3"),
        ("x.npy", npy(ARRAY[0]), r"shape \(4,\)"),
        ("x.npy", npy(ARRAY[:, :0]), r"shape \(3, 0\)"),
        ("x.npy", npy(ARRAY[None]), r"shape \(1, 3, 4\)"),
        ("x.npy", npy(np.where(ARRAY == 8, np.nan, ARRAY)), "NaN or Inf .*first that of clip 'c'"),
        ("x.npy", npy(np.where(ARRAY == 5, np.inf, ARRAY)), "first that of clip 'b'"),
        ("x.npy", npy(ARRAY.astype(np.float64) * 1e300), "beyond float32"),
        ("x.npy", npy(np.array([[Bomb()]] * 3)), "not an array of numbers"),
        ("x.npy", npy(ARRAY.astype(complex)), "dtype complex128"),
        ("x.npy", npy(ARRAY.astype(str)), "dtype <U"),
        ("x.npy", raw(pickle.dumps(Bomb())), "not an array of numbers"),
        ("x.npy", raw(b"\x93NUMPY"), "truncated"),
        ("x.npy", raw(b""), "truncated"),
        ("x.npz", raw(b"PK\x03\x04abc"), "truncated"),
        ("x.csv", raw(b"1,2\n3\n4,5\n"), "x.csv, line 2: 1 fields, but 2 on line 1"),
        ("x.csv", raw(b"1,2\n3,x\n4,5\n"), "x.csv, line 2"),
        ("x.csv", raw(b"seg,x,y\n1_1,1.5,2\n1_2,2,1\n2_1,3,4\n"), r"column 1 \(seg\) holds text"),
        ("x.csv", raw(b"1.5,2\n2,1_2\n3,4\n"), "x.csv, line 2: '1_2' is no number"),
        ("x.csv", raw(b"clip_id,x\na,1\nb,2\na,3\n"), "'a' stands twice"),
        ("x.csv", raw(b"clip_id,x\na,1\nb,nan\nc,3\n"), "first that of clip 'b'"),
        ("x.csv", raw(b""), "x.csv: holds no numbers"),
        ("x.csv", raw(b"x,y\n"), "x.csv: no row below its header"),
        ("x.csv", raw(b"clip_id,x\n"), "x.csv: no row below its header"),
        ("x.csv", raw(b"\xff\xfe1,2"), "not readable as UTF-8"),
        ("x.txt", raw(b"1 2"), "npy, .npz or .csv"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    tmp_path: Path,
    ids: Path,
    name: str,
    make: Callable[[Path], object],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=named):
        import_arrays(
            tmp_path / name,
            None if b"clip_id" in (tmp_path / name).read_bytes() else ids,
            "mine",
            tmp_path / "s",
        )
    assert sorted(tmp_path.iterdir()) == before


def test_bad_ids(tmp_path: Path, ids: Path) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    for text, named in (
        ("a\nb\na\n", "'a' stands twice"),
        ("a\n\nc\n", "line 2: empty"),
        ("a\n b\nc\n", "outer blanks"),
    ):
        ids.write_text(text)
        with pytest.raises(InputError, match=named):
            import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_what_is_there_already_stays(tmp_path: Path, ids: Path) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    (tmp_path / "empty").mkdir()
    import_arrays(
        tmp_path / "x.npy", ids, "mine", tmp_path / "empty"
    )  # an empty directory is no loss
    files = {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in (tmp_path / "empty").iterdir()
    }
    again = import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "empty")
    assert again == (3, 4, False)  # so that a script that imports can be run twice
    assert files == {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in (tmp_path / "empty").iterdir()
    }
    with pytest.raises(InputError, match="exists already, and is not this store"):
        import_arrays(tmp_path / "x.npy", ids, "other", tmp_path / "empty")
    np.save(tmp_path / "x.npy", ARRAY + 1)
    with pytest.raises(InputError, match="exists already"):
        import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "empty")
    np.save(tmp_path / "x.npy", ARRAY)
    ids.write_text("a\nb\nd\n")
    with pytest.raises(InputError, match="exists already"):
        import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "empty")


def test_a_key_is_for_an_archive(tmp_path: Path, ids: Path) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    with pytest.raises(InputError, match=r"`key=y` is for an \.npz"):
        import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "s", key="y")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_damaged_byte_is_an_input_error_or_harmless(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    np.savez_compressed(path, x=ARRAY) if name == "x.npz" else np.save(path, ARRAY)
    whole = path.read_bytes()
    for place in range(len(whole) if name == "x.npz" else 128):
        damaged = whole[place] ^ 0x12
        path.write_bytes(whole[:place] + bytes([damaged]) + whole[place + 1 :])
        with contextlib.suppress(InputError):
            read_array_file(path, None)


def test_a_damaged_store_is_not_the_same(tmp_path: Path, ids: Path) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "s")
    with (tmp_path / "s" / "features.npy").open("r+b") as file:
        file.seek(130)
        file.write(b"x")
    with pytest.raises(InputError, match="exists already"):
        import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "s")


def test_the_working_directory_as_a_store(
    tmp_path: Path, ids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="exists already"):
        import_arrays(tmp_path / "x.npy", ids, "mine", ".")
    (tmp_path / "s").mkdir()
    monkeypatch.chdir(tmp_path / "s")
    assert import_arrays(tmp_path / "x.npy", ids, "mine", ".").new


def test_ids_with_a_byte_order_mark(tmp_path: Path, ids: Path) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    ids.write_text("a\nb\nc\n", encoding="utf-8-sig")
    import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "s")
    assert open_store(tmp_path / "s").clip_ids == IDS
    for text, named in (("a\n\nc\n", "line 2: empty clip_id; give"), (None, "no such file; give")):
        ids.write_text(text) if text else ids.unlink()
        with pytest.raises(InputError, match=named):
            import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "t")


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, ids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    np.save(tmp_path / "x.npy", ARRAY)
    monkeypatch.setattr(os, "posix_fallocate", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="the disk is full"):
        import_arrays(tmp_path / "x.npy", ids, "mine", tmp_path / "s")
    assert sorted(tmp_path.iterdir()) == before


def test_the_command(tmp_path: Path, ids: Path) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    args = [
        sys.executable,
        "-m",
        "extract.import_arrays",
        f"--features={tmp_path / 'x.npy'}",
        f"--clip_ids={ids}",
        "--name=mine",
        f"--store={tmp_path / 's'}",
    ]
    repo = Path(__file__).parents[2]
    done = subprocess.run(args, capture_output=True, text=True, cwd=repo)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 clips of 4 values" in done.stdout
    again = subprocess.run(args, capture_output=True, text=True, cwd=repo)
    assert (again.returncode, again.stderr) == (0, "")
    assert "as before" in again.stdout
    for wrong in (
        [*args, "--name=other"],
        [*args, "--features="],
        [*args, "--features=none.npy", f"--store={tmp_path / 't'}"],
    ):
        failed = subprocess.run(wrong, capture_output=True, text=True, cwd=repo)
        assert failed.returncode == 2
        assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "t").exists()


# --- columns that are no features


def table(
    path: Path, columns: dict[str, list[object]], header: bool = True, separator: str = ","
) -> Path:
    lines = [list(columns)] * header + [list(row) for row in zip(*columns.values(), strict=True)]
    text = "".join(separator.join(map(str, line)) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


ROWS = 12
ROW_IDS = [f"c{row}" for row in range(ROWS)]
NUMBERED = [str(1000 + 7 * row) for row in range(ROWS)]
X = [0.5 * row**2 - row for row in range(ROWS)]
Y = [3.0] * ROWS
COUNTED: list[object] = list(range(ROWS))
PERMUTED: list[object] = [*range(5, ROWS), *range(5)]


def imported(
    path: Path, clip_ids: list[str] | None, **options: str
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """(features, ids, notes)."""
    notes: list[str] = []
    ids = None
    if clip_ids is not None:
        ids = path.with_name("ids.txt")
        ids.write_text("".join(f"{clip}\n" for clip in clip_ids))
    import_arrays(path, ids, "mine", path.with_name("s"), note=notes.append, **options)
    store = open_store(path.with_name("s"))
    return np.asarray(store.features), store.clip_ids, notes


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("columns", "header", "ids"),
    [
        ({"": COUNTED, "0": X, "1": Y}, True, ROW_IDS),  # DataFrame.to_csv
        ({"": [1 + i for i in range(ROWS)], "V1": X, "V2": Y}, True, ROW_IDS),  # R's write.csv
        ({"": PERMUTED, "0": X, "1": Y}, True, ROW_IDS),  # a shuffled data frame
        ({"": [3 * i for i in range(ROWS)], "0": X, "1": Y}, True, ROW_IDS),  # a filtered one
        ({"Unnamed: 0": COUNTED, "a": X, "b": Y}, True, ROW_IDS),  # read and written again
        ({"a": X, "b": Y, "index": COUNTED}, True, ROW_IDS),
        ({"a": X, "row": COUNTED, "b": Y}, True, ROW_IDS),
        ({"i": COUNTED, "x": X, "y": Y}, False, ROW_IDS),  # no header at all
        ({"track": NUMBERED, "a": X, "b": Y}, True, NUMBERED),  # ids that are numbers
        ({"t": NUMBERED, "a": X, "b": Y}, False, NUMBERED),
        ({"": ROW_IDS, "0": X, "1": Y}, True, ROW_IDS),  # ids as the index
        ({"file": ROW_IDS, "a": X, "b": Y}, True, ROW_IDS),
        ({"i": ROW_IDS, "x": X, "y": Y}, False, ROW_IDS),
    ],
)
def test_an_index_or_ids_are_no_features(
    tmp_path: Path, columns: dict[str, list[object]], header: bool, ids: list[str], separator: str
) -> None:
    path = table(tmp_path / "x.csv", columns, header, separator)
    features, clip_ids, notes = imported(path, ids)
    np.testing.assert_array_equal(features, np.array([X, Y], np.float32).T)
    assert clip_ids == tuple(ids)
    meta = open_store(tmp_path / "s").meta["provenance"]
    assert len(meta["left_out"]) == 1
    for note in notes:  # text is no feature anyway, so that needs no note
        assert "left out" in note and "--id_columns=keep" in note and "x.csv" in note
    assert len(notes) == (0 if ROW_IDS in columns.values() else 1)


def test_an_index_in_an_array_is_no_feature_either(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([COUNTED, X, Y], np.float32).T)
    features, _, notes = imported(tmp_path / "x.npy", ROW_IDS)
    np.testing.assert_array_equal(features, np.array([X, Y], np.float32).T)
    assert notes == [
        f"{tmp_path / 'x.npy'}: column 1 counts the rows, and is left out; "
        "--id_columns=keep makes it a feature"
    ]


@pytest.mark.parametrize(
    ("columns", "header", "ids", "complaint"),
    [
        # three or four rows may count by chance
        ({"a": [0, 1, 2], "b": X[:3]}, False, ROW_IDS[:3], "column 1 counts the rows: is it a"),
        ({"": [0.5, 1.5, 7], "b": X[:3]}, True, ROW_IDS[:3], "column 1 has no name: is it a"),
        ({"id": PERMUTED, "b": X}, True, ROW_IDS, r"column 1 \(id\) holds a different integer"),
        ({"track_id": PERMUTED, "b": X}, True, ROW_IDS, "track_id.*a different integer in every"),
    ],
)
def test_in_doubt_the_user_says(
    tmp_path: Path,
    columns: dict[str, list[object]],
    header: bool,
    ids: list[str],
    complaint: str,
) -> None:
    path = table(tmp_path / "x.csv", columns, header)
    with pytest.raises(InputError, match=complaint) as caught:
        imported(path, ids)
    assert "--id_columns=keep" in str(caught.value) and "--id_columns=drop" in str(caught.value)
    assert not (tmp_path / "s").exists()
    features, _, notes = imported(path, ids, id_columns="drop")
    np.testing.assert_array_equal(features, np.array([columns["b"]], np.float32).T)
    assert len(notes) == 1
    (tmp_path / "s").rename(tmp_path / "dropped")
    features, _, notes = imported(path, ids, id_columns="keep")
    np.testing.assert_array_equal(features, np.array(list(columns.values()), np.float32).T)
    assert notes == []


@pytest.mark.parametrize(
    ("columns", "header"),
    [
        ({"x": X, "y": Y}, True),
        ({"x": COUNTED}, True),  # the only column
        ({"valence": PERMUTED, "y": Y}, True),
        ({"x": [5 + i for i in range(ROWS)], "y": Y}, False),
        ({"0": X, "1": Y}, False),
        ({"a_id": [0.5 * i for i in range(ROWS)], "y": Y}, True),
    ],
)
def test_features_stay(tmp_path: Path, columns: dict[str, list[object]], header: bool) -> None:
    features, _, notes = imported(table(tmp_path / "x.csv", columns, header), ROW_IDS)
    np.testing.assert_array_equal(features, np.array(list(columns.values()), np.float32).T)
    assert notes == []


def test_a_header_of_column_numbers(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", {"0": X, "1": Y})  # DataFrame.to_csv(index=False)
    features, _, notes = imported(path, ROW_IDS)
    np.testing.assert_array_equal(features, np.array([X, Y], np.float32).T)
    assert "the first row numbers the columns" in notes[0]


def test_clip_ids_in_any_column(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", {"a": X, "clip_id": NUMBERED, "b": Y})
    features, clip_ids, notes = imported(path, None)
    np.testing.assert_array_equal(features, np.array([X, Y], np.float32).T)
    assert (clip_ids, notes) == (tuple(NUMBERED), [])


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"a 1 2\nb 3 4\nc 5 6\n", "values are separated by blanks"),
        (b"0.5 1 2\n0.5 3 4\n0.5 5 6\n", "values are separated by blanks"),
        (b"1,5;2,5\n3,5;1\n4;1\n", "decimal points, not commas"),
        (b"1;2,5\n3;1\n4;1\n", "line 1: .*decimal points, not commas"),
        (b"x;y\n1;2\n3;1,5\n4;1\n", "line 3: '1,5' is no number.*decimal points, not commas"),
        (b"x,y\n1,2\n3,\n4,1\n", "line 3: '' is no number"),
        (b"c,0.1,1\na,0.2,2\nb,0.3,2\n", "column 1 names the clips in another order"),
        (b"mood,x\nsad,1\nsad,2\nhappy,3\n", r"column 1 \(mood\) holds text \('sad'\)"),
        (b"x,y\n1,2\n3," + b"9" * 90_000 + b"x\n", r"line 3: '9{40}…' is no number"),
    ],
)
def test_tables_that_are_no_features(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(InputError, match=complaint) as caught:
        imported(tmp_path / "x.csv", list(IDS))
    assert len(str(caught.value)) < 300
    assert not (tmp_path / "s").exists()


def test_utf_16_and_a_mark(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("clip_id\tx\r\nBjörk\t1\r\nb\t2\r\n".encode("utf-16"))
    assert imported(tmp_path / "x.csv", None)[1] == ("Björk", "b")
    (tmp_path / "ids16.txt").write_bytes("Björk\nb\n".encode("utf-16"))
    again = import_arrays(tmp_path / "x.csv", tmp_path / "ids16.txt", "mine", tmp_path / "s")
    assert not again.new
