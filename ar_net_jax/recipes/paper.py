"""The paper's other set-ups: backbones, losses, starting weights, ablations."""

from collections.abc import Callable

from ml_collections import ConfigDict

from ar_net_jax import backbones
from ar_net_jax.errors import UserError
from ar_net_jax.recipes.building import Variant, method_of
from ar_net_jax.recipes.other_methods import (
    adafocus_v2,
    adaframe,
    frameexit,
    frameexit_confidence,
    listentolook,
    liteeval,
    lstm,
    max_mlp,
    multi_agent,
    multi_scale,
    ocsampler,
    random_policy,
    scsampler,
    scsampler_ranking,
    uni_adafocus,
    uniform,
)

RESNETS = ("resnet50", "resnet34", "resnet18")


EFFICIENTNETS = ("efficientnet_b3", "efficientnet_b1", "efficientnet_b0")


LITES = ("efficientnet_lite2", "efficientnet_lite1", "efficientnet_lite0")


def losses_of(config: ConfigDict) -> list[ConfigDict]:
    """The losses of every joint stage, for changing them all alike."""
    joint = (s for s in config.stages.values() if s.objective == "joint")
    return [stage.losses for stage in joint]


def paper_loss(config: ConfigDict) -> None:
    """Equation 12 with alpha = .1, beta = .3 (the default)."""
    _weigh(config, accuracy=0.9, efficiency=0.1, uniform=0.3, norm="squared")


def released_loss(config: ConfigDict) -> None:
    """The authors' scripts: .95 and .05, and the norm of eq. 11 not squared.

    Its factor inside the efficiency term is 3, or 5 in their EfficientNet script.
    """
    factor = 5.0 if config.model.backbones == EFFICIENTNETS else 3.0
    _weigh(config, accuracy=0.95, efficiency=0.05, uniform=0.05 * factor, norm="euclidean")


def _weigh(config: ConfigDict, *, norm: str | None = None, **weights: float) -> None:
    for losses in losses_of(config):
        for name, weight in weights.items():
            losses[name].weight = weight
        if norm is not None:
            losses.uniform.norm = norm


def released(config: ConfigDict) -> None:
    """Everything as in the released code where that differs from the paper."""
    released_loss(config)
    config.model.padding = "static"
    config.model.policy.update(cell_state="advancing", lowest_head="hidden")
    config.stages.finetune.freeze_policy = "parameters"


def improved(config: ConfigDict) -> None:
    """The recipe the authors published later: 76.8 mAP on ActivityNet."""
    config.stages.warmup.update(epochs=15, learning_rate=0.001)
    config.stages.joint.epochs = 100
    config.stage_order = ("warmup", "joint")


def resnet(config: ConfigDict) -> None:
    """ResNet-50, -34 and -18 (the default)."""
    config.model.backbones = RESNETS


def efficientnet(config: ConfigDict) -> None:
    """EfficientNet-B3, -B1 and -B0; give it before `released`, whose loss depends on it."""
    config.model.backbones = EFFICIENTNETS


def lite(config: ConfigDict) -> None:
    """EfficientNet-Lite2, -1 and -0, whose ImageNet weights are in packages too.

    A frame costs a seventh of what it costs with ResNets, so efficiency weighs seven times as much.
    """
    config.model.backbones = LITES
    _weigh(config, efficiency=0.7)


def imagenet(config: ConfigDict) -> None:
    """Every network starts from ImageNet weights, as in the paper; give it last."""
    _start_from(config, "imagenet", lambda name: backbones.get(name).imagenet_weights)


def packaged(config: ConfigDict) -> None:
    """Every network starts from ImageNet weights of an installed package; give it last."""
    _start_from(config, "packaged", lambda name: backbones.get(name).packaged_weights)


def _start_from(config: ConfigDict, variant: str, source_of: Callable[[str], str]) -> None:
    for name, network in method_of(config).backbone_modules().items():
        source = source_of(network.backbone)
        if not source:
            known = ", ".join(name for name in backbones.names() if source_of(name))
            raise UserError(
                f"variant '{variant}': no such weights of {network.backbone} are known; choose one "
                f"of {known}, or name a source in config.pretrained.weights"
            )
        config.pretrained.weights[name] = source


def resolution_only(config: ConfigDict) -> None:
    """Table 4: the policy chooses resolutions, and skips nothing."""
    config.model.skips = ()


def skipping_only(config: ConfigDict) -> None:
    """Table 4: the highest resolution or a skip; the policy looks, but predicts nothing."""
    model = config.model
    model.update(resolutions=model.resolutions[:1], backbones=model.backbones[:1])
    model.policy.is_action = False


def accuracy_only(config: ConfigDict) -> None:
    """Table 5, "Acc": alpha = beta = 0."""
    _weigh(config, accuracy=1.0, efficiency=0.0, uniform=0.0)


def accuracy_efficiency(config: ConfigDict) -> None:
    """Table 5, "Acc+Eff": beta = 0."""
    _weigh(config, uniform=0.0)


def joint_only(config: ConfigDict) -> None:
    """Table 6: joint training alone."""
    config.stage_order = ("joint",)


def no_finetune(config: ConfigDict) -> None:
    """Table 6: warm-up and joint training."""
    config.stage_order = ("warmup", "joint")


PAPER_VARIANTS: dict[str, Variant] = {
    "resnet": resnet,
    "efficientnet": efficientnet,
    "uniform": uniform,
    "lstm": lstm,
    "random_policy": random_policy,
    "multi_scale": multi_scale,
    "scsampler": scsampler,
    "frameexit": frameexit,
    "frameexit_confidence": frameexit_confidence,
    "scsampler_ranking": scsampler_ranking,
    "ocsampler": ocsampler,
    "liteeval": liteeval,
    "listentolook": listentolook,
    "adaframe": adaframe,
    "multi_agent": multi_agent,
    "adafocus_v2": adafocus_v2,
    "uni_adafocus": uni_adafocus,
    "max_mlp": max_mlp,
    "resolution_only": resolution_only,
    "skipping_only": skipping_only,
    "accuracy_only": accuracy_only,
    "accuracy_efficiency": accuracy_efficiency,
    "joint_only": joint_only,
    "no_finetune": no_finetune,
    "paper_loss": paper_loss,
    "released_loss": released_loss,
    "released": released,
    "improved": improved,
    "imagenet": imagenet,
}
