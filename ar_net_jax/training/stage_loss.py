"""What a stage minimises on a batch, with all that its forward pass gives besides."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ar_net_jax.losses import Loss, LossContext, Separate, in_order
from ar_net_jax.methods import FROZEN, Method, Moment, StageConfig
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.rng import example_keys

Array = jax.Array
Tree = Any
Batch = Mapping[str, Array]
Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class StageLoss:
    """The loss of a stage as a pure function of parameters, statistics and batch.

    Attributes:
        method: the method under its configuration.
        stage: the stage.
        seed: of dropout and decisions in this stage, derived per example.
        mesh: the devices that videos are split over; None for one.
    """

    method: Method[Any, Any]
    stage: StageConfig
    seed: int
    mesh: Mesh | None = None

    def __call__(
        self,
        params: Tree,
        batch_stats: Tree,
        batch: Batch,
        moment: Moment,
        batch_usage: Array | None = None,
    ) -> tuple[Array, tuple[Metrics, Tree]]:
        """The loss on a batch, or on one of its micro-batches.

        Args:
            params: the parameters.
            batch_stats: BatchNorm statistics.
            batch: see `ar_net_jax.data.pipeline`, and `Method.predict_in_training`.
            moment: where in the stage the step stands.
            batch_usage: float32 [A], of the whole batch where `batch` is a part; see
                `losses.LossContext`.

        Returns:
            The loss, and metrics with the new statistics.
        """
        variables = {"params": self._stop_frozen(params), "batch_stats": batch_stats}
        context = LossContext(batch["labels"], self._choice_gflops, batch_usage, moment.step)
        mode = self._mode(batch, moment)
        if self.stage.objective == "separate":
            return self._separate(variables, batch, mode, context)
        return self._joint(variables, batch, mode, moment, context)

    def usage(self, variables: Tree, parts: Batch, moment: Moment) -> Array | None:
        """Usage of each choice in a batch that is split into micro-batches.

        Args:
            variables: parameters and statistics.
            parts: arrays [parts, B / parts, ...].
            moment: where in the stage the step stands.

        Returns:
            float32 [A], or None where no loss asks for it.
        """
        if not any(loss.needs_batch_usage for loss in self.stage.losses.values()):
            return None

        def of_part(batch: Batch) -> Array:
            mode = self._mode(batch, moment)
            return self.method.usage_in_training(self.stage, variables, batch, mode)

        return jnp.mean(jax.lax.map(of_part, parts), axis=0)

    @property
    def _losses(self) -> dict[str, Loss]:
        return in_order(self.stage.losses)

    @property
    def _choice_gflops(self) -> Array:
        return jnp.asarray(self.method.choice_gflops(overhead=False), jnp.float32)

    def _mode(self, batch: Batch, moment: Moment) -> Mode:
        keys = example_keys(self.seed, batch["epoch"], batch["example_id"])
        return self.method.training_mode(self.stage, keys, moment)

    def _stop_frozen(self, params: Tree) -> Tree:
        """The parameters, without a gradient for modules that are frozen as a whole.

        Not merely unused later: a loop over micro-batches would sum such a gradient up.
        """

        def frozen(name: str) -> bool:
            tree = params[name]
            paths = [(name, child) for child in tree] if isinstance(tree, Mapping) else [(name,)]
            return {self.method.part_of(self.stage, path) for path in paths} == {FROZEN}

        return {
            name: jax.lax.stop_gradient(tree) if frozen(name) else tree
            for name, tree in params.items()
        }

    def _separate(
        self, variables: Tree, batch: Batch, mode: Mode, context: LossContext
    ) -> tuple[Array, tuple[Metrics, Tree]]:
        """The sum of each network's own loss; their parameters are disjoint."""
        loss = self.stage.losses[Separate.name]
        assert isinstance(loss, Separate)  # As `StageConfig.validate` saw to.
        logits, batch_stats = self.method.classify_separately(
            self.stage, variables, batch["frames"], mode
        )
        prediction = Prediction(jnp.zeros(()), {}, {}, network_logits=logits)
        losses = loss.by_network(prediction, context)
        total = loss.weight * sum(losses.values(), start=jnp.zeros(()))
        named = {f"loss/{name}": value for name, value in losses.items()}
        return total, ({"loss": total, **named}, batch_stats)

    def _joint(
        self, variables: Tree, batch: Batch, mode: Mode, moment: Moment, context: LossContext
    ) -> tuple[Array, tuple[Metrics, Tree]]:
        """The weighted sum of the stage's losses on the model as a whole."""
        prediction, batch_stats = self.method.predict_in_training(
            self.stage, variables, batch, mode, self.mesh
        )
        losses = self._losses
        terms = {name: loss(prediction, context) for name, loss in losses.items()}
        weighted = [losses[name].weight * term for name, term in terms.items()]
        total = sum(weighted[1:], start=weighted[0])
        metrics: Metrics = self.method.training_scalars(self.stage, moment)
        if prediction.decisions is not None:
            usage = jnp.mean(prediction.decisions.one_hot, axis=(0, 1))
            shares = zip(self.method.choices.names, usage, strict=True)
            metrics |= {f"usage/{name}": share for name, share in shares}
        metrics |= {f"loss/{name}": term for name, term in terms.items()}
        return total, ({"loss": total, **metrics}, batch_stats)
