"""A disk that is soon full: a tmpfs."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

BLOCK = 4 << 10  # bytes


@contextlib.contextmanager
def small_disk(path: Path, size: int = 128 << 10) -> Iterator[Path]:
    """path, where `size` bytes are mounted. Skips the test where that is not allowed."""
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True
    )
    if mount.returncode:
        pytest.skip("may not mount a tmpfs here")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def leave(disk: Path, room: int) -> Path:
    """A file that leaves `room` bytes of the disk free."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(BLOCK))
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(bytes(BLOCK + free - room))
    return ballast
