"""The temporal shift against a loop, and the backbones that have it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax import backbones
from ar_net_jax.costs import frame_gflops
from ar_net_jax.errors import UserError
from ar_net_jax.ops.temporal_shift import temporal_shift


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("channels", [3, 4, 11])
def test_channels_come_from_the_neighbours_in_time(masked: bool, channels: int) -> None:
    videos, length, div = 2, 4, 4
    x = np.random.default_rng(0).normal(size=(videos, length, 2, 3, channels)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool) | (not masked)
    expected, share = x.copy(), channels // div
    for video in range(videos):
        for t in range(length):
            after = t + 1 < length and mask[video, t + 1]
            before = t > 0 and mask[video, t - 1]
            expected[video, t, ..., :share] = x[video, t + 1, ..., :share] if after else 0
            part = slice(share, 2 * share)
            expected[video, t, ..., part] = x[video, t - 1, ..., part] if before else 0
    flat = x.reshape(-1, *x.shape[2:])
    found = temporal_shift(flat, length, div, mask.reshape(-1) if masked else None)
    np.testing.assert_array_equal(found, expected.reshape(flat.shape))


@pytest.mark.parametrize(
    "name", ["resnet8_tiny", pytest.param("mobilenet_v2_0.1", marks=pytest.mark.slow)]
)
def test_a_shifted_backbone_sees_other_frames_of_its_video_only(name: str) -> None:
    shifted = backbones.get(f"{name}_shift4")
    assert not shifted.per_frame and backbones.get(name).per_frame
    plain = backbones.get(name).module()
    frames = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype(np.float32)
    shapes = jax.eval_shape(plain.init, jax.random.key(0), frames)
    same = jax.eval_shape(shifted.module().init, jax.random.key(0), frames)
    assert jax.tree.structure(shapes) == jax.tree.structure(same)
    rng = np.random.default_rng(1)

    def fill(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key == "kernel":
            return (rng.normal(size=x.shape) * np.prod(x.shape[:-1]) ** -0.5).astype(np.float32)
        return rng.uniform(0.5, 1.0, x.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    run = jax.jit(lambda x: shifted.module().apply(variables, x, num_frames=3))
    before = np.asarray(run(frames))
    other = frames.copy()
    other[1] += 1.0
    moved = np.abs(np.asarray(run(other)) - before).max(1) > 0
    np.testing.assert_array_equal(moved, [True, True, True, False, False, False])


def test_a_shift_costs_nothing_and_keeps_names_and_weights() -> None:
    shifted, plain = backbones.get("mobilenet_v2_shift10"), backbones.get("mobilenet_v2")
    for convention in ("macs", "paper"):
        costs = {frame_gflops(b.name, 128, 1, convention) for b in (shifted, plain)}
        assert len(costs) == 1
    assert shifted.imagenet_weights == plain.imagenet_weights
    assert shifted.entries("torchvision") == plain.entries("torchvision")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_b0_shift8", "efficientnet_b0 has no temporal shift"),
        ("resnet18_shift1", "unknown backbone 'resnet18_shift1'"),
        ("resnet19_shift8", "unknown backbone 'resnet19': did you mean"),
    ],
)
def test_impossible_shifts_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        backbones.get(name)


def test_a_frame_by_itself_has_no_neighbours() -> None:
    x = jnp.ones((3, 1, 1, 4))
    np.testing.assert_array_equal(temporal_shift(x, 1, 4)[:, 0, 0], [[0, 0, 1, 1]] * 3)
