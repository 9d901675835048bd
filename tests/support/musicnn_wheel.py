"""The wheel of musicnn, for tests with its real weights: fetched by pip once per checkout."""

import os
from pathlib import Path

import pytest

from extract.embeddings.registry import MUSICNN
from extract.errors import InputError
from extract.files import sha256_of
from extract.wheels import download

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "tests"


def wheel() -> Path:
    """Its path. Where it cannot be had the test is skipped, saying why; with CI=true, as in .ci/run,
    or FSPROBE_PARITY=required, as in launch/parity.sh, it fails.
    """
    published = MUSICNN.wheel
    assert published is not None
    path = CACHE / published.file
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        folder = CACHE / f"pip-{os.getpid()}"
        folder.mkdir()
        try:
            download(published, folder, f"put the wheel at {path}").replace(path)
        except InputError as error:
            wanted = {"CI": "true", "FSPROBE_PARITY": "required"}
            if any(os.environ.get(name) == value for name, value in wanted.items()):
                pytest.fail(str(error))
            pytest.skip(str(error))
        finally:
            for left in folder.iterdir():
                left.unlink()
            folder.rmdir()
    assert sha256_of(path) == published.sha256
    return path
