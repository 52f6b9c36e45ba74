"""Backbones have the published layouts: parameter counts, shapes, dtypes, padding, names."""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ar_net_jax import backbones
from ar_net_jax.backbones import mbconv
from ar_net_jax.backbones.known_norm import Kernel
from ar_net_jax.backbones.layers import make_divisible
from ar_net_jax.backbones.mbconv import MBConv, MBConvSpec, Stage, conv_padding
from ar_net_jax.errors import UserError

# On CPU XLA compiles this generator several times faster than the default one.
QUICK_KEY = jax.random.key(0, impl="rbg")

# With a classifier of 1000 classes. torchvision's own numbers, but for the slim networks; Lite's
# are those of its authors' files.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet8_tiny": 52_624,
    "resnet8_slim": 142_392,
    "resnet10_slim": 436_536,
    "resnet14_slim": 239_608,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "convnext_tiny": 28_589_128,
    "convnext_slim": 125_880,
}

# Counted on torchvision 0.28's mobilenet_v2(width_mult=...), 1000 classes.
MOBILENET_WIDTHS = {"0.35": 1_677_128, "0.5": 1_968_680, "0.75": 2_636_424, "1.4": 6_108_776}


def _shapes(name: str, /, size: int = 64, **options):
    """Output and variables of a backbone on two frames, as shapes."""
    backbone = backbones.get(name).module(**options)
    frames = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(backbone.init_with_output, jax.random.key(0), frames)


def _parameters(name: str) -> int:
    _, variables = _shapes(name)
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])]
    return sum(sizes) + (backbones.get(name).features + 1) * 1000


def test_every_registered_backbone_is_pinned():
    assert set(PARAMETERS) == set(backbones.names())


# Like B0 and B1, but for their size.
LARGER = tuple(f"efficientnet_b{i}" for i in range(2, 6))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGER)) for name in PARAMETERS],
)
def test_parameter_count(name):
    assert _parameters(name) == PARAMETERS[name]


@pytest.mark.parametrize("width", MOBILENET_WIDTHS)
def test_parameter_count_of_mobilenet_widths(width):
    assert _parameters(f"mobilenet_v2_{width}") == MOBILENET_WIDTHS[width]


@pytest.mark.parametrize(
    "name", ["resnet10_slim", "resnet50", "mobilenet_v2", "efficientnet_b1", "efficientnet_lite1"]
)
def test_bfloat16_computes_but_is_never_stored(name):
    features, variables = _shapes(name, size=40, dtype=jnp.bfloat16)
    assert features.shape == (2, backbones.get(name).features)
    assert features.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    "name", ["resnet50", "mobilenet_v2", "efficientnet_b0", "efficientnet_lite0"]
)
def test_every_convolution_computes_in_the_given_dtype(name):
    seen = {}

    def note(call, args, kwargs, context):
        out = call(*args, **kwargs)
        # What only declares parameters computes nothing.
        computes = context.module.name != "top" and not isinstance(context.module, Kernel)
        if context.method_name == "__call__" and computes:
            seen["/".join(context.module.path)] = getattr(out, "dtype", None)
        return out

    with nn.intercept_methods(note):
        _shapes(name, dtype=jnp.bfloat16, name="top")
    assert set(seen.values()) == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("name", "parameter", "shape"),
    [
        ("resnet50", "layer2_0/conv2/kernel", (3, 3, 128, 128)),
        ("resnet18", "layer4_0/downsample_0/kernel", (1, 1, 256, 512)),
        ("mobilenet_v2", "features_1/conv_0_0/kernel", (3, 3, 1, 32)),
        ("mobilenet_v2", "features_17/conv_3/scale", (320,)),
        ("efficientnet_b0", "blocks_15/se_reduce/kernel", (1, 1, 1152, 48)),
        ("efficientnet_lite2", "conv_stem/kernel", (3, 3, 3, 32)),
        ("efficientnet_lite2", "blocks_20/project_conv/kernel", (1, 1, 1248, 352)),
    ],
)
def test_parameter_names_follow_the_originals(name, parameter, shape):
    flat = flatten_dict(_shapes(name)[1]["params"], sep="/")
    assert flat[parameter].shape == shape


def test_a_bottleneck_strides_in_its_3x3_convolution():
    maps = {}

    def note(call, args, kwargs, context):
        out = call(*args, **kwargs)
        maps["/".join(context.module.path)] = getattr(out, "shape", None)
        return out

    with nn.intercept_methods(note):
        _shapes("resnet50", size=224)
    assert maps["layer1_0/bn1"][1:3] == (56, 56)
    assert maps["layer2_0/bn1"][1:3] == (56, 56)
    assert maps["layer2_0/bn2"][1:3] == (28, 28)
    assert maps["layer4_2"] == (2, 7, 7, 2048)


