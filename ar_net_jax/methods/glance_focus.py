"""What methods share that glance at frames with a light network, then focus on a part with a heavy.

Their settings, their two networks, and the losses of what these predict.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.model import Head
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.errors import UserError
from ar_net_jax.losses import Loss, LossContext, Target, classification_loss
from ar_net_jax.methods.uniform import UniformConfig
from ar_net_jax.modules.frame_runner import Mode, run_on_frames, run_prepared
from ar_net_jax.modules.heads import FrameClassifier, frame_classifier
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.crop import crop
from ar_net_jax.ops.resize import prepare_frames

Array = jax.Array

GLANCE, FOCUS, CLASSIFIER = "glance", "focus", "classifier"
ELSEWHERE = {FOCUS: "backbone_0"}
"""The heavy network has this name in other methods."""
"""Names of the two networks and of the classifier on what they make of frames."""


@dataclass(frozen=True)
class GlanceFocusConfig(UniformConfig):
    """A heavy network on a part of a frame, and a light one on all of it.

    Attributes:
        backbone: name of the network that focuses.
        resolution: side in pixels of the frames that parts are cut out of.
        head: `max_mlp`, which the method is made of.
        dropout: before every classifier.
        crop: side in pixels of a part as the heavy network sees it.
        glance_backbone: name of the light network.
        glance_resolution: side in pixels at which it sees whole frames.
    """

    head: Head = "max_mlp"
    dropout: float = 0.2
    crop: int = 128
    glance_backbone: str = "mobilenet_v2"
    glance_resolution: int = 224

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(self.head == "max_mlp", f"{path}.head", "the method is made of 'max_mlp'")
        require(
            1 <= self.crop <= self.resolution,
            f"{path}.crop",
            f"must be from 1 pixel to the frame's side, {self.resolution}",
        )
        require(
            1 <= self.glance_resolution <= self.resolution,
            f"{path}.glance_resolution",
            f"must be from 1 pixel to the frame's side, {self.resolution}",
        )
        for field in ("backbone", "glance_backbone"):
            require(
                backbones.get(getattr(self, field)).per_frame,
                f"{path}.{field}",
                "sees the frames of a video together; choose one that sees each by itself",
            )
        try:
            backbones.map_side(self.glance_backbone, self.glance_resolution)
        except UserError as error:
            raise UserError(f"config.{path}.glance_backbone: {error}") from None

    @property
    def glance_width(self) -> int:
        """Width of the light network's features."""
        return backbones.get(self.glance_backbone).features

    @property
    def focus_width(self) -> int:
        """Width of the heavy network's features."""
        return backbones.get(self.backbone).features

    def networks(self) -> dict[str, Network]:
        """The two networks; their own classifiers serve training alone and are not counted."""
        return {
            name: Network(
                path=(name,),
                backbone=backbone,
                resolution=resolution,
                heads=("head",),
                padding=self.padding,
                method=method,
            )
            for name, backbone, resolution, method in (
                (GLANCE, self.glance_backbone, self.glance_resolution, "map_rows"),
                (FOCUS, self.backbone, self.crop, "features"),
            )
        }


def glance_network(config: GlanceFocusConfig) -> FrameClassifier:
    """The light network: in float32 whatever the heavy one computes in, as its map decides."""
    precise = dataclasses.replace(config, dtype="float32", head="mean")
    return frame_classifier(precise, config.glance_backbone)


def focus_network(config: GlanceFocusConfig) -> FrameClassifier:
    """The heavy network."""
    return frame_classifier(dataclasses.replace(config, head="mean"), config.backbone)


def glance_at(
    network: FrameClassifier,
    config: GlanceFocusConfig,
    frames: Array,
    selected: Array,
    mode: Mode,
) -> tuple[Array, Array, Array]:
    """Runs the light network on whole frames.

    Args:
        network: bound, at the module's root.
        config: of the model.
        frames: uint8 [B, T, S, S, 3].
        selected: bool [B, T], what the routed form computes; the rest is zero.
        mode: training behaviour, keys and form of execution.

    Returns:
        The last maps float32 [B, T, h, h, D], the features [B, T, D], and how many frames were
        computed.
    """
    rows, computed = run_on_frames(
        network,
        frames,
        selected,
        mode,
        name=GLANCE,
        size=config.glance_resolution,
        resize=config.resize,
        method="map_rows",
    )
    side = math.isqrt(rows.shape[-1] // config.glance_width)
    maps = rows.reshape(*selected.shape, side, side, config.glance_width)
    return maps, jnp.mean(maps, axis=(2, 3)), computed


def focus_on(
    network: FrameClassifier,
    config: GlanceFocusConfig,
    frames: Array,
    boxes: Array,
    selected: Array,
    mode: Mode,
) -> tuple[Array, Array]:
    """Runs the heavy network on parts of frames.

    Args:
        network: bound, at the module's root.
        config: of the model.
        frames: uint8 [B, T, S, S, 3].
        boxes: float32 [B, T, 4], top, left, height and width in pixels.
        selected: bool [B, T], what the routed form cuts out and computes; the rest is zero.
        mode: training behaviour, keys and form of execution.

    Returns:
        Features float32 [B, T, D], and how many frames were computed.
    """

    def prepare(given: tuple[Array, Array]) -> Array:
        parts = crop(*given, config.crop)
        return prepare_frames(parts, config.crop, normalisation=network.normalisation)

    return run_prepared(
        network, prepare, (frames, boxes), selected, mode, name=FOCUS, method="features"
    )


def frame_logits(network: FrameClassifier, features: Array, mode: Mode) -> Array:
    """A network's own prediction from each frame, float32 [B, T, C] of features [B, T, D]."""
    assert network.name is not None  # A bound module has one.
    batch, length, width = features.shape
    keys = mode.frame_keys(network.name, length)
    return network.rows(features.reshape(-1, width), keys=keys).reshape(batch, length, -1)


def _mean_loss(logits: Array, labels: Array, target: Target) -> Array:
    """The mean of the losses of logits [B, ..., C], each for its video's labels [B, K]."""
    rows = jnp.moveaxis(logits.reshape(logits.shape[0], -1, logits.shape[-1]), 1, 0)
    of_one = functools.partial(classification_loss, labels=labels, target=target)
    return jnp.mean(jax.vmap(of_one)(rows))


@dataclass(frozen=True)
class EveryStep(Loss):
    """Classification of the video after each step, on average over steps and passes.

    Attributes:
        target: as in `Accuracy`.
    """

    name = "every_step"
    needs = ("step_logits",)

    target: Target = "cross_entropy"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        return _mean_loss(prediction.outputs["step_logits"], context.labels, self.target)


@dataclass(frozen=True)
class Glance(Loss):
    """Classification of the video from each frame that is glanced at, by its features alone.

    Attributes:
        target: as in `Accuracy`.
    """

    name = "glance"
    needs = ("glance_logits",)

    target: Target = "cross_entropy"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        return _mean_loss(prediction.outputs["glance_logits"], context.labels, self.target)


@dataclass(frozen=True)
class Focus(Loss):
    """Classification of the video from the part of each frame, on average over passes.

    Attributes:
        target: as in `Accuracy`.
    """

    name = "focus"
    needs = ("focus_logits",)

    target: Target = "cross_entropy"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        return _mean_loss(prediction.outputs["focus_logits"], context.labels, self.target)


def glance_focus_losses() -> dict[str, Loss]:
    """What both networks and the classifier on top of them learn by."""
    return {EveryStep.name: EveryStep(), Glance.name: Glance(), Focus.name: Focus()}
