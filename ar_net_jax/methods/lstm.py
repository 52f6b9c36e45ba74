"""LSTM (Table 1): features of one backbone through an LSTM, per-step predictions averaged."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network, Recurrence
from ar_net_jax.methods.base import Method
from ar_net_jax.methods.released import (
    LISTED,
    LITE,
    RESOLUTIONS,
    Contents,
    Path,
    ReleasedForm,
)
from ar_net_jax.methods.stages import StageConfig, baseline_losses, baseline_stages
from ar_net_jax.methods.uniform import UniformConfig, network_name
from ar_net_jax.modules.frame_runner import (
    EVALUATION,
    Mode,
    flatten_frames,
    mask_or_ones,
    run_on_frames,
)
from ar_net_jax.modules.heads import (
    POLICY_SALT,
    Embedding,
    Linear,
    frame_classifier,
    video_logits,
)
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.modules.recurrence import LSTMCell
from ar_net_jax.ops.rng import dropout, per_frame_keys

Array = jax.Array

RECURRENT = "LSTM"


@dataclass(frozen=True)
class LSTMConfig(UniformConfig):
    """A backbone with an LSTM after it.

    Attributes:
        hidden_size: LSTM units.
        feature_dropout: on the features before the LSTM.
    """

    hidden_size: int = 512
    feature_dropout: float = 0.5

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(self.hidden_size >= 1, f"{path}.hidden_size", "must be at least 1")
        require(0 <= self.feature_dropout < 1, f"{path}.feature_dropout", "must lie in [0, 1)")


class LSTMModule(nn.Module):
    """A recurrent classifier over the features of every frame.

    Attributes:
        config: the model's config.
    """

    config: LSTMConfig

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.backbone_0 = frame_classifier(cfg, cfg.backbone)
        self.lstm = LSTMCell(backbones.get(cfg.backbone).features, cfg.hidden_size)
        if cfg.head == "max_mlp":
            self.embedding = Embedding(cfg.hidden_size)
        self.head = Linear(cfg.head_width or cfg.hidden_size, cfg.num_classes)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`."""
        cfg, mask = self.config, mask_or_ones(frame_mask, frames)
        name = network_name(cfg.resolution)
        features, executed = run_on_frames(
            self.backbone_0,
            frames,
            mask,
            mode,
            name=name,
            size=cfg.resolution,
            resize=cfg.resize,
            method="features",
        )
        keys = per_frame_keys(mode.training_keys, frames.shape[1]) if mode.train else None
        dropped = dropout(flatten_frames(features), cfg.feature_dropout, keys, POLICY_SALT)
        hidden = self.lstm.unroll(dropped.reshape(features.shape))
        rows = self.head(hidden) if cfg.head == "mean" else self.embedding(hidden, train=mode.train)
        weights = mask.astype(jnp.float32)
        calls = jnp.sum(weights, 1)
        steps = jnp.asarray(mask.shape[0] * mask.shape[1], jnp.int32)
        return Prediction(
            logits=video_logits(cfg.head, [rows], weights[..., None], [self.head]),
            calls={name: calls, RECURRENT: calls},
            executed={name: executed, RECURRENT: steps},
        )


class ReleasedLSTM(ReleasedForm):
    """Released files of LSTM."""

    unused = ("linear.", f"{LISTED}.0.", "new_fc_list.0.")

    def fits(self, contents: Contents) -> bool:
        """See `ReleasedForm`; where the head could read either, features or state, Uniform fits."""
        alone = bool(contents.lite) and not (contents.decides or contents.samples)
        return alone and (contents.reads_hidden or not contents.reads_features)

    def model(self, contents: Contents, given: Mapping[str, str]) -> dict[str, Any]:
        """See `ReleasedForm`."""
        model: dict[str, Any] = {"resolution": RESOLUTIONS[0], "backbone": contents.lite}
        return model | ({"hidden_size": contents.hidden} if contents.hidden else {})

    def names(self, method: Method[Any, Any], contents: Contents | None) -> dict[Path, str]:
        """See `ReleasedForm`."""
        return {("backbone_0", "backbone"): LITE, ("lstm",): "rnn", ("head",): "lite_fc"}


class LSTM(Method[LSTMConfig]):
    """A frame's prediction may depend on the frames before it."""

    name = "lstm"
    title = "LSTM"
    Config = LSTMConfig
    released = ReleasedLSTM()

    def module(self) -> LSTMModule:
        """See `Method`."""
        return LSTMModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`; the classifier is counted on the backbone's features, as in the paper."""
        cfg = self.config
        return {
            network_name(cfg.resolution): Network(
                path=("backbone_0",),
                backbone=cfg.backbone,
                resolution=cfg.resolution,
                outputs=cfg.num_classes,
                hidden=cfg.head_width,
                padding=cfg.padding,
                method="features",
            ),
            RECURRENT: Network(
                path=(),
                children=("lstm", "embedding", "head"),
                recurrence=Recurrence(backbones.get(cfg.backbone).features, cfg.hidden_size),
                heads=("head",),
            ),
        }

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: as Uniform's, all of them joint."""
        return {
            name: dataclasses.replace(stage, objective="joint", losses=baseline_losses())
            for name, stage in baseline_stages(cls.Stage).items()
        }
