"""What a stage trains, where it starts, and what it hands on."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from ar_net_jax.errors import first_few
from ar_net_jax.experiment import Config
from ar_net_jax.methods import MODEL, Method, StageConfig

Tree = Any


def stage_seed(config: Config, index: int) -> int:
    """Seed of a stage's order, augmentation, dropout and noise: each stage draws its own."""
    return int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0] >> 1)


def selected_parts(
    method: Method[Any, Any], stage: StageConfig, params: Mapping[str, Tree]
) -> tuple[str, ...]:
    """The parts whose best epoch is chosen by itself."""
    if stage.objective == "joint":
        return (MODEL,)
    return tuple(name for name in sorted(params) if name in method.separate_parts(stage))


def restore_partial(fresh: Tree, earlier: Tree | None) -> tuple[Tree, int]:
    """Replaces fresh variables by earlier ones of the same name and shape.

    Args:
        fresh: variables of the model at hand.
        earlier: variables of another stage or approach, or None.

    Returns:
        The variables, and the number of arrays taken over.
    """
    if not isinstance(fresh, Mapping):
        same = earlier is not None and np.shape(earlier) == np.shape(fresh)
        return (earlier, 1) if same else (fresh, 0)
    known = earlier if isinstance(earlier, Mapping) else {}
    pairs = {name: restore_partial(value, known.get(name)) for name, value in fresh.items()}
    return {name: v for name, (v, _) in pairs.items()}, sum(n for _, n in pairs.values())


def as_named_here(earlier: Tree, elsewhere: Mapping[str, str]) -> Tree:
    """Another model's variables, with copies of modules under the names that they have here.

    Args:
        earlier: by collection, such as `params`, and module.
        elsewhere: names of modules there by the names here; what is there under the name here
            stays, and what is not there under either is passed over.
    """
    return {
        kind: {**{here: tree[there] for here, there in elsewhere.items() if there in tree}, **tree}
        for kind, tree in earlier.items()
    }


def tell_taken(shapes: Tree, earlier: Tree, source: str) -> str | None:
    """A line on what of a model does not start from another; None where all of it does.

    Args:
        shapes: of the model's variables, a tree of what has a shape.
        earlier: variables of the other.
        source: where these are from.
    """
    here, there = (flatten_dict(tree, sep="/") for tree in (shapes, earlier))
    other = [
        f"{name} (there {tuple(np.shape(there[name]))}, here {tuple(leaf.shape)})"
        for name, leaf in here.items()
        if name in there and np.shape(there[name]) != tuple(leaf.shape)
    ]
    missing = [name for name in here if name not in there]
    if not other and not missing:
        return None
    taken = len(here) - len(other) - len(missing)
    told = f"init_from {source}: {taken} of {len(here)} arrays taken over; anew start"
    parts = [f"of another shape {first_few(other)}"] if other else []
    parts += [f"not there {first_few(missing)}"] if missing else []
    return f"{told}, {'; '.join(parts)}"


def draw_missing(variables: Tree, draw: Callable[[jax.Array], Tree], key: jax.Array) -> Tree:
    """Draws the variables that are known by their shapes alone.

    Only these are compiled, and on a CPU with few optimisations, which change no bit: on one core
    the draws of all of the demo's OCSampler take 34 s to compile with all of them, 5 s with few.

    Args:
        variables: arrays, and `jax.ShapeDtypeStruct` where one is missing.
        draw: from a key to all variables, as a tree of the same structure; pure.
        key: typed PRNG key.

    Returns:
        The variables, each drawn one as in `jax.jit(draw)(key)`, bit for bit on a CPU.
    """
    leaves, structure = jax.tree.flatten(variables)
    missing = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)]

    def draw_them(key: jax.Array) -> list[jax.Array]:
        drawn = jax.tree.leaves(draw(key))
        return [drawn[i] for i in missing]

    quick = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    drawn = jax.jit(draw_them, compiler_options=quick)(key)
    for i, leaf in zip(missing, drawn, strict=True):
        leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)
