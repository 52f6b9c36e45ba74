"""Reads configs of version 1, in which one group of fields served all methods.

Runs, models and files that were made before methods had fields of their own go on by this.
"""

from collections.abc import Mapping
from typing import Any

from ar_net_jax.methods.ar_net import ARNet
from ar_net_jax.methods.lstm import LSTM
from ar_net_jax.methods.multi_scale import MultiScale
from ar_net_jax.methods.random_policy import RandomPolicy
from ar_net_jax.methods.uniform import Uniform

Plain = dict[str, Any]

_APPROACHES = {cls.name: cls for cls in (ARNet, Uniform, LSTM, RandomPolicy, MultiScale)}
_SINGLE = (Uniform.name, LSTM.name)
# Defaults that version 1 had where a config left them out.
_BACKBONES = ("resnet50", "resnet34", "resnet18")
_RESOLUTIONS = (224, 168, 112, 84)
_LOSS = {
    "classification": "cross_entropy",
    "accuracy_weight": 0.9,
    "efficiency_weight": 0.1,
    "uniform_weight": 0.3,
    "uniform_norm": "squared",
}


def upgrade(values: Mapping[str, Any]) -> Plain:
    """A config of this version from one of any version, as plain nested dictionaries.

    Args:
        values: as they were saved or given; only version 1 has `model.approach`, or one `loss`
            for all stages.
    """
    given = _plain(values)
    model = given.get("model", {})
    of_version_1 = isinstance(model, Mapping) and ("approach" in model or "loss" in given)
    if "version" in given or "method" in given or not of_version_1:
        return given
    approach = model.get("approach", ARNet.name)
    if approach not in _APPROACHES:
        return {**given, "method": approach}
    loss = {**_LOSS, **given.pop("loss", {})}
    given["method"] = approach
    given["pretrained"] = _pretrained(given.get("pretrained", {}), approach)
    given["stages"] = {
        name: _stage(stage, loss, approach) for name, stage in given.get("stages", {}).items()
    }
    given["model"] = _model(model, approach)
    return given


def _plain(values: Any) -> Any:
    """Mappings of any kind as dictionaries, all the way down."""
    if hasattr(values, "keys") and hasattr(values, "__getitem__"):
        return {key: _plain(values[key]) for key in values}
    return values


def _model(old: Plain, approach: str) -> Plain:
    model = {key: value for key, value in old.items() if key != "approach"}
    if approach not in _SINGLE:
        return model
    policy = model.pop("policy", {})
    model.pop("skips", None)
    model["backbone"] = model.pop("backbones", _BACKBONES)[0]
    model["resolution"] = model.pop("resolutions", _RESOLUTIONS)[0]
    if approach == LSTM.name:
        for ours, theirs in (("hidden_size", "hidden_size"), ("feature_dropout", "dropout")):
            if theirs in policy:
                model[ours] = policy[theirs]
    return model


def _stage(old: Plain, loss: Plain, approach: str) -> Plain:
    known = _APPROACHES[approach].Stage.__dataclass_fields__
    stage = {key: value for key, value in old.items() if key in known}
    separate = {"target": loss["classification"]}
    if old.get("objective", "joint") == "separate":
        return {**stage, "losses": {"separate": separate}}
    losses: Plain = {"accuracy": {"weight": 1.0, "target": loss["classification"]}}
    if approach == ARNet.name:
        losses["accuracy"]["weight"] = loss["accuracy_weight"]
        losses["efficiency"] = {"weight": loss["efficiency_weight"]}
        losses["uniform"] = {"weight": loss["uniform_weight"], "norm": loss["uniform_norm"]}
    if old.get("separate_weight", 0.0):
        losses["separate"] = {**separate, "weight": old["separate_weight"]}
    return {**stage, "losses": losses}


def _pretrained(old: Plain, approach: str) -> Plain:
    weights = {f"backbone_{i}": source for i, source in enumerate(old.get("backbones", ()))}
    if approach not in _SINGLE:
        weights["policy"] = old.get("policy", "")
    used = {name: source for name, source in weights.items() if source}
    return {"weights": used, "folder": old.get("folder", "")}
