"""A whole ImageNet classifier as a model of the method Uniform: backbone and head."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ar_net_jax import backbones
from ar_net_jax.config.pretrained import PretrainedConfig
from ar_net_jax.costs.network import Network
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, apply_overrides, with_outputs
from ar_net_jax.methods.uniform import Uniform
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.identify import identify
from ar_net_jax.weights.imagenet import trained_with
from ar_net_jax.weights.pretrained import pretrained_variables
from ar_net_jax.weights.sources import Weights
from ar_net_jax.weights.variables import State

HEAD = "head"
"""Name of the classifier in a network's module."""

_ALTERNATIVE = (
    "to train other classes from these weights, name them in config.pretrained of `arnet train`"
)


def import_classifier(
    weights: Weights,
    *,
    method: str | None = None,
    config: Config | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Config, dict[str, Any]]:
    """Turns an ImageNet classifier into a Uniform model of the same classes.

    Args:
        weights: a file in one of the layouts of a backbone known here.
        method: name of the model's method, where the user gives one.
        config: taken instead of the one derived from keys and shapes.
        overrides: changes of single fields, such as `--config.model.resolution=224`.

    Returns:
        The config, and `{"params": ..., "batch_stats": ...}` as float32 host arrays.

    Raises:
        UserError: the weights are of no backbone known here, have no classifier, or do not fit
            the config.
    """
    state = read_state(weights.path)
    name, layout = _identify(state)
    kernel, bias = _classifier(state, name, layout)
    trained = trained_with(name, layout, weights)
    model: dict[str, Any] = {
        "num_classes": kernel.shape[1],
        "backbone": name,
        "resolution": backbones.get(name).native_size,
    }
    if trained is not None:
        model |= {"padding": trained.paddings[0], "norm": trained.norm}
    if config is None:
        config = Config.from_dict({"method": Uniform.name, "model": model})
    config = with_outputs(apply_overrides(config, overrides), kernel.shape[1])
    if method not in (None, config.method):
        raise UserError(f"--as {method}: the model is one of '{config.method}'; {_ALTERNATIVE}")
    network = _only_network(config, name, kernel.shape[1])
    named = PretrainedConfig({network.path[-1]: str(weights.path)})
    imported = pretrained_variables(dataclasses.replace(config, pretrained=named)) or {}
    variables = flatten_dict(imported)
    variables["params", *network.path, HEAD, "kernel"] = np.ascontiguousarray(kernel, np.float32)
    variables["params", *network.path, HEAD, "bias"] = np.asarray(bias, np.float32)
    return config, unflatten_dict(variables)


def _identify(state: State) -> tuple[str, str]:
    """The backbone and the layout whose keys are most like a file's."""
    known = backbones.names()
    candidates = [(name, layout) for name in known for layout in backbones.get(name).layouts()]
    found = identify({key: array.shape for key, array in state.items()}, candidates)
    if found is None:
        raise UserError(
            f"neither a released AR-Net checkpoint nor weights of a backbone known here (known: "
            f"{', '.join(known)}; the first keys are {', '.join(sorted(state)[:3])})"
        )
    return found


def _classifier(state: State, name: str, layout: str) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [D, C] and bias [C] of the last layer."""
    backbone = backbones.get(name)
    source = backbone.layout(layout).classifier
    if f"{source}.weight" not in state or f"{source}.bias" not in state:
        raise UserError(f"these weights have no classifier; {_ALTERNATIVE}")
    kernel, bias = state[f"{source}.weight"].T, state[f"{source}.bias"]
    if kernel.shape != (backbone.features, *bias.shape):
        raise UserError(
            f"the classifier's arrays have the shapes {kernel.shape[::-1]} and {bias.shape}, but "
            f"{name} has {backbone.features} features; get the file once more"
        )
    return kernel, bias


def _only_network(config: Config, name: str, num_classes: int) -> Network:
    """The network that the classifier becomes.

    Raises:
        UserError: the model is not a classifier of the same architecture and classes alone.
    """
    network, *others = config.build_method().networks().values()
    if others or network.heads != (HEAD,):
        raise UserError(
            f"config.method: one ImageNet network makes no model of '{config.method}'; leave "
            f"--config out, or {_ALTERNATIVE}"
        )
    if network.backbone != name:
        raise UserError(f"config.model asks for {network.backbone}, but the weights are {name}")
    if config.model.num_classes != num_classes:
        raise UserError(
            f"config.model.num_classes is {config.model.num_classes}, but the classifier has "
            f"{num_classes} classes; {_ALTERNATIVE}"
        )
    return network
