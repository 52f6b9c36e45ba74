"""The ImageNet weights that a config names, as variables of its model."""

from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.modules.multi_backbone import POLICY, backbone_name
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.imagenet import detect_layout, import_backbone, trained_with
from ar_net_jax.weights.sources import locate


class _Wanted(NamedTuple):
    """One backbone to be imported: config field, source, its part of the model, architecture."""

    field: str
    source: str
    part: str
    backbone: str


def pretrained_variables(config: Config) -> dict[str, Any] | None:
    """Imports what `config.pretrained` names; nothing of it is the model's whole.

    Args:
        config: of the run.

    Returns:
        `{"params": ..., "batch_stats": ...}` with the named backbones alone, float32 host arrays;
        None where none is named.

    Raises:
        UserError: a file is missing, is damaged, holds another architecture, or was trained with
            other settings than `config.model` has; names field and remedy.
    """
    variables: dict[tuple[str, ...], Any] = {}
    for wanted in _wanted(config):
        try:
            imported = _import(wanted, config)
        except UserError as error:
            raise UserError(f"config.{wanted.field}: {error}") from None
        for (collection, *path), array in flatten_dict(imported).items():
            variables[collection, wanted.part, "backbone", *path] = array
    return unflatten_dict(variables) or None


def _wanted(config: Config) -> list[_Wanted]:
    model, pretrained = config.model, config.pretrained
    wanted = [
        _Wanted(f"pretrained.backbones[{i}]", source, backbone_name(i), model.backbones[i])
        for i, source in enumerate(pretrained.backbones)
    ]
    wanted.append(_Wanted("pretrained.policy", pretrained.policy, POLICY, model.policy.backbone))
    return [each for each in wanted if each.source]


def _import(wanted: _Wanted, config: Config) -> dict[str, Any]:
    weights = locate(wanted.source, config.pretrained.folder)
    state = read_state(weights.path)
    layout = detect_layout(wanted.backbone, state)
    trained = trained_with(wanted.backbone, layout, weights)
    if trained is not None:
        _check_setting(config.model, "padding", trained.paddings)
        _check_setting(config.model, "norm", (trained.norm,))
    return import_backbone(wanted.backbone, state, layout)


def _check_setting(model: ModelConfig, field: str, fitting: tuple[str, ...]) -> None:
    value = getattr(model, field)
    if value not in fitting:
        raise UserError(
            f"these weights were trained with another {field} than config.model.{field}="
            f"{value!r}; set --config.model.{field}={fitting[0]}, or choose other weights"
        )
