"""Validation of configs: each fault is one UserError that names the field by its full path."""

import dataclasses
import json
import pathlib
import re
from typing import Any

import ml_collections
import pytest

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, apply_overrides, load_config

JOINT = {"objective": "joint"}
LSTM = {"resolution": 16, "backbone": "resnet8_tiny"}


def _values(**fields: Any) -> dict[str, Any]:
    """A small valid config with some fields replaced, `a__b=1` meaning `a.b = 1`."""
    values: dict[str, Any] = {
        "model": {
            "num_classes": 4,
            "resolutions": (32, 24, 16),
            "backbones": ("resnet8_slim", "resnet8_tiny"),
            "skips": (1, 2),
            "policy": {"backbone": "resnet8_tiny", "resolution": 16},
        },
        "stage_order": ("joint",),
        "stages": {"joint": dict(JOINT)},
    }
    for path, value in fields.items():
        *groups, last = path.split("__")
        place = values
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return values


FAULTS = {
    "misspelt field": (
        {"model__policy__hiden_size": 8},
        "config.model.policy.hiden_size: unknown field; did you mean 'hidden_size'?",
    ),
    "unknown field": ({"zzz": 1}, "config.zzz: unknown field; known: method, seed"),
    "misspelt stage field": (
        {"stages__joint__epoch": 3},
        "config.stages.joint.epoch: unknown field; did you mean 'epochs'?",
    ),
    "resolutions ascending": (
        {"model__resolutions": (24, 32, 16)},
        "config.model.resolutions: must be strictly descending",
    ),
    "resolutions equal": (
        {"model__resolutions": (32, 32, 16)},
        "config.model.resolutions: must be strictly descending",
    ),
    "no resolution": ({"model__resolutions": ()}, "config.model.resolutions: needs at least one"),
    "resolution of 0": (
        {"model__resolutions": (32, 24, 0)},
        "config.model.resolutions: must be at least 1 pixel",
    ),
    "skip of 0": ({"model__skips": (0, 2)}, "config.model.skips: must be at least 1 frame"),
    "skips descending": (
        {"model__skips": (2, 1)},
        "config.model.skips: must be strictly ascending",
    ),
    "unknown backbone": (
        {"model__backbones": ("resnet8_slim", "resnet51")},
        "config.model.backbones[1]: unknown backbone 'resnet51': did you mean",
    ),
    "unknown policy backbone": (
        {"model__policy__backbone": "mobilenet"},
        "config.model.policy.backbone: unknown backbone 'mobilenet'",
    ),
    "too many backbones": (
        {"model__backbones": ("resnet8_tiny",) * 3},
        "config.model.backbones: 3 given, but 3 resolutions need 2 (the policy network serves",
    ),
    "too few backbones": (
        {"model__policy__is_action": False},
        "config.model.backbones: 2 given, but 3 resolutions need 3",
    ),
    "policy resolution": (
        {"model__policy__resolution": 20},
        "config.model.policy.resolution: is 20, but with is_action=True it must equal",
    ),
    "uniform with skips": (
        {"method": "uniform"},
        "config.model.resolutions: unknown field; did you mean 'resolution'?",
    ),
    "multi-scale with skips": ({"method": "multi_scale"}, "config.model.skips: "),
    "string for int": ({"data__batch_size": "8"}, "config.data.batch_size: must be int, got '8'"),
    "bool for int": ({"seed": True}, "config.seed: must be int, got True"),
    "float for int": (
        {"stages__joint__epochs": 1.5},
        "config.stages.joint.epochs: must be int, got 1.5",
    ),
    "wrong element": (
        {"model__skips": (1, "2")},
        "config.model.skips[1]: must be int, got '2'",
    ),
    "number for tuple": ({"model__skips": 2}, "config.model.skips: must be a tuple, got 2"),
    "number for group": ({"model__policy": 3}, "config.model.policy: must be a group of fields"),
    "not a choice": (
        {"stages__joint__losses": {"uniform": {"norm": "cubed"}}},
        "config.stages.joint.losses.uniform.norm: must be one of 'squared', 'euclidean', got 'cub",
    ),
    "no method": ({"method": "arnet"}, "config.method: no method 'arnet'; did you mean 'ar_net'?"),
    "no loss": (
        {"stages__joint__losses": {"acuracy": {}}},
        "config.stages.joint.losses.acuracy: no loss 'acuracy'; known: accuracy, efficiency",
    ),
    "nothing to minimise": (
        {"stages__joint__losses": {"accuracy": {"weight": 0.0}}},
        "config.stages.joint.losses: no loss has a weight above 0",
    ),
    "a separate stage with other losses": (
        {"stages__joint": {"objective": "separate", "losses": {"accuracy": {}}}},
        "config.stages.joint.losses: a separate stage has the one loss 'separate', got accuracy",
    ),
    "a loss that the method gives nothing for": (
        {"stages__joint__losses": {"reinforce": {}}},
        "config.stages.joint.losses.reinforce: needs log_probability, reward, baseline, which",
    ),
    "dropout of 1": ({"model__dropout": 1.0}, "config.model.dropout: must lie in [0, 1)"),
    "negative weight": (
        {"stages__joint__losses": {"uniform": {"weight": -0.1}}},
        "config.stages.joint.losses.uniform.weight: must not be negative",
    ),
    "clip of 0": ({"optimizer__clip_norm": 0.0}, "config.optimizer.clip_norm: must be positive"),
    "negative seed": ({"seed": -1}, "config.seed: must not be negative"),
    "no frames": ({"data__num_frames": 0}, "config.data.num_frames: must be at least 1"),
    "bad share": ({"data__max_bad_share": 5}, "config.data.max_bad_share: must lie in [0, 1]"),
    "no epochs": ({"stages__joint__epochs": 0}, "config.stages.joint.epochs: must be at least 1"),
    "learning rate of 0": (
        {"stages__joint__learning_rate": 0.0},
        "config.stages.joint.learning_rate: must be positive",
    ),
    "learned argmax": (
        {"stages__joint__decisions": "argmax"},
        "config.stages.joint.decisions: argmax gives the policy no gradient",
    ),
    "unknown stage": (
        {"stage_order": ("joint", "finetune")},
        "config.stage_order: no stage named 'finetune' (known: joint)",
    ),
    "stage twice": (
        {"stage_order": ("joint", "joint")},
        "config.stage_order: names the stage 'joint' twice",
    ),
    "no temperature to take over": (
        {"stages__joint__tau_start": 0.0},
        "config.stages.joint.tau_start: 0 takes over the temperature of the stage before",
    ),
    "temperature of a separate stage": (
        {
            "stages": {"warmup": {"objective": "separate"}, "joint": {**JOINT, "tau_start": 0}},
            "stage_order": ("warmup", "joint"),
        },
        "config.stages.joint.tau_start: 0 takes over the temperature of the stage before",
    ),
    "a temperature that falls to nothing": (
        {"stages__joint": {"objective": "joint", "tau_decay": -1.0, "epochs": 100}},
        "config.stages.joint.tau_decay: the temperature gets to 5.1e-43 within 100 epochs",
    ),
    "a temperature below what a double holds": (
        {"stages__joint": {"objective": "joint", "tau_decay": -1e9, "epochs": 3}},
        "config.stages.joint.tau_decay: the temperature gets to",
    ),
    "a temperature that grows past float32": (
        {"stages__joint": {"objective": "joint", "tau_decay": 1.0, "epochs": 100}},
        "config.stages.joint.tau_decay: the temperature gets to 4.9e+43 within 100 epochs",
    ),
    "a temperature of nearly nothing": (
        {"stages__joint": {"objective": "joint", "tau_start": 1e-31, "tau_decay": 0.0}},
        "config.stages.joint.tau_start: the temperature gets to 1e-31",
    ),
    "no number for a temperature": (
        {"stages__joint__tau_start": float("nan")},
        "config.stages.joint.tau_start: must be a number and not negative",
    ),
    "a temperature that falls on after it was taken over": (
        {
            "stages": {
                "joint": {**JOINT, "tau_decay": -0.8},
                "finetune": {**JOINT, "tau_start": 0.0, "tau_decay": -0.8},
            },
            "stage_order": ("joint", "finetune"),
        },
        "config.stages.finetune.tau_decay: the temperature gets to 4.5e-34 within 50 epochs",
    ),
    "nothing to train separately": (
        {"method": "lstm", "model": LSTM, "stages__joint__objective": "separate"},
        "config.stages.joint.objective: method 'lstm' is one network",
    ),
    "own losses of one network": (
        {"method": "lstm", "model": LSTM, "stages__joint__losses": {"separate": {}}},
        "config.stages.joint.losses.separate: needs network_logits, which method 'lstm' does not",
    ),
    "own losses where few frames are computed": (
        {
            "stages__joint": {
                "routing": "routed",
                "freeze_policy": "all",
                "losses": {"accuracy": {}, "separate": {}},
            }
        },
        "config.stages.joint.losses.separate: needs every network's prediction on every frame",
    ),
}


