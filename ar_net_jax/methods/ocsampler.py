"""OCSampler: all frames to be looked at are chosen in one step, as a set.

Lin et al. 2022. A light network skims the candidates, a softmax over them gives each a probability,
and the `frames` most probable ones, in the order of time, reach the classifier, whose head is
usually `max_mlp`. The classifier is trained first, by itself and on all frames, as Uniform is; a
trained Uniform can be taken over by `init_from` instead. Then the skim network learns before the
frozen classifier by a policy gradient: a set is drawn without replacement, its reward is how much
surer the classifier is of it than of a set drawn from equal stretches of the video, and its
probability is exact, over all orders of drawing.

The authors' code says this much. What it starts the skim network from is not published beyond
"pretrained": here it starts as it is initialised, or from ImageNet weights. Stretches of frames
whose number the size of the set does not divide, the entropy being that of the softmax, and the
label's reward for a whole set (theirs is a mean over single frames) are reconstructions. So is the
extension to a budget left out, which their configs do not show.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.model import Head
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.losses import Loss, LossContext, Separate
from ar_net_jax.methods.base import FROZEN, MODEL, Method
from ar_net_jax.methods.stages import Moment, Objective, StageConfig
from ar_net_jax.methods.traits import Traits
from ar_net_jax.methods.uniform import UniformConfig, network_name
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.heads import check_backbone, frame_classifier
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.decide import Forced, GumbelSample
from ar_net_jax.ops.reinforce import policy_gradient_loss
from ar_net_jax.ops.subsets import members, random_segments, set_log_probability, top_set

Array = jax.Array

MAIN, SKIM = "backbone_0", "skim"
"""The two modules. The classifier has the name that it has in Uniform, so that a trained one can be
taken over."""

LOOKED_AT = 0
"""Index of the choice to show a frame to the classifier."""

MOST_DRAWN = 10
"""Frames in a set whose probability is computed: its cost doubles with each."""

# Keeps the stretches' draw apart from what else is drawn from a video's key.
_SEGMENT_SALT = 2_001


@dataclass(frozen=True)
class OCSamplerConfig(UniformConfig):
    """A classifier, as in `UniformConfig`, and a network that skims the candidates.

    Attributes:
        head: of the classifier, see `ModelConfig`; published with `max_mlp`.
        skim_backbone: name of the skim network's.
        skim_resolution: side in pixels at which it sees every frame.
        shift_div: its blocks take 1 / shift_div of their channels from the frame after and as many
            from the frame before; 0 for no temporal shift. Published: 10, and 8 on Mini-Kinetics.
        frames: N, how many frames of a video the classifier sees; all where there are fewer. It may
            be another in evaluation than in training.
    """

    head: Head = "max_mlp"
    skim_backbone: str = "mobilenet_v2"
    skim_resolution: int = 128
    shift_div: int = 10
    frames: int = 5

    @property
    def skim(self) -> str:
        """Name of the skim network's backbone with its temporal shift."""
        return backbones.shifted_name(self.skim_backbone, self.shift_div)

    @property
    def choices(self) -> Choices:
        """The skim network looks at every frame, the classifier at those of the set."""
        main = network_name(self.resolution)
        calls = {main: (1.0, 0.0), SKIM: (1.0, 1.0)}
        return Choices((main, "not looked at"), calls, overhead=(SKIM,), skip_lengths=(0, 1))

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(
            self.shift_div == 0 or self.shift_div >= 2,
            f"{path}.shift_div",
            "must be at least 2, or 0 for no temporal shift",
        )
        check_backbone(self.skim_backbone, f"{path}.skim_backbone", per_frame=False)
        check_backbone(self.skim, f"{path}.shift_div", per_frame=False)
        require(self.skim_resolution >= 1, f"{path}.skim_resolution", "must be at least 1 pixel")
        require(self.frames >= 1, f"{path}.frames", "must be at least 1")


