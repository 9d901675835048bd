"""What every test shares: several CPU devices, and where the real data is."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# before JAX starts: tests of sharding want more than one device
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")


@pytest.fixture(scope="module", autouse=True)
def no_programs_pile_up() -> Iterator[None]:
    """Compiled programs take memory mappings, thousands in all, and Linux allows 65,530."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: FSPROBE_DATA, or shared/data beside the checkout."""
    path = Path(
        os.environ.get("FSPROBE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    )
    if not path.is_dir():
        pytest.skip(f"real data not found at {path}; set FSPROBE_DATA")
    return path
