"""SCSampler: a light network looks at every frame, a heavy one at the most salient few.

Korbar et al. 2019, as AR-Net compares with it. The sampler is a frame classifier of its own; a
frame's saliency is the largest of its raw logits, and only the `frames` most salient frames of a
video reach the main network, whose logits on them are averaged. The sampler learns by the "AC"
loss, cross-entropy of its average over all frames; choosing itself has no gradient. In a joint
stage with the loss `ranking` it learns in which order the frames serve a main network that is
trained already, and stays as it is by `freeze_backbone`.

As released, the main network is trained alone first, as Uniform is, and the sampler after it with
the main network's weights frozen. Their weights are apart and neither loss reads the other network,
so one separate stage trains both at once and comes to the same: each with its own gradient clip and
its own best epoch. What differs is small: as released the main network's BatchNorm statistics went
on moving while the sampler trained, and the sampler's epoch was chosen by the mAP of the whole. To
put a sampler before a main network that is trained already (a Uniform, given by `init_from`), take
`freeze_backbone`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.losses import Separate
from ar_net_jax.methods.base import FROZEN, Method
from ar_net_jax.methods.released import (
    INPUT_SIZE,
    LISTED,
    LITE,
    RESOLUTIONS,
    Contents,
    Path,
    ReleasedForm,
    require_expressible,
)
from ar_net_jax.methods.scsampler_losses import Ranking
from ar_net_jax.methods.stages import Moment, StageConfig
from ar_net_jax.methods.traits import Traits
from ar_net_jax.methods.uniform import UniformConfig, network_name
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.heads import check_backbone, frame_classifier
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.decide import Forced

Array = jax.Array

MAIN, SAMPLER = "backbone_0", "sampler"
"""The two modules. The main network has the name that it has in Uniform, so that a trained one, or
the highest resolution of AR-Net's warm-up, can be taken over."""

LOOKED_AT = 0
"""Index of the choice to show a frame to the main network."""


@dataclass(frozen=True)
class SCSamplerConfig(UniformConfig):
    """A main network, as in `UniformConfig`, and a sampler.

    Attributes:
        sampler_backbone: name of the sampler's.
        sampler_resolution: side in pixels at which the sampler sees every frame.
        frames: k, how many frames of a video the main network sees; all where there are fewer. It
            may be another in evaluation than in training, as may the number of frames to choose
            from.
    """

    sampler_backbone: str = "mobilenet_v2"
    sampler_resolution: int = 84
    frames: int = 10

    @property
    def choices(self) -> Choices:
        """The sampler looks at every frame, the main network at those that it chose."""
        main = network_name(self.resolution)
        calls = {main: (1.0, 0.0), SAMPLER: (1.0, 1.0)}
        return Choices((main, "not looked at"), calls, overhead=(SAMPLER,), skip_lengths=(0, 1))

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        check_backbone(self.sampler_backbone, f"{path}.sampler_backbone")
        require(
            self.sampler_resolution >= 1, f"{path}.sampler_resolution", "must be at least 1 pixel"
        )
        require(self.frames >= 1, f"{path}.frames", "must be at least 1")


@dataclass(frozen=True)
class SCSamplerStage(StageConfig):
    """A stage of SCSampler.

    Attributes:
        freeze_backbone: train the sampler alone and leave the main network as the run found it.
    """

    freeze_backbone: bool = False

    @property
    def trains_sampler(self) -> bool:
        """Whether a loss reads the sampler's own prediction: the choice gives it no gradient."""
        return self._minimises(Separate.name) or self._minimises(Ranking.name)

    def _minimises(self, name: str) -> bool:
        return name in self.losses and self.losses[name].weight > 0

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(
            not self.freeze_backbone or self.trains_sampler,
            f"{path}.freeze_backbone",
            "nothing would be trained: without the loss 'separate' or 'ranking' a stage trains the "
            "main network alone, on the chosen frames",
        )
        others = any(self._minimises(name) for name in self.losses if name != Ranking.name)
        require(
            self.freeze_backbone or others,
            f"{path}.freeze_backbone",
            "the loss 'ranking' does not train the main network; set it to True, or add a loss "
            "that does",
        )


