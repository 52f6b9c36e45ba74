"""ListenToLook (image only): a light network previews all frames, attention picks those to look at.

Gao et al. 2020, without sound. Every frame's light features are turned into a key. An LSTM makes a
query of its state, the frame whose key fits best is picked, never one twice, and its light features
are the LSTM's next input; so `frames` times. Only the picked frames reach the main network, in one
batch, whose predictions on them the head combines as everywhere.

A pick has no gradient. So the attention learns in its soft form: in each step the rows of the main
network are averaged under the attention's weights, the steps count as the picked frames do later,
and both networks stay as they are. It is trained in three stages: the two networks as classifiers
of frames, each by itself; the attention; the main network on the frames that are picked.

Keys, query, scores, soft and hard inputs are those of the authors' code for a single modality. The
variant compared with, MobileNetV2 that previews for ResNet-101, is not in it. Reconstructed:

- The recurrence reads the previewer's features, so that nothing waits for the main network. In the
  authors' code preview and recognition share one feature.
- The first input is the mean of all frames' features, an option of theirs; their default is a frame
  drawn at random.
- The number of previewed frames and their side. What a video costs besides the main network was
  published in a plot only, as 3.2 +- .4 GFLOPs: 37 frames at 112 px would cost that, or 16 at
  168 px; 16 at 112 px, the default here, cost 1.4.
- The prediction is the main network's own classifier; the authors train one on the mean of the
  attended features, which with the head `mean` is the same sum in another order.
- That soft sums are of the main network's rows, that it is trained before and after, and for how
  long; learning rate and epochs of the attention are the authors'.
- The LSTM has no weight normalisation, and starts as every LSTM here.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.errors import UserError
from ar_net_jax.methods.base import FROZEN, MODEL, Method
from ar_net_jax.methods.stages import Moment, StageConfig
from ar_net_jax.methods.timed_parts import TimedPart
from ar_net_jax.methods.traits import Traits
from ar_net_jax.methods.uniform import UniformConfig, network_name
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.heads import check_backbone, frame_classifier
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.modules.query_attention import Attended, QueryAttention
from ar_net_jax.modules.recurrence import cell_macs
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.decide import Forced

Array = jax.Array

MAIN, PREVIEW, ATTENTION = "backbone_0", "preview", "attention"
"""The three modules. The main network has its name in Uniform, so that a trained one can be taken
over."""

LOOKED_AT = 0
"""Index of the choice to show a frame to the main network."""


@dataclass(frozen=True)
class ListenToLookConfig(UniformConfig):
    """A main network, as in `UniformConfig`, a previewer, and the attention.

    Attributes:
        backbone: name of the main network's.
        preview_backbone: name of the previewer's.
        preview_resolution: side in pixels at which it sees every frame.
        hidden_size: units of the LSTM.
        attention_width: of keys and queries.
        frames: k, how many frames of a video are picked; all where there are fewer. It may be
            another in evaluation than in training, as may the number of frames to pick from.
    """

    backbone: str = "resnet101"
    preview_backbone: str = "mobilenet_v2"
    preview_resolution: int = 112
    hidden_size: int = 1024
    attention_width: int = 512
    frames: int = 10

    @property
    def choices(self) -> Choices:
        """The previewer looks at every frame, the rest is done for those that are picked."""
        main = network_name(self.resolution)
        calls = {main: (1.0, 0.0), PREVIEW: (1.0, 1.0), ATTENTION: (1.0, 0.0)}
        overhead = (PREVIEW, ATTENTION)
        return Choices((main, "not looked at"), calls, overhead, skip_lengths=(0, 1))

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        check_backbone(self.preview_backbone, f"{path}.preview_backbone")
        for name in ("preview_resolution", "hidden_size", "attention_width", "frames"):
            require(getattr(self, name) >= 1, f"{path}.{name}", "must be at least 1")


@dataclass(frozen=True)
class ListenToLookStage(StageConfig):
    """A stage of ListenToLook.

    Attributes:
        trains: in a `joint` stage: the `attention` in its soft form, under which both networks stay
            as they are; or the `main` network on the frames that are picked.
    """

    trains: Literal["attention", "main"] = "attention"

    @property
    def trained(self) -> str:
        """The module that a joint stage trains."""
        return ATTENTION if self.trains == "attention" else MAIN


class ListenToLookModule(nn.Module):
    """Previewer, attention and main network.

    Attributes:
        config: the model's config.
    """

    config: ListenToLookConfig

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.backbone_0 = frame_classifier(cfg, cfg.backbone)
        # In float32 whatever the main network computes in, as what decides is elsewhere.
        precise = dataclasses.replace(cfg, dtype="float32", head="mean")
        self.preview = frame_classifier(precise, cfg.preview_backbone)
        width = backbones.get(cfg.preview_backbone).features
        self.attention = QueryAttention(width, cfg.hidden_size, cfg.attention_width)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`.

        Under `Forced` decisions previewer and attention run all the same, but those frames are
        looked at whose action is `LOOKED_AT`, however many.
        """
        mask = mask_or_ones(frame_mask, frames)
        # Without padding the previewer sees all frames, and a loop would only cost.
        looks = mode if frame_mask is not None else dataclasses.replace(mode, chunks=None)
        features, seen = self._run(PREVIEW, frames, mask, looks, "features")
        if self.is_initializing():
            # Of use in the first stage alone; but a model is to have the same parts after each.
            self.preview.head(features)
        attended = self.attend(features, mask, mode)
        chosen = _chosen(attended, mask, mode)
        rows, executed = self._run(MAIN, frames, chosen, mode)
        one_hot = jnp.stack([chosen, mask & ~chosen], axis=-1).astype(jnp.float32)
        weights = one_hot[..., LOOKED_AT]
        if mode.trains(ATTENTION):
            highest = jax.lax.Precision.HIGHEST
            rows = jnp.einsum("bkt,btd->bkd", attended.weights, rows, precision=highest)
            weights = jnp.any(attended.picks, axis=-1).astype(jnp.float32)
        steps = jnp.asarray(mask.shape[0] * attended.picks.shape[1], jnp.int32)
        main = network_name(self.config.resolution)
        return Prediction(
            logits=self.backbone_0.video_logits(rows, weights),
            calls=self.config.choices.count(one_hot),
            executed={main: executed, PREVIEW: seen, ATTENTION: steps},
            decisions=Decisions(one_hot),
        )

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, names: tuple[str, ...]
    ) -> dict[str, Array]:
        """Each of the networks `names` by itself: its prediction from all frames, [B, C]."""
        everything = jnp.ones(frames.shape[:2], bool)
        rows = {name: self._run(name, frames, everything, mode)[0] for name in names}
        weights = everything.astype(jnp.float32)
        return {name: getattr(self, name).video_logits(of, weights) for name, of in rows.items()}

    def attend(self, features: Array, mask: Array, mode: Mode) -> Attended:
        """The attention on the previewer's features float32 [B, T, D], padding masked [B, T]."""
        steps = min(self.config.frames, features.shape[1])
        return self.attention(features, mask, steps, train=mode.trains(ATTENTION))

    def _run(
        self, module: str, frames: Array, selected: Array, mode: Mode, method: str = "__call__"
    ) -> tuple[Array, Array]:
        """What a network gives for frames, float32 [B, T, D], and how many it computed."""
        cfg = self.config
        name, size = (
            (PREVIEW, cfg.preview_resolution)
            if module == PREVIEW
            else (network_name(cfg.resolution), cfg.resolution)
        )
        return run_on_frames(
            getattr(self, module),
            frames,
            selected,
            mode,
            name=name,
            size=size,
            resize=cfg.resize,
            method=method,
        )


