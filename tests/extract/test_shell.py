"""extract.shell: the work is done whatever the shell is like, or one short line says why not."""

import contextlib
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from extract.errors import InputError
from extract.files import cache_folder
from extract.shell import LONGEST, expand_flagfiles, shorten
from tests.support import tiny

REPO = Path(__file__).parents[2]
# An entry module in small: says something on both streams, and leaves a trace of its work.
ENTRY = """
import sys, time
from absl import flags
from extract.shell import run
from extract.errors import InputError
flags.DEFINE_string("text", "", "")
def main():
    for _ in range(20):
        print("progress", file=sys.stderr, flush=True)
    if flags.FLAGS.text == "long":
        raise InputError("data.csv: " + "x" * 20_000 + "; mend the file")
    if flags.FLAGS.text == "bytes":
        raise InputError("data.csv: " + "ö" * 400 + "; mend the file")
    if flags.FLAGS.text == "control":
        raise InputError("tag '\\x1b[31m' 💥 is bad")
    print("result", flags.FLAGS.text)
    with open("done", "w") as file:
        file.write(flags.FLAGS.text)
run(main)
"""


def entry(tmp_path, *args, shell="", **options):
    """Run the module; `shell`: redirections, as a shell would make them."""
    (tmp_path / "entry.py").write_text(ENTRY)
    command = f'exec "$@" {shell}'
    return subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "entry.py", *args],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPO), **options.pop("env", {})},
        timeout=60,
        **{"capture_output": True, "text": True, **options},
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_stdout_cannot_encode_is_escaped(tmp_path, encoding):
    done = entry(
        tmp_path,
        "--text=Björk 💥",
        env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"},
        text=None,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "result Björk 💥\n".encode(encoding, "backslashreplace")
    assert (tmp_path / "done").read_text() == "Björk 💥"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_stop_the_work(tmp_path, closed):
    done = entry(tmp_path, "--text=x", shell=closed)
    assert done.returncode == 0
    assert (tmp_path / "done").read_text() == "x"


def broken_pipe():
    """The write end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


def test_nobody_reads_stderr(tmp_path):
    write = broken_pipe()
    done = entry(tmp_path, "--text=x", capture_output=False, stdout=subprocess.PIPE, stderr=write)
    os.close(write)
    assert (done.returncode, done.stdout) == (0, "result x\n")
    assert (tmp_path / "done").read_text() == "x"


def test_nobody_reads_stdout(tmp_path):
    write = broken_pipe()
    done = entry(tmp_path, "--text=x", capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 141
    assert set(done.stderr.splitlines()) == {"progress"}
    assert (tmp_path / "done").read_text() == "x"
    write = broken_pipe()
    done = entry(tmp_path, "--help", capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_behind_the_streams(tmp_path):
    done = entry(tmp_path, "--text=x", shell="> /dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("entry: standard output: the disk is full")
    assert (tmp_path / "done").exists()
    assert entry(tmp_path, "--text=y", shell="2> /dev/full").returncode == 0
    assert (tmp_path / "done").read_text() == "y"


def test_a_message_is_one_line_of_at_most_300_characters(tmp_path):
    done = entry(tmp_path, "--text=long")
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert len(line) + 1 == LONGEST == 300
    assert line.startswith("entry: data.csv: xxx") and line.endswith("xxx; mend the file")
    done = entry(tmp_path, "--text=bytes", text=None)
    line = done.stderr.splitlines(keepends=True)[-1]
    assert 290 < len(line) <= 300 and line.endswith("ö; mend the file\n".encode())
    assert shorten(b"a" * 300, 300) == b"a" * 300
    assert shorten(b"a" * 200 + b"b" * 100, 105) == b"a" * 60 + b" ... " + b"b" * 40
    done = entry(tmp_path, "--text=control", env={"PYTHONIOENCODING": "ascii"})
    assert done.stderr.splitlines()[-1] == r"entry: tag '\x1b[31m' \U0001f4a5 is bad"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_flagfiles_of_any_encoding(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "flags.cfg").write_bytes(
        f"{mark}# a comment\r\n\r\n  --text=Björk and more\r\n// another\r\n".encode(encoding)
    )
    assert entry(tmp_path, "--flagfile=flags.cfg").returncode == 0
    assert (tmp_path / "done").read_text() == "Björk and more"
    assert entry(tmp_path, "--flagfile", "flags.cfg", "--text=last").returncode == 0
    assert (tmp_path / "done").read_text() == "last"


def test_flagfiles_in_flagfiles(tmp_path):
    outer, inner = tmp_path / "outer.cfg", tmp_path / "inner.cfg"
    outer.write_text(f"--a=1\n--flagfile={inner}\n--c=3\n")
    inner.write_text("--b=2\n")
    arguments = ["--x", f"--flagfile={outer}", "--", f"--flagfile={outer}"]
    expected = ["--x", "--a=1", "--b=2", "--c=3", "--", f"--flagfile={outer}"]
    assert expand_flagfiles(arguments) == expected
    assert expand_flagfiles(["--flagfile="]) == []
    inner.write_text(f"--flagfile={outer}\n")
    with pytest.raises(InputError, match="names itself"):
        expand_flagfiles(arguments)
    with pytest.raises(InputError, match="which file"):
        expand_flagfiles(["--flagfile"])
    done = entry(tmp_path, "--flagfile=nowhere.cfg")
    assert (done.returncode, done.stderr) == (2, "entry: nowhere.cfg: No such file or directory\n")


# --- no home


NOBODY = """
import pwd, runpy, sys
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
sys.argv[0] = "-m"
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_no_home_and_no_passwd_entry(tmp_path):
    tiny.write_data(tmp_path)
    env = {key: value for key, value in os.environ.items() if key.startswith("JAX")}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", NOBODY]

    def nobody(*args):
        return subprocess.run(
            [*command, *args],
            cwd=tmp_path,
            env={**env, "PYTHONPATH": str(REPO), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=120,
        )

    flags = "--manifest=manifest.csv --store=good=good --n_way=2 --k_shot=1 --num_seeds=1 --tags=all --max_epochs=1"
    done = nobody("fsprobe.sweep", *flags.split(), "--out=r")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "r" / "probes.csv").read_text().count("\n") == 2
    done = nobody(
        "extract.run",
        "--manifest=manifest.csv",
        "--audio_root=.",
        "--embedding=vggish",
        "--store=s",
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "--cache_dir" in done.stderr


def test_the_cache_folder_needs_a_home(tmp_path, monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert cache_folder() == tmp_path / ".cache" / "fsprobe"
    monkeypatch.delenv("HOME")
    assert cache_folder() is None


# --- folders that cannot be written to


def mount(*args):
    if subprocess.run(["mount", *map(str, args)], capture_output=True).returncode:
        pytest.skip("may not mount here")


@pytest.fixture
def full_folder(tmp_path):
    """A folder on a disk that has no byte left."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=8k", "tmpfs", folder)
    with contextlib.suppress(OSError), (folder / "x").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def music(tmp_path):
    """A read-only folder of five files, and the table of their tags inside it."""
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "music"
    folder.mkdir()
    for i in range(5):
        soundfile.write(folder / f"s{i}.wav", [0.1 * i] * 8000, 8000)
    (folder / "tags.csv").write_text("clip,tags\n" + "".join(f"s{i},x\n" for i in range(5)))
    mount("--bind", folder, folder)
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_read_only_input_folder_and_a_full_temporary_folder(tmp_path, music, full_folder):
    def command(module, *args):
        return subprocess.run(
            [sys.executable, "-m", module, "--audio_root=music", *args],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPO), "TMPDIR": str(full_folder)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    with pytest.raises(OSError, match="Read-only"):
        (music / "x").touch()
    prepare = ("extract.prepare", "--dataset=folder", "--tags=music/tags.csv")
    done = command(*prepare, "--out=m.csv")
    assert (done.returncode, done.stderr) == (0, "")
    extract = ("extract.run", "--manifest=m.csv", "--embedding=logmel", "--num_workers=1")
    done = command(*extract, "--store=s")
    assert done.returncode == 0, done.stderr
    assert "logmel: 5 clips in s" in done.stdout
    for args, complaint in (
        ((*prepare, "--out=music/m.csv"), "cannot be written there (Read-only file system)"),
        ((*extract, "--store=music/s"), "Read-only file system"),
        ((*prepare, "--out=full/m.csv"), "the disk is full"),
        ((*extract, "--store=full/s"), "the disk is full"),
    ):
        done = command(*args)
        assert done.returncode == 2, args
        assert done.stderr.count("\n") == 1 and complaint in done.stderr
