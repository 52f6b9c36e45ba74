"""Shapes that annotations tell are checked while tests run, and cost nothing elsewhere."""

import subprocess
import sys

import jaxtyping
import numpy as np
import pytest

from ar_net_jax.data.sampling import eval_indices
from ar_net_jax.evaluation import metrics


def test_a_wrong_shape_or_type_is_refused() -> None:
    assert metrics.top_k_accuracy(np.ones((2, 3)), np.array([[0], [0]]), 1) == 100
    for scores, labels in [
        (np.ones((2, 3)), np.zeros((3, 1), int)),
        (np.ones((2, 3)), np.zeros((2, 1))),
        (np.ones(2), np.zeros((2, 1), int)),
    ]:
        with pytest.raises(jaxtyping.TypeCheckError):
            metrics.top_k_accuracy(scores, labels, 1)
    assert hasattr(eval_indices, "__wrapped__")


def test_users_do_not_pay_for_it() -> None:
    program = (
        "import sys\n"
        "from ar_net_jax.data.sampling import eval_indices\n"
        "print(hasattr(eval_indices, '__wrapped__'), 'beartype' in sys.modules)\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == ["False", "False"]
