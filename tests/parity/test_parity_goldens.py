"""The committed goldens are what the packages compute today."""

import numpy as np
import pytest

from tests.parity.make_goldens import MAKERS
from tests.parity.oracle import installed
from tests.support.golden import load

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", MAKERS)
def test_goldens_are_current(name: str) -> None:
    made, kept = installed(MAKERS[name]), load(name)
    assert made.keys() == kept.keys()
    for key, array in kept.items():
        # another CPU sums in another order, and may round a quantised value the other way
        np.testing.assert_allclose(
            made[key].astype(np.float32),
            array.astype(np.float32),
            atol=1 if array.dtype == np.uint8 else 1e-4 * np.abs(array).max(),
        )
