"""AdaFocusV2's module: a glance at each frame, where to focus, and what both see, frame by frame.

One function, `look`, takes a group of frames: all of them at once, or where videos may end early
and only what is needed is computed, one of each video, in a loop that ends with the last of them.
"""

from dataclasses import dataclass, replace
from typing import Literal, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.config.model import HEAD_WIDTH
from ar_net_jax.config.schema import require
from ar_net_jax.methods.glance_focus import (
    CLASSIFIER,
    FOCUS,
    GLANCE,
    GlanceFocusConfig,
    focus_network,
    focus_on,
    frame_logits,
    glance_at,
    glance_network,
)
from ar_net_jax.modules.crop_policy import CropPolicy
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.modules.step_classifier import StepClassifier
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.confidence import at_steps, confidence
from ar_net_jax.ops.crop import random_places
from ar_net_jax.ops.decide import Forced
from ar_net_jax.ops.frame_order import back_in_time, coarse_to_fine

Array = jax.Array

POLICY = "policy"

LOOKED_AT = 0
"""Index of the choice to look at a frame; where videos may end, the other is not to."""


@dataclass(frozen=True)
class AdaFocusV2Config(GlanceFocusConfig):
    """Two networks as in `GlanceFocusConfig`, and a policy.

    Attributes:
        steps: numbers of looks that have a classifier of their own; as published, that of frames.
        order: in which frames are looked at.
        policy_width: channels that the policy squeezes each cell of the map to.
        policy_hidden: units of its linear layer and of its GRU.
        exit: confidence from which on a video ends, its further frames not looked at: of each step,
            the last one holding for all that follow. Empty ends none. See
            `ops.confidence.exit_thresholds`.
    """

    steps: int = 16
    order: Literal["natural", "coarse_to_fine"] = "natural"
    policy_width: int = 64
    policy_hidden: int = 2048
    exit: tuple[float, ...] = ()

    @property
    def choices(self) -> Choices:
        """Everything runs on every frame that is looked at."""
        names = ("looked at", "not looked at") if self.exit else ("looked at",)
        per_frame = (1.0, 0.0)[: len(names)]
        calls = dict.fromkeys((GLANCE, POLICY, FOCUS, CLASSIFIER), per_frame)
        lengths = (0, 1) if self.exit else ()
        return Choices(names, calls, overhead=(POLICY,), skip_lengths=lengths)

    def look_order(self, length: int) -> tuple[int, ...]:
        """The frames of a video of that length in the order in which they are looked at."""
        return tuple(range(length)) if self.order == "natural" else coarse_to_fine(length)

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        for field in ("steps", "policy_width", "policy_hidden"):
            require(getattr(self, field) >= 1, f"{path}.{field}", "must be at least 1")
        for index, threshold in enumerate(self.exit):
            require(threshold >= 0, f"{path}.exit[{index}]", "must not be negative")


@flax.struct.dataclass
class Memory:
    """What of the frames before matters to later ones.

    Attributes:
        hidden: float32 [B, H], of the policy.
        maximum: float32 [B, HEAD_WIDTH], of embeddings.
    """

    hidden: Array
    maximum: Array


@flax.struct.dataclass
class Looks:
    """What came of looking at G frames of B videos.

    Attributes:
        logits: by pass, float32 [B, G, C], of each video after each frame.
        glance_logits: float32 [B, G, C], of each frame by the light network alone.
        focus_logits: by pass, float32 [B, G, C], of the part of each frame by the heavy one alone.
        boxes: float32 [B, G, 4], what was focused on in the first pass.
        glanced: int32 scalar, frames that the light network computed.
        focused: int32 scalar, parts that the heavy network computed in the first pass.
        memory: after these frames.
    """

    logits: list[Array]
    glance_logits: Array
    focus_logits: list[Array]
    boxes: Array
    glanced: Array
    focused: Array
    memory: Memory


@flax.struct.dataclass
class _Progress:
    """Where B videos stand in the sparse form.

    Attributes:
        place: int32 scalar, of the next frame in the order.
        alive: bool [B], videos that have not ended.
        memory: of the frames so far.
        logits: float32 [B, C], after each video's newest frame.
        visited: bool [B, T], by place.
        boxes: float32 [B, T, 4], by place.
        glanced: int32 scalar.
        focused: int32 scalar.
    """

    place: Array
    alive: Array
    memory: Memory
    logits: Array
    visited: Array
    boxes: Array
    glanced: Array
    focused: Array


