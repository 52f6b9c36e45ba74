"""What a stage minimises on a batch, with all that its forward pass gives besides."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ar_net_jax.config.config import Config, StageConfig
from ar_net_jax.losses import classification_loss, total_loss
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.multi_backbone import POLICY
from ar_net_jax.modules.routed_training import predict_routed
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.training.optimizer import FROZEN
from ar_net_jax.training.parts import part_of

Array = jax.Array
Tree = Any
Batch = dict[str, Array]
Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class StageLoss:
    """The loss of a stage as a pure function of parameters, statistics and batch.

    Attributes:
        config: the run.
        stage: the stage.
        model: the module of the run's approach.
        action_gflops: float32 [A], cost of each action for eq. 10.
        seed: of dropout and decisions in this stage, derived per example.
        mesh: the devices that videos are split over; None for one.
    """

    config: Config
    stage: StageConfig
    model: nn.Module
    action_gflops: Array
    seed: int
    mesh: Mesh | None

    def __call__(
        self,
        params: Tree,
        batch_stats: Tree,
        batch: Batch,
        tau: Array,
        batch_usage: Array | None = None,
    ) -> tuple[Array, tuple[Metrics, Tree]]:
        """The loss on a batch, or on one of its micro-batches.

        Args:
            params: the parameters.
            batch_stats: BatchNorm statistics.
            batch: see `ar_net_jax.data.pipeline`. AR-Net takes `proposals` too, int32 [B, T]:
                decisions imposed instead of the policy's own, to measure a given usage.
            tau: temperature of sampled decisions.
            batch_usage: float32 [A], of the whole batch where `batch` is a part; see
                `uniform_loss`.

        Returns:
            The loss, and metrics with the new statistics.
        """
        if POLICY in params and part_of(self.stage, (POLICY, "backbone")) == FROZEN:
            # Not merely unused later: a loop over micro-batches would sum this gradient up.
            params = {**params, POLICY: jax.lax.stop_gradient(params[POLICY])}
        variables = {"params": params, "batch_stats": batch_stats}
        if self.stage.objective == "separate":
            return self._separate(variables, batch)
        return self._joint(variables, batch, tau, batch_usage)

    def usage(self, variables: Tree, parts: Batch, tau: Array) -> Array | None:
        """Usage of each action in a batch that is split into micro-batches.

        This takes the policy's forward pass alone. Its dropout and noise are those that `__call__`
        draws, because they belong to the examples.

        Args:
            variables: parameters and statistics.
            parts: arrays [parts, B / parts, ...].
            tau: temperature of sampled decisions.

        Returns:
            float32 [A], or None where no decisions enter the loss.
        """
        if not self._decides:
            return None

        def of_part(batch: Batch) -> Array:
            (_, decisions), _ = self.model.apply(
                variables,
                batch["frames"],
                self._joint_mode(batch, tau),
                method="decide",
                mutable=["batch_stats"],
                **_imposed(batch),
            )
            return jnp.mean(decisions.one_hot, axis=(0, 1))

        return jnp.mean(jax.lax.map(of_part, parts), axis=0)

    @property
    def _decides(self) -> bool:
        return self.stage.objective == "joint" and self.config.model.approach == "ar_net"

    def _keys(self, batch: Batch) -> Array:
        return example_keys(self.seed, batch["epoch"], batch["example_id"])

    def _joint_mode(self, batch: Batch, tau: Array) -> Mode:
        return Mode(
            train=True,
            train_policy=self.stage.freeze_policy != "all",
            keys=self._keys(batch),
            tau=tau if self.stage.decisions == "sample" else None,
        )

    def _separate(self, variables: Tree, batch: Batch) -> tuple[Array, tuple[Metrics, Tree]]:
        """The sum of each backbone's own loss; their parameters are disjoint."""
        with_policy = self.stage.train_policy_features
        mode = Mode(train=True, train_policy=with_policy, keys=self._keys(batch))
        logits, updated = self.model.apply(
            variables,
            batch["frames"],
            mode,
            with_policy=with_policy,
            method="classify_separately",
            mutable=["batch_stats"],
        )
        kind = self.config.loss.classification
        losses = {
            f"loss/{name}": classification_loss(x, batch["labels"], kind)
            for name, x in logits.items()
        }
        loss = sum(losses.values())
        return loss, ({"loss": loss, **losses}, updated["batch_stats"])

    def _joint(
        self, variables: Tree, batch: Batch, tau: Array, batch_usage: Array | None
    ) -> tuple[Array, tuple[Metrics, Tree]]:
        """Equation 12 for the approach as a whole."""
        frames, labels, mode = batch["frames"], batch["labels"], self._joint_mode(batch, tau)
        config = self.config.loss
        if self.stage.routing == "routed":
            logits, one_hot, batch_stats = predict_routed(
                self.model,
                variables,
                frames,
                mode,
                self.stage.routed_chunk,
                self.mesh,
                **_imposed(batch),
            )
        else:
            prediction, updated = self.model.apply(
                variables, frames, mode, mutable=["batch_stats"], **_imposed(batch)
            )
            logits, one_hot = prediction.logits, prediction.one_hot
            batch_stats = updated["batch_stats"]
        metrics: Metrics = {}
        if self._decides:
            loss, parts = total_loss(
                config, logits, labels, one_hot, self.action_gflops, batch_usage
            )
            usage = jnp.mean(one_hot, axis=(0, 1))
            named = zip(self.config.model.space.names, usage, strict=True)
            metrics = {"tau": tau, **{f"usage/{name}": share for name, share in named}}
            metrics |= {f"loss/{name}": part for name, part in parts.items()}
        else:
            # Nothing is decided by learning, so equations 10 and 11 have nothing to act on.
            loss = classification_loss(logits, labels, config.classification)
        if self.stage.separate_weight:
            metrics["loss/separate"] = self._separate_losses(prediction.frame_logits, labels)
            loss += self.stage.separate_weight * metrics["loss/separate"]
        return loss, ({"loss": loss, **metrics}, batch_stats)

    def _separate_losses(self, frame_logits: Array, labels: Array) -> Array:
        """The sum of the networks' own losses, from their predictions [B, T, L, C]."""
        by_network = jnp.moveaxis(jnp.mean(frame_logits, axis=1), 1, 0)
        kind = self.config.loss.classification
        return sum(classification_loss(logits, labels, kind) for logits in by_network)


def _imposed(batch: Batch) -> Batch:
    return {"proposals": batch["proposals"]} if "proposals" in batch else {}
