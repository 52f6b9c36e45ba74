"""LiteEval's model: what its config says, and the forward pass in its two forms.

In the masked form both networks see every frame and the scan has their features. In the routed form
each step of the scan runs the heavy network and the fine LSTM on the videos whose gate is open, and
on no others.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.schema import require
from ar_net_jax.methods.uniform import UniformConfig, network_name
from ar_net_jax.modules.frame_runner import (
    EVALUATION,
    Mode,
    flatten_frames,
    mask_or_ones,
    run_on_frames,
)
from ar_net_jax.modules.gated_recurrence import FineStep, GatedRecurrence, GatedState
from ar_net_jax.modules.heads import check_backbone, frame_classifier
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.modules.recurrence import LSTMState
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.resize import prepare_frames
from ar_net_jax.ops.routing import Chunks, run_selected

Array = jax.Array

MAIN, COARSE = "backbone_0", "coarse"
"""The modules of the two networks that take frames. The heavy one has its name in Uniform, so that
a trained one can be taken over."""
COARSE_LSTM, FINE_LSTM = "coarse LSTM", "fine LSTM"
RECURRENCE = "recurrence"


@dataclass(frozen=True)
class LiteEvalConfig(UniformConfig):
    """The heavy network, as in `UniformConfig`, the light one, and an LSTM for each.

    `head` holds for the two networks' classifiers of their own, by which they are trained first. A
    video's prediction is read from one state, so there is nothing to take an average or a maximum
    of: `mean` is a linear layer on it, `max_mlp` has the layer of `HEAD_WIDTH` units before that.

    Attributes:
        backbone: name of the heavy network's.
        coarse_backbone: name of the light network's.
        coarse_resolution: side in pixels at which it sees every frame.
        fine_width: that the heavy network's features are projected to.
        coarse_width: that the light network's are.
        fine_hidden: units of the fine LSTM.
        coarse_hidden: units of the coarse LSTM; at most as many.
    """

    backbone: str = "resnet101"
    coarse_backbone: str = "mobilenet_v2"
    coarse_resolution: int = 112
    fine_width: int = 2048
    coarse_width: int = 512
    fine_hidden: int = 2048
    coarse_hidden: int = 512

    @property
    def choices(self) -> Choices:
        """The light pair looks at every frame, the heavy one where the gate opens."""
        fine = network_name(self.resolution)
        calls = {
            fine: (1.0, 0.0),
            COARSE: (1.0, 1.0),
            COARSE_LSTM: (1.0, 1.0),
            FINE_LSTM: (1.0, 0.0),
        }
        return Choices((fine, "coarse only"), calls, overhead=(COARSE, COARSE_LSTM))

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        check_backbone(self.coarse_backbone, f"{path}.coarse_backbone")
        for name in ("coarse_resolution", "fine_width", "coarse_width", "coarse_hidden"):
            require(getattr(self, name) >= 1, f"{path}.{name}", "must be at least 1")
        require(
            self.coarse_hidden <= self.fine_hidden,
            f"{path}.coarse_hidden",
            f"the coarse state is written into the fine one, which has {self.fine_hidden} entries; "
            "it must not be larger",
        )


class LiteEvalModule(nn.Module):
    """Two networks on frames, and the gated LSTMs on their features.

    Attributes:
        config: the model's config.
    """

    config: LiteEvalConfig

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.backbone_0 = frame_classifier(cfg, cfg.backbone)
        # In float32 whatever the heavy network computes in, as what decides is elsewhere.
        precise = dataclasses.replace(cfg, dtype="float32")
        self.coarse = frame_classifier(precise, cfg.coarse_backbone)
        self.recurrence = GatedRecurrence(
            coarse_features=backbones.get(cfg.coarse_backbone).features,
            fine_features=backbones.get(cfg.backbone).features,
            coarse_width=cfg.coarse_width,
            fine_width=cfg.fine_width,
            coarse_hidden=cfg.coarse_hidden,
            fine_hidden=cfg.fine_hidden,
            num_classes=cfg.num_classes,
            head_width=cfg.head_width,
        )

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`."""
        cfg, mask = self.config, mask_or_ones(frame_mask, frames)
        train, name = mode.trains(RECURRENCE), network_name(cfg.resolution)
        # Without padding the light network sees all frames, and a loop would only cost.
        looks = mode if frame_mask is not None else dataclasses.replace(mode, chunks=None)
        coarse, looked = self._run(COARSE, frames, mask, looks, "features")
        seen = self.recurrence.project_coarse(coarse, train=train)
        all_steps = jnp.asarray(mask.shape[0] * mask.shape[1], jnp.int32)
        alone: dict[str, Array] = {}
        step: FineStep
        if mode.chunks is None:
            fine, _ = self._run(MAIN, frames, mask, mode, "features")
            alone = self._by_themselves({MAIN: fine, COARSE: coarse}, mask, mode)
            given, step = self.recurrence.fine_gates(fine, seen, train=train), _step_from_gates
        else:
            given, step = frames, self._routed_step(mode.chunks[name])
        steps, last = self.recurrence.unroll(seen, given, mask, mode.decide, mode.keys, step)
        inspected = jnp.sum(steps.computed, dtype=jnp.int32)
        return Prediction(
            logits=self.recurrence.classify(last, train=train),
            calls=cfg.choices.count(steps.one_hot),
            executed={
                name: inspected,
                COARSE: looked,
                COARSE_LSTM: all_steps,
                FINE_LSTM: inspected,
            },
            decisions=Decisions(steps.one_hot, steps.logits),
            network_logits=alone,
        )

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, names: tuple[str, ...]
    ) -> dict[str, Array]:
        """Each of the modules `names` by itself: its prediction from all frames, [B, C]."""
        everything = jnp.ones(frames.shape[:2], bool)
        features = {
            name: self._run(name, frames, everything, mode, "features")[0] for name in names
        }
        return self._by_themselves(features, everything, mode)

    def initial_state(self, batch: int) -> GatedState:
        """The state before the first frame of `batch` videos."""
        return self.recurrence.initial_state(batch)

    def glance(
        self, frame: Array, state: GatedState, offset: Array | None = None
    ) -> tuple[Array, Array, GatedState]:
        """The light pair's part of one frame, for videos that arrive frame by frame.

        Args:
            frame: uint8 [B, S, S, 3].
            state: from `initial_state` or from the frame before.
            offset: float32 [2], on the gate's logits.

        Returns:
            The gate's choice int32 [B], the projected features [B, W], and the state if the gate
            stays shut.
        """
        cfg = self.config
        x = prepare_frames(frame, cfg.coarse_resolution, cfg.resize, self.coarse.normalisation)
        seen = self.recurrence.project_coarse(self.coarse.features(x))
        gates = self.recurrence.coarse_gates(seen)
        logits, shut = self.recurrence.glance(state, seen, gates, offset)
        return jnp.argmax(logits, axis=-1), seen, shut

    def inspect(self, frames: Array, seen: Array, fine: LSTMState) -> LSTMState:
        """The heavy pair's part of one frame of each video.

        Args:
            frames: uint8 [n, S, S, 3].
            seen: projected features of the light network, float32 [n, W].
            fine: state of the fine LSTM before.
        """
        cfg = self.config
        x = prepare_frames(frames, cfg.resolution, cfg.resize, self.backbone_0.normalisation)
        gates = self.recurrence.fine_gates(self.backbone_0.features(x), seen)
        return self.recurrence.fine_step(fine, gates)

    def classify(self, fine: LSTMState) -> Array:
        """The logits float32 [B, C] of videos whose fine state is this."""
        return self.recurrence.classify(fine)

    def _run(
        self, module: str, frames: Array, selected: Array, mode: Mode, method: str
    ) -> tuple[Array, Array]:
        """A network's features or logits float32 [B, T, D], and how many frames it computed."""
        cfg = self.config
        name, size = (
            (COARSE, cfg.coarse_resolution)
            if module == COARSE
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

    def _by_themselves(
        self, features: Mapping[str, Array], mask: Array, mode: Mode
    ) -> dict[str, Array]:
        """What each network makes of the videos by itself, from its features [B, T, D]."""
        found, weights = {}, mask.astype(jnp.float32)
        for name, given in features.items():
            network, keys = getattr(self, name), mode.frame_keys(name, mask.shape[1])
            rows = network.rows(flatten_frames(given), train=mode.trains(name), keys=keys)
            found[name] = network.video_logits(rows.reshape(*mask.shape, -1), weights)
        return found

    def _routed_step(self, chunks: Chunks) -> FineStep:
        """Looks at the videos whose gate is open, in chunks, and at no others."""
        chunks = down_to_one(chunks)
        # A loop's body must not touch the surrounding module, so it gets a stateless copy.
        stateless, variables = self.unbind()

        def step(
            module: GatedRecurrence, fine: LSTMState, frames: Array, seen: Array, opened: Array
        ) -> tuple[LSTMState, Array]:
            def run(video: Array) -> Array:
                state = jax.tree.map(lambda x: x[video], fine)
                given = (frames[video], seen[video], state)
                found = cast(LSTMState, stateless.apply(variables, *given, method="inspect"))
                return jnp.concatenate([found.hidden, found.cell], axis=-1)

            found, computed = run_selected(run, jnp.arange(opened.shape[0]), opened, chunks)
            return LSTMState(*jnp.split(found, 2, axis=-1)), computed

        return step


def down_to_one(chunks: Chunks) -> Chunks:
    """The sizes with smaller ones after them, a quarter each, down to a single row.

    The sizes are meant for the frames of whole videos. One step has as many rows as there are
    videos with an open gate, and filling a chunk meant for more would cost more than it saves.
    """
    sizes = list(chunks)
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // 4))
    return tuple(sizes)


def _step_from_gates(
    module: GatedRecurrence, fine: LSTMState, gates: Array, seen: Array, opened: Array
) -> tuple[LSTMState, int]:
    """The fine step of every video, whose heavy features went into the gates [B, 4L] already."""
    return module.fine_step(fine, gates), opened.shape[0]
