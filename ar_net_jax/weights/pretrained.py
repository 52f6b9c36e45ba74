"""The ImageNet weights that a config names, as variables of its model."""

from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.imagenet import detect_layout, import_backbone, trained_with
from ar_net_jax.weights.sources import locate


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
    sources = config.pretrained.weights
    for module, network in config.build_method().backbone_modules().items():
        source = sources.get(module, "")
        if not source:
            continue
        try:
            imported = _import(network.backbone, source, config)
        except UserError as error:
            raise UserError(f"config.pretrained.weights.{module}: {error}") from None
        for (collection, *path), array in flatten_dict(imported).items():
            variables[collection, *network.path, "backbone", *path] = array
    return unflatten_dict(variables) or None


def _import(backbone: str, source: str, config: Config) -> dict[str, Any]:
    weights = locate(source, config.pretrained.folder)
    state = read_state(weights.path)
    layout = detect_layout(backbone, state)
    trained = trained_with(backbone, layout, weights)
    if trained is not None:
        _check_setting(config.model, "padding", trained.paddings)
        _check_setting(config.model, "norm", (trained.norm,))
    return import_backbone(backbone, state, layout)


def _check_setting(model: ModelConfig, field: str, fitting: tuple[str, ...]) -> None:
    value = getattr(model, field)
    if value not in fitting:
        raise UserError(
            f"these weights were trained with another {field} than config.model.{field}="
            f"{value!r}; set --config.model.{field}={fitting[0]}, or choose other weights"
        )
