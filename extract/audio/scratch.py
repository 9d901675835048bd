"""Names of files that a process needs for a while: whose they are stands in them, so that those of
a process that was killed can be removed.
"""

import os
from pathlib import Path


def prefix(kind: str) -> str:
    """Of this process's files of a kind."""
    return f"{os.getpid()}-{kind}-"


def remove(scratch: Path, kind: str = "*", own: bool = False) -> None:
    """Files of a kind whose processes are gone; own: this process's too."""
    for file in scratch.glob(f"*-{kind}-*"):
        pid = file.name.partition("-")[0]
        if pid.isdigit() and ((own and int(pid) == os.getpid()) or not _alive(int(pid))):
            file.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; no number that a process has
        pass
    return True
