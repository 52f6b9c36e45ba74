"""What every registered method says of itself agrees with the module that it builds."""

import dataclasses
import functools
import math
import sys
import types
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax import methods
from ar_net_jax.errors import UserError
from ar_net_jax.evaluation.comparison import role_of
from ar_net_jax.experiment import Config
from ar_net_jax.losses import Accuracy
from ar_net_jax.methods import Method, ModelConfig, Network, Prediction
from ar_net_jax.methods.adafocus_v2 import AdaFocusV2, AdaFocusV2Config
from ar_net_jax.methods.adaframe import AdaFrame, AdaFrameConfig
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig
from ar_net_jax.methods.base import FROZEN, MODEL
from ar_net_jax.methods.frameexit import FrameExit
from ar_net_jax.methods.frameexit_module import FrameExitConfig
from ar_net_jax.methods.listentolook import ListenToLook, ListenToLookConfig
from ar_net_jax.methods.liteeval import LiteEval
from ar_net_jax.methods.liteeval_module import LiteEvalConfig
from ar_net_jax.methods.lstm import LSTM, LSTMConfig
from ar_net_jax.methods.multi_agent import MultiAgent, MultiAgentConfig
from ar_net_jax.methods.multi_scale import MultiScale, MultiScaleConfig
from ar_net_jax.methods.ocsampler import OCSampler, OCSamplerConfig
from ar_net_jax.methods.random_policy import RandomPolicy, RandomPolicyConfig
from ar_net_jax.methods.scsampler import SCSampler, SCSamplerConfig
from ar_net_jax.methods.uni_adafocus import UniAdaFocus
from ar_net_jax.methods.uni_adafocus_module import UniAdaFocusConfig
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.policy import PolicyConfig

VIDEOS, FRAMES, CLASSES = 2, 3, 5
POLICY = PolicyConfig("resnet8_tiny", 16, hidden_size=8)
MANY = {
    "num_classes": CLASSES,
    "resolutions": (32, 24, 16),
    "backbones": ("resnet8_slim", "resnet8_tiny"),
    "policy": POLICY,
}
ONE = {"num_classes": CLASSES, "backbone": "resnet8_slim", "resolution": 32}
# The policy serves no resolution: it looks only.
LOOKS = MANY | {
    "backbones": ("resnet8_slim", "resnet8_tiny", "resnet8_tiny"),
    "policy": dataclasses.replace(POLICY, resolution=20, is_action=False),
}
HIDDEN = MANY | {"policy": dataclasses.replace(POLICY, lowest_head="hidden")}
GLANCE = ONE | {"crop": 16, "glance_backbone": "resnet8_tiny", "glance_resolution": 24}
ADAFOCUS = AdaFocusV2Config(**GLANCE, steps=2, policy_width=4, policy_hidden=8)
METHODS: dict[str, Method] = {
    "ar_net": ARNet(ARNetConfig(**MANY)),
    "ar_net, hidden": ARNet(ARNetConfig(**HIDDEN)),
    "ar_net, looks": ARNet(ARNetConfig(**LOOKS)),
    "uniform": Uniform(UniformConfig(**ONE)),
    "lstm": LSTM(LSTMConfig(**ONE, hidden_size=8)),
    "random_policy": RandomPolicy(RandomPolicyConfig(**MANY)),
    "multi_scale": MultiScale(MultiScaleConfig(**MANY)),
    "multi_scale, looks": MultiScale(MultiScaleConfig(**LOOKS)),
    "scsampler": SCSampler(
        SCSamplerConfig(**ONE, sampler_backbone="resnet8_tiny", sampler_resolution=16, frames=2)
    ),
    "frameexit": FrameExit(FrameExitConfig(**ONE, steps=4)),
    "frameexit, confidence": FrameExit(FrameExitConfig(**ONE, steps=4, exit="confidence")),
    "ocsampler": OCSampler(
        OCSamplerConfig(
            **ONE, skim_backbone="resnet8_tiny", skim_resolution=16, shift_div=4, frames=2
        )
    ),
    "liteeval": LiteEval(
        LiteEvalConfig(
            **ONE,
            coarse_backbone="resnet8_tiny",
            coarse_resolution=16,
            fine_width=6,
            coarse_width=5,
            fine_hidden=8,
            coarse_hidden=3,
        )
    ),
    "listentolook": ListenToLook(
        ListenToLookConfig(
            **ONE,
            preview_backbone="resnet8_tiny",
            preview_resolution=16,
            hidden_size=8,
            attention_width=6,
            frames=2,
        )
    ),
    "adaframe": AdaFrame(
        AdaFrameConfig(
            **ONE,
            memory_backbone="resnet8_tiny",
            memory_resolution=16,
            memory_frames=2,
            steps=3,
            hidden_size=6,
        )
    ),
    "multi_agent": MultiAgent(MultiAgentConfig(**ONE, agents=2, steps=2, hidden_size=6)),
    "adafocus_v2": AdaFocusV2(ADAFOCUS),
    "uni_adafocus": UniAdaFocus(
        UniAdaFocusConfig(**GLANCE, smallest=12, candidates=3, glances=2, focuses=2, draws=4)
    ),
    "adafocus_v2, exit": AdaFocusV2(dataclasses.replace(ADAFOCUS, exit=(0.9,))),
}
each = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def _prediction(method: Method) -> Prediction:
    """Shapes of what the module gives; nothing is computed."""
    size = method.image_size
    frames = jax.ShapeDtypeStruct((VIDEOS, FRAMES, size, size, 3), jnp.uint8)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), VIDEOS))

    def run(variables: Any, frames: jax.Array, keys: jax.Array) -> Prediction:
        return method.module().apply(variables, frames, Mode(keys=keys))

    return jax.eval_shape(run, method.variable_shapes(), frames, keys)


