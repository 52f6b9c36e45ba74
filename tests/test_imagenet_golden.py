"""Backbones with imported weights compute what torchvision and timm compute from them."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from golden import imagenet
from golden.libraries import import_torchvision

from ar_net_jax import backbones
from ar_net_jax.weights.imagenet import import_backbone

# The values do not depend on it, and compiling takes half as long.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@functools.cache
def _golden() -> Any:
    return np.load(Path(__file__).parent / "golden" / "imagenet.npz")


def _features(case: imagenet.Case, frames: np.ndarray) -> np.ndarray:
    state = imagenet.draw_backbone(case.backbone, case.library, case.variance)
    variables = import_backbone(case.backbone, state)
    backbone = backbones.get(case.backbone).module(padding=case.padding, norm=case.norm)
    compiled = jax.jit(backbone.apply).lower(variables, frames).compile(compiler_options=QUICK)
    return np.asarray(compiled(variables, frames))


def _assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """To 1e-4 of the largest magnitude."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_every_imagenet_architecture_has_a_golden_value() -> None:
    covered = {case.backbone for case in imagenet.GOLDEN}
    assert covered == {name for name in backbones.names() if backbones.get(name).imagenet_weights}
    assert {case.key for case in imagenet.GOLDEN} == set(_golden())


# Of each family the smallest is looked at by default, and of ResNets the first of either block.
LARGER = (
    "resnet34",
    "resnet101",
    *(f"efficientnet_b{i}" for i in range(1, 6)),
    *(f"efficientnet_lite{i}" for i in (1, 2)),
)
CASES = [
    pytest.param(case, id=case.key, marks=[pytest.mark.slow] * (case.backbone in LARGER))
    for case in imagenet.GOLDEN
]


@pytest.mark.parametrize("case", CASES)
def test_imported_weights_give_the_golden_features(case: imagenet.Case) -> None:
    _assert_close(_features(case, imagenet.frames(64, 64)), _golden()[case.key])


@pytest.mark.slow
def test_golden_features_tell_the_settings_apart() -> None:
    frames = imagenet.frames(64, 64)
    (case,) = (c for c in imagenet.GOLDEN if c.model == "efficientnet_b0")
    for other in (case._replace(padding="same"), case._replace(norm="tensorflow")):
        with pytest.raises(AssertionError):
            _assert_close(_features(other, frames), _golden()[case.key])


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("case", imagenet.CASES, ids=lambda case: case.key)
def test_imported_weights_agree_with_torchvision_and_timm(case: imagenet.Case) -> None:
    import_torchvision()
    pytest.importorskip("timm")
    # Odd maps at many depths, and rows unlike columns.
    frames = imagenet.frames(141, 173)
    _assert_close(_features(case, frames), imagenet.reference_features(case, frames))
