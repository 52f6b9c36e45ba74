"""Released checkpoints: what their keys decide, what they compute, and how misfits are told."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import released_baselines

from ar_net_jax import backbones
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.modules.frame_runner import EVALUATION, Mode
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.weights.released.convert import import_released

State = dict[str, np.ndarray]

SIZES = released_baselines.RESOLUTIONS


@functools.cache
def _states() -> dict[str, State]:
    return released_baselines.states()


def _hollow(name: str = "random_policy") -> State:
    """A file's keys and shapes without its numbers."""
    state = _states()[name]
    return {key: np.broadcast_to(np.float32(0), array.shape) for key, array in state.items()}


def _assert_near(found: jax.Array, stored: np.ndarray) -> None:
    np.testing.assert_allclose(found, stored, rtol=0, atol=1e-4 * np.max(np.abs(stored)))


@functools.cache
def _stored(name: str) -> np.ndarray:
    return np.load(released_baselines.STORED)[name]


def _import_small(name: str) -> tuple[Config, Any]:
    """A file as a model that looks at the small frames."""
    single = name in ("uniform_lite", "lstm")
    sizes = [f"--config.model.resolution={SIZES[0]}"]
    if not single:
        sizes = [f"--config.model.resolutions={SIZES}"]
        sizes += [f"--config.model.policy.resolution={SIZES[-1]}"]
    method = "random_policy" if name == "random_policy" else None
    return import_released(_states()[name], method=method, overrides=sizes)


def _apply(config: Config, variables: Any, frames: jax.Array) -> Prediction:
    keys = example_keys(0, jnp.zeros(2, jnp.int32), jnp.arange(2))
    return config.build_method().module().apply(variables, frames, Mode(keys=keys))


def _frame_logits(config: Config, variables: Any, frames: jax.Array) -> jax.Array:
    """Every resolution's prediction on every frame: float32 [B, T, L, C]."""

    def every(module: Any) -> jax.Array:
        features, _ = module.policy_features(frames, EVALUATION)
        steps = module.policy.decide(features, use_skips=False)
        selected = jnp.ones((*frames.shape[:2], len(config.model.resolutions)), bool)
        rows, _ = module.frame_rows(frames, EVALUATION, features, steps, selected)
        return jnp.stack(rows, axis=2)

    return config.build_method().module().apply(variables, method=every)


@pytest.mark.parametrize(("name", "method"), [("uniform_lite", "uniform"), ("lstm", "lstm")])
def test_one_backbone_computes_what_pytorch_does(name: str, method: str) -> None:
    config, variables = _import_small(name)
    assert config.method == method
    prediction = jax.jit(functools.partial(_apply, config))(variables, released_baselines.frames())
    _assert_near(prediction.logits, _stored(method))


@pytest.mark.slow
def test_multi_scale_and_random_policy_compute_what_pytorch_does() -> None:
    (multi, variables), (random, others) = map(_import_small, ("multi_scale", "random_policy"))
    assert (multi.method, random.method) == ("multi_scale", "random_policy")
    decision = variables["params"]["policy"].pop("decision")
    own = others["params"]["policy"].pop("decision")
    np.testing.assert_array_equal(decision["kernel"], own["kernel"][:, :4])
    jax.tree.map(np.testing.assert_array_equal, variables, others)

    @jax.jit  # One compilation, in which the two share their backbones.
    def run(variables: Any, frames: jax.Array) -> tuple[Prediction, Prediction, jax.Array]:
        params, policy = variables["params"], variables["params"]["policy"]
        first, second = (
            {**variables, "params": {**params, "policy": {**policy, "decision": head}}}
            for head in (decision, own)
        )
        every = _frame_logits(random, second, frames)
        return _apply(multi, first, frames), _apply(random, second, frames), every

    averaged, drawn, every = run(variables, released_baselines.frames())
    _assert_near(averaged.logits, _stored("multi_scale"))
    _assert_near(every, _stored("frame_logits"))
    # A skip drops its own frame alone.
    chosen = np.asarray(drawn.decisions.actions)[..., None] == np.arange(4)
    total = (_stored("frame_logits") * chosen[..., None]).sum((1, 2))
    _assert_near(drawn.logits, total / np.maximum(chosen.sum((1, 2)), 1)[:, None])


def test_both_forms_of_uniform_are_one_model() -> None:
    (config, variables), (other, same) = (
        import_released(_states()[name]) for name in ("uniform_lite", "uniform_single")
    )
    assert config.model.backbone == other.model.backbone == "resnet50"
    assert config.model.resolution == other.model.resolution == 224
    jax.tree.map(np.testing.assert_array_equal, variables, same)


def test_both_namings_of_mobilenet_are_one_model() -> None:
    renamed = dict(_states()["random_policy"])
    pairs = zip(
        *(
            backbones.get("mobilenet_v2").entries(layout)
            for layout in ("torchvision", "torchvision_old")
        )
    )
    prefix = "module.lite_backbone."
    moved = {prefix + old.source: renamed.pop(prefix + new.source) for new, old in pairs}
    # Their counters are left over under the new names, which counts for nothing.
    (_, variables), (_, same) = (
        import_released(state, method="ar_net")
        for state in (_states()["random_policy"], {**renamed, **moved})
    )
    jax.tree.map(np.testing.assert_array_equal, variables, same)


