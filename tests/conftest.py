"""What every test shares: several CPU devices, and where the real data is."""

import os
from pathlib import Path

import pytest

# before JAX starts: tests of sharding want more than one device
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: FSPROBE_DATA, or shared/data beside the checkout."""
    path = Path(
        os.environ.get("FSPROBE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    )
    if not path.is_dir():
        pytest.skip(f"real data not found at {path}; set FSPROBE_DATA")
    return path
