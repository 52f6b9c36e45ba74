"""Uni-AdaFocus: which frames and parts it sees, its two forms, what it costs and learns by."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_adafocus_v2 import CLIPS as SHORT
from test_adafocus_v2 import fill_at_random, largest

from ar_net_jax.costs import total_gflops
from ar_net_jax.costs.counting import count_macs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.losses import LossContext
from ar_net_jax.methods import Moment
from ar_net_jax.methods.uni_adafocus import UniAdaFocus
from ar_net_jax.methods.uni_adafocus_module import UniAdaFocusConfig
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.space_time_policy import (
    SpatialPolicy,
    TemporalPolicy,
    spatial_policy_macs,
    temporal_policy_macs,
)
from ar_net_jax.ops.rng import example_keys

VIDEOS, FRAMES, CLASSES, SIDE = 3, 8, 5, 24
MODEL = UniAdaFocusConfig(
    num_classes=CLASSES,
    backbone="resnet8_tiny",
    resolution=SIDE,
    crop=16,
    glance_backbone="resnet8_tiny",
    glance_resolution=16,
    candidates=FRAMES,
    glances=4,
    focuses=2,
    smallest=10,
    spatial_hidden=4,
    temporal_hidden=4,
    draws=8,
)
METHOD = UniAdaFocus(MODEL)
LENGTHS = np.array([8, 1, 3])
CLIPS = np.concatenate([SHORT, SHORT[:, ::-1] // 2], axis=1)


@functools.cache
def _variables() -> dict[str, Any]:
    return fill_at_random(METHOD.variable_shapes())


@functools.cache
def _model() -> Model:
    return Model(Config(method="uni_adafocus", model=MODEL), _variables())


def _keys() -> jax.Array:
    order = jnp.arange(VIDEOS)
    return example_keys(0, jnp.zeros_like(order), order)


@functools.cache
def _outputs(random_crops: bool = False) -> dict[str, np.ndarray]:
    module = METHOD.module()
    mode = Mode(keys=_keys(), random_crops=random_crops)
    outputs = jax.jit(functools.partial(module.apply, mode=mode))(_variables(), CLIPS).outputs
    return {name: np.asarray(x) for name, x in outputs.items()}


def test_it_looks_at_some_frames_and_at_parts_within_them() -> None:
    result, outputs = _model()(CLIPS, routing="masked"), _outputs()
    looked = np.zeros((VIDEOS, FRAMES), bool)
    np.put_along_axis(looked, outputs["frames"], True, axis=1)
    np.testing.assert_array_equal(result.actions, np.where(looked, 0, 1))
    assert (looked.sum(1) == 2).all() and len({tuple(row) for row in looked}) > 1
    top, left, height, width = np.moveaxis(outputs["boxes"], -1, 0)
    assert (np.stack([top, left]) >= 0).all()
    assert (top + height <= SIDE).all() and (left + width <= SIDE).all()
    assert (np.stack([height, width]) >= 10).all() and height.std() > 0.1
    np.testing.assert_allclose(result.logits, outputs["step_logits"][:, -1], atol=1e-5)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_only_frames_that_are_glanced_at_or_focused_on_are_computed(lengths: Any) -> None:
    masked = _model()(CLIPS, num_frames=lengths, routing="masked")
    routed = _model()(CLIPS, num_frames=lengths, chunks=(1,))
    np.testing.assert_array_equal(routed.actions, masked.actions)
    np.testing.assert_allclose(routed.logits, masked.logits, atol=1e-4)
    there = np.full(VIDEOS, FRAMES) if lengths is None else lengths
    glanced, focused = np.minimum(there, 4), np.minimum(there, 2)
    np.testing.assert_array_equal(routed.calls["glance"], glanced)
    np.testing.assert_array_equal(routed.calls["focus"], focused)
    assert routed.executed["glance"] == glanced.sum()
    assert routed.executed["focus"] == focused.sum()
    assert (masked.executed["glance"], masked.executed["focus"]) == (12, 6)


def test_what_padding_shows_is_of_no_account() -> None:
    mask = np.arange(FRAMES) < LENGTHS[:, None]
    noise = np.where(mask[..., None, None, None], CLIPS, 255).astype(np.uint8)
    one, other = (_model()(x, num_frames=LENGTHS, chunks=(1,)) for x in (CLIPS, noise))
    np.testing.assert_array_equal(one.logits, other.logits)


def test_imposed_frames_are_focused_on_however_many() -> None:
    actions = np.ones((VIDEOS, FRAMES), np.int32)
    actions[0, [1, 4, 6]] = 0
    np.put_along_axis(actions[2:], _outputs()["frames"][2:], 0, axis=1)
    infer = make_inference(METHOD, chunks=(1,))
    request = Request(CLIPS, _keys(), forced_actions=actions)
    result = infer(_model().variables, request, jnp.float32(0.0))
    np.testing.assert_array_equal(result.actions, actions)
    assert result.executed["focus"][0] == 5
    np.testing.assert_array_equal(result.logits[1], 0)
    expected = _outputs()["step_logits"][2, -1]
    np.testing.assert_allclose(result.logits[2], expected, atol=1e-4)


def test_random_parts_are_of_one_size_and_on_the_same_frames() -> None:
    drawn, decided = _outputs(random_crops=True), _outputs()
    np.testing.assert_array_equal(drawn["boxes"][..., 2:], MODEL.crop)
    np.testing.assert_array_equal(drawn["frames"], decided["frames"])
    assert np.abs(drawn["boxes"] - decided["boxes"])[..., :2].max() > 1


def test_costs_are_the_published_ones() -> None:
    """16 glances and 16 parts of a video: by parts, and 27.23 in all."""
    method = UniAdaFocus(UniAdaFocusConfig())
    networks = {n: net for n, net in method.networks().items() if net.charged}
    parts = {name: 16 * network.gflops("macs") for name, network in networks.items()}
    classifiers = parts.pop("glance_classifier") + parts.pop("focus_classifier")
    assert classifiers == pytest.approx(0.2576, abs=3e-4)
    expected = {"glance": 4.792, "focus": 21.354, "spatial": 0.8225, "temporal": 0.0041}
    assert parts == pytest.approx(expected, rel=2e-3, abs=1e-4)
    total = total_gflops(networks, dict.fromkeys(networks, 16.0), "macs")
    assert total == pytest.approx(27.23, abs=0.02)
    usage = np.array([1 / 3, 2 / 3])
    by_frame = float(method.choice_gflops("macs") @ usage)
    assert 48 * by_frame == pytest.approx(total, rel=1e-9)


def test_policies_are_counted_as_they_run() -> None:
    key, yes = jax.eval_shape(jax.random.key, 0), jnp.ones((1, 1), bool)

    def where(key: jax.Array) -> Any:
        return SpatialPolicy(4).init_with_output(key, jnp.zeros((1, 1, 3, 3, 8)), yes, train=False)[
            0
        ]

    def when(key: jax.Array) -> Any:
        return TemporalPolicy(4).init_with_output(key, jnp.zeros((1, 1, 8)), yes, train=False)[0]

    assert count_macs(where, key) == spatial_policy_macs(3, 8, 4)
    assert count_macs(when, key) == temporal_policy_macs(8, 4)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"glances": 49}, "model.glances"),
        ({"focuses": 49}, "model.focuses"),
        ({"smallest": 129}, "model.smallest"),
        ({"draws": 0}, "model.draws"),
    ],
)
def test_impossible_configs_are_refused_by_name(model: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Config.from_dict({"method": "uni_adafocus", "model": model})


def test_the_usual_training_is_one_stage_on_48_frames() -> None:
    config = load_config("activitynet:uni_adafocus,imagenet")
    method, stage = config.build_method(), config.stages["train"]
    assert config.data.num_frames == 48 and config.optimizer.weight_decay == 2e-4
    assert set(config.pretrained.weights) == {"glance", "focus"}
    assert method.rate_of(stage, ("focus_classifier", "x")) == 20
    assert set(stage.losses) == set(METHOD.usual_losses("joint"))


def _gradients(*groups: tuple[str, ...]) -> tuple[list[Any], Any]:
    """The gradient of each group of losses, and the outputs in training."""
    method = UniAdaFocus(dataclasses.replace(MODEL, dropout=0.0))
    (stage,) = UniAdaFocus.stages().values()
    mode = method.training_mode(stage, _keys(), Moment(jnp.int32(0), jnp.float32(0)))
    context = LossContext(jnp.array([[0, -1], [1, 2], [3, -1]]), jnp.zeros(2))
    stats = _variables()["batch_stats"]

    def run(params: Any) -> tuple[Any, Any]:
        variables, batch = {"params": params, "batch_stats": stats}, {"frames": jnp.asarray(CLIPS)}
        prediction, _ = method.predict_in_training(stage, variables, batch, mode, None)
        found = {name: loss(prediction, context) for name, loss in stage.losses.items()}
        return [sum(found[name] for name in group) for group in groups], prediction.outputs

    @jax.jit
    def each(params: Any) -> Any:
        losses, back, outputs = jax.vjp(run, params, has_aux=True)
        ones = jnp.eye(len(losses))
        return [back(list(one))[0] for one in ones], outputs

    return each(_variables()["params"])


POLICIES = ("spatial", "temporal", "map_classifier")


def test_the_networks_losses_do_not_reach_the_policies() -> None:
    (gradients,), outputs = _gradients(("every_step", "glance", "focus"))
    assert [largest(gradients[name]) for name in POLICIES] == [0, 0, 0]
    assert min(largest(gradients[name]) for name in ("glance", "focus", "focus_classifier")) > 0
    assert outputs["step_logits"].shape == (VIDEOS, 2 * (4 + 2), CLASSES)
    assert outputs["focus_logits"].shape == (VIDEOS, 2 * 2, CLASSES)


@pytest.mark.slow
def test_each_policy_learns_by_its_own_loss_alone() -> None:
    (where, size, when), _ = _gradients(("where_to_focus",), ("large_parts",), ("when_to_focus",))
    taught = [{name for name in POLICIES if largest(g[name]) > 0} for g in (where, size, when)]
    assert taught == [{"spatial", "map_classifier"}, {"spatial"}, {"temporal"}]
    assert largest(where["glance"]) == 0, "it stops at the map"
