"""What training carries from step to step, and what it remembers of its best epoch."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = Any

# Smaller arrays are kept whole everywhere: moving them in pieces costs more than it saves.
_SMALLEST_SPLIT = 1024


@flax.struct.dataclass
class TrainState:
    """The state that a training step consumes and returns.

    Attributes:
        step: int32 scalar, steps taken in this stage.
        params: parameters by module.
        batch_stats: BatchNorm statistics by module.
        opt_state: of the stage's optimizer.
    """

    step: jax.Array
    params: Tree
    batch_stats: Tree
    opt_state: Tree

    @classmethod
    def create(cls, variables: Tree, optimizer: optax.GradientTransformation) -> "TrainState":
        """The state before the first step."""
        params = variables["params"]
        return cls(
            jnp.zeros((), jnp.int32),
            params,
            variables.get("batch_stats", {}),
            optimizer.init(params),
        )

    @property
    def variables(self) -> dict[str, Tree]:
        """Parameters and statistics as a model takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def state_shardings(state: TrainState, mesh: Mesh, *, shard_optimizer: bool) -> TrainState:
    """How a state lies over the devices.

    Args:
        state: arrays, or their shapes.
        mesh: with the axis `data`.
        shard_optimizer: False gives every device a copy of all of it. True splits the optimizer's
            arrays along their longest dimension that divides evenly, so that each device keeps and
            updates its piece only (ZeRO stage 1, Rajbhandari et al. 2020).

    Returns:
        A sharding for every array.
    """
    whole = NamedSharding(mesh, PartitionSpec())

    def split(x: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(x.shape) if size % mesh.size == 0]
        if not axes or x.size < _SMALLEST_SPLIT:
            return whole
        longest = max(axes, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*(None,) * longest, "data"))

    shardings = jax.tree.map(lambda _: whole, state)
    if not shard_optimizer:
        return shardings
    return shardings.replace(opt_state=jax.tree.map(split, state.opt_state))


@flax.struct.dataclass
class Best:
    """The best variables so far, separately for each part that is selected by itself.

    Attributes:
        score: validation mAP in percent by part; -1 before the first evaluation.
        epoch: the epoch it was reached in, by part.
        variables: parameters and statistics; copies, so that the state may be donated.
    """

    score: dict[str, jax.Array]
    epoch: dict[str, jax.Array]
    variables: dict[str, Tree]

    @classmethod
    def create(cls, parts: tuple[str, ...], variables: Tree) -> "Best":
        """Nothing evaluated yet."""
        return cls(
            {part: jnp.full((), -1.0, jnp.float32) for part in parts},
            {part: jnp.zeros((), jnp.int32) for part in parts},
            jax.tree.map(jnp.copy, variables),
        )

    def update(self, scores: dict[str, float], epoch: int, variables: Tree) -> "Best":
        """Takes over each part whose score is no lower than before.

        Of equal epochs the last one stays: with few videos, all are soon in the right order, long
        before the right class is the most probable one.

        Args:
            scores: mAP in percent by part; a part is a module at the root of the tree, or
                `model` for the whole.
            epoch: the epoch that `variables` come from.
            variables: the present parameters and statistics.
        """
        score, best_epoch = dict(self.score), dict(self.epoch)
        best = {name: dict(tree) for name, tree in self.variables.items()}
        for part, value in scores.items():
            # Compared as it is kept, in float32, or an equal score could pass for a lower one.
            # "Not as high" also holds for the NaN of a run that has diverged.
            if not np.float32(value) >= np.float32(score[part]):
                continue
            score[part] = jnp.asarray(value, jnp.float32)
            best_epoch[part] = jnp.asarray(epoch, jnp.int32)
            for name, tree in variables.items():
                for module in tree if part == "model" else {part} & set(tree):
                    best[name][module] = jax.tree.map(jnp.copy, tree[module])
        return Best(score, best_epoch, best)
