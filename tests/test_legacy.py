"""Configs of version 1 are read as what they meant: the same as today's shipped variants."""

import copy
import json
from typing import Any

import ml_collections
import pytest

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import VERSION, Config, load_config
from ar_net_jax.losses import Accuracy, Efficiency, Separate, Uniform
from ar_net_jax.methods.legacy import upgrade

SAME_IN_ALL_STAGES = {
    "schedule": "step",
    "decay_factor": 0.1,
    "warmup_epochs": 0.0,
    "tau_decay": -0.045,
    "train_policy_features": False,
    "decisions": "sample",
    "separate_weight": 0.0,
    "routing": "masked",
    "routed_chunk": 16,
    "select": "best",
}
LATE = {"objective": "joint", "epochs": 50, "decay_epochs": [50, 100]}
MODEL = {
    "num_classes": 200,
    "resolutions": [224, 168, 112, 84],
    "backbones": ["resnet50", "resnet34", "resnet18"],
    "skips": [1, 2, 4],
    "policy": {
        "backbone": "mobilenet_v2",
        "resolution": 84,
        "is_action": True,
        "hidden_size": 512,
        "dropout": 0.5,
        "cell_state": "frozen",
        "lowest_head": "features",
    },
    "dropout": 0.5,
    "resize": "nearest",
    "dtype": "bfloat16",
    "padding": "same",
    "norm": "tensorflow",
    "remat": False,
    "gflops_convention": "paper",
}
DATA = {
    "name": "activitynet",
    "source_dir": "",
    "data_dir": "",
    "num_frames": 16,
    "batch_size": 48,
    "eval_batch_size": 48,
    "flip": True,
    "multi_scale": True,
    "num_threads": 16,
    "num_workers": 0,
    "frame_rate": 0.0,
    "max_bad_share": 0.05,
}
LOSS = {
    "classification": "cross_entropy",
    "accuracy_weight": 0.9,
    "efficiency_weight": 0.1,
    "uniform_weight": 0.3,
    "uniform_norm": "squared",
}
OPTIMIZER = {
    "momentum": 0.9,
    "weight_decay": 0.0001,
    "clip_norm": 20.0,
    "head_multiplier": 5.0,
    "bias_multiplier": 2.0,
    "micro_batches": 1,
    "shard_state": False,
}


def _activitynet(approach: str, **model: Any) -> dict[str, Any]:
    """What `config.json` of a run with `--config=activitynet:...` held in version 1."""
    baseline = approach != "ar_net"
    finetune = {
        "learning_rate": 0.0005,
        "tau_start": 0.0,
        "freeze_policy": "none" if baseline else "all",
    }
    stages = {
        "warmup": {
            "objective": "separate",
            "epochs": 10,
            "learning_rate": 0.02,
            "decay_epochs": [20, 40],
            "tau_start": 5.0,
            "freeze_policy": "none",
        },
        "joint": LATE | {"learning_rate": 0.001, "tau_start": 5.0, "freeze_policy": "none"},
        "finetune": LATE | finetune,
    }
    if approach == "lstm":
        stages["warmup"]["objective"] = "joint"
    return {
        "seed": 0,
        "init_from": "",
        "pretrained": {"backbones": [], "policy": "", "folder": ""},
        "model": {"approach": approach} | MODEL | model,
        "data": DATA,
        "loss": LOSS,
        "optimizer": OPTIMIZER,
        "stage_order": ["warmup", "joint", "finetune"],
        "stages": {name: SAME_IN_ALL_STAGES | stage for name, stage in stages.items()},
        "log_every": 20,
        "evaluate_every": 1,
        "checkpoint_every": 1,
        "checkpoint_every_steps": 500,
    }


ONE = {"resolutions": [224], "backbones": ["resnet50"], "skips": []}
VERSION_1 = {
    "": _activitynet("ar_net"),
    "uniform": _activitynet("uniform", **ONE),
    "lstm": _activitynet("lstm", **ONE),
    "random_policy": _activitynet("random_policy"),
    "multi_scale": _activitynet("multi_scale", skips=[]),
}


def test_a_config_of_a_later_version_is_refused() -> None:
    later = load_config("demo").to_dict() | {"version": VERSION + 1}
    with pytest.raises(UserError, match=f"config.version: {VERSION + 1} is not known here"):
        Config.from_dict(later)


