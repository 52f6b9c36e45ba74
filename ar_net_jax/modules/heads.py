"""A backbone with its classifier: frames in, one row per frame out, a video's prediction from them.

What a row is depends on the head (`ModelConfig.head`): under `mean` a frame's logits, which are
averaged; under `max_mlp` its embedding, whose maximum over frames is classified.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax import backbones
from ar_net_jax.backbones.layers import batch_norm
from ar_net_jax.config.model import HEAD_WIDTH, Head, ModelConfig
from ar_net_jax.config.schema import require
from ar_net_jax.errors import UserError
from ar_net_jax.ops.pooling import kept_maximum
from ar_net_jax.ops.resize import Normalisation
from ar_net_jax.ops.rng import dropout
from ar_net_jax.ops.routing import masked_average

Array = jax.Array

# Released initialisation of every Linear layer: N(0, 0.001) and zero bias.
linear_init: nn.initializers.Initializer = nn.initializers.normal(0.001)

# Salts keep apart the layers that draw dropout masks from the same keys.
HEAD_SALT = 1_000
POLICY_SALT = 1_001


def uniform_init(key: Array, shape: tuple[int, int], dtype: DTypeLike = jnp.float32) -> Array:
    """A kernel uniform in +-1/sqrt(inputs), as PyTorch initialises a Linear layer by itself."""
    bound = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def matmul(x: Array, kernel: Array) -> Array:
    """A float32 matrix product that stays float32 on TPUs and GPUs too: [..., D] @ [D, E]."""
    return jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST)


class Linear(nn.Module):
    """A float32 Linear layer.

    Attributes:
        inputs: D.
        outputs: number of outputs.
        kernel_init: initialiser of the kernel; the released one of classifiers by default.
    """

    inputs: int
    outputs: int
    kernel_init: nn.initializers.Initializer = linear_init

    def setup(self) -> None:
        """Declares the parameters."""
        self.kernel = self.param(
            "kernel", self.kernel_init, (self.inputs, self.outputs), jnp.float32
        )
        self.bias = self.param("bias", nn.initializers.zeros, (self.outputs,), jnp.float32)

    def __call__(self, x: Array) -> Array:
        """[..., D] -> float32 [..., outputs]."""
        return matmul(x.astype(jnp.float32), self.kernel) + self.bias


class Embedding(nn.Module):
    """Product, BatchNorm, ReLU, such as the layer before the classifier of the head `max_mlp`.

    Attributes:
        inputs: D.
        outputs: E.
    """

    inputs: int
    outputs: int = HEAD_WIDTH

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """[..., D] -> float32 [..., E], not negative; `train` normalises by all rows together."""
        # No bias: BatchNorm would take it away again.
        init = nn.initializers.he_normal()
        kernel = self.param("kernel", init, (self.inputs, self.outputs), jnp.float32)
        x = matmul(x.astype(jnp.float32), kernel)
        return nn.relu(batch_norm(train=train, dtype=jnp.float32, name="norm")(x))


def video_logits(
    head: Head,
    rows: Sequence[Array],
    weights: Array,
    classify: Sequence[Callable[[Array], Array]],
) -> Array:
    """A video's prediction from its frames'.

    Under `max_mlp` several networks share one maximum; each one's classifier reads it, and their
    predictions are averaged over the frames that each was given.

    Args:
        head: see `ModelConfig`.
        rows: of each of L networks float32 [B, T, D], what `FrameClassifier` gives for frames.
        weights: float32 [B, T, L], the one-hot decisions restricted to networks; zero on frames
            that are left out.
        classify: the networks' classifiers of embeddings, float32 [B, W] -> [B, C]; not called
            under `mean`.

    Returns:
        float32 [B, C], zeros for a video of which no frame is kept.
    """
    stacked = jnp.stack(rows, axis=2)
    if head == "mean":
        return masked_average(stacked, weights)
    frames = jnp.sum(weights, axis=1)
    return classify_maximum(kept_maximum(stacked, weights), frames, classify)


def classify_maximum(
    maximum: Array, frames: Array, classify: Sequence[Callable[[Array], Array]]
) -> Array:
    """The prediction of `video_logits` from a maximum that is known already.

    Args:
        maximum: float32 [B, W], over the frames that are kept.
        frames: float32 [B, L], how many of them each network was given.
        classify: as there.
    """
    logits = jnp.stack([one(maximum) for one in classify], axis=1)
    return masked_average(logits[:, None], frames[:, None])


class FrameClassifier(nn.Module):
    """Backbone, dropout, and the layers of the head.

    Attributes:
        architecture: name of the backbone.
        num_classes: C.
        dropout: rate on the features.
        dtype: computation type of the backbone.
        padding: padding rule of EfficientNets.
        norm: settings of EfficientNets' BatchNorms.
        remat: of the backbone, see `ModelConfig`.
        kind: of head, see `ModelConfig`.
    """

    architecture: str
    num_classes: int
    dropout: float
    dtype: jnp.dtype = jnp.float32
    padding: str = "same"
    norm: str = "tensorflow"
    remat: bool = False
    kind: Head = "mean"

    def setup(self) -> None:
        """Declares the submodules."""
        backbone = backbones.get(self.architecture)
        self.backbone = backbone.module(
            dtype=self.dtype,
            padding=self.padding,
            norm=self.norm,
            remat=self.remat,
        )
        width = backbone.features
        if self.kind == "max_mlp":
            self.embedding = Embedding(width)
            width = HEAD_WIDTH
        self.head = Linear(width, self.num_classes)

    @property
    def normalisation(self) -> Normalisation:
        """What the frames are to be normalised by."""
        return backbones.get(self.architecture).normalisation

    @property
    def per_frame(self) -> bool:
        """Whether a frame's row depends on that frame alone."""
        return backbones.get(self.architecture).per_frame

    def __call__(
        self, frames: Array, *, train: bool = False, keys: Array | None = None, **videos: Any
    ) -> Array:
        """Each frame's row.

        Args:
            frames: normalised float32 [N, S, S, 3].
            train: update and use batch statistics.
            keys: one key per frame [N] for dropout, or None.
            **videos: `num_frames` and `frame_mask`, for a backbone that is not `per_frame`; see
                `Backbone.module`.

        Returns:
            Under `mean` logits float32 [N, C], else embeddings float32 [N, HEAD_WIDTH].
        """
        features = self.features(frames, train=train, keys=keys, **videos)
        return self.rows(features, train=train, keys=keys)

    def rows(self, features: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """What a call gives, from pooled features float32 [N, D]; the rest as there."""
        features = dropout(features, self.dropout, keys, HEAD_SALT)
        if self.kind == "mean":
            return self.head(features)
        return self.embedding(features, train=train)

    def video_logits(self, rows: Array, weights: Array) -> Array:
        """A video's prediction from its frames', by this network alone.

        Args:
            rows: float32 [B, T, D], what a call gives for frames.
            weights: float32 [B, T], 1 for frames that are kept, else 0.

        Returns:
            logits float32 [B, C].
        """
        return video_logits(self.kind, [rows], weights[..., None], [self.classify])

    def classify(self, maximum: Array) -> Array:
        """Logits float32 [B, C] of embeddings' maximum float32 [B, HEAD_WIDTH]."""
        return self.head(maximum)

    def map_rows(
        self, frames: Array, *, train: bool = False, keys: Array | None = None, **videos: Any
    ) -> Array:
        """The map that is pooled to features, laid out in a row: float32 [N, h * w * D].

        Of a backbone that has one, see `Backbone.module`; args as of a call.
        """
        found = self.backbone.feature_map(frames, train=train, keys=keys, **videos)
        return found.reshape(found.shape[0], -1).astype(jnp.float32)

    def features(
        self, frames: Array, *, train: bool = False, keys: Array | None = None, **videos: Any
    ) -> Array:
        """Pooled features float32 [N, D] of normalised frames [N, S, S, 3]; args as of a call."""
        return self.backbone(frames, train=train, keys=keys, **videos)


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
        config.head,
    )


def check_backbone(name: str, path: str, *, per_frame: bool = True) -> None:
    """Checks that a field names a backbone that can be used there.

    Args:
        name: the field's value.
        path: of the field.
        per_frame: whether it has to compute single frames, as where some are left out.

    Raises:
        UserError: there is no such backbone, or it sees a video's frames together only.
    """
    try:
        backbone = backbones.get(name)
    except UserError as error:
        raise UserError(f"config.{path}: {error}") from None
    require(
        backbone.per_frame or not per_frame,
        path,
        f"{name} sees a video's frames together, and here each is computed by itself; take one "
        "without a temporal shift",
    )
