"""From a config to the Flax module of its approach."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config.config import ModelConfig
from ar_net_jax.methods.ar_net import ARNet
from ar_net_jax.methods.lstm import LSTMBaseline
from ar_net_jax.methods.multi_scale import MultiScale
from ar_net_jax.methods.random_policy import RandomPolicy
from ar_net_jax.methods.uniform import Uniform
from ar_net_jax.modules.frame_runner import Mode

APPROACHES: dict[str, type[nn.Module]] = {
    "ar_net": ARNet,
    "uniform": Uniform,
    "lstm": LSTMBaseline,
    "random_policy": RandomPolicy,
    "multi_scale": MultiScale,
}


def build_model(config: ModelConfig) -> nn.Module:
    """The module of `config.approach`; a pure function of (variables, frames)."""
    return APPROACHES[config.approach](config)


def init_variables(
    config: ModelConfig, key: jax.Array, *, separate: bool = False, with_policy: bool = False
) -> dict:
    """Initial variables of a model; wrap in `jax.jit` or `jax.eval_shape`.

    Args:
        config: the model.
        key: typed PRNG key.
        separate: initialise for training each backbone by itself as well, which may need
            temporary classifiers.
        with_policy: with `separate`, include the policy's extractor.

    Returns:
        `{"params": ..., "batch_stats": ...}`.
    """
    model = build_model(config)
    size = config.image_size
    frames = jnp.zeros((1, 1, size, size, 3), jnp.uint8)
    keys = jax.random.split(key, 1)

    def run(module: nn.Module) -> None:
        module(frames, Mode(keys=keys))
        if separate and hasattr(module, "classify_separately"):
            module.classify_separately(frames, with_policy=with_policy)

    return dict(model.init(key, method=run))