@pytest.mark.parametrize("variant", VERSION_1)
def test_a_run_of_version_1_is_todays_variant(variant: str) -> None:
    """All of it, so that a run goes on where it stopped."""
    before = copy.deepcopy(VERSION_1[variant])
    config = Config.from_dict(json.loads(json.dumps(before)))
    assert config == load_config(f"activitynet:{variant}".rstrip(":"))
    assert Config.from_dict(config.to_dict()) == config
    assert config.to_dict()["version"] == VERSION == 2
    assert Config.from_dict(ml_collections.ConfigDict(before)) == config
    assert before == VERSION_1[variant], "what was given is left alone"


def _changed(variant: str, **fields: Any) -> Config:
    """A config of version 1 with fields replaced, `a__b=1` meaning `a.b = 1`."""
    values = copy.deepcopy(VERSION_1[variant])
    for path, value in fields.items():
        *groups, last = path.split("__")
        place = values
        for group in groups:
            place = place[group]
        place[last] = value
    return Config.from_dict(values)


def test_weights_of_the_loss_go_into_every_joint_stage() -> None:
    config = _changed(
        "",
        loss__classification="binary_cross_entropy",
        loss__accuracy_weight=0.95,
        loss__efficiency_weight=0.05,
        loss__uniform_weight=0.15,
        loss__uniform_norm="euclidean",
        stages__joint__separate_weight=0.5,
    )
    target = "binary_cross_entropy"
    late = {
        "accuracy": Accuracy(0.95, target),
        "efficiency": Efficiency(0.05),
        "uniform": Uniform(0.15, "euclidean"),
    }
    assert config.stages["warmup"].losses == {"separate": Separate(target=target)}
    assert config.stages["joint"].losses == late | {"separate": Separate(0.5, target)}
    assert config.stages["finetune"].losses == late


@pytest.mark.parametrize("variant", ["uniform", "lstm", "random_policy", "multi_scale"])
def test_a_baseline_minimised_its_accuracy_alone_whatever_the_weights(variant: str) -> None:
    config = _changed(variant, loss__accuracy_weight=0.3, loss__uniform_weight=7.0)
    assert config.stages["joint"].losses == {"accuracy": Accuracy(1.0)}


def test_an_lstm_took_its_size_and_dropout_from_the_policy() -> None:
    model = _changed("lstm", model__policy__hidden_size=64, model__policy__dropout=0.1).model
    assert (model.hidden_size, model.feature_dropout) == (64, 0.1)


def test_sources_of_weights_are_named_by_module() -> None:
    sources = ["a/x", "", "c/z"]
    config = _changed("", pretrained={"backbones": sources, "policy": "d/p", "folder": "here"})
    weights = {"backbone_0": "a/x", "backbone_2": "c/z", "policy": "d/p"}
    assert (config.pretrained.weights, config.pretrained.folder) == (weights, "here")
    alone = _changed("uniform", pretrained={"backbones": ["a/x"], "policy": "", "folder": ""})
    assert alone.pretrained.weights == {"backbone_0": "a/x"}


def test_what_a_config_leaves_out_has_the_defaults_of_version_1() -> None:
    config = Config.from_dict({"model": {"approach": "uniform", "resolutions": (112,)}})
    assert (config.method, config.model.backbone, config.model.resolution) == (
        "uniform",
        "resnet50",
        112,
    )
    # A loss for all stages tells version 1 where the approach is left out.
    stages = {"joint": {"epochs": 3}}
    config = Config.from_dict({"loss": {"uniform_weight": 2.0}, "stages": stages})
    assert config.method == "ar_net"
    assert config.stages["joint"].losses == {
        "accuracy": Accuracy(0.9),
        "efficiency": Efficiency(0.1),
        "uniform": Uniform(2.0),
    }


def test_todays_configs_are_left_as_they_are() -> None:
    values = load_config("demo").to_dict()
    assert upgrade(values) == values
    assert upgrade({"method": "uniform", "model": {"resolution": 32}}) == {
        "method": "uniform",
        "model": {"resolution": 32},
    }


def test_an_approach_that_never_was_is_named() -> None:
    with pytest.raises(UserError, match="config.method: no method 'arnet'; did you mean 'ar_net'"):
        Config.from_dict({"model": {"approach": "arnet"}})