def most_salient(saliency: Array, mask: Array, count: int) -> Array:
    """The most salient frames of each video.

    Args:
        saliency: float32 [B, T]; of equally salient frames the earlier one comes first.
        mask: bool [B, T], False on padding, which is never chosen.
        count: k; all frames of a video that has fewer.

    Returns:
        bool [B, T].
    """
    length = saliency.shape[1]
    _, index = jax.lax.top_k(jnp.where(mask, saliency, -jnp.inf), min(count, length))
    return jnp.any(jax.nn.one_hot(index, length, dtype=bool), axis=1) & mask


class SCSamplerModule(nn.Module):
    """The sampler and the main network.

    Attributes:
        config: the model's config.
    """

    config: SCSamplerConfig

    def setup(self) -> None:
        """Declares the classifiers."""
        cfg = self.config
        self.backbone_0 = frame_classifier(cfg, cfg.backbone)
        # In float32 whatever the main network computes in, as what decides is elsewhere; and a
        # frame's saliency is of its own logits, whatever the head.
        precise = dataclasses.replace(cfg, dtype="float32", head="mean")
        self.sampler = frame_classifier(precise, cfg.sampler_backbone)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`.

        Under `Forced` decisions the sampler runs all the same, but those frames are looked at
        whose action is `LOOKED_AT`, however many.
        """
        mask = mask_or_ones(frame_mask, frames)
        # Without padding the sampler sees all frames, and a loop would only cost.
        looks = mode if frame_mask is not None else dataclasses.replace(mode, chunks=None)
        sampled, seen = self._classify(SAMPLER, frames, mask, looks)
        chosen = self._choose(sampled, mask, mode)
        rows, executed = self._classify(MAIN, frames, chosen, mode)
        one_hot = jnp.stack([chosen, mask & ~chosen], axis=-1).astype(jnp.float32)
        return Prediction(
            logits=self.backbone_0.video_logits(rows, one_hot[..., LOOKED_AT]),
            calls=self.config.choices.count(one_hot),
            executed={network_name(self.config.resolution): executed, SAMPLER: seen},
            decisions=Decisions(one_hot),
            network_logits=self._by_itself({MAIN: rows, SAMPLER: sampled}, mask, mode),
            outputs={}
            if mode.chunks is not None
            else {"sampler_logits": sampled, "main_logits": self._frame_logits(rows)},
        )

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, names: tuple[str, ...]
    ) -> dict[str, Array]:
        """Each of the modules `names` by itself: its prediction from all frames, [B, C]."""
        everything = jnp.ones(frames.shape[:2], bool)
        rows = {name: self._classify(name, frames, everything, mode)[0] for name in names}
        return self._by_itself(rows, everything, mode)

    def _classify(
        self, module: str, frames: Array, selected: Array, mode: Mode
    ) -> tuple[Array, Array]:
        """A module's rows float32 [B, T, D], and how many frames it computed."""
        cfg = self.config
        name, size = (
            (SAMPLER, cfg.sampler_resolution)
            if module == SAMPLER
            else (network_name(cfg.resolution), cfg.resolution)
        )
        return run_on_frames(
            getattr(self, module), frames, selected, mode, name=name, size=size, resize=cfg.resize
        )

    def _choose(self, sampled: Array, mask: Array, mode: Mode) -> Array:
        """The frames that the main network looks at, bool [B, T]."""
        saliency = jnp.max(sampled, axis=-1)
        if not isinstance(mode.decide, Forced):
            return most_salient(saliency, mask, self.config.frames)
        # Else the compiler finds that nothing depends on the sampler, and leaves it out.
        actions, _ = jax.lax.optimization_barrier((mode.decide.actions, saliency))
        return (actions == LOOKED_AT) & mask

    def _frame_logits(self, rows: Array) -> Array:
        """The main network's logits float32 [B, T, C] of each frame as a video of its own."""
        single = rows.reshape(-1, 1, rows.shape[-1])
        logits = self.backbone_0.video_logits(single, jnp.ones(single.shape[:2]))
        return logits.reshape(*rows.shape[:2], -1)

    def _by_itself(self, rows: dict[str, Array], mask: Array, mode: Mode) -> dict[str, Array]:
        """Logits float32 [B, C] from each one's rows [B, T, D]; the routed form has not all."""
        if mode.chunks is not None:
            return {}
        weights = mask.astype(jnp.float32)
        return {name: getattr(self, name).video_logits(of, weights) for name, of in rows.items()}


class ReleasedSCSampler(ReleasedForm):
    """Released files of SCSampler: the light backbone samples, the one that is listed is the main.

    The authors' public test script hands the sampler frames of 224 px. They trained it on 84 px,
    which their costs are for too, so that is what a file is run at here.
    """

    unused = ("rnn.", "linear.")

    def fits(self, contents: Contents) -> bool:
        """See `ReleasedForm`."""
        return contents.samples and len(contents.listed) == 1

    def model(self, contents: Contents, given: Mapping[str, str]) -> dict[str, Any]:
        """See `ReleasedForm`."""
        return {
            "backbone": contents.listed[0],
            "resolution": RESOLUTIONS[0],
            "sampler_backbone": contents.lite,
            "sampler_resolution": RESOLUTIONS[-1],
        }

    def names(self, method: Method[Any, Any], contents: Contents | None) -> dict[Path, str]:
        """See `ReleasedForm`."""
        return {
            (SAMPLER, "backbone"): LITE,
            (SAMPLER, "head"): "lite_fc",
            (MAIN, "backbone"): f"{LISTED}.0",
            (MAIN, "head"): "new_fc_list.0",
        }

    def check_expressible(self, config: SCSamplerConfig) -> None:
        """See `ReleasedForm`."""
        super().check_expressible(config)
        side = config.sampler_resolution
        require_expressible(
            side <= INPUT_SIZE,
            "sampler_resolution",
            side,
            f"its highest resolution is {INPUT_SIZE} always",
        )
        require_expressible(config.resize == "nearest", "resize", config.resize, "it has 'nearest'")


class SCSampler(Method[SCSamplerConfig, SCSamplerStage]):
    """The same number of frames of every video, but the most salient ones."""

    name = "scsampler"
    title = "SCSampler"
    Config = SCSamplerConfig
    Stage = SCSamplerStage
    released = ReleasedSCSampler()
    traits = Traits(adaptive=True)
    separable = True
    provides = frozenset({"network_logits", *Ranking.needs})

    def module(self) -> SCSamplerModule:
        """See `Method`."""
        return SCSamplerModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`: the main network and the sampler."""
        cfg = self.config
        return {
            name: Network(
                path=(module,),
                backbone=backbone,
                resolution=resolution,
                outputs=cfg.num_classes,
                hidden=hidden,
                heads=("head",),
                padding=cfg.padding,
            )
            for name, module, backbone, resolution, hidden in (
                (network_name(cfg.resolution), MAIN, cfg.backbone, cfg.resolution, cfg.head_width),
                (SAMPLER, SAMPLER, cfg.sampler_backbone, cfg.sampler_resolution, 0),
            )
        }

    @property
    def choices(self) -> Choices:
        """See `Method`: a frame is looked at, or not."""
        return self.config.choices

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: both networks by themselves, for as long as released."""
        stage = cls.Stage(
            objective="separate",
            losses={"separate": Separate()},
            epochs=50,
            learning_rate=0.02,
            decay_epochs=(20, 40),
        )
        return {"train": stage}

    def separate_parts(self, stage: SCSamplerStage) -> tuple[str, ...]:
        """See `Method`; a stage may leave the main network alone."""
        parts = super().separate_parts(stage)
        return tuple(name for name in parts if name != MAIN or not stage.freeze_backbone)

    def part_of(self, stage: SCSamplerStage, path: tuple[str, ...]) -> str:
        """See `Method`; where nothing would teach the sampler, it is left as it is."""
        return FROZEN if path[0] in self._frozen(stage) else super().part_of(stage, path)

    def training_mode(self, stage: SCSamplerStage, keys: Array, moment: Moment) -> Mode:
        """See `Method`; a frozen network behaves as in evaluation."""
        return Mode(train=True, frozen=self._frozen(stage), keys=keys)

    def _frozen(self, stage: SCSamplerStage) -> tuple[str, ...]:
        """The networks that a stage leaves as they are."""
        sampler = () if stage.trains_sampler else (SAMPLER,)
        return (MAIN, *sampler) if stage.freeze_backbone else sampler