def test_training_moves_the_running_statistics_and_evaluation_does_not():
    backbone = backbones.get("resnet8_tiny").module()
    frames = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    variables = jax.jit(backbone.init)(QUICK_KEY, frames)

    @functools.partial(jax.jit, static_argnames="train")
    def statistics(train):
        _, updated = backbone.apply(variables, frames, train=train, mutable=["batch_stats"])
        return updated["batch_stats"]

    moved = statistics(train=True)
    stem = nn.Conv(8, (3, 3), (2, 2), padding=1, use_bias=False).apply(
        {"params": variables["params"]["conv1"]}, frames
    )
    # PyTorch's momentum .1 from a mean of 0; flax keeps .9 of the old one.
    np.testing.assert_allclose(moved["bn1"]["mean"], 0.1 * stem.mean((0, 1, 2)), atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, statistics(train=False), variables["batch_stats"])


def test_stochastic_depth_drops_whole_rows_by_their_own_keys():
    spec = MBConvSpec(width=1.0, depth=1.0, native_size=224)
    block = MBConv(spec, Stage(1, 3, 1, 1, 8), 8, 0, 0.5, "same", "tensorflow", jnp.float32)
    frames = jax.random.normal(jax.random.key(1), (16, 6, 6, 8))
    variables = jax.jit(functools.partial(block.init, train=False, keys=None))(QUICK_KEY, frames)

    @jax.jit
    def branch(keys):
        out, _ = block.apply(variables, frames, train=True, keys=keys, mutable=["batch_stats"])
        return out - frames

    keys = jax.random.split(jax.random.key(2), 16)
    whole, dropped = np.asarray(branch(None)), np.asarray(branch(keys))
    kept = np.abs(dropped).max((1, 2, 3)) > 0
    assert 0 < kept.sum() < 16
    np.testing.assert_allclose(dropped[kept], 2 * whole[kept], atol=1e-5)
    order = np.random.default_rng(0).permutation(16)
    moved = np.abs(np.asarray(branch(keys[order]))).max((1, 2, 3)) > 0
    np.testing.assert_array_equal(moved, kept[order])


def test_stochastic_depth_is_for_training_only_and_grows_with_depth(monkeypatch):
    calls = []

    def note(x, rate, keys, salt):
        calls.append((rate, salt, keys is not None))
        return x

    monkeypatch.setattr(mbconv, "drop_path", note)
    backbone = backbones.get("efficientnet_b0").module()
    frames = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    keys = jax.eval_shape(jax.random.split, jax.random.key(0))
    for train in (False, True):
        calls.clear()
        init = functools.partial(backbone.init, train=train)
        jax.eval_shape(init, QUICK_KEY, frames, keys=keys)
        rates, salts, drawn = zip(*calls, strict=True)
        # The blocks of B0 whose result has the shape of their input.
        np.testing.assert_allclose(rates, 0.2 * np.array([2, 4, 6, 7, 9, 10, 12, 13, 14]) / 16)
        assert len(set(salts)) == 9
        assert set(drawn) == {train}


@pytest.mark.parametrize(
    ("rule", "kernel", "stride", "size", "expected"),
    [
        ("same", 3, 2, 21, (1, 1)),
        ("same", 3, 2, 42, (0, 1)),
        ("same", 5, 2, 11, (2, 2)),
        ("same", 5, 1, 11, (2, 2)),
        ("symmetric", 3, 2, 42, (1, 1)),
        ("symmetric", 5, 2, 42, (2, 2)),
        ("static", 3, 2, 21, (0, 1)),
        ("static", 5, 2, 11, (1, 2)),
        ("static", 3, 1, 11, (1, 1)),
    ],
)
def test_padding_rules(rule, kernel, stride, size, expected):
    assert conv_padding(rule, kernel, stride, (size, size), 240) == (expected, expected)


def test_padding_rules_of_xla_same_and_rectangles():
    for kernel, stride, rows, columns in [(3, 2, 21, 8), (5, 2, 9, 14), (5, 1, 3, 2)]:
        expected = jax.lax.padtype_to_pads((rows, columns), (kernel,) * 2, (stride,) * 2, "SAME")
        assert conv_padding("same", kernel, stride, (rows, columns), 224) == tuple(expected)


def test_unknown_padding_is_an_error():
    with pytest.raises(ValueError, match=r"'valid'.*same, symmetric, static"):
        _shapes("efficientnet_b0", padding="valid")


