"""FrameExit's module: a running maximum over frames from coarse to fine, judged after each.

Its two forms agree up to float rounding. The dense one computes all frames and finds the first
place at which a video ends; training needs it. The sparse one is a loop over places, in which the
network runs on the videos that have not ended, and which ends with the last of them.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.config.model import HEAD_WIDTH, Head
from ar_net_jax.config.schema import require
from ar_net_jax.methods.uniform import UniformConfig, network_name
from ar_net_jax.modules.exits import Gate, confidence_logit
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.heads import Linear, frame_classifier
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.decide import Forced
from ar_net_jax.ops.frame_order import coarse_to_fine_of_each
from ar_net_jax.ops.pooling import running_maximum

Array = jax.Array

BACKBONE, GATES = "backbone_0", "gates"
"""The network has the name that it has in Uniform; gates and classifiers are numbered."""

GATE = "gate"
"""What costs are told under of all that judges."""

LOOKED_AT = 0
"""Index of the choice to look at a frame; the other is to stop before it."""


@dataclass(frozen=True)
class FrameExitConfig(UniformConfig):
    """A backbone as in `UniformConfig`, classifiers and gates.

    Attributes:
        head: `max_mlp`, which the method is made of.
        steps: places that have a classifier of their own, at least 3; as published, the number of
            frames.
        exit: what ends a video: trained `gates`, or `confidence` alone.
        confidence: the largest probability from which on a video ends, after its first frame, or
            after any under `exit="confidence"`. Published are .99 for ActivityNet, .95 for
            Mini-Kinetics.
    """

    head: Head = "max_mlp"
    steps: int = 10
    exit: Literal["gates", "confidence"] = "gates"
    confidence: float = 0.99

    @property
    def choices(self) -> Choices:
        """Network and gate run on frames that are looked at, on others none."""
        main = network_name(self.resolution)
        looked_at = (1.0, 0.0)
        gated = {GATE: looked_at} if self.exit == "gates" else {}
        return Choices(
            (main, "not looked at"),
            {main: looked_at, **gated},
            overhead=tuple(gated),
            skip_lengths=(0, 1),
        )

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(self.head == "max_mlp", f"{path}.head", "frameexit is made of 'max_mlp'")
        require(self.steps >= 3, f"{path}.steps", "must be at least 3")
        require(0 < self.confidence < 1, f"{path}.confidence", "must lie between 0 and 1")


@flax.struct.dataclass
class _Progress:
    """Where B videos stand in the sparse form.

    Attributes:
        place: int32 scalar, of the next frame in the order.
        alive: bool [B], videos that have not ended.
        maximum: float32 [B, W].
        logits: float32 [B, C], of the place of each video's newest frame.
        rule: float32 [B], the logit of going on, as of the place before.
        visited: bool [B, T], by place.
        decisions: float32 [B, T], the logit of going on that each place's frame was subject to.
        computed: int32 scalar, rows that the network computed.
    """

    place: Array
    alive: Array
    maximum: Array
    logits: Array
    rule: Array
    visited: Array
    decisions: Array
    computed: Array


class FrameExitModule(nn.Module):
    """The network, its classifiers and gates.

    Attributes:
        config: the model's config.
    """

    config: FrameExitConfig

    def setup(self) -> None:
        """Declares the submodules: a gate for every place but the first and the last."""
        cfg = self.config
        self.backbone_0 = frame_classifier(cfg, cfg.backbone)
        self.exits = [Linear(HEAD_WIDTH, cfg.num_classes) for _ in range(cfg.steps)]
        self.gates = [Gate() for _ in range(cfg.steps - 2)]

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`.

        Under `Forced` decisions those frames are looked at whose action is `LOOKED_AT`, in the same
        order, and the gates run all the same.
        """
        if self.is_initializing():
            self._make_all(frames.shape[0])
        mask = mask_or_ones(frame_mask, frames)
        order = coarse_to_fine_of_each(mask)
        look = mask
        if isinstance(mode.decide, Forced):
            look = mask & (mode.decide.actions == LOOKED_AT)
        look = jnp.take_along_axis(look, order, axis=1)
        form = self._dense if mode.chunks is None else self._sparse
        return form(frames, look, order, mode, mask)

    def _dense(
        self, frames: Array, look: Array, order: Array, mode: Mode, mask: Array
    ) -> Prediction:
        """Every frame is computed, and every classifier and gate; the first exit counts."""
        batch, length = look.shape
        embeddings, executed = self.embed(frames, jnp.ones_like(look), mode)
        in_order = jnp.take_along_axis(embeddings, order[..., None], axis=1)
        maxima = running_maximum(in_order, look)
        logits = [self._classify(maxima[:, t], t) for t in range(length)]
        gates = [self._gate(maxima[:, t - 1], maxima[:, t], t, mode) for t in range(1, length - 1)]
        draws = mode.decide.inputs(mode.keys, length, len(self.config.choices))
        alive, last = jnp.ones(batch, bool), jnp.zeros_like(logits[0])
        visited, decisions, rule = [], [], jnp.zeros(batch, jnp.float32)
        for t in range(length):
            seen = alive & look[:, t]
            visited.append(seen)
            decisions.append(rule)
            last = jnp.where(seen[:, None], logits[t], last)
            if t < length - 1:
                confident = confidence_logit(logits[t], self.config.confidence)
                rule = confident if self._goes_by_confidence(t) else gates[t - 1]
                alive = alive & _goes_on(rule, _at(draws, t), mode)
        return self._prediction(
            last,
            jnp.stack(visited, 1),
            jnp.stack(decisions, 1),
            order,
            mode,
            mask,
            {
                network_name(self.config.resolution): executed,
                GATE: jnp.asarray(batch * length),
            },
            {
                "exit_logits": jnp.stack(logits, 1),
                "gate_logits": jnp.stack(gates, 1) if gates else jnp.zeros((batch, 0)),
            },
        )

    def _sparse(
        self, frames: Array, look: Array, order: Array, mode: Mode, mask: Array
    ) -> Prediction:
        """Place by place, the network on those videos alone that have not ended."""
        cfg, (batch, length) = self.config, look.shape
        # A loop's body must not touch the surrounding module, so it gets a stateless copy.
        module, variables = self.unbind()
        ends = jnp.max(jnp.where(look, jnp.arange(length) + 1, 0), axis=1)
        draws = mode.decide.inputs(mode.keys, length, len(cfg.choices))

        def judge(index: int, before: Array, now: Array) -> tuple[Array, Array]:
            found = module.apply(variables, before, now, index, method="judge")
            return cast(tuple[Array, Array], found)

        branches = [functools.partial(judge, index) for index in range(cfg.steps)]

        def step(at: _Progress) -> _Progress:
            place = at.place
            seen = at.alive & look[:, place]
            frame = jax.vmap(jnp.take, in_axes=(0, 0, None))(frames, order[:, place, None], 0)
            found = module.apply(variables, frame, seen[:, None], mode, method="embed")
            row, computed = cast(tuple[Array, Array], found)
            # Zeros, where it was not computed, leave the maximum as it is.
            maximum = jnp.maximum(at.maximum, row[:, 0])
            index = jnp.minimum(place, cfg.steps - 1)
            logits, rule = jax.lax.switch(index, branches, at.maximum, maximum)
            return _Progress(
                place=place + 1,
                alive=at.alive & _goes_on(rule, _at(draws, place), mode),
                maximum=maximum,
                logits=jnp.where(seen[:, None], logits, at.logits),
                rule=rule,
                visited=at.visited.at[:, place].set(seen),
                decisions=at.decisions.at[:, place].set(at.rule),
                computed=at.computed + computed,
            )

        start = _Progress(
            place=jnp.zeros((), jnp.int32),
            alive=jnp.ones(batch, bool),
            maximum=jnp.zeros((batch, HEAD_WIDTH), jnp.float32),
            logits=jnp.zeros((batch, cfg.num_classes), jnp.float32),
            rule=jnp.zeros(batch, jnp.float32),
            visited=jnp.zeros((batch, length), bool),
            decisions=jnp.zeros((batch, length), jnp.float32),
            computed=jnp.zeros((), jnp.int32),
        )
        end = jax.lax.while_loop(lambda at: jnp.any(at.alive & (at.place < ends)), step, start)
        executed = {network_name(cfg.resolution): end.computed, GATE: end.place * batch}
        return self._prediction(end.logits, end.visited, end.decisions, order, mode, mask, executed)

    def embed(self, frames: Array, selected: Array, mode: Mode) -> tuple[Array, Array]:
        """Embeddings float32 [B, T, W] of frames, zeros where the sparse form left them out.

        Args:
            frames: uint8 [B, T, S, S, 3].
            selected: bool [B, T].
            mode: training behaviour and keys, and the form of execution.

        Returns:
            The embeddings, and how many frames were computed, int32 scalar.
        """
        cfg = self.config
        name = network_name(cfg.resolution)
        return run_on_frames(
            self.backbone_0,
            frames,
            selected,
            mode,
            name=name,
            size=cfg.resolution,
            resize=cfg.resize,
        )

    def judge(self, before: Array, now: Array, place: int) -> tuple[Array, Array]:
        """What is said of videos at one place in evaluation.

        Args:
            before: float32 [B, W], the maxima before the place's frame.
            now: float32 [B, W], with it.
            place: from 0.

        Returns:
            logits float32 [B, C], and the logit of going on, float32 [B].
        """
        logits = self._classify(now, place)
        if self._goes_by_confidence(place):
            return logits, confidence_logit(logits, self.config.confidence)
        return logits, self._gate(before, now, place, EVALUATION)

    def _goes_by_confidence(self, place: int) -> bool:
        return place == 0 or self.config.exit == "confidence"

    def _classify(self, maximum: Array, place: int) -> Array:
        return self.exits[min(place, self.config.steps - 1)](maximum)

    def _gate(self, before: Array, now: Array, place: int, mode: Mode) -> Array:
        """The gate of a place from 1 on; its gradient ends at the maxima."""
        gate = self.gates[min(place, self.config.steps - 2) - 1]
        before, now = jax.lax.stop_gradient((before, now))
        return gate(before, now, train=mode.trains(GATES))

    def _make_all(self, batch: int) -> None:
        """Gives every classifier and gate its variables, however few frames there are."""
        nothing = jnp.zeros((batch, HEAD_WIDTH), jnp.float32)
        for place in range(self.config.steps):
            self._classify(nothing, place)
            if 0 < place < self.config.steps - 1:
                self._gate(nothing, nothing, place, EVALUATION)

    def _prediction(
        self,
        logits: Array,
        visited: Array,
        decisions: Array,
        order: Array,
        mode: Mode,
        mask: Array,
        executed: dict[str, Array],
        outputs: dict[str, Array] | None = None,
    ) -> Prediction:
        """Puts together what either form found; `visited` and `decisions` [B, T] are by place."""
        choices, back = self.config.choices, jnp.argsort(order, axis=1)
        looked, rule = (jnp.take_along_axis(x, back, axis=1) for x in (visited, decisions))
        one_hot = jnp.stack([looked, mask & ~looked], axis=-1).astype(jnp.float32)
        return Prediction(
            logits=logits,
            calls=choices.count(one_hot),
            executed={name: jnp.asarray(executed[name], jnp.int32) for name in choices.calls},
            decisions=Decisions(one_hot, _pairs(rule, mode)),
            outputs=outputs or {},
        )


def _pairs(rule: Array, mode: Mode) -> Array:
    """Logits float32 [..., 2] of the choices, from the logit of going on [...]."""
    pairs = jnp.stack([rule, jnp.zeros_like(rule)], axis=-1)
    return pairs if mode.decide.offset is None else pairs + mode.decide.offset


def _goes_on(rule: Array, drawn: Any, mode: Mode) -> Array:
    """Whether each video goes on, bool [B]; imposed frames are all looked at."""
    if isinstance(mode.decide, Forced):
        return jnp.ones(rule.shape, bool)
    return mode.decide.choose(_pairs(rule, mode), drawn)[:, LOOKED_AT] > 0.5


def _at(draws: Any, place: Array | int) -> Any:
    """What the decisions at a place take besides logits."""
    return jax.tree.map(lambda drawn: drawn[:, place], draws)
