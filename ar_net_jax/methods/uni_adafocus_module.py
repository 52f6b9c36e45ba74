"""Uni-AdaFocus's module: a glance at some frames decides which frames, and where, to focus on."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config.model import HEAD_WIDTH
from ar_net_jax.config.schema import require
from ar_net_jax.methods.glance_focus import (
    FOCUS,
    GLANCE,
    GlanceFocusConfig,
    focus_network,
    focus_on,
    frame_logits,
    glance_at,
    glance_network,
)
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones
from ar_net_jax.modules.heads import Linear
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.modules.space_time_policy import SpatialPolicy, TemporalPolicy
from ar_net_jax.modules.step_classifier import StepClassifier
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.crop import crop, random_places
from ar_net_jax.ops.decide import Forced
from ar_net_jax.ops.frame_sampling import (
    expected_average,
    spread_frames,
    take_frames,
    weighted_frames,
)
from ar_net_jax.ops.gumbel import gumbel_noise

Array = jax.Array

SPATIAL, TEMPORAL, MAP_CLASSIFIER = "spatial", "temporal", "map_classifier"
GLANCE_CLASSIFIER, FOCUS_CLASSIFIER = "glance_classifier", "focus_classifier"

FOCUSED_ON = 0
"""Index of the choice to focus on a frame; the other is not to."""

# Keeps apart what is drawn from the same keys.
_GLANCE_SALT, _FOCUS_SALT, _DRAWS_SALT = 2_010, 2_011, 2_012


@dataclass(frozen=True)
class UniAdaFocusConfig(GlanceFocusConfig):
    """Two networks as in `GlanceFocusConfig`, and two policies.

    Attributes:
        candidates: frames of a video, which costs per frame are told for. A video may have others.
        glances: how many of them the light network sees, evenly spread; all where there are fewer.
        focuses: how many of them the heavy network sees a part of; all where there are fewer.
        smallest: side in pixels of the smallest part; the largest is the frame.
        spatial_hidden: channels of the policy that places parts.
        temporal_hidden: channels of the policy that weighs frames.
        draws: M, random sets of frames by which that policy learns.
    """

    candidates: int = 48
    glances: int = 16
    focuses: int = 16
    smallest: int = 96
    spatial_hidden: int = 128
    temporal_hidden: int = 64
    draws: int = 128

    @property
    def choices(self) -> Choices:
        """A frame is focused on, or not; glances are spread over all frames."""
        share = min(self.glances / self.candidates, 1.0)
        glanced = dict.fromkeys((GLANCE, SPATIAL, TEMPORAL, GLANCE_CLASSIFIER), (share, share))
        focused = dict.fromkeys((FOCUS, FOCUS_CLASSIFIER), (1.0, 0.0))
        return Choices(
            ("focused on", "not focused on"),
            {**glanced, **focused},
            overhead=(SPATIAL, TEMPORAL),
            skip_lengths=(0, 1),
        )

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        positive = ("candidates", "glances", "focuses", "spatial_hidden", "temporal_hidden")
        for field in (*positive, "draws"):
            require(getattr(self, field) >= 1, f"{path}.{field}", "must be at least 1")
        for field in ("glances", "focuses"):
            require(
                getattr(self, field) <= self.candidates,
                f"{path}.{field}",
                f"must be at most the number of candidates, {self.candidates}",
            )
        require(
            1 <= self.smallest <= self.crop,
            f"{path}.smallest",
            f"must be from 1 pixel to that of a part as it is seen, {self.crop}",
        )


class UniAdaFocusModule(nn.Module):
    """The two networks, the policies and the classifiers.

    Attributes:
        config: the model's config.
    """

    config: UniAdaFocusConfig

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.glance = glance_network(cfg)
        self.focus = focus_network(cfg)
        self.spatial = SpatialPolicy(cfg.spatial_hidden)
        self.temporal = TemporalPolicy(cfg.temporal_hidden)
        self.map_classifier = Linear(cfg.glance_width, cfg.num_classes)
        self.glance_classifier = StepClassifier(
            cfg.glance_width, cfg.glances, cfg.num_classes, cfg.dropout
        )
        self.focus_classifier = StepClassifier(
            cfg.focus_width, cfg.focuses, cfg.num_classes, cfg.dropout, HEAD_WIDTH
        )

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`.

        In training there are two passes, one on the parts that the policy decides on and one on
        random parts of the same frames; the prediction is that of the first. Under `Forced`
        decisions those frames are focused on whose action is `FOCUSED_ON`, however many.
        """
        cfg, length = self.config, frames.shape[1]
        mask = mask_or_ones(frame_mask, frames)
        lengths = jnp.sum(mask, axis=1, dtype=jnp.int32)
        index, there = spread_frames(lengths, cfg.glances, _jitter(mode, _GLANCE_SALT, cfg.glances))
        maps, features, glanced = glance_at(
            self.glance, cfg, take_frames(frames, index), there, mode
        )
        weights = self.temporal(features, there, train=mode.trains(TEMPORAL))
        actions = self.spatial(maps, there, train=mode.trains(SPATIAL))
        chosen, kept = self._choose(weights, lengths, mask, mode)
        parts = self._parts(actions, chosen, lengths, length, mode)
        seen, focused = self._focus(take_frames(frames, chosen), parts, kept, mode)
        steps, glance_steps = self._classify(features, there, seen, kept, mode)
        picked = jnp.any(jax.nn.one_hot(chosen, length, dtype=bool) & kept[..., None], axis=1)
        one_hot = jnp.stack([picked, mask & ~picked], axis=-1).astype(jnp.float32)
        looks = jnp.sum(there, axis=1).astype(jnp.float32)
        calls = cfg.choices.count(one_hot)
        on_glances = (GLANCE, SPATIAL, TEMPORAL, GLANCE_CLASSIFIER)
        rows = {GLANCE: glanced, FOCUS: focused, FOCUS_CLASSIFIER: kept.size}
        executed = {name: rows.get(name, there.size) for name in calls}
        outputs = {
            # Each pass has the steps of the glances too.
            "step_logits": jnp.concatenate(
                [rows for one in steps for rows in (glance_steps, one)], axis=1
            ),
            "glance_logits": frame_logits(self.glance, features, mode),
            "focus_logits": jnp.concatenate(
                [frame_logits(self.focus, one, mode) for one in seen], axis=1
            ),
            "boxes": parts[0],
            "frames": chosen,
        }
        if mode.chunks is None and mode.keys is not None:
            outputs |= self._followed(maps, outputs["glance_logits"], actions, weights, mode)
        return Prediction(
            logits=_at_last(steps[0], kept),
            calls={name: looks if name in on_glances else calls[name] for name in calls},
            executed={name: jnp.asarray(count, jnp.int32) for name, count in executed.items()},
            decisions=Decisions(one_hot),
            outputs=outputs,
        )

    def _choose(
        self, weights: Array, lengths: Array, mask: Array, mode: Mode
    ) -> tuple[Array, Array]:
        """Places int32 [B, F] of the frames to focus on, ascending, and which of them are any."""
        if isinstance(mode.decide, Forced):
            wanted = mask & (mode.decide.actions == FOCUSED_ON)
            places = jnp.argsort(~wanted, axis=1, stable=True).astype(jnp.int32)
            # Else the compiler finds that nothing depends on the policy, and leaves it out.
            places, _ = jax.lax.optimization_barrier((places, weights))
            return places, jnp.take_along_axis(wanted, places, axis=1)
        count = min(self.config.focuses, mask.shape[1])
        jitter = _jitter(mode, _FOCUS_SALT, count)
        return weighted_frames(jax.lax.stop_gradient(weights), lengths, count, jitter)

    def _parts(
        self, actions: Array, chosen: Array, lengths: Array, length: int, mode: Mode
    ) -> list[Array]:
        """By pass the boxes of the chosen frames, float32 [B, F, 4] in pixels, no gradient."""
        cfg = self.config
        looks = jnp.minimum(lengths, cfg.glances)[:, None]
        # Between the glances' middles in time, as the frames' stand.
        place = (chosen + 0.5) * looks / jnp.maximum(lengths, 1)[:, None] - 0.5
        place = jnp.clip(place, 0.0, jnp.maximum(looks - 1, 0))
        near = jnp.maximum(1 - jnp.abs(place[..., None] - jnp.arange(cfg.glances)), 0)
        highest = jax.lax.Precision.HIGHEST
        between = jnp.einsum("bfg,bga->bfa", near, actions, precision=highest)
        found = [] if mode.random_crops else [self._boxes(jax.lax.stop_gradient(between))]
        if mode.train or mode.random_crops:
            drawn = take_frames(random_places(mode.training_keys, length, 2), chosen)
            start = drawn * (cfg.resolution - cfg.crop)
            found.append(jnp.concatenate([start, jnp.full_like(start, cfg.crop)], axis=-1))
        return found

    def _boxes(self, actions: Array) -> Array:
        """Boxes float32 [..., 4] in pixels of a policy's actions; all lie within the frame."""
        cfg = self.config
        side = cfg.smallest + actions[..., 2:] * (cfg.resolution - cfg.smallest)
        return jnp.concatenate([actions[..., :2] * (cfg.resolution - side), side], axis=-1)

    def _focus(
        self, frames: Array, parts: list[Array], kept: Array, mode: Mode
    ) -> tuple[list[Array], Array]:
        """By pass the features [B, F, D]; all passes go through the network together."""
        count = len(parts)
        seen, computed = focus_on(
            self.focus,
            self.config,
            jnp.concatenate([frames] * count, axis=1),
            jnp.concatenate(parts, axis=1),
            jnp.concatenate([kept] * count, axis=1),
            mode,
        )
        return jnp.split(seen, count, axis=1), computed

    def _classify(
        self, features: Array, there: Array, seen: list[Array], kept: Array, mode: Mode
    ) -> tuple[list[Array], Array]:
        """Logits after each part, by pass, and after each glance."""
        batch = there.shape[0]
        nothing = jnp.zeros((batch, HEAD_WIDTH))
        glance_steps, glanced = self.glance_classifier(
            features,
            nothing,
            there,
            train=mode.trains(GLANCE_CLASSIFIER),
            keys=mode.frame_keys(GLANCE_CLASSIFIER, there.shape[1]),
        )
        steps = [
            self.focus_classifier(
                one,
                nothing,
                kept,
                beside=glanced,
                train=mode.trains(FOCUS_CLASSIFIER),
                keys=mode.frame_keys(FOCUS_CLASSIFIER, kept.shape[1]),
            )[0]
            for one in seen
        ]
        return steps, glance_steps

    def _followed(
        self, maps: Array, logits: Array, actions: Array, weights: Array, mode: Mode
    ) -> dict[str, Array]:
        """What the policies learn by: predictions that their decisions can be followed through."""
        cfg, (batch, looks, side) = self.config, maps.shape[:3]
        scale = side / cfg.resolution
        size = max(round(cfg.crop * scale), 1)
        cells = jax.lax.stop_gradient(maps).reshape(-1, *maps.shape[2:])
        cut = crop(cells, self._boxes(actions).reshape(-1, 4) * scale, size)
        mean = jnp.mean(cut.reshape(batch, looks, size * size, -1), axis=(1, 2))
        noise = gumbel_noise(_salted(mode.training_keys, _DRAWS_SALT), cfg.draws, looks)
        return {
            "spatial_logits": self.map_classifier(mean),
            "temporal_logits": expected_average(logits, weights, noise, max(looks // 3, 1)),
            "sizes": actions[..., 2:],
        }


def _salted(keys: Array, salt: int) -> Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, salt))(keys)


def _jitter(mode: Mode, salt: int, count: int) -> Array | float:
    """Where in its share of a video a frame is taken: the middle, in training anywhere."""
    if not mode.train:
        return 0.5

    def draw(key: Array) -> Array:
        return jax.random.uniform(key, (count,))

    return jax.vmap(draw)(_salted(mode.training_keys, salt))


def _at_last(steps: Array, kept: Array) -> Array:
    """Logits [B, C] after the last step that there is; zeros where there is none."""
    last = jnp.maximum(jnp.sum(kept, axis=1) - 1, 0)
    logits = jnp.take_along_axis(steps, last[:, None, None], axis=1)[:, 0]
    return jnp.where(jnp.any(kept, axis=1)[:, None], logits, 0.0)