def test_unknown_names_get_a_suggestion():
    with pytest.raises(UserError, match="'resnet5O': did you mean 'resnet50'"):
        backbones.get("resnet5O")
    for name in ("mobilenet_v2_0", "mobilenet_v2_wide", "zebra"):
        with pytest.raises(UserError, match=name):
            backbones.get(name)


class _Own(backbones.Backbone):
    name, features = "own", 3

    def module(self, **options):
        return nn.Dense(3)


@pytest.fixture
def registry(monkeypatch):
    """What is registered in a test is gone after it."""
    monkeypatch.setattr(backbones, "_REGISTERED", dict(backbones._REGISTERED))


@pytest.mark.usefixtures("registry")
def test_ones_own_is_known_by_its_name_and_may_be_replaced():
    first, second = _Own(), _Own()
    assert backbones.register(first) is backbones.get("own") is first
    assert backbones.register(second) is backbones.get("own") is second
    assert backbones.names()[-1] == "own"
    with pytest.raises(UserError, match="'owm': did you mean 'own'"):
        backbones.get("owm")
    with pytest.raises(UserError, match="no layout 'timm' of own: none is known"):
        first.layout("timm")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"name": "resnet50"}, "a backbone named 'resnet50' ships with ar_net_jax"),
        ({"name": "mobilenet_v2_0.35"}, "a backbone named 'mobilenet_v2_0.35' ships with"),
        ({"name": "", "features": 0}, "Wrong is no backbone: it lacks name and features"),
    ],
)
def test_what_cannot_be_registered(attributes, message):
    with pytest.raises(UserError, match=message):
        backbones.register(type("Wrong", (_Own,), attributes)())


@pytest.mark.usefixtures("registry")
def test_installed_packages_offer_backbones(monkeypatch):
    class Point(NamedTuple):
        offered: object
        value: str = "package:Class"

        def load(self):
            if isinstance(self.offered, Exception):
                raise self.offered
            return self.offered

    points = {
        "own": Point(_Own),
        "other": Point(_Own()),
        "broken": Point(ImportError("no module named x")),
    }
    monkeypatch.setattr(backbones, "_entry_points", lambda: points)
    assert {"own", "other", "broken"} < set(backbones.names())
    assert backbones.get("own") is backbones.get("own")
    with pytest.raises(UserError, match="'other': its package's package:Class is no backbone of"):
        backbones.get("other")
    with pytest.raises(UserError, match="'broken': .*cannot be loaded .no module named x.; inst"):
        backbones.get("broken")


def test_variants_are_values():
    for name in (*backbones.names(), "mobilenet_v2_0.5"):
        backbone = backbones.get(name)
        assert backbone.name == name
        assert hash(backbone) == hash(backbones.get(name))
        assert backbone == backbones.get(name)


def test_make_divisible_never_loses_more_than_a_tenth():
    assert [make_divisible(32 * 0.35), make_divisible(16 * 0.35), make_divisible(1280 * 1.4)] == [
        16,
        8,
        1792,
    ]
    for channels in range(1, 400):
        assert make_divisible(channels) % 8 == 0
        assert make_divisible(channels) >= 0.9 * channels


@pytest.mark.parametrize("name", ["resnet8_slim", "resnet8_tiny"])
def test_compiled_bfloat16_is_what_is_computed_step_by_step(name):
    """Fused with the pooling, convolutions gave NaN on CPU from jaxlib 0.11 on."""
    backbone = backbones.get(name).module(dtype=jnp.bfloat16)
    frames = jax.random.normal(jax.random.key(0), (4, 48, 48, 3))
    variables = jax.jit(backbone.init)(QUICK_KEY, frames)
    expected = backbone.apply(variables, frames)
    found = jax.jit(backbone.apply)(variables, frames)
    np.testing.assert_allclose(found, expected, atol=0.02 * float(jnp.max(expected)))


@pytest.mark.parametrize(
    "name", ["resnet8_tiny", pytest.param("mobilenet_v2_0.35", marks=pytest.mark.slow)]
)
def test_features_are_the_mean_over_the_last_map(name: str) -> None:
    backbone = backbones.get(name)
    module, x = backbone.module(), np.random.default_rng(0).normal(size=(2, 40, 40, 3))
    variables = jax.jit(module.init)(jax.random.key(0), np.float32(x))
    found = jax.jit(lambda v, x: (module.apply(v, x, method="feature_map"), module.apply(v, x)))
    maps, features = found(variables, np.float32(x))
    side = backbones.map_side(name, 40)
    assert maps.shape == (2, side, side, backbone.features)
    np.testing.assert_allclose(features, np.mean(maps, axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_a_map_that_is_not_there_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(UserError, match="'convnext_tiny' gives no feature map; .*resnet50"):
        backbones.map_side("convnext_tiny", 64)
