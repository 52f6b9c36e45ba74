"""Counted costs agree with closed formulas and with the paper's tables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from ar_net_jax import backbones, costs, methods
from ar_net_jax.errors import UserError
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.ops import conv_cpu, depthwise

RESNETS = ("resnet50", "resnet34", "resnet18")
EFFICIENTNETS = ("efficientnet_b3", "efficientnet_b1", "efficientnet_b0")


def _method(name: str, **model) -> methods.Method:
    """A method for 200 classes with the paper's costs, its other fields the paper's too."""
    cls = methods.get(name)
    return cls(cls.Config(**{"gflops_convention": "paper"} | model))


def _per_video(method: methods.Method, usage, frames, convention="paper"):
    return costs.usage_gflops(method.networks(), method.choices, usage, convention, frames)


def _struct(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _conv(x, kernel, *, stride=1, padding="SAME", groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@pytest.mark.parametrize(
    ("name", "resolution", "paper", "macs"),
    [
        ("resnet50", 224, 4.1099, 4.0875),
        ("resnet34", 168, 2.2489, 2.2445),
        ("resnet18", 112, 0.4862, 0.4850),
        ("mobilenet_v2", 84, 0.0527, 0.0506),
        ("efficientnet_b3", 224, 1.80, 0.961),
        ("efficientnet_b1", 168, 0.394, 0.300),
        ("efficientnet_b0", 112, 0.0975, 0.0885),
    ],
)
def test_released_cost_table(name, resolution, paper, macs):
    for convention, expected in (("paper", paper), ("macs", macs)):
        got = costs.frame_gflops(name, resolution, 200, convention, "static")
        assert got == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "resolution", "macs"),
    [
        ("efficientnet_b3", 224, 0.961),
        ("efficientnet_b1", 168, 0.367),
        ("efficientnet_b0", 112, 0.106),
    ],
)
def test_efficientnet_under_true_same_padding(name, resolution, macs):
    # The reference is given to three digits.
    assert costs.frame_gflops(name, resolution, 200, "macs", "same") == pytest.approx(
        macs, abs=5e-4
    )


def test_lstm_steps():
    # MobileNetV2's features, then ResNet-50's.
    assert costs.lstm_gflops(1280, 512, 0, "paper") == pytest.approx(0.00328, rel=1e-3)
    assert costs.lstm_gflops(1280, 512, 0, "macs") == pytest.approx(0.00367, rel=1e-3)
    assert costs.lstm_gflops(2048, 512, 0, "paper") == pytest.approx(0.00839, rel=1e-3)
    assert costs.lstm_gflops(2048, 512, 0, "macs") == pytest.approx(0.00524, rel=1e-3)
    assert costs.lstm_gflops(1280, 512, 7, "macs") * 1e9 == 4 * 512 * (1280 + 512) + 512 * 7


@pytest.mark.parametrize(
    ("name", "model", "per_video"),
    [
        ("uniform", {"backbone": "resnet50"}, 65.76),
        ("lstm", {"backbone": "resnet50"}, 65.89),
        ("multi_scale", {"backbones": RESNETS, "skips": ()}, 110.41),
        ("uniform", {"backbone": "efficientnet_b3"}, 28.80),
        ("multi_scale", {"backbones": EFFICIENTNETS, "skips": ()}, 37.56),
    ],
)
def test_rows_of_the_papers_tables(name, model, per_video):
    method = _method(name, **model)
    assert _per_video(method, np.ones(1), 16) == pytest.approx(per_video, abs=0.01)
    (per_frame,) = method.choice_gflops()
    assert 16 * per_frame == pytest.approx(per_video, abs=0.01)


def test_scsampler_row():
    # Ten of sixteen frames through ResNet-50, all through MobileNetV2.
    chosen = 10 * costs.frame_gflops("resnet50", 224, 200, "paper")
    looked_at = 16 * costs.frame_gflops("mobilenet_v2", 84, 200, "paper")
    assert chosen + looked_at == pytest.approx(41.94, abs=0.01)


@pytest.fixture(scope="module")
def ar_net() -> methods.Method:
    return _method("ar_net", backbones=RESNETS)


def test_ar_nets_choices(ar_net):
    networks, looks = ar_net.networks(), (1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.25)
    policy = networks["policy"].gflops("paper") + networks["LSTM"].gflops("paper")
    alone = [networks[name].gflops("paper") for name in ("224px", "168px", "112px")] + [0.0] * 4
    np.testing.assert_allclose(ar_net.choice_gflops(overhead=False), alone)
    np.testing.assert_allclose(ar_net.choice_gflops(), np.add(alone, np.multiply(policy, looks)))
    # Uniformly random actions, and every frame skipped four at a time.
    assert _per_video(ar_net, np.full(7, 1 / 7), 16) == pytest.approx(16.38, abs=0.01)
    assert _per_video(ar_net, np.eye(7)[6], 1) == pytest.approx(policy / 4)


@given(usage=arrays(np.float64, 7, elements=st.floats(0, 1)), frames=st.integers(1, 400))
def test_a_usage_costs_the_mean_of_its_choices(ar_net, usage, frames):
    expected = frames * usage @ ar_net.choice_gflops()
    assert _per_video(ar_net, usage, frames) == pytest.approx(expected)


def test_calls_may_be_numbers_or_arrays_of_numpy_or_jax(ar_net):
    networks = ar_net.networks()
    gflops = np.array([network.gflops("macs") for network in networks.values()])
    drawn = np.random.default_rng(0).integers(0, 9, (len(networks), 2, 3))
    calls = dict(zip(networks, drawn.astype(np.float32)))
    by_hand = np.tensordot(gflops, drawn, 1)
    found = costs.total_gflops(networks, calls, "macs")
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, by_hand, rtol=1e-6)
    on_device = jax.jit(lambda calls: costs.total_gflops(networks, calls, "macs"))(calls)
    assert on_device.dtype == jnp.float32
    np.testing.assert_allclose(on_device, by_hand, rtol=1e-5)
    one = {name: float(count[1, 2]) for name, count in calls.items()}
    assert costs.total_gflops(networks, one, "macs") == pytest.approx(by_hand[1, 2])


def test_policy_that_is_no_action():
    policy = {"is_action": False}
    model = {"resolutions": (224,), "backbones": ("resnet50",), "policy": PolicyConfig(**policy)}
    method = _method("ar_net", **model, gflops_convention="macs")
    expected = (costs.frame_gflops("resnet50", 224, 200, "macs"), 0.0, 0.0, 0.0)
    np.testing.assert_allclose(method.choice_gflops(overhead=False), expected)
    # It makes no prediction, so it has no classifier.
    without = costs.frame_gflops("mobilenet_v2", 84, 0, "macs")
    assert method.networks()["policy"].gflops("macs") == without


def test_an_unknown_convention_is_an_error():
    with pytest.raises(UserError, match="'flops'.*macs, paper"):
        costs.frame_gflops("resnet50", 224, 200, "flops")


@pytest.mark.parametrize(
    ("name", "stated", "has_batch_norm"),
    [("efficientnet_lite0", 0.40, True), ("convnext_tiny", 4.47, False)],
)
def test_a_backbone_that_the_paper_does_not_have(name, stated, has_batch_norm):
    macs, paper = (costs.frame_gflops(name, 224, 1000, each) for each in ("macs", "paper"))
    # What timm's tables state, in 1e9 to two digits.
    assert macs == pytest.approx(stated, rel=0.04)
    assert (paper > macs) == has_batch_norm


@pytest.mark.parametrize(("size", "stride", "groups"), [(9, 1, 1), (9, 2, 1), (8, 2, 4), (8, 1, 8)])
def test_a_convolution_by_its_formula(size, stride, groups):
    out = -(-size // stride)
    x, kernel = _struct(2, size, size, 8), _struct(3, 3, 8 // groups, 16)
    macs = costs.count_macs(functools.partial(_conv, stride=stride, groups=groups), x, kernel)
    assert macs == 2 * out * out * 16 * 9 * (8 // groups)


def test_each_convolution_of_resnet18_by_its_formula():
    """A second count, from torchvision's layout written out by hand."""
    expected = [112 * 112 * 64 * 49 * 3]
    size, channels = 56, 64
    for width, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
        size //= stride
        expected += [size * size * width * 9 * channels, size * size * width * 9 * width]
        if stride == 2:
            expected.append(size * size * width * channels)
        expected += [size * size * width * 9 * width] * 2
        channels = width
    backbone = backbones.get("resnet18").module()
    frame = _struct(1, 224, 224, 3)
    variables = jax.eval_shape(backbone.init, jax.random.key(0), frame)
    operations = costs.list_operations(backbone.apply, variables, frame)
    assert [operation.macs for operation in operations] == expected
    assert {operation.primitive for operation in operations} == {"conv_general_dilated"}


