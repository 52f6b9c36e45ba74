"""A rebuild of the released baselines in PyTorch gives the values that are stored."""

import numpy as np
import pytest
from golden import released_baselines
from golden.libraries import import_torchvision

pytestmark = pytest.mark.parity


def test_stored_values_are_those_of_pytorch() -> None:
    import_torchvision()  # Or skips.
    stored = np.load(released_baselines.STORED)
    for name, values in released_baselines.outputs().items():
        scale = np.max(np.abs(stored[name]))
        np.testing.assert_allclose(values, stored[name], rtol=0, atol=1e-5 * scale, err_msg=name)
