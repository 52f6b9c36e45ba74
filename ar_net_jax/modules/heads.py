"""A backbone with its classifier: frames in, one prediction per frame out."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.model import ModelConfig
from ar_net_jax.errors import UserError
from ar_net_jax.ops.resize import Normalisation
from ar_net_jax.ops.rng import dropout

Array = jax.Array

# Released initialisation of every Linear layer: N(0, 0.001) and zero bias.
linear_init: nn.initializers.Initializer = nn.initializers.normal(0.001)

# Salts keep apart the layers that draw dropout masks from the same keys.
HEAD_SALT = 1_000
POLICY_SALT = 1_001


def matmul(x: Array, kernel: Array) -> Array:
    """A float32 matrix product that stays float32 on TPUs and GPUs too: [..., D] @ [D, E]."""
    return jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST)


class Linear(nn.Module):
    """A float32 Linear layer with the released initialisation.

    Attributes:
        inputs: D.
        outputs: number of outputs.
    """

    inputs: int
    outputs: int

    def setup(self) -> None:
        """Declares the parameters."""
        self.kernel = self.param("kernel", linear_init, (self.inputs, self.outputs), jnp.float32)
        self.bias = self.param("bias", nn.initializers.zeros, (self.outputs,), jnp.float32)

    def __call__(self, x: Array) -> Array:
        """[..., D] -> float32 [..., outputs]."""
        return matmul(x.astype(jnp.float32), self.kernel) + self.bias


class FrameClassifier(nn.Module):
    """Backbone, dropout and Linear.

    Attributes:
        architecture: name of the backbone.
        num_classes: C.
        dropout: rate before the Linear layer.
        dtype: computation type of the backbone.
        padding: padding rule of EfficientNets.
        norm: settings of EfficientNets' BatchNorms.
        remat: of the backbone, see `ModelConfig`.
    """

    architecture: str
    num_classes: int
    dropout: float
    dtype: jnp.dtype = jnp.float32
    padding: str = "same"
    norm: str = "tensorflow"
    remat: bool = False

    def setup(self) -> None:
        """Declares the submodules."""
        backbone = backbones.get(self.architecture)
        self.backbone = backbone.module(
            dtype=self.dtype,
            padding=self.padding,
            norm=self.norm,
            remat=self.remat,
        )
        self.head = Linear(backbone.features, self.num_classes)

    @property
    def normalisation(self) -> Normalisation:
        """What the frames are to be normalised by."""
        return backbones.get(self.architecture).normalisation

    def __call__(self, frames: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Predicts each frame by itself.

        Args:
            frames: normalised float32 [N, S, S, 3].
            train: update and use batch statistics.
            keys: one key per frame [N] for dropout, or None.

        Returns:
            logits float32 [N, C].
        """
        features = self.features(frames, train=train, keys=keys)
        return self.head(dropout(features, self.dropout, keys, HEAD_SALT))

    def features(self, frames: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Pooled features float32 [N, D] of normalised frames [N, S, S, 3]."""
        return self.backbone(frames, train=train, keys=keys)


def frame_classifier(config: ModelConfig, backbone: str) -> FrameClassifier:
    """The classifier of a backbone under a model's shared settings."""
    return FrameClassifier(
        backbone,
        config.num_classes,
        config.dropout,
        jnp.dtype(config.dtype),
        config.padding,
        config.norm,
        config.remat,
    )


def check_backbone(name: str, path: str) -> None:
    """Raises UserError, naming the field, unless `name` is a backbone's."""
    try:
        backbones.get(name)
    except UserError as error:
        raise UserError(f"config.{path}: {error}") from None