def test_each_convolution_of_mobilenet_v2_by_its_formula():
    """Likewise, at a size that does not halve evenly: 84, 42, 21, 11, 6, 3 pixels."""
    expected = [42 * 42 * 32 * 9 * 3]
    size, channels = 42, 32
    for expansion, width, blocks, first_stride in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:
        for stride in [first_stride] + [1] * (blocks - 1):
            hidden = expansion * channels
            if expansion > 1:
                expected.append(size * size * channels * hidden)
            size = -(-size // stride)
            expected += [size * size * hidden * 9, size * size * hidden * width]
            channels = width
    expected.append(size * size * 320 * 1280)
    backbone = backbones.get("mobilenet_v2").module()
    frame = _struct(1, 84, 84, 3)
    variables = jax.eval_shape(backbone.init, jax.random.key(0), frame)
    operations = costs.list_operations(backbone.apply, variables, frame)
    assert [operation.macs for operation in operations] == expected


def test_a_pointwise_convolution_counts_as_one_on_every_platform():
    """On CPU it runs as a matrix product of as many multiplications."""

    def convolve(x, kernel):
        return conv_cpu.conv2d(x, kernel, 2, ((0, 0), (0, 0)))

    (operation,) = costs.list_operations(convolve, _struct(1, 8, 8, 64), _struct(1, 1, 64, 6))
    assert operation == costs.Operation(
        "conv_general_dilated", ((1, 8, 8, 64), (1, 1, 64, 6)), (1, 4, 4, 6), 4 * 4 * 6 * 64, 1
    )


def test_depthwise_counts_as_a_convolution_on_every_platform():
    def convolve(x, kernel):
        return depthwise.depthwise_conv(x, kernel, 2, ((1, 1), (1, 1)))

    (operation,) = costs.list_operations(convolve, _struct(1, 8, 8, 6), _struct(3, 3, 1, 6))
    assert operation == costs.Operation(
        "conv_general_dilated", ((1, 8, 8, 6), (3, 3, 1, 6)), (1, 4, 4, 6), 4 * 4 * 6 * 9, 1
    )


def test_matrix_products():
    contract = functools.partial(jnp.einsum, "bij,bkj->bik")
    assert costs.count_macs(contract, _struct(5, 2, 3), _struct(5, 4, 3)) == 5 * 2 * 3 * 4
    assert costs.count_macs(jnp.add, _struct(3), _struct(3)) == 0


def test_control_flow():
    x, w = _struct(2, 3), _struct(3, 3)  # one product: 18
    loop = lambda n: lambda x, w: jax.lax.scan(lambda c, _: (c @ w, None), x, length=n)[0]  # noqa: E731
    assert costs.count_macs(loop(5), x, w) == 5 * 18
    nested = lambda x, w: jax.lax.scan(lambda c, _: (loop(5)(c, w), None), x, length=3)[0]  # noqa: E731
    (operation,) = costs.list_operations(nested, x, w)
    assert (operation.macs, operation.runs) == (15 * 18, 15)

    def branch(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w)

    assert costs.count_macs(branch, x, w) == 2 * 18

    def until(x, w):
        return jax.lax.while_loop(lambda c: (c @ w).sum() < 9, lambda c: c @ w, x)

    assert costs.count_macs(until, x, w) == 2 * 18  # the condition and the body, once each


def test_transformations_are_looked_into():
    x, w = _struct(2, 3), _struct(3, 3)

    @jax.custom_vjp
    def product(x, w):
        return x @ w

    product.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))

    @jax.custom_jvp
    def gated(x, w):
        return x @ w

    gated.defjvp(lambda primals, tangents: (gated(*primals), tangents[0] @ primals[1]))
    for fn in (product, gated, jax.jit(jnp.dot), jax.checkpoint(jnp.dot)):
        assert costs.count_macs(fn, x, w) == 18
    backward = jax.grad(lambda x, w: product(x, w).sum(), (0, 1))
    assert costs.count_macs(backward, x, w) == 3 * 18


def test_shard_map_counts_all_shards():
    mesh = AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("data")
    sharded = jax.shard_map(jnp.dot, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)
    assert costs.count_macs(sharded, _struct(8, 3), _struct(3, 3)) == 8 * 3 * 3


def test_counting_allocates_nothing_and_is_remembered():
    costs.backbone_macs("resnet18", 96, 10)
    before = len(jax.live_arrays())
    assert costs.backbone_macs("resnet18", 96, 11) - costs.backbone_macs("resnet18", 96, 10) == 512
    assert len(jax.live_arrays()) == before