@pytest.mark.parametrize("fields, message", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_by_its_full_path(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Config.from_dict(_values(**fields))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_the_faultless_config_is_accepted() -> None:
    config = Config.from_dict(_values())
    method = config.build_method()
    assert method.choices.names == ("32px", "24px", "16px", "skip 1", "skip 2")
    assert method.image_size == 32
    assert config.stages["joint"].tau_start == 5.0


def test_every_default_is_the_papers_and_valid() -> None:
    config = Config.from_dict({"stages": {"joint": {}}, "stage_order": ("joint",)})
    assert config.method == "ar_net"
    assert config.model.resolutions == (224, 168, 112, 84)
    losses = config.stages["joint"].losses
    weights = {name: loss.weight for name, loss in losses.items()}
    assert weights == {"accuracy": 0.9, "efficiency": 0.1, "uniform": 0.3}
    assert losses["uniform"].norm == "squared"


@pytest.mark.parametrize(
    "fields, size",
    [
        ({"model__skips": ()}, 32),
        (
            {
                "model__resolutions": (32,),
                "model__backbones": ("resnet8_tiny",),
                "model__policy__is_action": False,
            },
            32,
        ),
        ({"model__resolutions": (16,), "model__backbones": (), "model__skips": (3,)}, 16),
        ({"method": "random_policy"}, 32),
    ],
    ids=["resolution only", "skipping only", "policy serves the only resolution", "random"],
)
def test_action_spaces_that_are_allowed(fields: dict[str, Any], size: int) -> None:
    assert Config.from_dict(_values(**fields)).build_method().image_size == size


def test_a_policy_that_sees_more_than_the_resolutions_sets_the_image_size() -> None:
    fields = {
        "model__resolutions": (16,),
        "model__backbones": ("resnet8_tiny",),
        "model__policy": {"backbone": "resnet8_tiny", "resolution": 24, "is_action": False},
    }
    assert Config.from_dict(_values(**fields)).build_method().image_size == 24


def test_survives_json_and_ml_collections() -> None:
    values = _values(
        stages__joint__learning_rate=1, stages__joint__decay_epochs=(3, 5), init_from="somewhere"
    )
    config = Config.from_dict(values)
    assert config.stages["joint"].learning_rate == 1.0
    assert isinstance(config.stages["joint"].learning_rate, float), "an int stands for a float"
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Config.from_dict(ml_collections.ConfigDict(values)) == config
    assert Config.from_dict(ml_collections.FrozenConfigDict(values)) == config


def test_is_frozen_and_the_model_can_be_a_static_argument() -> None:
    config = Config.from_dict(_values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1
    assert hash(config.model) == hash(Config.from_dict(_values()).model)


def test_overrides_are_those_given_not_the_process_own(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "small.py"
    file.write_text(
        "import ml_collections\n\n\ndef get_config(variant=''):\n"
        f"    values = ml_collections.ConfigDict({_values()!r})\n"
        "    values.seed = len(variant)\n    return values\n"
    )
    overrides = ["--config.model.skips=(1, 3)", "--config.model.num_classes=7"]
    config = load_config(f"{file}:abc", overrides)
    assert (config.seed, config.model.skips, config.model.num_classes) == (3, (1, 3), 7)
    changed = apply_overrides(config, ["--config.model.skips=()"])
    model = dataclasses.replace(config.model, skips=())
    assert changed == dataclasses.replace(config, model=model)
    for bad, message in {
        "--config.model.num_clases=7": "num_clases",
        "--config.model.num_classes=many": "num_classes",
        "--config.model.skips=(0, 1)": "config.model.skips: must be at least 1",
        "--confg.seed=1": "confg",
    }.items():
        for load in (
            lambda o: load_config(str(file), o),
            lambda o: apply_overrides(config, o),
        ):
            with pytest.raises(UserError, match=re.escape(message)) as error:
                load([bad])
            assert "\n" not in str(error.value)
