"""The cost table of a configured model."""

from ar_net_jax.config.config import Convention, ModelConfig
from ar_net_jax.costs.tables import (
    CostTable,
    ar_net_cost_table,
    lstm_cost_table,
    multi_scale_cost_table,
    uniform_cost_table,
)


def model_cost_table(model: ModelConfig, convention: Convention | None = None) -> CostTable:
    """What each action of a model costs.

    Args:
        model: the model's config.
        convention: `macs` or `paper`; the model's own by default.
    """
    convention = convention or model.gflops_convention
    shared = {
        "num_classes": model.num_classes,
        "convention": convention,
        "padding": model.padding,
    }
    policy = model.policy
    if model.approach == "uniform":
        return uniform_cost_table(model.backbones[0], model.resolutions[0], **shared)
    if model.approach == "lstm":
        return lstm_cost_table(
            model.backbones[0], model.resolutions[0], policy.hidden_size, **shared
        )
    if model.approach == "multi_scale":
        return multi_scale_cost_table(
            model.resolutions,
            model.backbones,
            policy.backbone,
            policy.is_action,
            policy.hidden_size,
            **shared,
        )
    return ar_net_cost_table(
        model.resolutions,
        model.backbones,
        model.skips,
        policy.backbone,
        policy.resolution,
        policy.is_action,
        policy.hidden_size,
        **shared,
    )