@dataclass(frozen=True)
class SetPolicy(Loss):
    """The policy gradient of drawn sets of frames, and a bonus on the entropy of the draw.

    Minus the mean over videos of reward x log P(set) + entropy x H, where H is the entropy of the
    softmax over the candidates. The reward is what the drawn set is worth to the frozen classifier,
    minus what a set drawn from equal stretches of the video is.

    Attributes:
        entropy: weight of the bonus.
        reward: what a set is worth. `confidence`: the largest probability of a class, whatever the
            video's label. `label`: that probability where the class is the video's first label,
            else the label's probability minus it.
    """

    name = "set_policy"
    needs = ("log_probability", "entropy", "drawn_logits", "segment_logits")

    entropy: float = 0.1
    reward: Literal["confidence", "label"] = "confidence"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        given = prediction.outputs
        reward = self._worth(given["drawn_logits"], context.labels)
        reward -= self._worth(given["segment_logits"], context.labels)
        gradient = policy_gradient_loss(given["log_probability"], reward)
        return gradient - self.entropy * jnp.mean(given["entropy"])

    def _worth(self, logits: Array, labels: Array) -> Array:
        """What a set is worth whose logits are [B, C], labels int32 [B, K]: float32 [B]."""
        p = jax.nn.softmax(logits)
        largest, first = jnp.max(p, axis=-1), labels[:, 0]
        if self.reward == "confidence":
            return largest
        of_label = jnp.take_along_axis(p, first[:, None], axis=-1)[:, 0]
        return jnp.where(jnp.argmax(p, axis=-1) == first, largest, of_label - largest)

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(self.entropy >= 0, f"{path}.entropy", "must not be negative")


