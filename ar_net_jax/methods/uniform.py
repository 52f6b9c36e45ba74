"""Uniform (Table 1): one backbone on every frame, predictions averaged.

It is also what the cost of other methods is held against: `uniform_of` makes one of their networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.methods.base import Method, Tree
from ar_net_jax.methods.released import (
    LITE,
    RESOLUTIONS,
    SINGLE,
    Contents,
    Path,
    ReleasedForm,
)
from ar_net_jax.methods.stages import StageConfig, baseline_stages
from ar_net_jax.methods.traits import Traits
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.heads import check_backbone, frame_classifier
from ar_net_jax.modules.prediction import Prediction

Array = jax.Array

_MODULE = "backbone_0"


@dataclass(frozen=True)
class UniformConfig(ModelConfig):
    """A model of one backbone.

    Attributes:
        backbone: its name.
        resolution: side in pixels at which it sees every frame.
    """

    backbone: str = "resnet50"
    resolution: int = 224

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        check_backbone(self.backbone, f"{path}.backbone")
        require(self.resolution >= 1, f"{path}.resolution", "must be at least 1 pixel")


class UniformModule(nn.Module):
    """A frame-averaging classifier.

    Attributes:
        config: the model's config.
    """

    config: UniformConfig

    def setup(self) -> None:
        """Declares the classifier under the name it has in a multi-backbone model."""
        self.backbone_0 = frame_classifier(self.config, self.config.backbone)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`."""
        cfg, mask = self.config, mask_or_ones(frame_mask, frames)
        name = network_name(cfg.resolution)
        rows, executed = run_on_frames(
            self.backbone_0, frames, mask, mode, name=name, size=cfg.resolution, resize=cfg.resize
        )
        weights = mask.astype(jnp.float32)
        logits = self.backbone_0.video_logits(rows, weights)
        return Prediction(
            logits,
            {name: jnp.sum(weights, 1)},
            {name: executed},
            network_logits={_MODULE: logits},
        )

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, names: tuple[str, ...]
    ) -> dict[str, Array]:
        """The same prediction under the module's name, as a multi-backbone model gives it."""
        del names
        return dict(self(frames, mode).network_logits)


class ReleasedUniform(ReleasedForm):
    """Released files of Uniform: `base_model` and `new_fc`, or `lite_backbone` and `lite_fc`."""

    unused = ("rnn.", "linear.")

    def fits(self, contents: Contents) -> bool:
        """See `ReleasedForm`; where the head could read features or state, LSTM fits too."""
        alone = not (contents.decides or contents.samples)
        reads = contents.reads_features or not contents.reads_hidden
        return alone and (not contents.lite or reads)

    def model(self, contents: Contents, given: Mapping[str, str]) -> dict[str, Any]:
        """See `ReleasedForm`."""
        backbone = contents.lite or contents.backbones[SINGLE][0]
        return {"resolution": RESOLUTIONS[0], "backbone": backbone}

    def names(self, method: Method[Any, Any], contents: Contents | None) -> dict[Path, str]:
        """See `ReleasedForm`."""
        lite = contents is not None and bool(contents.lite)
        backbone, head = (LITE, "lite_fc") if lite else (SINGLE, "new_fc")
        return {("backbone_0", "backbone"): backbone, ("backbone_0", "head"): head}

    def check_expressible(self, config: Any) -> None:
        """Nothing to check: the authors' --rescale_to gives Uniform any one resolution."""


class Uniform(Method[UniformConfig]):
    """The same network on every frame, whatever it shows."""

    name = "uniform"
    title = "Uniform"
    Config = UniformConfig
    released = ReleasedUniform()
    traits = Traits(reference=True)
    separable = True

    def module(self) -> UniformModule:
        """See `Method`."""
        return UniformModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`."""
        cfg = self.config
        return {
            network_name(cfg.resolution): Network(
                path=(_MODULE,),
                backbone=cfg.backbone,
                resolution=cfg.resolution,
                outputs=cfg.num_classes,
                hidden=cfg.head_width,
                heads=("head",),
                padding=cfg.padding,
            )
        }

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: as long as AR-Net's."""
        return baseline_stages(cls.Stage)


def network_name(resolution: int) -> str:
    """Name of the network at a resolution, as in a multi-backbone model."""
    return f"{resolution}px"


def uniform_of(method: Method[Any, Any], network: str = "") -> Uniform:
    """One network of a method on every frame, in place of what the method does.

    Args:
        method: the method under its configuration.
        network: the network's name; by default the method's main one.

    Raises:
        UserError: the method has no network that takes frames.
    """
    chosen = method.networks()[network] if network else method.main_network()
    shared = {field.name: getattr(method.config, field.name) for field in fields(ModelConfig)}
    config = UniformConfig(**shared, backbone=chosen.backbone, resolution=chosen.resolution)
    return Uniform(config)


def cut_out(method: Method[Any, Any], network: str, variables: Tree) -> Tree:
    """The variables of `uniform_of(method, network)`, taken from the method's own.

    Args:
        method: the method under its configuration.
        network: name of a network whose classifier is in its own module.
        variables: of the method.
    """
    cut = method.networks()[network]

    def take(tree: Tree) -> Tree:
        for name in cut.path:
            tree = tree.get(name, {})
        # Where there are several heads, the first is the one that predictions come from.
        heads = [tree[name] for name in cut.heads if name in tree]
        parts = {name: tree[name] for name in ("backbone", "embedding") if name in tree}
        return {_MODULE: parts | ({"head": heads[0]} if heads else {})}

    return {kind: take(tree) for kind, tree in variables.items()}