@functools.cache
def _stage_params(method: Method) -> dict[str, Any]:
    """Shapes of the parameters, with the temporary classifiers of a separate stage."""
    found: dict[str, Any] = {}
    _merge(found, method.variable_shapes()["params"])
    if method.separable:
        stage_class = type(method).Stage
        fields = {field.name for field in dataclasses.fields(stage_class)}
        widest = dict.fromkeys(fields & {"train_policy_features"}, True)
        stage = stage_class(objective="separate", **widest)
        init = functools.partial(method.initial_variables, stage=stage)
        _merge(found, jax.eval_shape(init, jax.random.key(0))["params"])
    return found


def _merge(into: dict[str, Any], tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = value


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    return functools.reduce(lambda found, name: found[name], path, tree)


def _size(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


# --- Networks, choices, parameters --------------------------------------------------------------


def test_every_shipped_method_is_looked_at() -> None:
    assert {type(method) for method in METHODS.values()} >= {
        methods.get(name) for name in methods.registry._SHIPPED
    }


@each
def test_a_prediction_names_networks_and_has_the_promised_shapes(method: Method) -> None:
    found, networks, count = _prediction(method), method.networks(), len(method.choices)
    assert found.logits.shape == (VIDEOS, CLASSES) and found.logits.dtype == jnp.float32
    assert set(found.calls) <= set(networks) and set(found.executed) <= set(networks)
    assert set(found.calls) == set(found.executed), "what may be called is what is counted"
    for calls in found.calls.values():
        assert (calls.shape, calls.dtype) == ((VIDEOS,), jnp.float32)
    for executed in found.executed.values():
        assert (executed.shape, executed.dtype) == ((), jnp.int32)
    if found.decisions is None:
        assert count == 1 and not method.traits.steerable
    else:
        assert found.decisions.one_hot.shape == (VIDEOS, FRAMES, count)
    if method.traits.steerable:
        assert found.decisions.logits.shape == (VIDEOS, FRAMES, count)
    roots = method.variable_shapes()["params"]
    assert set(found.network_logits) <= set(roots)
    assert all(x.shape == (VIDEOS, CLASSES) for x in found.network_logits.values())
    given = {"network_logits"} if found.network_logits else set()
    given |= {"decisions"} if method.traits.steerable else set()
    assert method.provides <= given | set(found.outputs)


@each
def test_choices_call_networks(method: Method) -> None:
    choices, networks = method.choices, method.networks()
    assert set(choices.calls) <= set(networks)
    assert set(choices.overhead) <= set(choices.calls)
    assert len(set(choices.names)) == len(choices) == len(method.choice_gflops())
    assert all(len(per) == len(choices) for per in choices.calls.values())
    assert len(choices.skip_lengths) in (0, len(choices))
    assert all(name in networks and networks[name].charged for name in choices.calls)
    without, whole = method.choice_gflops(overhead=False), method.choice_gflops()
    assert (without >= 0).all() and (whole >= without).all() and whole.max() > 0
    for choice in range(len(choices)):
        assert method.tell(choice)
        side = method.side_of(choice)
        assert (side == 0) == choices.leaves_out(choice)
        assert side in {0, *(network.resolution for network in networks.values())}


@each
def test_networks_are_where_they_say_and_hold_all_parameters(method: Method) -> None:
    params = method.variable_shapes()["params"]
    for name, network in method.networks().items():
        module = _at(params, network.path)
        owned = [child for child in network.children if child in module]
        kinds = (network.backbone, network.recurrence, network.macs)
        assert sum(map(bool, kinds)) == 1, name
        if network.children:
            assert owned, name
        if network.backbone:
            assert "backbone" in module and network.resolution <= method.image_size
    assert sum(method.parameter_counts().values()) == _size(params)


@each
def test_heads_are_the_linear_layers(method: Method) -> None:
    """Of every stage's parameters: a kernel with two axes and a bias, outside of a backbone."""
    params = _stage_params(method)
    linear = set()

    def walk(tree: Mapping[str, Any], path: tuple[str, ...]) -> None:
        if set(tree) == {"kernel", "bias"} and len(tree["kernel"].shape) in (2, 3):
            linear.add(path)
        for name, value in tree.items():
            if isinstance(value, Mapping) and name != "backbone":
                walk(value, (*path, name))

    walk(params, ())
    named = {path for path in method.head_names() if path[-1] in _at(params, path[:-1])}
    assert named == linear
    # A head is left out of the tree only where nothing would read it.
    assert {path[-1] for path in method.head_names() - linear} <= {"lowest_head", "warmup_head"}


@each
def test_modules_that_weights_are_given_for_stand_at_the_root(method: Method) -> None:
    networks = [network for network in method.networks().values() if network.backbone]
    modules = method.backbone_modules()
    assert list(modules.values()) == networks, "no two share a name"
    assert set(modules) <= set(method.variable_shapes()["params"])


@each
def test_its_own_stages_go_with_it(method: Method) -> None:
    stages = type(method).stages()
    Config(
        method=method.name, model=method.config, stage_order=tuple(stages), stages=stages
    )  # Validates.
    for stage in stages.values():
        usual = method.usual_losses(stage.objective)
        alike = [other for other in stages.values() if other.objective == stage.objective]
        assert any(other.losses == usual for other in alike)
        parts = method.separate_parts(stage)
        assert bool(parts) == (stage.objective == "separate")
        params = _stage_params(method)
        assert set(parts) <= set(params)
        paths = [tuple(k.key for k in path) for path, _ in jax.tree.leaves_with_path(params)]
        trained = {method.part_of(stage, path) for path in paths} - {FROZEN}
        assert trained == (set(parts) or {MODEL})


# --- The registry -------------------------------------------------------------------------------


class _Config(ModelConfig):
    """A method's fields: none of its own."""


class _Mine(Method[ModelConfig]):
    """A user's method."""

    name, title, Config = "mine", "Mine", _Config

    def module(self) -> nn.Module:
        """Nothing that runs."""
        return nn.Module()

    def networks(self) -> dict[str, Network]:
        """One."""
        return {"32px": Network(("backbone_0",), backbone="resnet8_tiny", resolution=32)}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The registry, which forgets what the test registers."""
    monkeypatch.setattr(methods.registry, "_METHODS", dict(methods.registry._METHODS))
    return methods.registry


def test_only_uniform_is_what_others_are_held_against() -> None:
    roles = {name: role_of(method) for name, method in METHODS.items()}
    others = {name for name, role in roles.items() if role != "adaptive"}
    assert others == {"uniform", "lstm", "random_policy", "multi_scale", "multi_scale, looks"}
    assert [name for name, role in roles.items() if role == "reference"] == ["uniform"]


def test_an_unknown_method_is_named_with_a_near_one_and_all_known() -> None:
    with pytest.raises(UserError) as error:
        Config.from_dict({"method": "arnet"})
    message = str(error.value)
    assert message.startswith("config.method: no method 'arnet'; did you mean 'ar_net'? known: ")
    assert all(name in message for name in methods.names())
    assert "--method=FILE.py" in message and "\n" not in message


def test_a_registered_method_is_had_by_name_and_may_be_replaced(
    registry: types.ModuleType,
) -> None:
    assert registry.register(_Mine) is _Mine
    assert registry.get("mine") is _Mine and "mine" in registry.names()
    built = registry.build("mine", _Config(num_classes=7))
    assert isinstance(built, _Mine) and built.config.num_classes == 7
    config = Config.from_dict({"method": "mine", "stages": {"a": {}}, "stage_order": ("a",)})
    assert type(config.model) is _Config
    assert config.stages["a"].losses == {"accuracy": Accuracy()}
    again = type("Again", (_Mine,), {})
    registry.register(again)
    assert registry.get("mine") is again


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "ar_net"}, "a method named 'ar_net' ships with ar_net_jax"),
        ({"Config": dict}, "Config must derive from ar_net_jax.methods.ModelConfig"),
    ],
)
def test_a_shipped_name_or_a_foreign_config_is_refused(
    registry: types.ModuleType, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        registry.register(type("Mine", (_Mine,), fields))
    assert registry.get("ar_net") is ARNet


def test_what_is_no_method_is_refused(registry: types.ModuleType) -> None:
    with pytest.raises(UserError, match="Mine is no method: it lacks Method"):
        registry.register(type("Mine", (), {"name": "x", "title": "X", "Config": ModelConfig}))
    nameless = type("Nameless", (Method,), {})
    with pytest.raises(UserError, match="Nameless is no method: it lacks name, title, Config"):
        registry.register(nameless)


def test_a_shipped_method_may_be_registered_again(registry: types.ModuleType) -> None:
    assert registry.register(ARNet) is ARNet


def test_an_installed_packages_method_is_found_by_its_entry_point(
    registry: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("a_package_of_methods")
    module.Mine = _Mine
    monkeypatch.setitem(sys.modules, module.__name__, module)
    point = metadata.EntryPoint("mine", f"{module.__name__}:Mine", registry.ENTRY_POINTS)

    def entry_points(group: str) -> tuple[metadata.EntryPoint, ...]:
        return (point,) if group == registry.ENTRY_POINTS else ()

    monkeypatch.setattr(registry.metadata, "entry_points", entry_points)
    assert "mine" in registry.names()
    assert registry.get("mine") is _Mine


def test_defaults_fit_a_method_that_treats_every_frame_alike() -> None:
    method = _Mine(_Config())
    assert method.choices.names == ("32px",)
    assert method.choices.calls == {"32px": (1.0,)}
    np.testing.assert_array_equal(
        method.choice_gflops(), [method.networks()["32px"].gflops("macs")]
    )
    assert method.penalty_offset(3.0) is None
    (stage,) = _Mine.stages().values()
    assert method.separate_parts(stage) == ()
    assert method.part_of(stage, ("backbone_0", "conv1", "kernel")) == MODEL
    with pytest.raises(UserError, match="'mine' does not take a video frame by frame"):
        method.stream({})
