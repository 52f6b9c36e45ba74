"""The module of MultiAgent, and what its config says of it; see `methods.multi_agent`."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.schema import require
from ar_net_jax.methods.uniform import UniformConfig, network_name
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.frame_store import FrameReader, FrameStore, places_mask, rows_at
from ar_net_jax.modules.gru import GRUCell
from ar_net_jax.modules.heads import Linear, frame_classifier
from ar_net_jax.modules.memory import spread_places
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.decide import Forced

Array = jax.Array

MAIN, GRU = "backbone_0", "GRU"
"""The networks; the backbone has its module's name in Uniform, so that a trained one can be taken
over."""
POLICY = "policy"
LOOKED_AT = 0
"""Index of the choice to show a frame to the backbone."""
MOVES = 3
"""Back, stay, forward; their index less 1 is the direction."""
STAY = 1
_MOVE_SALT = 2_004


@dataclass(frozen=True)
class MultiAgentConfig(UniformConfig):
    """A backbone, as in `UniformConfig`, and the agents that share it.

    Attributes:
        backbone: its name.
        agents: N, how many there are.
        neighbours: on each side of an agent, whose frames it knows about.
        stride: of a move, in frames.
        steps: S, how often the agents may move.
        hidden_size: units of the GRU.
    """

    backbone: str = "resnet101"
    agents: int = 3
    neighbours: int = 1
    stride: int = 1
    steps: int = 10
    hidden_size: int = 1024

    @property
    def choices(self) -> Choices:
        """The backbone looks at a frame, for which an agent took a step, or not."""
        main = network_name(self.resolution)
        calls = {main: (1.0, 0.0), GRU: (1.0, 0.0)}
        return Choices((main, "not looked at"), calls, overhead=(GRU,), skip_lengths=(0, 1))

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        for name in ("agents", "stride", "steps", "hidden_size"):
            require(getattr(self, name) >= 1, f"{path}.{name}", "must be at least 1")
        require(self.neighbours >= 0, f"{path}.neighbours", "must not be negative")


@flax.struct.dataclass
class Agents:
    """The agents of B videos between two steps.

    Attributes:
        hidden: float32 [B, N, H], each one's state.
        places: int32 [B, N], their frames, in the order of the agents.
        moving: bool [B], False once all have stayed.
    """

    hidden: Array
    places: Array
    moving: Array


@flax.struct.dataclass
class Move:
    """A step of the agents of B videos; or [B, S, ...] of all S steps.

    Attributes:
        places: int32 [B, N], where they are after it.
        moved: bool [B], False for a video that was done before.
        log_probability: float32 [B, N], of what each did.
        entropy: float32 [B, N], of what each might have done.
    """

    places: Array
    moved: Array
    log_probability: Array
    entropy: Array


def keep_order(places: Array, proposed: Array, counts: Array) -> Array:
    """Where agents come to that may catch up with a neighbour, but not pass it.

    An agent stops at the place where its neighbour was before the move, and of two that would
    exchange their places the later one stays.

    Args:
        places: int32 [B, N], ascending, before the move.
        proposed: int32 [B, N], where each wants to go.
        counts: int32 [B], the videos' numbers of frames.

    Returns:
        int32 [B, N], ascending, from 0 to a video's last frame.
    """
    last = counts[:, None] - 1
    lowest = jnp.concatenate([jnp.zeros_like(last), places[:, :-1]], axis=1)
    highest = jnp.concatenate([places[:, 1:], last], axis=1)
    return jax.lax.cummax(jnp.clip(proposed, lowest, highest), axis=1)


class AgentPolicy(nn.Module):
    """The GRU that all agents share, and what they do by its state.

    Attributes:
        features: F, width of a frame's features.
        neighbours: M, on each side.
        hidden_size: H.
    """

    features: int
    neighbours: int
    hidden_size: int

    def setup(self) -> None:
        """Declares the submodules."""
        self.gru = GRUCell((2 * self.neighbours + 1) * self.features, self.hidden_size)
        self.move = Linear(self.hidden_size, MOVES)

    def observe(self, rows: Array) -> Array:
        """Each agent's and its neighbours' features, [B, N, F] to [B, N, (2M + 1) F].

        Beyond the first and the last agent there are zeros.
        """
        around, count = self.neighbours, rows.shape[1]
        padded = jnp.pad(rows, ((0, 0), (around, around), (0, 0)))
        shifts = range(2 * around + 1)
        return jnp.concatenate([padded[:, i : i + count] for i in shifts], axis=-1)

    def __call__(self, hidden: Array, rows: Array) -> tuple[Array, Array]:
        """One step.

        Args:
            hidden: float32 [B, N, H], before it.
            rows: float32 [B, N, F], features of the agents' frames.

        Returns:
            The states after it, and the logits of the moves, float32 [B, N, 3].
        """
        hidden = self.gru.step(hidden, self.gru.project(self.observe(rows)))
        return hidden, self.move(hidden)


class MultiAgentModule(nn.Module):
    """The backbone with its classifier, and the agents' policy.

    Attributes:
        config: the model's config.
    """

    config: MultiAgentConfig

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.backbone_0 = frame_classifier(cfg, cfg.backbone)
        features = backbones.get(cfg.backbone).features
        self.policy = AgentPolicy(features, cfg.neighbours, cfg.hidden_size)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`.

        Under `Forced` decisions the agents do nothing: the prediction is the average over those
        frames whose action is `LOOKED_AT`, however many.
        """
        mask = mask_or_ones(frame_mask, frames)
        if isinstance(mode.decide, Forced):
            return self._imposed(frames, mask, mode, mode.decide.actions)
        cfg, counts = self.config, jnp.sum(mask, axis=1, dtype=jnp.int32)
        walk = self._routed_walk if mode.chunks is not None else self._masked_walk
        start, _ = spread_places(counts, cfg.agents)
        noise = self._noise(start, mode)
        store, steps, taken = walk(frames, counts, start, noise, mode)
        places = jnp.concatenate([start[:, None], steps.places], axis=1)
        looked = places_mask(places.reshape(places.shape[0], -1), jnp.ones((), bool), mask.shape[1])
        one_hot = jnp.stack([looked, mask & ~looked], axis=-1).astype(jnp.float32)
        final = self.backbone_0.rows(rows_at(store.rows, places[:, -1]))
        moves = jnp.sum(steps.moved, axis=1, dtype=jnp.float32) * cfg.agents
        outputs = {}
        if mode.chunks is None:
            outputs = {
                "frame_logits": self._frame_logits(store.rows),
                "places": places,
                "moved": steps.moved,
                "move_log_probability": steps.log_probability,
                "move_entropy": steps.entropy,
            }
        name = network_name(cfg.resolution)
        return Prediction(
            logits=self.backbone_0.video_logits(final, jnp.ones(final.shape[:2])),
            # An agent takes a step whether it comes to a new frame or not.
            calls=cfg.choices.count(one_hot) | {GRU: moves},
            executed={name: store.computed, GRU: taken},
            decisions=Decisions(one_hot),
            outputs=outputs,
        )

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, names: tuple[str, ...]
    ) -> dict[str, Array]:
        """The backbone by itself, under its name: its prediction from all frames, [B, C]."""
        everything = jnp.ones(frames.shape[:2], bool)
        rows, _ = self._run(frames, everything, mode, "__call__")
        logits = self.backbone_0.video_logits(rows, everything.astype(jnp.float32))
        return dict.fromkeys(names, logits)

    def advance(self, agents: Agents, rows: Array, counts: Array, noise: Array) -> Any:
        """One step of the agents.

        Args:
            agents: before it.
            rows: features of their frames, float32 [B, N, F].
            counts: int32 [B], the videos' numbers of frames.
            noise: float32 [B, N, 3], added to the logits of moves: Gumbel's draws them by their
                probabilities, zeros take the most likely.

        Returns:
            `Agents` after it, and the `Move`.
        """
        hidden, logits = self.policy(agents.hidden, rows)
        log_probabilities = jax.nn.log_softmax(logits)
        move = jnp.argmax(logits + noise, axis=-1)
        chosen = jax.nn.one_hot(move, MOVES)
        proposed = agents.places + (move - STAY) * self.config.stride
        after = keep_order(agents.places, proposed, counts)
        places = jnp.where(agents.moving[:, None], after, agents.places).astype(jnp.int32)
        step = Move(
            places,
            agents.moving,
            jnp.sum(chosen * log_probabilities, axis=-1),
            -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, axis=-1),
        )
        return Agents(hidden, places, agents.moving & jnp.any(move != STAY, axis=1)), step

    def _run(self, frames: Array, selected: Array, mode: Mode, method: str) -> tuple[Array, Array]:
        """The backbone's rows float32 [B, T, D], and how many frames it computed."""
        cfg = self.config
        return run_on_frames(
            self.backbone_0,
            frames,
            selected,
            mode,
            name=network_name(cfg.resolution),
            size=cfg.resolution,
            resize=cfg.resize,
            method=method,
        )

    def _imposed(self, frames: Array, mask: Array, mode: Mode, actions: Array) -> Prediction:
        """What is made of frames that are looked at whatever the agents would do."""
        looked = (actions == LOOKED_AT) & mask
        rows, computed = self._run(frames, looked, mode, "__call__")
        one_hot = jnp.stack([looked, mask & ~looked], axis=-1).astype(jnp.float32)
        name, idle = network_name(self.config.resolution), jnp.zeros(mask.shape[0])
        return Prediction(
            logits=self.backbone_0.video_logits(rows, one_hot[..., LOOKED_AT]),
            calls=self.config.choices.count(one_hot) | {GRU: idle},
            executed={name: computed, GRU: jnp.zeros((), jnp.int32)},
            decisions=Decisions(one_hot),
        )

    def _frame_logits(self, features: Array) -> Array:
        """What the classifier makes of each frame by itself: [B, T, F] to [B, T, C]."""
        rows = self.backbone_0.rows(features)
        flat = rows.reshape(-1, 1, rows.shape[-1])
        logits = self.backbone_0.video_logits(flat, jnp.ones(flat.shape[:2]))
        return logits.reshape(*rows.shape[:2], -1)

    def _noise(self, start: Array, mode: Mode) -> Array:
        """What is added to the logits of moves, float32 [B, S, N, 3]."""
        shape = (self.config.steps, start.shape[1], MOVES)
        if not mode.trains(POLICY):
            return jnp.zeros((start.shape[0], *shape))

        def draw(key: Array) -> Array:
            return jax.random.gumbel(jax.random.fold_in(key, _MOVE_SALT), shape)

        return jax.vmap(draw)(mode.training_keys)

    def _start(self, places: Array) -> Agents:
        """The agents before the first step."""
        hidden = jnp.zeros((*places.shape, self.config.hidden_size))
        return Agents(hidden, places, jnp.ones(places.shape[0], bool))

    def _masked_walk(
        self, frames: Array, counts: Array, start: Array, noise: Array, mode: Mode
    ) -> tuple[FrameStore, Move, Array]:
        """All steps, on features of all frames.

        Returns:
            The features; `Move` of [B, S, ...]; and how many steps of an agent were computed.
        """
        everything = jnp.ones(frames.shape[:2], bool)
        rows, computed = self._run(frames, everything, mode, "features")
        # The stage leaves the backbone alone; without this its gradient would be computed.
        rows = jax.lax.stop_gradient(rows)

        def step(module: MultiAgentModule, agents: Agents, noise: Array) -> tuple[Agents, Move]:
            return module.advance(agents, rows_at(rows, agents.places), counts, noise)

        scan = nn.scan(
            step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
        )
        _, steps = scan(self, self._start(start), noise)
        taken = jnp.asarray(start.size * self.config.steps, jnp.int32)
        return FrameStore(rows, everything, computed), steps, taken

    def _routed_walk(
        self, frames: Array, counts: Array, start: Array, noise: Array, mode: Mode
    ) -> tuple[FrameStore, Move, Array]:
        """Steps until all agents stay, each on the features of frames that are new."""
        # A loop's body must not touch the surrounding module, so it gets a stateless copy.
        stateless, variables = self.unbind()
        cfg, length = self.config, frames.shape[1]
        name, size, count = network_name(cfg.resolution), cfg.resolution, cfg.steps
        reader = FrameReader.of(
            self.backbone_0,
            frames,
            mode,
            name=name,
            size=size,
            resize=cfg.resize,
            at_once=start.shape[0] * start.shape[1],
        )

        def read(store: FrameStore, places: Array, active: Array) -> FrameStore:
            return reader.read(store, places_mask(places, active[:, None], length))

        def is_left(state: tuple[Array, Agents, FrameStore, Move]) -> Array:
            t, agents, _, _ = state
            return (t < count) & jnp.any(agents.moving)

        def take(state: tuple[Array, Agents, FrameStore, Move]) -> Any:
            t, agents, store, steps = state
            given = (agents, rows_at(store.rows, agents.places), counts, noise[:, t])
            agents, step = stateless.apply(variables, *given, method="advance")
            store = read(store, agents.places, agents.moving)
            steps = jax.tree.map(lambda all_, one: all_.at[:, t].set(one), steps, step)
            return t + 1, agents, store, steps

        agents = self._start(start)
        blank = jnp.zeros((start.shape[0], count, start.shape[1]))
        # Steps that are not taken leave the agents where they are, which only the loop knows.
        steps = Move(jnp.full(blank.shape, -1), jnp.zeros(blank.shape[:2], bool), blank, blank)
        first = read(reader.empty(), start, agents.moving)
        taken, agents, store, steps = jax.lax.while_loop(
            is_left, take, (jnp.zeros((), jnp.int32), agents, first, steps)
        )
        untaken = (jnp.arange(count) >= taken)[None, :, None]
        places = jnp.where(untaken, agents.places[:, None], steps.places)
        return store, dataclasses.replace(steps, places=places), taken * start.size