def test_an_ambiguous_method_is_asked_for() -> None:
    with pytest.raises(UserError, match="--as ar_net or --as random_policy"):
        import_released(_hollow())
    by_override = import_released(_hollow(), overrides=["--config.method=ar_net"])
    assert by_override[0].method == "ar_net"
    with pytest.raises(UserError, match="--as uniform does not fit"):
        import_released(_hollow(), method="uniform")


def test_a_uniform_as_wide_as_its_lstm_is_ambiguous() -> None:
    state = {
        key.replace("base_model_list.2", "lite_backbone").replace("new_fc_list.2", "lite_fc"): value
        for key, value in _hollow().items()
        if key.startswith(("module.base_model_list.2.", "module.new_fc_list.2."))
    }
    assert import_released(state)[0].model.backbone == "resnet18"
    state["module.rnn.weight_hh"] = np.broadcast_to(np.float32(0), (2048, 512))
    with pytest.raises(UserError, match="--as uniform or --as lstm"):
        import_released(state)


def test_what_keys_do_not_decide_is_asked_for() -> None:
    state = {k: v for k, v in _hollow().items() if "list.2." not in k}
    state["module.linear.weight"] = state["module.linear.weight"][:5]
    state["module.linear.bias"] = state["module.linear.bias"][:5]
    with pytest.raises(UserError, match=r"resolutions and skips .*--config.model.resolutions"):
        import_released(state, method="ar_net")
    given = ["--config.model.resolutions=(224,160,96)", "--config.model.skips=(2,4)"]
    model = import_released(state, method="ar_net", overrides=given)[0].model
    assert (model.resolutions, model.skips) == ((224, 160, 96), (2, 4))
    assert model.policy.resolution == 96


def test_a_policy_that_predicts_nothing() -> None:
    state = {k: v for k, v in _hollow().items() if "list.1." not in k and "list.2." not in k}
    state["module.linear.weight"] = state["module.linear.weight"][:4]
    state["module.linear.bias"] = state["module.linear.bias"][:4]
    del state["module.lite_fc.weight"], state["module.lite_fc.bias"]
    model = import_released(state, method="ar_net")[0].model
    assert (model.resolutions, model.skips) == ((224,), (1, 2, 4))
    assert (model.policy.is_action, model.policy.resolution) == (False, 84)


def test_scsampler_is_known_by_its_keys() -> None:
    state = {k: v for k, v in _hollow().items() if "list.1." not in k and "list.2." not in k}
    unused = ("module.rnn.", "module.linear.")
    state = {k: v for k, v in state.items() if not k.startswith(unused)}
    state["module.lite_fc.weight"] = np.broadcast_to(np.float32(0), (200, 1280))
    assert import_released(state)[0].method == "scsampler"


def _without(state: State) -> None:
    del state["module.rnn.weight_hh"]


def _besides(state: State) -> None:
    state["module.extra.weight"] = np.zeros(3, np.float32)


def _other_classes(state: State) -> None:
    state["module.new_fc_list.1.weight"] = np.zeros((100, 512), np.float32)


def _other_shape(state: State) -> None:
    state["module.base_model_list.0.conv1.weight"] = np.zeros((64, 3, 3, 3), np.float32)


def _whole_numbers(state: State) -> None:
    state["module.linear.bias"] = np.zeros(7, np.int64)


def _no_backbone(state: State) -> None:
    for key in [k for k in state if "base_model_list.1." in k]:
        del state[key]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without, "miss module.rnn.weight_hh"),
        (_besides, "have besides module.extra.weight"),
        (_other_classes, "module.new_fc_list.1.weight is for 100 classes, .* is 200"),
        (_other_shape, r"module.base_model_list.0.conv1.weight has .*\(64, 3, 3, 3\), expected"),
        (_whole_numbers, "module.linear.bias holds int64"),
        (_no_backbone, "module.base_model_list.1"),
    ],
)
def test_misfits_name_the_key_and_the_remedy(spoil: Any, message: str) -> None:
    state = _hollow()
    spoil(state)
    with pytest.raises(UserError, match=f"{message}.*; if the file is whole, correct"):
        import_released(state, method="ar_net")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.model.num_classes=100", "is for 200 classes, .* is 100"),
        ("--config.model.policy.hidden_size=64", r"expected \(200, 64\)"),
        ("--config.model.backbones=('resnet50','resnet50','resnet18')", "are those of resnet34"),
        ("--config.model.skips=(1,2)", "module.linear"),
    ],
)
def test_overrides_are_held_against_the_keys(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_released(_hollow(), method="ar_net", overrides=[override])


def test_a_given_config_replaces_the_derived_one() -> None:
    derived, _ = import_released(_hollow(), method="ar_net")
    given = Config.from_dict({"seed": 3, "model": derived.to_dict()["model"]})
    config, _ = import_released(_hollow(), config=given, method="ar_net")
    assert (config.seed, config.method) == (3, "ar_net")
    with pytest.raises(UserError, match="--as random_policy"):
        import_released(_hollow(), config=given, method="random_policy")


def test_other_weights_are_no_released_checkpoint() -> None:
    with pytest.raises(UserError, match="no released AR-Net checkpoint.*conv1.weight"):
        import_released({"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)})