class AdaFocusV2Module(nn.Module):
    """The two networks, the policy and the classifiers.

    Attributes:
        config: the model's config.
    """

    config: AdaFocusV2Config

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.glance = glance_network(cfg)
        self.focus = focus_network(cfg)
        self.policy = CropPolicy(cfg.policy_width, cfg.policy_hidden)
        width = cfg.glance_width + cfg.focus_width
        self.classifier = StepClassifier(width, cfg.steps, cfg.num_classes, cfg.dropout)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`.

        In training there are two passes, one on the parts that the policy decides on and one on
        random parts, and the prediction is that of the first. Under `Forced` decisions, where
        videos may end, those frames are looked at whose action is `LOOKED_AT`, in the same order.
        """
        cfg, length = self.config, frames.shape[1]
        mask, forced = mask_or_ones(frame_mask, frames), isinstance(mode.decide, Forced)
        if cfg.exit and isinstance(mode.decide, Forced):
            mask = mask & (mode.decide.actions == LOOKED_AT)
        order = cfg.look_order(length)
        if cfg.order != "natural":
            frames, mask = frames[:, jnp.array(order)], mask[:, jnp.array(order)]
        ends = bool(cfg.exit) and not forced
        form = self._one_by_one if ends and mode.chunks is not None else self._at_once
        found, visited = form(frames, mask, mode, ends)
        back = jnp.array(back_in_time(order))
        looked, outputs = visited[:, back], dict(found.outputs)
        outputs["boxes"] = outputs["boxes"][:, back]
        if not cfg.exit:
            calls = cfg.choices.count(looked[..., None].astype(jnp.float32))
            return replace(found, calls=calls, outputs=outputs)
        left_out = ~looked if frame_mask is None else frame_mask & ~looked
        one_hot = jnp.stack([looked, left_out], axis=-1).astype(jnp.float32)
        calls, decisions = cfg.choices.count(one_hot), Decisions(one_hot)
        return replace(found, calls=calls, decisions=decisions, outputs=outputs)

    def look(
        self,
        frames: Array,
        selected: Array,
        memory: Memory,
        drawn: Array | None,
        mode: Mode,
        first: Array | int = 0,
    ) -> Looks:
        """Looks at the next frames of videos.

        Args:
            frames: uint8 [B, G, S, S, 3].
            selected: bool [B, G]; a frame that is not changes nothing, and is not computed in the
                routed form.
            memory: of the frames before.
            drawn: float32 [B, G, 2], random places: in training those of the second pass, under
                `mode.random_crops` those of the only one; else None.
            mode: training behaviour, keys, form of execution.
            first: how many frames came before.
        """
        cfg = self.config
        maps, features, glanced = glance_at(self.glance, cfg, frames, selected, mode)
        places, hidden = self.policy(maps, memory.hidden, selected, train=mode.trains(POLICY))
        passes = [] if mode.random_crops else [places]
        passes += [] if drawn is None else [drawn]
        boxes = [self._boxes(where) for where in passes]
        modes = [mode, *(replace(mode, keys=_other_keys(mode)) for _ in passes[1:])]
        seen = [
            focus_on(self.focus, cfg, frames, box, selected, how)
            for box, how in zip(boxes, modes, strict=True)
        ]
        found = [
            self.classifier(
                jnp.concatenate([features, part], axis=-1),
                memory.maximum,
                selected,
                first=first,
                train=mode.trains(CLASSIFIER),
                keys=how.frame_keys(CLASSIFIER, selected.shape[1]),
            )
            for (part, _), how in zip(seen, modes, strict=True)
        ]
        return Looks(
            logits=[logits for logits, _ in found],
            glance_logits=frame_logits(self.glance, features, mode),
            focus_logits=[
                frame_logits(self.focus, part, how)
                for (part, _), how in zip(seen, modes, strict=True)
            ],
            boxes=boxes[0],
            glanced=glanced,
            focused=seen[0][1],
            memory=Memory(hidden, found[0][1]),
        )

    def _boxes(self, places: Array) -> Array:
        """Boxes float32 [..., 4] in pixels, of places [..., 2]; all lie within the frame."""
        cfg = self.config
        start = places * (cfg.resolution - cfg.crop)
        return jnp.concatenate([start, jnp.full_like(start, cfg.crop)], axis=-1)

    def _start(self, batch: int) -> Memory:
        return Memory(jnp.zeros((batch, self.config.policy_hidden)), jnp.zeros((batch, HEAD_WIDTH)))

    def _drawn(self, length: int, mode: Mode) -> Array | None:
        if not (mode.train or mode.random_crops):
            return None
        return random_places(mode.training_keys, length, 2)

    def _at_once(
        self, frames: Array, look: Array, mode: Mode, ends: bool
    ) -> tuple[Prediction, Array]:
        """All frames in one group, and then where each video ends.

        Returns:
            The prediction without calls and decisions, and by place what was looked at [B, T].
        """
        batch, length = look.shape
        drawn = self._drawn(length, mode)
        found = self.look(frames, look, self._start(batch), drawn, mode)
        visited = look
        if ends:
            limits = jnp.asarray(at_steps(self.config.exit, length))
            over = ((confidence(found.logits[0]) >= limits) & look).astype(jnp.int32)
            visited = look & (jnp.cumsum(over, axis=1) - over == 0)
        last = length - 1 - jnp.argmax(visited[:, ::-1], axis=1)
        logits = jnp.take_along_axis(found.logits[0], last[:, None, None], axis=1)[:, 0]
        prediction = Prediction(
            logits=jnp.where(jnp.any(visited, axis=1)[:, None], logits, 0.0),
            calls={},
            executed=_executed(found.glanced, found.focused, look.size),
            outputs={
                "step_logits": jnp.stack(found.logits, axis=1),
                "glance_logits": found.glance_logits,
                "focus_logits": jnp.stack(found.focus_logits, axis=1),
                "boxes": found.boxes,
            },
        )
        return prediction, visited

    def _one_by_one(
        self, frames: Array, look: Array, mode: Mode, ends: bool
    ) -> tuple[Prediction, Array]:
        """Place by place, on those videos alone that have not ended; returns as `_at_once`."""
        cfg, (batch, length) = self.config, look.shape
        # A loop's body must not touch the surrounding module, so it gets a stateless copy.
        module, variables = self.unbind()
        drawn = self._drawn(length, mode)
        limits = jnp.asarray(at_steps(cfg.exit, length))

        def step(at: _Progress) -> _Progress:
            place = at.place
            seen = at.alive & look[:, place]
            frame = jnp.take(frames, place, axis=1)[:, None]
            where = None if drawn is None else jnp.take(drawn, place, axis=1)[:, None]
            looks = module.apply(
                variables, frame, seen[:, None], at.memory, where, mode, place, method="look"
            )
            found = cast(Looks, looks)
            logits = jnp.where(seen[:, None], found.logits[0][:, 0], at.logits)
            return _Progress(
                place=place + 1,
                alive=at.alive & ~(seen & (confidence(logits) >= limits[place])),
                memory=found.memory,
                logits=logits,
                visited=at.visited.at[:, place].set(seen),
                boxes=at.boxes.at[:, place].set(found.boxes[:, 0]),
                glanced=at.glanced + found.glanced,
                focused=at.focused + found.focused,
            )

        zero = jnp.zeros((), jnp.int32)
        start = _Progress(
            place=zero,
            alive=jnp.ones(batch, bool),
            memory=self._start(batch),
            logits=jnp.zeros((batch, cfg.num_classes), jnp.float32),
            visited=jnp.zeros((batch, length), bool),
            boxes=jnp.zeros((batch, length, 4), jnp.float32),
            glanced=zero,
            focused=zero,
        )
        end = jax.lax.while_loop(lambda at: (at.place < length) & jnp.any(at.alive), step, start)
        prediction = Prediction(
            logits=end.logits,
            calls={},
            executed=_executed(end.glanced, end.focused, end.place * batch),
            outputs={"boxes": end.boxes},
        )
        return prediction, end.visited


def _other_keys(mode: Mode) -> Array:
    """Keys for the second pass, whose dropout is its own."""
    return jax.vmap(lambda key: jax.random.fold_in(key, 1))(mode.training_keys)


def _executed(glanced: Array, focused: Array, judged: Array | int) -> dict[str, Array]:
    """By network how many frames were computed; policy and classifier take a group as it is."""
    counts = {GLANCE: glanced, POLICY: judged, FOCUS: focused, CLASSIFIER: judged}
    return {name: jnp.asarray(count, jnp.int32) for name, count in counts.items()}
