"""What every recipe is made of: complete configs, their stages, their method, their variants."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ml_collections import ConfigDict

from ar_net_jax import methods
from ar_net_jax.config.schema import build, to_plain
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import complete, with_tuples
from ar_net_jax.methods import Method, StageConfig
from ar_net_jax.methods.uniform import uniform_of

Variant = Callable[[ConfigDict], None]


def base_config(data: str, num_classes: int = 0, method: str = "ar_net") -> ConfigDict:
    """A method trained on a data set in its usual stages; AR-Net with ResNets as in Section 4.1.

    Args:
        data: the data set's registered name.
        num_classes: its number of classes; 0 takes it from the data.
        method: the method's name.

    Returns:
        A config with every field, to be changed further.
    """
    config = complete({"method": method})
    config.model.update(num_classes=num_classes, dtype="bfloat16", gflops_convention="paper")
    config.data.update(name=data, num_threads=16)
    config.checkpoint_every_steps = 500
    set_stages(config, methods.get(method).stages())
    return config


def set_stages(config: ConfigDict, stages: Mapping[str, StageConfig]) -> None:
    """Gives a config these stages, in their order."""
    config.stage_order = tuple(stages)
    config.stages = ConfigDict({name: stage_fields(stage) for name, stage in stages.items()})


def stage_fields(stage: StageConfig) -> dict[str, Any]:
    """A stage's fields, complete, so that each can be overridden on the command line."""
    return with_tuples(to_plain(stage))


def set_method(config: ConfigDict, method: str, **model: Any) -> None:
    """Changes a config's method; fields that both methods have keep their values.

    Args:
        config: to be changed.
        method: name of the new one.
        **model: values of fields of its model.
    """
    cls = methods.get(method)
    old = config.model.to_dict()
    shared = {f.name: old[f.name] for f in fields(cls.Config) if f.name in old}
    completed = complete({"method": method, "model": {**shared, **model}})
    config.method = method
    config.model = completed.model
    config.pretrained = completed.pretrained


def apply_variants(config: ConfigDict, names: str, variants: Mapping[str, Variant]) -> ConfigDict:
    """Applies comma-separated variants in order.

    Raises:
        UserError: an unknown variant; names those there are.
    """
    for name in filter(None, (n.strip() for n in names.split(","))):
        if name not in variants:
            raise UserError(f"no variant '{name}'; this config has: {', '.join(variants)}")
        variants[name](config)
    return config


def method_of(config: ConfigDict) -> Method[Any]:
    """The method under a config that may still change."""
    return methods.build(
        config.method, build(methods.get(config.method).Config, config.model, "model")
    )


def highest(config: ConfigDict) -> dict[str, Any]:
    """Backbone and resolution of the Uniform beside a config's model."""
    reference = uniform_of(method_of(config)).config
    return {"backbone": reference.backbone, "resolution": reference.resolution}
