"""The module of AdaFrame, and what its config says of it; see `methods.adaframe`."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.schema import require
from ar_net_jax.methods.adaframe_recurrence import AdaFrameRecurrence
from ar_net_jax.methods.uniform import UniformConfig, network_name
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.frame_store import FrameReader, FrameStore, places_mask, rows_at
from ar_net_jax.modules.heads import check_backbone, frame_classifier
from ar_net_jax.modules.memory import Memory, position_encoding, spread_places
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.modules.recurrence import LSTMState
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.decide import Forced
from ar_net_jax.ops.reinforce import gaussian_log_probability

Array = jax.Array
Locations = Literal["policy", "uniform"]

MAIN, MEMORY, LSTM = "backbone_0", "memory", "LSTM"
"""The networks; the heavy one has its module's name in Uniform, so that a trained one can be taken
over. Only the first two are modules of these names."""
RECURRENCE = "recurrence"
LOOKED_AT = 0
"""Index of the choice to show a frame to the heavy network."""
VARIANCE = 0.01
"""Of a location in training, where 0 is the first frame of a video and 1 the last."""
_LOCATION_SALT = 2_003


@dataclass(frozen=True)
class AdaFrameConfig(UniformConfig):
    """The heavy network, as in `UniformConfig`, the memory's light one, and the LSTM.

    Attributes:
        backbone: name of the heavy network's.
        memory_backbone: name of the light network's.
        memory_resolution: side in pixels at which it sees the memory's frames.
        memory_frames: M, how many frames are remembered, spread evenly; all of a shorter video.
        steps: K, how many times the heavy network may look.
        hidden_size: LSTM units.
        utility_margin: mu. In evaluation a step counts against going on if its utility is more
            than this below the highest so far,
        patience: p, and at the p-th such step a video is done.
    """

    backbone: str = "resnet101"
    memory_backbone: str = "mobilenet_v2"
    memory_resolution: int = 112
    memory_frames: int = 16
    steps: int = 10
    hidden_size: int = 1024
    utility_margin: float = 0.7
    patience: int = 2

    @property
    def choices(self) -> Choices:
        """The heavy network looks at a frame, with a step of the LSTM, or not."""
        main = network_name(self.resolution)
        calls = {main: (1.0, 0.0), MEMORY: (1.0, 1.0), LSTM: (1.0, 0.0)}
        return Choices(
            (main, "not looked at"),
            calls,
            overhead=(MEMORY, LSTM),
            skip_lengths=(0, 1),
            at_most={MEMORY: self.memory_frames},
        )

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        check_backbone(self.memory_backbone, f"{path}.memory_backbone")
        for name in ("memory_resolution", "memory_frames", "hidden_size", "patience"):
            require(getattr(self, name) >= 1, f"{path}.{name}", "must be at least 1")
        require(self.steps >= 2, f"{path}.steps", "with one step there is no frame to choose")
        require(self.utility_margin >= 0, f"{path}.utility_margin", "must not be negative")


@flax.struct.dataclass
class Course:
    """What is settled about the steps of B videos before the first.

    Attributes:
        start: int32 [B], the frame of the first step.
        limit: int32 [B], how many steps a video may take.
        noise: float32 [B, L], added to the policy's locations.
        locations: float32 [B, L], that replace the policy's; or None.
        may_stop: whether a video whose utility falls is done.
    """

    start: Array
    limit: Array
    noise: Array
    locations: Array | None = None
    may_stop: bool = flax.struct.field(pytree_node=False, default=True)


@flax.struct.dataclass
class Walk:
    """Where B videos stand between two steps.

    Attributes:
        lstm: the state, float32 [B, H].
        place: int32 [B], the frame of the next step.
        walking: bool [B], False once a video is done.
        best: float32 [B], the highest utility so far.
        falls: int32 [B], how many steps counted against going on.
    """

    lstm: LSTMState
    place: Array
    walking: Array
    best: Array
    falls: Array


@flax.struct.dataclass
class Step:
    """A step of B videos; or [B, L, ...] of all L steps.

    Attributes:
        place: int32 [B], the frame.
        walked: bool [B], False for a video that was done before.
        hidden: float32 [B, H], the LSTM's state after it.
        utility: float32 [B], what the steps after it are expected to gain.
        log_probability: float32 [B], of the next step's location, the policy's share in it.
    """

    place: Array
    walked: Array
    hidden: Array
    utility: Array
    log_probability: Array


class AdaFrameModule(nn.Module):
    """The two networks on frames, and the LSTM that goes from frame to frame.

    Attributes:
        config: the model's config.
    """

    config: AdaFrameConfig

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.backbone_0 = frame_classifier(cfg, cfg.backbone)
        # In float32 whatever the heavy network computes in, as what decides is elsewhere.
        precise = dataclasses.replace(cfg, dtype="float32")
        self.memory = frame_classifier(precise, cfg.memory_backbone)
        self.recurrence = AdaFrameRecurrence(
            backbones.get(cfg.backbone).features,
            backbones.get(cfg.memory_backbone).features,
            cfg.hidden_size,
            cfg.num_classes,
            cfg.head,
            cfg.head_width,
        )

    def __call__(
        self,
        frames: Array,
        mode: Mode = EVALUATION,
        *,
        frame_mask: Array | None = None,
        locations: Locations = "policy",
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`.

        Under `Forced` decisions those frames are looked at whose action is `LOOKED_AT`, however
        many, in the order of time, and the last step predicts.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: see `Method.module`.
            frame_mask: see `Method.module`.
            locations: in training `uniform` draws them evenly from the whole video.
        """
        cfg, mask = self.config, mask_or_ones(frame_mask, frames)
        counts = jnp.sum(mask, axis=1, dtype=jnp.int32)
        memory, remembered = self.recall(frames, mask, mode)
        course = self._course(mask, counts, mode, locations)
        walk = self._routed_walk if mode.chunks is not None else self._masked_walk
        steps, computed, taken = walk(frames, counts, memory, course, mode)
        looked = places_mask(steps.place, steps.walked, mask.shape[1])
        one_hot = jnp.stack([looked, mask & ~looked], axis=-1).astype(jnp.float32)
        training = mode.trains(RECURRENCE)
        by_step = self.recurrence.classify(steps.hidden, steps.walked, train=training)
        walked = jnp.sum(steps.walked, axis=1, dtype=jnp.int32)
        last = jnp.maximum(walked - 1, 0)[:, None, None]
        # Nothing was looked at: only where decisions are imposed.
        logits = jnp.take_along_axis(by_step, last, axis=1)[:, 0] * (walked > 0)[:, None]
        name = network_name(cfg.resolution)
        return Prediction(
            logits=logits,
            # A frame may be seen in several steps.
            calls=cfg.choices.count(one_hot) | {LSTM: walked.astype(jnp.float32)},
            executed={name: computed, MEMORY: remembered, LSTM: taken},
            decisions=Decisions(one_hot),
            outputs={
                "step_logits": by_step,
                "utility": steps.utility[:, :-1],
                "step_log_probability": steps.log_probability[:, :-1],
            },
        )

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, names: tuple[str, ...]
    ) -> dict[str, Array]:
        """Each of the modules `names` by itself: its prediction from all frames, [B, C]."""
        everything = jnp.ones(frames.shape[:2], bool)
        found = {}
        for name in names:
            rows, _ = self._run(name, frames, everything, mode, "__call__")
            found[name] = getattr(self, name).video_logits(rows, everything.astype(jnp.float32))
        return found

    def recall(self, frames: Array, mask: Array, mode: Mode) -> tuple[Memory, Array]:
        """The videos' memories, and how many frames the light network computed for them."""
        cfg, length = self.config, frames.shape[1]
        counts = jnp.sum(mask, axis=1, dtype=jnp.int32)
        places, used = spread_places(counts, min(cfg.memory_frames, length))
        chosen = frames
        if cfg.memory_frames < length:
            chosen = jnp.take_along_axis(frames, places[..., None, None, None], axis=1)
        rows, computed = self._run(MEMORY, chosen, used, mode, "features")
        encoding = jnp.asarray(position_encoding(*rows.shape[1:]))
        return Memory(rows + encoding, used), computed

    def advance(
        self,
        walk: Walk,
        row: Array,
        memory: Memory,
        counts: Array,
        course: Course,
        t: Array,
    ) -> tuple[Walk, Step]:
        """One step: the recurrence, whether to go on, and where.

        Args:
            walk: before it.
            row: features of the frames at `walk.place`, float32 [B, F].
            memory: of the videos.
            counts: int32 [B], their numbers of frames.
            course: what is settled.
            t: int32 scalar, the step's index.
        """
        cfg = self.config
        lstm, mean, utility = self.recurrence.step(walk.lstm, row, memory)
        best = jnp.maximum(walk.best, utility)
        falls = walk.falls + (best - utility > cfg.utility_margin)
        going = walk.walking & (t + 1 < course.limit)
        if course.may_stop:
            going &= falls < cfg.patience
        if course.locations is None:
            location = mean + course.noise[:, t]
            # Of what was drawn, not of the frame that it comes to.
            drawn = jax.lax.stop_gradient(location)
            log_probability = gaussian_log_probability(drawn, mean, VARIANCE)
        else:
            location, log_probability = course.locations[:, t], jnp.zeros_like(mean)
        place = jnp.round(jnp.clip(location, 0, 1) * (counts - 1)).astype(jnp.int32)
        step = Step(walk.place, walk.walking, lstm.hidden, utility, log_probability)
        return Walk(lstm, place, going, best, falls), step

    def _run(
        self, module: str, frames: Array, selected: Array, mode: Mode, method: str
    ) -> tuple[Array, Array]:
        """A network's rows float32 [B, T, D], and how many frames it computed."""
        name, size = self._seen_as(module)
        return run_on_frames(
            getattr(self, module),
            frames,
            selected,
            mode,
            name=name,
            size=size,
            resize=self.config.resize,
            method=method,
        )

    def _seen_as(self, module: str) -> tuple[str, int]:
        """Name of a module's network, and the side of its frames."""
        cfg = self.config
        if module == MEMORY:
            return MEMORY, cfg.memory_resolution
        return network_name(cfg.resolution), cfg.resolution

    def _course(self, mask: Array, counts: Array, mode: Mode, locations: Locations) -> Course:
        """How the steps are to go."""
        batch, steps = mask.shape[0], self.config.steps
        start, limit = counts // 2, jnp.full(batch, steps, jnp.int32)
        still = jnp.zeros((batch, steps))
        if isinstance(mode.decide, Forced):
            chosen = (mode.decide.actions == LOOKED_AT) & mask
            places = jnp.argsort(~chosen, axis=1, stable=True).astype(jnp.int32)
            onward = jnp.roll(places, -1, axis=1) / jnp.maximum(counts - 1, 1)[:, None]
            limit = jnp.sum(chosen, axis=1, dtype=jnp.int32)
            return Course(places[:, 0], limit, jnp.zeros_like(onward), onward, may_stop=False)
        if not mode.trains(RECURRENCE):
            return Course(start, limit, still)

        def draw(key: Array) -> Array:
            key = jax.random.fold_in(key, _LOCATION_SALT)
            if locations == "uniform":
                return jax.random.uniform(key, (steps,))
            return jax.random.normal(key, (steps,)) * VARIANCE**0.5

        drawn = jax.vmap(draw)(mode.training_keys)
        if locations == "uniform":
            return Course(start, limit, still, drawn, may_stop=False)
        return Course(start, limit, drawn, may_stop=False)

    def _start(self, course: Course) -> Walk:
        """Before the first step."""
        batch = course.start.shape[0]
        return Walk(
            self.recurrence.initial_state(batch),
            course.start,
            course.limit > 0,
            jnp.full(batch, -jnp.inf),
            jnp.zeros(batch, jnp.int32),
        )

    def _masked_walk(
        self, frames: Array, counts: Array, memory: Memory, course: Course, mode: Mode
    ) -> tuple[Step, Array, Array]:
        """All steps, on features of all frames.

        Returns:
            `Step` of [B, L, ...]; the frames that the heavy network computed, and the LSTM's steps.
        """
        everything = jnp.ones(frames.shape[:2], bool)
        rows, computed = self._run(MAIN, frames, everything, mode, "features")

        def step(module: AdaFrameModule, walk: Walk, t: Array) -> tuple[Walk, Step]:
            row = rows_at(rows, walk.place[:, None])[:, 0]
            return module.advance(walk, row, memory, counts, course, t)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, out_axes=1)
        length = course.noise.shape[1]
        _, steps = scan(self, self._start(course), jnp.arange(length))
        return steps, computed, jnp.asarray(frames.shape[0] * length, jnp.int32)

    def _routed_walk(
        self, frames: Array, counts: Array, memory: Memory, course: Course, mode: Mode
    ) -> tuple[Step, Array, Array]:
        """Steps until every video is done, each on the features of frames that are new to it."""
        # A loop's body must not touch the surrounding module, so it gets a stateless copy.
        stateless, variables = self.unbind()
        name, size = self._seen_as(MAIN)
        reader = FrameReader.of(
            self.backbone_0,
            frames,
            mode,
            name=name,
            size=size,
            resize=self.config.resize,
            at_once=frames.shape[0],
        )
        (batch, length), hidden = course.noise.shape, self.config.hidden_size

        def is_left(state: tuple[Array, Walk, FrameStore, Step]) -> Array:
            t, walk, _, _ = state
            return (t < length) & jnp.any(walk.walking)

        def take(state: tuple[Array, Walk, FrameStore, Step]) -> Any:
            t, walk, store, steps = state
            wanted = places_mask(walk.place[:, None], walk.walking[:, None], frames.shape[1])
            store = reader.read(store, wanted)
            row = rows_at(store.rows, walk.place[:, None])[:, 0]
            given = (walk, row, memory, counts, course, t)
            walk, step = stateless.apply(variables, *given, method="advance")
            steps = jax.tree.map(lambda all_, one: all_.at[:, t].set(one), steps, step)
            return t + 1, walk, store, steps

        blank = jnp.zeros((batch, length))
        steps = Step(
            blank.astype(jnp.int32),
            blank.astype(bool),
            jnp.zeros((batch, length, hidden)),
            blank,
            blank,
        )
        start = (jnp.zeros((), jnp.int32), self._start(course), reader.empty(), steps)
        taken, _, store, steps = jax.lax.while_loop(is_left, take, start)
        return steps, store.computed, taken * batch
