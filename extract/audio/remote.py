"""Audio in object storage, through fsspec: s3://, gs:// and hf:// in the place of a directory.

A file is read by ranges into a local copy, and decoded from there as any other: so its rows do not
depend on where it lies. Each range is checked for its length and asked for again, with back-off,
where the answer fails, is late or is short. Credentials come only from where the libraries look for
them themselves (environment, configuration files, roles); none can stand in an address.
"""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from time import sleep
from typing import Any, NamedTuple, TypeVar

from extract.audio.finding import LocatedFile, alike, note_of
from extract.audio.readers import AudioError
from extract.audio.scratch import prefix, remove
from extract.errors import InputError
from extract.files import is_disk_full
from extract.manifest import check_inside

PROTOCOLS = ("s3", "s3a", "gs", "gcs", "hf")
BLOCK = 8 << 20  # bytes per request
TRIES = 6  # of a request: with the pauses between them, half a minute
PAUSE = 1.0  # seconds after the first failure; then twice as long each time
COPY = "copy"  # kind of scratch file
# Credentials that are missing do not come by waiting.
_FINAL = ("NoCredentialsError", "PartialCredentialsError")
_Value = TypeVar("_Value")


class Place(NamedTuple):
    """A file of an object store. address: with its protocol. mtime_ns: 0 where the store does not
    say.
    """

    address: str
    size: int
    mtime_ns: int = 0

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True)
class Folder:
    """What the paths of a manifest are relative to, in an object store."""

    address: str

    def __post_init__(self) -> None:
        _system(self.address)

    def __str__(self) -> str:
        return self.address

    def check(self) -> None:
        """Raise InputError unless it can be read."""
        where = f"--audio_root={self.address}"
        if _answer(where, lambda: _system(self.address).info(self.address)) is None:
            raise InputError(f"{where}: nothing is there")

    def find(self, path: str) -> LocatedFile:
        """As `extract.audio.finding.find_audio`: the file of a manifest path, or the only one whose
        name differs from it by spelling. Raises InputError.
        """
        name = check_inside(self.address, path).as_posix()
        if place := self._place(name):
            return LocatedFile(place, path)
        name = check_inside(self.address, path.replace("\\", "/")).as_posix()
        so_far = PurePosixPath()
        for part in PurePosixPath(name).parts:
            names = _names(self.address, str(so_far))
            so_far = so_far / (part if part in names else alike(names, part))
        place = self._place(str(so_far))
        if place is None:
            raise InputError(f"No such file or directory: {name[:80]!r} is no file")
        return LocatedFile(place, str(so_far), note_of(str(so_far), path))

    def _place(self, name: str) -> Place | None:
        address = f"{self.address.rstrip('/')}/{name}"
        info = _answer(address, lambda: _system(address).info(address))
        if info is None or info["type"] != "file":
            return None
        return Place(address, int(info["size"] or 0), _mtime_ns(info))


def named(audio_root: str | Path) -> Path | Folder:
    """What --audio_root means: an address, unless it is one of this machine's, or a directory.
    Raises InputError on an address that nothing here reads.
    """
    address = str(audio_root)
    if "://" in address and not address.startswith("file://"):
        return Folder(address)
    return Path(address.removeprefix("file://"))


def local_copy(place: Path | Place, scratch: Path) -> Path:
    """The file itself, or a copy in `scratch`, kept until this process asks for another: clips that
    are parts of one file follow each other. Raises AudioError if it cannot be read, OSError on a
    full disk.
    """
    if isinstance(place, Path):
        return place
    ending = PurePosixPath(place.address).suffix[:10]  # one decoder looks at it
    digest = hashlib.sha256(repr(place).encode()).hexdigest()[:16]
    target = scratch / f"{prefix(COPY)}{digest}{ending}"
    if target.exists():
        return target
    scratch.mkdir(parents=True, exist_ok=True)
    remove(scratch, COPY, own=True)  # the last one
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            for start in range(0, place.size, BLOCK):
                stop = min(start + BLOCK, place.size)
                file.write(_patiently(functools.partial(_range, place.address, start, stop)))
        part.rename(target)
    except FileNotFoundError:
        raise AudioError("No such file or directory") from None
    except OSError as error:
        if is_disk_full(error):
            raise
        raise AudioError(f"not read, {TRIES} tries: {_why(error)}") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _range(address: str, start: int, stop: int) -> bytes:
    data: bytes = _system(address).cat_file(address, start=start, end=stop)
    if len(data) != stop - start:
        raise OSError(f"{len(data)} of the bytes {start} to {stop} came")
    return data


def _answer(where: str, request: Callable[[], _Value]) -> _Value | None:
    """That of `_patiently`; None if nothing is there. Raises InputError, which begins with `where`,
    if it cannot be read.
    """
    try:
        return _patiently(request)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{where}: {_why(error)}") from error


def _patiently(request: Callable[[], _Value]) -> _Value:
    """The answer, asked for again where it fails in a way that may pass. Raises OSError."""
    for tried in range(1, TRIES + 1):
        try:
            return request()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # libraries raise all kinds of things here
            if is_disk_full(error) or type(error).__name__ in _FINAL:
                raise
            if tried == TRIES:
                raise OSError(_why(error)) from error
        sleep(PAUSE * 2 ** (tried - 1))
    raise AssertionError


def _why(error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 160 else f"{said[:157]}..."


def _mtime_ns(info: dict[str, Any]) -> int:
    """When it was changed, as far as its store says so."""
    said: list[Any] = [
        info.get(key) for key in ("LastModified", "mtime", "updated", "last_modified")
    ]
    times = [value.timestamp() for value in said if hasattr(value, "timestamp")]
    return int(times[0] * 1_000_000_000) if times else 0


@functools.lru_cache(maxsize=64)
def _names(address: str, folder: str) -> tuple[str, ...]:
    where = f"{address.rstrip('/')}/{folder}" if folder != "." else address
    listed = _answer(where, lambda: _system(where).ls(where, detail=False, refresh=True))
    return tuple(sorted(PurePosixPath(entry).name for entry in listed or ()))


def _system(address: str) -> Any:
    """The fsspec file system of an address. Raises InputError if nothing here reads it."""
    protocol, _, rest = address.partition("://")
    if protocol not in PROTOCOLS:
        raise InputError(
            f"--audio_root={address}: addresses begin with s3://, gs://, hf:// or file://"
        )
    if protocol != "hf" and "@" in rest.partition("/")[0]:
        raise InputError(
            f"--audio_root={protocol}://...: leave credentials out of the address; the library "
            "takes them from the environment or its own files"
        )
    try:
        import fsspec

        return fsspec.filesystem(protocol, use_listings_cache=protocol == "hf")
    except ImportError as error:
        raise InputError(f"{error}; {protocol}:// needs: pip install 'fsprobe[remote]'") from error