def _chosen(attended: Attended, mask: Array, mode: Mode) -> Array:
    """The frames that the main network looks at, bool [B, T]."""
    if not isinstance(mode.decide, Forced):
        return attended.picked
    # Else the compiler finds that nothing depends on the attention, and leaves it out.
    actions, _ = jax.lax.optimization_barrier((mode.decide.actions, attended.picks))
    return (actions == LOOKED_AT) & mask


class ListenToLook(Method[ListenToLookConfig, ListenToLookStage]):
    """The same number of frames of every video, picked one after the other by attention."""

    name = "listentolook"
    title = "ListenToLook"
    Config = ListenToLookConfig
    Stage = ListenToLookStage
    traits = Traits(adaptive=True)
    separable = True

    def module(self) -> ListenToLookModule:
        """See `Method`."""
        return ListenToLookModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`; a frame's key is counted with the previewer, its scores are not."""
        cfg = self.config
        hidden, width = cfg.hidden_size, cfg.attention_width
        light = backbones.get(cfg.preview_backbone).features
        return {
            network_name(cfg.resolution): Network(
                path=(MAIN,),
                backbone=cfg.backbone,
                resolution=cfg.resolution,
                outputs=cfg.num_classes,
                hidden=cfg.head_width,
                heads=("head",),
                padding=cfg.padding,
            ),
            PREVIEW: Network(
                path=(PREVIEW,),
                backbone=cfg.preview_backbone,
                resolution=cfg.preview_resolution,
                outputs=width,
                heads=("head",),
                padding=cfg.padding,
                method="features",
            ),
            ATTENTION: Network(
                path=(ATTENTION,),
                macs=cell_macs(light, hidden) + hidden * (hidden + width),
                heads=("query",),
            ),
        }

    @property
    def choices(self) -> Choices:
        """See `Method`: a frame is looked at, or not."""
        return self.config.choices

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: both networks by themselves, the attention, the main network on its picks.

        The attention trains as long and as fast as in the authors' code.
        """
        joint = cls.usual_losses("joint")
        return {
            "warmup": cls.Stage(
                objective="separate",
                losses=cls.usual_losses("separate"),
                epochs=50,
                learning_rate=0.02,
                decay_epochs=(20, 40),
            ),
            "joint": cls.Stage(losses=joint, epochs=25, learning_rate=0.01, decay_epochs=(15, 20)),
            "finetune": cls.Stage(losses=joint, epochs=10, learning_rate=0.0005, trains="main"),
        }

    def separate_parts(self, stage: ListenToLookStage) -> tuple[str, ...]:
        """See `Method`: the two networks."""
        return (MAIN, PREVIEW) if stage.objective == "separate" else ()

    def part_of(self, stage: ListenToLookStage, path: tuple[str, ...]) -> str:
        """See `Method`; a joint stage trains one module."""
        if stage.objective == "separate":
            return super().part_of(stage, path)
        return MODEL if path[0] == stage.trained else FROZEN

    def training_mode(self, stage: ListenToLookStage, keys: Array, moment: Moment) -> Mode:
        """See `Method`; what a joint stage does not train behaves as in evaluation."""
        if stage.objective == "separate":
            return Mode(train=True, keys=keys)
        frozen = {MAIN, PREVIEW, ATTENTION} - {stage.trained}
        return Mode(train=True, frozen=tuple(sorted(frozen)), keys=keys)

    def timed_parts(self) -> dict[str, TimedPart]:
        """See `Method`: the attention on the previewer's features too."""
        return {**super().timed_parts(), ATTENTION: TimedPart(_attend, after=PREVIEW)}

    def stream(self, variables: Any, *, cost_penalty: float = 0.0) -> Any:
        """See `Method`.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"config.method: '{self.name}' does not take a video frame by frame, because it "
            "previews all frames before it picks one; call the model on whole clips"
        )


def _attend(module: nn.Module, features: Array, actions: Array, mode: Mode) -> Attended:
    """The attention on the features of frames without padding."""
    return module.attend(features, jnp.ones(features.shape[:2], bool), mode)
