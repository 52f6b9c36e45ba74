"""Small models with random weights, to be exported, and frames for them."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ar_net_jax.checkpoints import save_model
from ar_net_jax.config.data import DataConfig
from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import Model
from ar_net_jax.methods.ar_net import ARNetConfig
from ar_net_jax.methods.lstm import LSTMConfig
from ar_net_jax.methods.random_policy import RandomPolicyConfig
from ar_net_jax.methods.uniform import UniformConfig
from ar_net_jax.modules.policy import PolicyConfig

LENGTH, SIDE, CLASSES = 5, 24, 6
SEVERAL = {
    "num_classes": CLASSES,
    "resolutions": (24, 16),
    "backbones": ("resnet8_tiny",),
    "skips": (1, 2),
    "policy": PolicyConfig("resnet8_tiny", resolution=16, hidden_size=8),
}
MODEL = ARNetConfig(**SEVERAL)
AR_NET = Config(method="ar_net", model=MODEL)
BFLOAT16 = Config(method="ar_net", model=dataclasses.replace(MODEL, dtype="bfloat16"))
RANDOM = Config(method="random_policy", model=RandomPolicyConfig(**SEVERAL))
SINGLE = {"num_classes": CLASSES, "resolution": 24}
LSTM = Config(method="lstm", model=LSTMConfig(**SINGLE, backbone="resnet8_tiny", hidden_size=8))
MOBILE = Config(method="uniform", model=UniformConfig(**SINGLE, backbone="mobilenet_v2"))


def random_model(config: Config) -> Model:
    """A model with random weights whose policy, where it has one, chooses several actions."""
    return _drawn(config.method, config.model)


@functools.cache
def _drawn(method: str, model: Any) -> Model:
    config = Config(method=method, model=model, data=DataConfig(num_frames=LENGTH))
    shapes = config.build_method().variable_shapes()
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        # Kernels have several axes; what has one may be a variance.
        spread = max(1, np.prod(leaf.shape[:-1])) ** -0.5
        values = rng.normal(0, spread, leaf.shape) if leaf.ndim > 1 else rng.random(leaf.shape)
        return (values + (leaf.ndim == 1)).astype(leaf.dtype)

    variables = jax.tree.map(draw, shapes)
    policy = variables["params"].get("policy", {})
    if "lstm" in policy:
        for part, name in (("lstm", "bias_ih"), ("lstm", "bias_hh"), ("decision", "bias")):
            policy[part][name] *= 0
        policy["lstm"]["kernel_hh"] *= 3
        shape = policy["decision"]["kernel"].shape
        policy["decision"]["kernel"] = np.random.default_rng(3).normal(size=shape).astype("f")
    return Model(config, variables)


def save(model: Model, workdir: Path) -> None:
    save_model(workdir / "model", model.variables, model.config.to_dict())


def colourful(batch: int) -> np.ndarray:
    """Frames of which each is of another colour."""
    rng = np.random.default_rng(batch)
    colours = rng.integers(0, 256, (batch, LENGTH, 1, 1, 3))
    noise = rng.integers(0, 256, (batch, LENGTH, SIDE, SIDE, 3))
    return ((colours + noise) // 2).astype(np.uint8)
