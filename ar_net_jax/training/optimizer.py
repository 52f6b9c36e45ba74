"""SGD with the released parameter groups, frozen parts, and one gradient clip per trained part."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from ar_net_jax.config.model import HEAD_WIDTH
from ar_net_jax.config.optimizer import OptimizerConfig
from ar_net_jax.methods import FROZEN


def parameter_group(
    path: tuple[str, ...], siblings: Mapping[str, Any], heads: frozenset[tuple[str, ...]]
) -> str:
    """The released group of a parameter.

    Args:
        path: names from the root to the parameter.
        siblings: the parameters of the same module; a normalisation is known by its `scale`, and
            a layer scale is called `gamma`.
        heads: paths of the modules that are Linear layers in the released sense.

    Returns:
        `norm`, `weight`, `bias`, of a Linear layer `head_weight`, `head_bias`, and where that
        reads an embedding of the head `max_mlp`, `wide_head_weight`, `wide_head_bias`.
    """
    if "scale" in siblings or path[-1] == "gamma":
        return "norm"
    kind = "bias" if path[-1].startswith("bias") else "weight"
    if path[:-1] not in heads:
        return kind
    wide = "kernel" in siblings and siblings["kernel"].shape[-2] >= HEAD_WIDTH
    return f"wide_head_{kind}" if wide else f"head_{kind}"


def parameter_groups(
    params: Mapping[str, Any], heads: frozenset[tuple[str, ...]]
) -> dict[str, Any]:
    """The group of every parameter, as a tree of the same structure; args as there."""

    def walk(tree: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        return {
            name: walk(value, (*path, name))
            if isinstance(value, Mapping)
            else parameter_group((*path, name), tree, heads)
            for name, value in tree.items()
        }

    return walk(params, ())


def make_optimizer(
    config: OptimizerConfig,
    schedule: optax.Schedule,
    params: Mapping[str, Any],
    part_of: Callable[[tuple[str, ...]], str],
    heads: frozenset[tuple[str, ...]],
    rate_of: Callable[[tuple[str, ...]], float] = lambda path: 1.0,
) -> optax.GradientTransformation:
    """Builds the optimizer of a stage.

    Decay is added to the clipped gradient before momentum, and a group's multiplier applies to
    its whole update, as in PyTorch's SGD.

    Args:
        config: momentum, decay, clip and multipliers.
        schedule: learning rate by step.
        params: the parameters, or their shapes.
        part_of: from a parameter's path to the part it belongs to. Each part is clipped by its
            own gradient norm; `FROZEN` is not trained.
        heads: paths of the Linear layers, which train at the head's learning rate.
        rate_of: from a parameter's path to a factor of its learning rate, beside its group's.
    """
    groups = parameter_groups(params, heads)
    multipliers = {
        "weight": 1.0,
        "norm": 1.0,
        "bias": config.bias_multiplier,
        "head_weight": config.head_multiplier,
        "head_bias": config.head_multiplier * config.bias_multiplier,
        "wide_head_weight": config.wide_head_multiplier,
        "wide_head_bias": config.wide_head_multiplier * config.bias_multiplier,
    }
    parts = jax.tree_util.tree_map_with_path(
        lambda path, _: part_of(tuple(k.key for k in path)), params
    )
    factors = jax.tree_util.tree_map_with_path(
        lambda path, group: multipliers[group] * rate_of(tuple(k.key for k in path)), groups
    )

    def transform() -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(config.clip_norm),
            optax.add_decayed_weights(
                config.weight_decay,
                mask=lambda tree: jax.tree.map(lambda g: g.endswith("weight"), _like(tree, groups)),
            ),
            optax.trace(decay=config.momentum),
            optax.stateless(
                lambda updates, _: jax.tree.map(
                    lambda u, factor: u * factor, updates, _like(updates, factors)
                )
            ),
            optax.scale_by_learning_rate(schedule),
        )

    names = set(jax.tree.leaves(parts)) - {FROZEN}
    transforms = {name: transform() for name in sorted(names)}
    return optax.multi_transform({**transforms, FROZEN: optax.set_to_zero()}, parts)


def _like(tree: Any, groups: Any) -> Any:
    """`groups` with the holes that `multi_transform` leaves in `tree`."""

    def masked(x: Any) -> bool:
        return isinstance(x, optax.MaskedNode)

    return jax.tree.map(lambda x, g: x if masked(x) else g, tree, groups, is_leaf=masked)
