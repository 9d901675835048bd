"""The file of judgements: what counts, what is kept, who may write, and kill -9."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from extract.errors import InputError
from fsprobe.listening.judgements import Judgements, New

ROOT = Path(__file__).parents[3]
HOSTILE = (
    "<script>alert(1)</script>",
    "'); DROP TABLE judgements; --",
    '"quoted" & ünïcode ♫',
    "../../etc/passwd",
    "=1+1",
)


@pytest.fixture
def labels(tmp_path):
    opened = Judgements(tmp_path / "labels.sqlite")
    yield opened
    opened.close()


def test_the_latest_that_is_not_withdrawn_counts(labels):
    first, second = labels.add([New("a", "rock", "yes"), New("b", "rock", "unknown")], "me")
    (third,) = labels.add([New("a", "rock", "no")], "you")
    assert labels.current() == {("a", "rock"): "no", ("b", "rock"): "unknown"}
    assert labels.latest("me").id == second and labels.latest("nobody") is None
    assert labels.withdraw(third).value == "no"
    assert labels.withdraw(third) is None  # once is enough
    assert labels.current()["a", "rock"] == "yes"
    labels.withdraw(first)
    assert labels.current() == {("b", "rock"): "unknown"}


def test_a_row_per_judgement_says_who_and_when(labels):
    labels.add([New("a", "rock", "yes")], "ann")
    with sqlite3.connect(labels.path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        ((clip, tag, value, at, by),) = db.execute(
            "SELECT clip, tag, value, at, by FROM judgements"
        )
    assert (clip, tag, value, by) == ("a", "rock", "yes", "ann")
    assert at.startswith("20") and at.endswith("+00:00")


def test_what_is_sent_twice_stands_once(labels):
    entry = New("a", "rock", "yes", "key 1")
    (first,) = labels.add([entry], "me")
    assert labels.add([entry, New("b", "rock", "no", "key 2")], "me")[0] == first
    assert len(labels.all()) == 2


def test_tags_of_html_and_sql_are_only_texts(labels):
    labels.add([New("a", tag, "yes") for tag in HOSTILE], "me")
    assert [row.tag for row in labels.all()] == list(HOSTILE)


@pytest.mark.parametrize(
    "wrong",
    [
        New("a", "rock", "maybe"),
        New("", "rock", "yes"),
        New("a", "", "yes"),
        New("a", "a|b", "yes"),
        New("a", "two\nlines", "yes"),
        New("a", " outer", "yes"),
        New("a", "x" * 501, "yes"),
        New("a\ud800", "rock", "yes"),
        New(7, "rock", "yes"),
    ],
)
def test_all_are_kept_or_none(labels, wrong):
    with pytest.raises(InputError):
        labels.add([New("b", "rock", "yes"), wrong], "me")
    assert labels.all() == []


@pytest.mark.parametrize("content", [b"no database, but long enough to be looked at" * 50, None])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "x.sqlite"
    if content is None:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE other (x)")
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.sqlite"):
        Judgements(path)
    assert content is None or path.read_bytes() == content


def write_many(path: Path, name: str) -> None:
    labels = Judgements(path)
    for number in range(100):
        labels.add([New(f"{name}{number}", "rock", "yes")], name)


def test_two_processes_write_at_once(tmp_path):
    path = tmp_path / "labels.sqlite"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert len(Judgements(path).current()) == 200


def test_what_add_returned_from_outlives_a_kill(tmp_path):
    """The writer says each number after `add`; killed at some moment, at most one more is there."""
    code = (
        "import sys; from fsprobe.listening.judgements import Judgements, New\n"
        "labels = Judgements(sys.argv[1])\n"
        "for i in range(100_000):\n"
        "    labels.add([New(f'c{i}', 'rock', 'yes')], 'me'); print(i, flush=True)\n"
    )
    path = tmp_path / "labels.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as writer:
        said = [int(writer.stdout.readline()) for _ in range(50)]
        os.kill(writer.pid, signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().split()]
    kept = Judgements(path).current()
    assert len(kept) - len(said) in (0, 1)
    assert all((f"c{number}", "rock") in kept for number in said)
