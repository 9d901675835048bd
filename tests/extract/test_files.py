"""extract.files: tables as spreadsheets and data frames write them."""

import codecs
import errno
import itertools
import os

import pytest

from extract.errors import InputError
from extract.files import atomic_write, folders_below, made_whole, read_csv, read_text
from extract.manifest import audio_files

ROWS = [["a", "x|y"], ["b", "Björk; live, 1998"], ["c\td", ""]]
ENCODINGS = {
    "utf-8": b"",
    "utf-8 ": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
}


def quoted(rows, delimiter, newline):
    return "".join(delimiter.join(f'"{field}"' for field in row) + newline for row in rows)


@pytest.mark.parametrize(
    ("delimiter", "encoding"), list(itertools.product([",", ";", "\t"], ENCODINGS))
)
def test_separators_and_encodings(tmp_path, delimiter, encoding):
    path = tmp_path / "t.csv"
    text = quoted([["clip", "tags"], *ROWS], delimiter, "\r\n")
    path.write_bytes(ENCODINGS[encoding] + text.encode(encoding.strip()))
    rows = list(read_csv(path, ("clip", "tags")))
    assert [list(row.values()) for _, row in rows] == ROWS
    assert [line for line, _ in rows] == [2, 3, 4]
    assert read_text(path) == text.replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("clip,tags\na,x;y\n", [{"clip": "a", "tags": "x;y"}]),  # the header decides
        ("clip;tags,of;tags\na;x,y;z\n", [{"clip": "a", "tags,of": "x,y", "tags": "z"}]),
        ("sep=;\nclip;tags\na;x\n", [{"clip": "a", "tags": "x"}]),  # Excel's first line
        (" clip , tags\na, x\n", [{"clip": "a", "tags": " x"}]),  # values stay as they are
        ("clip;tags;;\na;x;;\n;;;\n", [{"clip": "a", "tags": "x"}]),  # empty cells around a table
        (",clip,tags\n0,a,x\n", [{"clip": "a", "tags": "x"}]),  # pandas' index
        ("clip,tags,lyrics\na,x," + "la" * 100_000 + "\n", None),
    ],
)
def test_what_is_read(tmp_path, text, rows):
    (tmp_path / "t.csv").write_text(text)
    found = [row for _, row in read_csv(tmp_path / "t.csv", ("clip", "tags"))]
    assert found == rows or (rows is None and len(found[0]["lyrics"]) == 200_000)


def test_lines_are_counted_below_a_separator_line(tmp_path):
    (tmp_path / "t.csv").write_text("sep=;\nclip;tags\na;x\nb;x;y\n")
    with pytest.raises(InputError, match="line 4: not as many fields"):
        list(read_csv(tmp_path / "t.csv", ("clip", "tags")))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"clip;label\n", "separated by semicolon, is 'clip,label', and must name clip,tags"),
        (b"clip\tlabel\n", "separated by tab"),
        (b"clip|tags\n", "separated by comma, semicolon or tab"),
        (b"clip tags\n", "separated by comma, semicolon or tab"),
        (b"\n", "column 'clip' is missing"),
        ("clip,tags\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (b"\xff\xfec\x00l\x00", "the header is 'cl'"),
        (b"\xff\xfec\x00l\x00i", "not UTF-16, though its first bytes say so"),
        ("clip,tags\na,Björk\n".encode("latin-1"), "line 2: not UTF-8"),
        (b"clip,tags," + b"x" * 9000 + b"\na,b\n", "not as many fields"),
        (b",".join(b"column%d" % i for i in range(5000)) + b"\n", "column 'clip' is missing"),
    ],
)
def test_what_is_refused(tmp_path, data, complaint):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(InputError) as caught:
        list(read_csv(tmp_path / "t.csv", ("clip", "tags")))
    assert complaint in str(caught.value)
    assert "t.csv" in str(caught.value)
    assert len(str(caught.value)) - len(str(tmp_path)) < 250


def test_linked_folders_are_read_once(tmp_path):
    """One outside, one that is there anyway, and two that lead in circles."""
    root = tmp_path / "music"
    (root / "own").mkdir(parents=True)
    (tmp_path / "disk" / "album").mkdir(parents=True)
    for path in ("music/own/a.wav", "disk/album/b.wav"):
        (tmp_path / path).touch()
    for name, target in {"linked": "../disk/album", "again": "own", "circle": "."}.items():
        (root / name).symlink_to(target)
    (tmp_path / "disk" / "album" / "up").symlink_to(root)
    assert audio_files(root) == ["linked/b.wav", "own/a.wav"]
    assert len(list(folders_below(root))) == 3


def test_a_device_or_a_pipe_keeps_its_place(tmp_path):
    """As root --out=/dev/null made a plain file of it, for all programs."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="no plain file"), atomic_write(pipe):
        pass
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_a_folder_that_cannot_be_cleared_away_hides_no_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.rmtree", lambda *args, **options: None)
    with pytest.raises(OSError, match="full") as raised, made_whole(tmp_path / "s") as scratch:
        scratch.mkdir()
        raise OSError(errno.ENOSPC, "full", str(scratch / "x.npy"))
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "s"))
