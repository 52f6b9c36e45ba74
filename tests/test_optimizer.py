"""The optimizer against PyTorch's SGD written out by hand, and the released parameter groups."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ar_net_jax.config.optimizer import OptimizerConfig
from ar_net_jax.methods import FROZEN, Method
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig, ARNetStage
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.training.optimizer import make_optimizer, parameter_groups

POLICY = PolicyConfig("resnet8_tiny", 16, hidden_size=8)
CONFIG = OptimizerConfig(momentum=0.9, weight_decay=0.1, clip_norm=2.0)
# (factor of the learning rate, decays) by group, from the released code.
RELEASED = {
    "weight": (1, True),
    "bias": (2, False),
    "head_weight": (5, True),
    "head_bias": (10, False),
    "norm": (1, False),
}
HEADS = frozenset({("backbone_0", "head"), ("policy", "decision")})
# One parameter of each group, in two parts; the policy's third is frozen in one of the tests.
SHAPES = {
    "backbone_0": {
        "backbone": {
            "conv1": {"kernel": (3, 3, 2, 4)},
            "bn1": {"scale": (4,), "bias": (4,)},
            "se": {"kernel": (1, 1, 4, 4), "bias": (4,)},
        },
        "head": {"kernel": (4, 3), "bias": (3,)},
    },
    "policy": {
        "lstm": {"kernel_ih": (4, 8), "kernel_hh": (2, 8), "bias_ih": (8,), "bias_hh": (8,)},
        "decision": {"kernel": (2, 5), "bias": (5,)},
    },
}
GROUPS = {
    "backbone_0": {
        "backbone": {
            "conv1": {"kernel": "weight"},
            "bn1": {"scale": "norm", "bias": "norm"},
            "se": {"kernel": "weight", "bias": "bias"},
        },
        "head": {"kernel": "head_weight", "bias": "head_bias"},
    },
    "policy": {
        "lstm": {
            "kernel_ih": "weight",
            "kernel_hh": "weight",
            "bias_ih": "bias",
            "bias_hh": "bias",
        },
        "decision": {"kernel": "head_weight", "bias": "head_bias"},
    },
}


def _random(seed: int, size: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(lambda s: size * rng.normal(size=s), SHAPES, is_leaf=is_shape)


def _pytorch_sgd(
    params: Any, gradients: list[Any], rates: list[float], part: Any, frozen: tuple[str, ...] = ()
) -> Any:
    """clip_grad_norm_ over each part, then torch.optim.SGD with the released groups, in float64."""
    buffers: dict[tuple, np.ndarray] = {}
    flat = {path: x.copy() for path, x in jax.tree_util.tree_flatten_with_path(params)[0]}
    groups = dict(jax.tree_util.tree_flatten_with_path(GROUPS)[0])
    for gradient, rate in zip(gradients, rates):
        found = dict(jax.tree_util.tree_flatten_with_path(gradient)[0])
        norms: dict[str, float] = {}
        for path, g in found.items():
            norms[part(path)] = norms.get(part(path), 0.0) + float(np.sum(g**2))
        for path, g in found.items():
            if part(path) in frozen:
                continue
            multiplier, decays = RELEASED[groups[path]]
            d = g * min(1.0, CONFIG.clip_norm / (norms[part(path)] ** 0.5 + 1e-6))
            d = d + (CONFIG.weight_decay * flat[path] if decays else 0.0)
            buffers[path] = CONFIG.momentum * buffers[path] + d if path in buffers else d
            flat[path] -= rate * multiplier * buffers[path]
    return jax.tree_util.tree_unflatten(jax.tree.structure(params), list(flat.values()))


def _run(optimizer: optax.GradientTransformation, params: Any, gradients: list[Any]) -> Any:
    params = jax.tree.map(jnp.float32, params)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(jax.tree.map(jnp.float32, gradient), state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    "parts, frozen",
    [
        ({"backbone_0": "model", "policy": "model"}, ()),
        ({"backbone_0": "backbone_0", "policy": "policy"}, ()),
        ({"backbone_0": "model", "policy": FROZEN}, (FROZEN,)),
    ],
    ids=["joint", "a clip for each part", "policy frozen"],
)
def test_steps_are_pytorchs(parts: dict[str, str], frozen: tuple[str, ...]) -> None:
    params = _random(0)
    # The first gradient is under the bound, the second over it, in one part far more than in the
    # other, so that a shared norm and a norm of each part's own differ.
    gradients = [_random(1, 0.05), _random(2, 1.0), _random(3, 1.0)]
    gradients[1]["policy"] = jax.tree.map(lambda g: 10 * g, gradients[1]["policy"])
    rates = [0.1, 0.1, 0.01]
    optimizer = make_optimizer(
        CONFIG,
        optax.piecewise_constant_schedule(0.1, {2: 0.1}),
        params,
        part_of=lambda path: parts[path[0]],
        heads=HEADS,
    )
    got = _run(optimizer, params, gradients)
    expected = _pytorch_sgd(params, gradients, rates, lambda p: parts[p[0].key], frozen)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, expected)
    unchanged = jax.tree.map(lambda a, b: np.array_equal(a, jnp.float32(b)), got, params)
    assert all(jax.tree.leaves(unchanged["policy"])) == bool(frozen)
    assert not any(jax.tree.leaves(unchanged["backbone_0"]))


def test_a_rate_of_its_own_scales_the_steps_of_a_part() -> None:
    params, gradients = _random(0), [_random(1, 0.05)]

    def moved(factor: float) -> Any:
        optimizer = make_optimizer(
            CONFIG,
            optax.constant_schedule(0.1),
            params,
            part_of=lambda path: "model",
            heads=HEADS,
            rate_of=lambda path: factor if path[0] == "policy" else 1.0,
        )
        new = _run(optimizer, params, gradients)
        return jax.tree.map(lambda a, b: np.asarray(a) - np.float32(b), new, params)

    plain, scaled = moved(1.0), moved(0.25)
    expected = {**plain, "policy": jax.tree.map(lambda x: 0.25 * x, plain["policy"])}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), scaled, expected)


def _names_by_group(method: Method) -> dict[str, dict[tuple[str, ...], tuple[int, ...]]]:
    """Shape of every parameter of a real model, by group and path."""
    stage = ARNetStage("separate", train_policy_features=True)
    shapes = jax.eval_shape(lambda: method.initial_variables(jax.random.key(0), stage))
    groups = parameter_groups(shapes["params"], method.head_names())
    found: dict[str, dict] = {}
    for (path, group), leaf in zip(
        jax.tree_util.tree_flatten_with_path(groups)[0], jax.tree.leaves(shapes["params"])
    ):
        found.setdefault(group, {})[tuple(k.key for k in path)] = leaf.shape
    return found


@pytest.mark.parametrize(
    "backbone", [pytest.param("resnet18", marks=pytest.mark.slow), "efficientnet_b0"]
)
def test_groups_of_whole_models(backbone: str) -> None:
    config = ARNetConfig(
        num_classes=11,
        resolutions=(32, 16),
        backbones=(backbone,),
        policy=PolicyConfig("mobilenet_v2", 16, hidden_size=8, lowest_head="hidden"),
    )
    found = _names_by_group(ARNet(config))
    linear = {
        ("backbone_0", "head"),
        ("policy", "decision"),
        ("policy", "lowest_head"),
        ("policy", "warmup_head"),
    }
    assert set(found["head_weight"]) == {(*path, "kernel") for path in linear}
    assert set(found["head_bias"]) == {(*path, "bias") for path in linear}
    lstm = {path[-1] for group in ("weight", "bias") for path in found[group] if "lstm" in path}
    assert lstm == {"kernel_ih", "kernel_hh", "bias_ih", "bias_hh"}
    for path, shape in found["weight"].items():
        assert len(shape) == 4 or "lstm" in path, f"{path} is no convolution"
    convolution_biases = [path for path in found["bias"] if "lstm" not in path]
    # Only squeeze-and-excite has convolutions with a bias: two in each of B0's 16 blocks.
    assert len(convolution_biases) == (32 if backbone == "efficientnet_b0" else 0)
    norms = found["norm"]
    assert {path[-1] for path in norms} == {"scale", "bias"}
    assert all(len(shape) == 1 for shape in norms.values())
    count = {"resnet18": 20, "efficientnet_b0": 49}[backbone] + 52
    assert len(norms) == 2 * count, "BatchNorm layers as in torchvision, MobileNetV2's 52 too"


def test_parts_of_each_kind_of_stage() -> None:
    paths = {
        "classifier": ("backbone_1", "head", "kernel"),
        "extractor": ("policy", "backbone", "conv1", "kernel"),
        "lowest": ("policy", "lowest_head", "kernel"),
        "lstm": ("policy", "lstm", "bias_ih"),
        "decision": ("policy", "decision", "kernel"),
    }

    method = ARNet(
        ARNetConfig(resolutions=(32, 24, 16), backbones=("resnet8_tiny",) * 2, policy=POLICY)
    )

    def parts(**fields: Any) -> list[str]:
        return [method.part_of(ARNetStage(**fields), path) for path in paths.values()]

    frozen = [FROZEN] * 4
    assert parts() == ["model"] * 5
    assert parts(freeze_policy="parameters") == ["model", *frozen]
    assert parts(freeze_policy="all") == ["model", *frozen]
    assert parts(objective="separate") == ["backbone_1", *frozen]
    warmed = ["backbone_1", "policy", "policy", FROZEN, FROZEN]
    assert parts(objective="separate", train_policy_features=True) == warmed


def test_classifiers_of_embeddings_have_a_rate_of_their_own() -> None:
    config = ARNetConfig(
        num_classes=3,
        resolutions=(32, 16),
        backbones=("resnet8_tiny",),
        head="max_mlp",
        policy=PolicyConfig("resnet8_tiny", 16, hidden_size=8),
    )
    found = _names_by_group(ARNet(config))
    wide = {("backbone_0", "head", "kernel"), ("policy", "lowest_head", "kernel")}
    assert set(found["wide_head_weight"]) == wide
    assert ("policy", "decision", "kernel") in found["head_weight"]
