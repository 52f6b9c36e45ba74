"""Single-resolution controls: each backbone of a multi-backbone model as a Uniform by itself."""

import dataclasses
from typing import Any

from ar_net_jax.experiment import Config
from ar_net_jax.modules.multi_backbone import POLICY, backbone_name


def single_resolution_model(
    config: Config, variables: dict[str, Any], index: int
) -> tuple[Config, dict[str, Any]]:
    """Cuts one backbone out of a model that was trained with separate objectives.

    Args:
        config: of the multi-backbone model.
        variables: its variables.
        index: which resolution; the lowest one is the policy's where that is an action.

    Returns:
        Config and variables of a Uniform model at that resolution.
    """
    model = config.model
    served_by_policy = index == len(model.backbones)
    architecture = model.policy.backbone if served_by_policy else model.backbones[index]
    uniform = dataclasses.replace(
        model,
        approach="uniform",
        resolutions=(model.resolutions[index],),
        backbones=(architecture,),
        skips=(),
    )

    def cut(tree: dict[str, Any]) -> dict[str, Any]:
        module = tree[POLICY if served_by_policy else backbone_name(index)]
        parts = {"backbone": module["backbone"]}
        head = "lowest_head" if served_by_policy else "head"
        return parts | ({"head": module[head]} if head in module else {})

    cut_variables = {name: {backbone_name(0): cut(tree)} for name, tree in variables.items()}
    return dataclasses.replace(config, model=uniform), cut_variables
