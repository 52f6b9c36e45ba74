"""The policy network: features of every frame at low resolution, LSTM over time, decisions.

Equations 1 to 3 of the paper. Decisions and recurrence are one scan, because a skip restores the
hidden state on the frames it covers.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.model import HEAD_WIDTH, Head
from ar_net_jax.config.schema import require
from ar_net_jax.modules.heads import POLICY_SALT, Embedding, Linear, check_backbone
from ar_net_jax.modules.recurrence import LSTMCell, LSTMState
from ar_net_jax.ops.actions import ActionSpace, advance_skip
from ar_net_jax.ops.decide import Argmax, Decide
from ar_net_jax.ops.pooling import maximum_over_frames
from ar_net_jax.ops.resize import Normalisation
from ar_net_jax.ops.rng import dropout

Array = jax.Array
I = TypeVar("I")  # noqa: E741


@dataclass(frozen=True)
class PolicyConfig:
    """The policy network: feature extractor, LSTM over time, decision head (Section 3.2).

    Attributes:
        backbone: name of the feature extractor.
        resolution: side in pixels at which the policy sees every frame.
        is_action: whether the policy's own prediction is the lowest resolution's action. When it
            is, `resolution` is the last of `model.resolutions`.
        hidden_size: LSTM units.
        dropout: on the features before the LSTM.
        cell_state: what happens to the LSTM's cell on frames covered by a skip: `frozen` (paper)
            or `advancing` (released code). The hidden state is frozen either way.
        lowest_head: what the lowest resolution's classifier reads: `features` (paper, footnote
            4) or `hidden` (released code).
        frame_weight: how much a frame's prediction counts in the video's: `equal` (paper), or
            `learned` from the LSTM's hidden state, which knows what came before.
    """

    backbone: str = "mobilenet_v2"
    resolution: int = 84
    is_action: bool = True
    hidden_size: int = 512
    dropout: float = 0.5
    cell_state: Literal["frozen", "advancing"] = "frozen"
    lowest_head: Literal["features", "hidden"] = "features"
    frame_weight: Literal["equal", "learned"] = "equal"

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        check_backbone(self.backbone, f"{path}.backbone")
        require(self.resolution >= 1, f"{path}.resolution", "must be at least 1 pixel")
        require(self.hidden_size >= 1, f"{path}.hidden_size", "must be at least 1")
        require(0 <= self.dropout < 1, f"{path}.dropout", "must lie in [0, 1)")


@flax.struct.dataclass
class PolicySteps:
    """What the policy made of the frames of B videos.

    Attributes:
        one_hot: float32 [B, T, A], the action of every frame, a skip repeated on the frames it
            covers; carries the straight-through gradient when sampled.
        covered: bool [B, T], frames on which an earlier skip holds.
        logits: float32 [B, T, A], of the decision head, cost offset included.
        hidden: float32 [B, T, H], the freshly computed hidden state, before any restoring.
        weight: float32 [B, T] in (0, 2), how much the frame counts; None where all count alike.
    """

    one_hot: Array
    covered: Array
    logits: Array
    hidden: Array
    weight: Array | None = None

    def weighted(self, rows: Array) -> Array:
        """Rows [B, T, D] of frames, each as much as its frame counts."""
        return rows if self.weight is None else rows * self.weight[..., None]


@flax.struct.dataclass
class PolicyState:
    """What the policy carries from frame to frame.

    Attributes:
        lstm: its LSTM's state; the hidden half is restored on covered frames.
        remaining: int32 [B], how many frames from here on an earlier skip still covers.
        one_hot: float32 [B, A], the action of the frame before.
    """

    lstm: LSTMState
    remaining: Array
    one_hot: Array


class PolicyNetwork(nn.Module):
    """Feature extractor, LSTM, decision head and, where it is an action, the lowest head.

    All of it computes in float32: what is decided must not hang on rounding, and a small extractor
    at low resolution has little to gain.

    Attributes:
        config: see `PolicyConfig`.
        space: the action space.
        num_classes: C.
        padding: padding rule of an EfficientNet extractor.
        norm: settings of an EfficientNet extractor's BatchNorms.
        remat: of the extractor, see `ModelConfig`.
        head: of the lowest resolution, see `ModelConfig`.
    """

    config: PolicyConfig
    space: ActionSpace
    num_classes: int
    padding: str = "same"
    norm: str = "tensorflow"
    remat: bool = False
    head: Head = "mean"

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        backbone = backbones.get(cfg.backbone)
        self.backbone = backbone.module(padding=self.padding, norm=self.norm, remat=self.remat)
        width = backbone.features
        self.lstm = LSTMCell(width, cfg.hidden_size)
        self.decision = Linear(cfg.hidden_size, self.space.num_actions)
        if cfg.frame_weight == "learned":
            # All count alike at first.
            self.weight = Linear(cfg.hidden_size, 1, nn.initializers.zeros)
        if cfg.is_action:
            read = cfg.hidden_size if cfg.lowest_head == "hidden" else width
            if self.head == "max_mlp":
                self.embedding = Embedding(read)
                read = HEAD_WIDTH
            self.lowest_head = Linear(read, self.num_classes)
        self.warmup_head = Linear(width, self.num_classes)

    @property
    def normalisation(self) -> Normalisation:
        """What the frames are to be normalised by."""
        return backbones.get(self.config.backbone).normalisation

    def features(self, frames: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Features f_t of eq. 1 after dropout: normalised [N, s, s, 3] -> float32 [N, D]."""
        features = self.backbone(frames, train=train, keys=keys)
        return dropout(features, self.config.dropout, keys, POLICY_SALT)

    def decide(
        self,
        features: Array,
        decide: Decide[Any] | None = None,
        *,
        keys: Array | None = None,
        use_skips: bool = True,
    ) -> PolicySteps:
        """Runs LSTM and decision head over time.

        Args:
            features: float32 [B, T, D].
            decide: how an action follows from the head's logits; the most likely one by default.
            keys: one typed PRNG key per video [B], for decisions that are drawn.
            use_skips: False lets a skip drop only the frame it is chosen on (the released
                Random policy).
        """
        way: Decide[Any] = decide or Argmax()
        batch, length = features.shape[:2]
        lengths = jnp.asarray(self.space.skip_lengths * int(use_skips), jnp.int32)

        def step(
            policy: PolicyNetwork, state: PolicyState, inputs: tuple[Array, Array | None]
        ) -> tuple[PolicyState, PolicySteps]:
            projected, chosen = inputs
            return policy._advance(state, projected, lengths, way, chosen)

        inputs = (
            self.lstm.project(features),
            way.inputs(keys, length, self.space.num_actions),
        )
        scan = nn.scan(
            step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
        )
        _, steps = scan(self, self.initial_state(batch), inputs)
        return steps

    def initial_state(self, batch: int) -> PolicyState:
        """The state before the first frame of `batch` videos."""
        none_yet = jnp.zeros((batch, self.space.num_actions))
        return PolicyState(self.lstm.initial_state(batch), jnp.zeros(batch, jnp.int32), none_yet)

    def decide_frame(
        self, state: PolicyState, features: Array, decide: Decide[None] | None = None
    ) -> tuple[PolicyState, PolicySteps]:
        """One frame of `decide`, for a video that arrives frame by frame.

        Args:
            state: from `initial_state` or from the frame before.
            features: float32 [B, D].
            decide: a way to decide that draws nothing; the most likely action by default.

        Returns:
            The next state, and `PolicySteps` without the time axis.
        """
        lengths = jnp.asarray(self.space.skip_lengths, jnp.int32)
        return self._advance(state, self.lstm.project(features), lengths, decide or Argmax(), None)

    def _advance(
        self,
        state: PolicyState,
        projected: Array,
        lengths: Array,
        decide: Decide[I],
        chosen: I,
    ) -> tuple[PolicyState, PolicySteps]:
        """One time step: recurrence, decision, skip bookkeeping (released-code rules)."""
        lstm = self.lstm.step(state.lstm, projected)
        logits = self.decision(lstm.hidden)
        if decide.offset is not None:
            logits = logits + decide.offset
        proposed = decide.choose(logits, chosen)
        covered, remaining = advance_skip(state.remaining, lengths[jnp.argmax(proposed, -1)])
        hold = covered[:, None]
        one_hot = jnp.where(hold, state.one_hot, proposed)
        frozen_cell = self.config.cell_state == "frozen"
        kept = LSTMState(
            hidden=jnp.where(hold, state.lstm.hidden, lstm.hidden),
            cell=jnp.where(hold, state.lstm.cell, lstm.cell) if frozen_cell else lstm.cell,
        )
        carried = PolicyState(kept, remaining, one_hot)
        weight = None
        if self.config.frame_weight == "learned":
            weight = 2 * nn.sigmoid(self.weight(lstm.hidden)[..., 0])
        return carried, PolicySteps(one_hot, covered, logits, lstm.hidden, weight)

    def lowest_rows(self, features: Array, steps: PolicySteps, *, train: bool = False) -> Array:
        """The lowest resolution's row of every frame, logits or embeddings: float32 [B, T, E].

        Args:
            features: float32 [B, T, D] from `features`.
            steps: from `decide`.
            train: whether the embeddings' BatchNorm goes by the batch.
        """
        read = steps.hidden if self.config.lowest_head == "hidden" else features
        if self.head == "mean":
            return self.lowest_head(read)
        return self.embedding(read, train=train)

    def warmup_logits(self, features: Array, *, train: bool = False) -> Array:
        """A prediction straight from the features, to train the extractor in the warm-up.

        That is by the lowest head itself where it reads features, else by the average of a
        temporary classifier.

        Args:
            features: float32 [B, T, D] from `features`.
            train: as in `lowest_rows`.

        Returns:
            float32 [B, C].
        """
        if not (self.config.is_action and self.config.lowest_head == "features"):
            return jnp.mean(self.warmup_head(features), axis=1)
        if self.head == "mean":
            return jnp.mean(self.lowest_head(features), axis=1)
        return self.lowest_head(maximum_over_frames(self.embedding(features, train=train)))