class OCSamplerModule(nn.Module):
    """The skim network and the classifier.

    Attributes:
        config: the model's config.
    """

    config: OCSamplerConfig

    def setup(self) -> None:
        """Declares the networks; the skim network is a classifier with one output and no dropout.

        It is in float32 whatever the classifier computes in, as what decides is elsewhere.
        """
        cfg = self.config
        self.backbone_0 = frame_classifier(cfg, cfg.backbone)
        single = dataclasses.replace(cfg, num_classes=1, dropout=0.0, head="mean", dtype="float32")
        self.skim = frame_classifier(single, cfg.skim)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`.

        Under `GumbelSample` the set is drawn, otherwise it is the most probable frames. Under
        `Forced` decisions the skim network runs all the same, but those frames are looked at whose
        action is `LOOKED_AT`, however many.
        """
        mask = mask_or_ones(frame_mask, frames)
        # Without padding the skim network sees all frames, and a loop would only cost.
        looks = mode if frame_mask is not None else dataclasses.replace(mode, chunks=None)
        scores, skimmed = self._run(SKIM, frames, mask, looks)
        scores = jnp.where(mask, scores[..., 0], -jnp.inf)
        places = self._places(scores, mode)
        chosen = self._chosen(places, mask, mode)
        rows, executed = self._run(MAIN, frames, chosen, mode)
        one_hot = jnp.stack([chosen, mask & ~chosen], axis=-1).astype(jnp.float32)
        logits = self._of_set(rows, chosen)
        return Prediction(
            logits=logits,
            calls=self.config.choices.count(one_hot),
            executed={network_name(self.config.resolution): executed, SKIM: skimmed},
            decisions=Decisions(one_hot),
            network_logits=self._by_itself(rows, mask, mode),
            outputs={}
            if mode.chunks is not None or mode.keys is None or frame_mask is not None
            else self._for_policy(scores, places, rows, logits, mode.keys),
        )

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, names: tuple[str, ...]
    ) -> dict[str, Array]:
        """The classifier by itself: its prediction from all frames, float32 [B, C]."""
        del names
        everything = jnp.ones(frames.shape[:2], bool)
        rows, _ = self._run(MAIN, frames, everything, mode)
        return self._by_itself(rows, everything, mode)

    def _run(self, module: str, frames: Array, selected: Array, mode: Mode) -> tuple[Array, Array]:
        """A module's rows float32 [B, T, D], and how many frames it computed."""
        cfg = self.config
        name, size = (
            (SKIM, cfg.skim_resolution)
            if module == SKIM
            else (network_name(cfg.resolution), cfg.resolution)
        )
        return run_on_frames(
            getattr(self, module), frames, selected, mode, name=name, size=size, resize=cfg.resize
        )

    def _places(self, scores: Array, mode: Mode) -> Array:
        """The frames of the set, int32 [B, N]; of a short video padding comes last."""
        if isinstance(mode.decide, GumbelSample):
            # The Gumbel noise of one action is what a draw without replacement takes.
            scores = scores + mode.decide.inputs(mode.keys, scores.shape[1], 1)[..., 0]
        return top_set(scores, self.config.frames)

    def _chosen(self, places: Array, mask: Array, mode: Mode) -> Array:
        """The frames that the classifier looks at, bool [B, T]."""
        if not isinstance(mode.decide, Forced):
            return members(places, mask.shape[1]) & mask
        # Else the compiler finds that nothing depends on the skim network, and leaves it out.
        actions, _ = jax.lax.optimization_barrier((mode.decide.actions, places))
        return (actions == LOOKED_AT) & mask

    def _of_set(self, rows: Array, chosen: Array) -> Array:
        """The classifier's logits float32 [B, C] of sets of frames, bool [B, T]."""
        return self.backbone_0.video_logits(rows, chosen.astype(jnp.float32))

    def _by_itself(self, rows: Array, mask: Array, mode: Mode) -> dict[str, Array]:
        """The classifier's logits of all frames; the routed form has not all rows."""
        return {} if mode.chunks is not None else {MAIN: self._of_set(rows, mask)}

    def _for_policy(
        self, scores: Array, places: Array, rows: Array, logits: Array, keys: Array
    ) -> dict[str, Array]:
        """What `SetPolicy` reads, where every frame is a candidate."""
        length = scores.shape[1]
        log_p = jax.nn.log_softmax(scores)
        salted = jax.vmap(lambda key: jax.random.fold_in(key, _SEGMENT_SALT))(keys)
        segments = random_segments(salted, length, self.config.frames)
        return {
            "log_probability": set_log_probability(log_p, places),
            "entropy": -jnp.sum(jnp.exp(log_p) * log_p, axis=-1),
            "drawn_logits": logits,
            "segment_logits": self._of_set(rows, members(segments, length)),
        }


class OCSampler(Method[OCSamplerConfig]):
    """The same number of frames of every video, chosen together."""

    name = "ocsampler"
    title = "OCSampler"
    Config = OCSamplerConfig
    traits = Traits(adaptive=True)
    separable = True
    provides = frozenset({"network_logits", *SetPolicy.needs})

    def module(self) -> OCSamplerModule:
        """See `Method`."""
        return OCSamplerModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`: the classifier and the skim network, whose shift costs nothing."""
        cfg = self.config
        main = Network(
            path=(MAIN,),
            backbone=cfg.backbone,
            resolution=cfg.resolution,
            outputs=cfg.num_classes,
            hidden=cfg.head_width,
            heads=("head",),
            padding=cfg.padding,
        )
        skim = Network(
            path=(SKIM,),
            backbone=cfg.skim,
            resolution=cfg.skim_resolution,
            outputs=1,
            heads=("head",),
            padding=cfg.padding,
        )
        return {network_name(cfg.resolution): main, SKIM: skim}

    def main_network(self) -> Network:
        """See `Method`: the classifier, also where the skim network sees larger frames."""
        return self.networks()[network_name(self.config.resolution)]

    @property
    def choices(self) -> Choices:
        """See `Method`: a frame is looked at, or not."""
        return self.config.choices

    @classmethod
    def usual_losses(cls, objective: Objective) -> dict[str, Loss]:
        """See `Method`: the classifier's own loss, or the skim network's."""
        return {"separate": Separate()} if objective == "separate" else {"set_policy": SetPolicy()}

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: the classifier as released baselines are trained, then the skim network.

        The second is the authors', whose rate is for batches of 320 videos.
        """
        classifier = cls.Stage(
            objective="separate",
            losses=cls.usual_losses("separate"),
            epochs=50,
            learning_rate=0.02,
            decay_epochs=(20, 40),
        )
        sampler = cls.Stage(
            losses=cls.usual_losses("joint"), epochs=50, learning_rate=0.005, schedule="cosine"
        )
        return {"classifier": classifier, "sampler": sampler}

    def validate_stages(self, order: tuple[str, ...], stages: Mapping[str, StageConfig]) -> None:
        """See `Method`; a joint stage trains the skim network, by the one loss that reaches it."""
        super().validate_stages(order, stages)
        for name in order:
            stage, path = stages[name], f"stages.{name}"
            if stage.objective != "joint":
                continue
            require(
                set(stage.losses) == {SetPolicy.name},
                f"{path}.losses",
                "a joint stage trains the skim network before the frozen classifier, and only "
                f"'{SetPolicy.name}' reaches it, got {', '.join(stage.losses) or 'none'}; the "
                "classifier is trained in a separate stage",
            )
            require(
                self.config.frames <= MOST_DRAWN,
                "model.frames",
                f"stage '{name}' computes the probability of sets of up to {MOST_DRAWN} frames; "
                "take fewer",
            )

    def separate_parts(self, stage: StageConfig) -> tuple[str, ...]:
        """See `Method`; the skim network is no classifier."""
        return () if stage.objective == "joint" else (MAIN,)

    def part_of(self, stage: StageConfig, path: tuple[str, ...]) -> str:
        """See `Method`; each kind of stage trains one of the two networks."""
        if stage.objective == "joint":
            return MODEL if path[0] == SKIM else FROZEN
        return super().part_of(stage, path)

    def training_mode(self, stage: StageConfig, keys: Array, moment: Moment) -> Mode:
        """See `Method`; the classifier judges sets as it will in evaluation."""
        if stage.objective == "separate":
            return Mode(train=True, keys=keys)
        return Mode(train=True, frozen=(MAIN,), keys=keys, decide=GumbelSample(1.0))
