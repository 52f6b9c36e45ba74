"""The paper's set-ups as data, and the named variants that the shipped configs offer.

A shipped config starts from `base_config` and applies the variants named after the colon of
`--config=NAME:variant,variant`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from ar_net_jax.errors import UserError

Variant = Callable[[ConfigDict], None]

IMAGENET_WEIGHTS = {
    "resnet18": "timm/resnet18.tv_in1k",
    "resnet34": "timm/resnet34.tv_in1k",
    "resnet50": "timm/resnet50.tv_in1k",
    "resnet101": "timm/resnet101.tv_in1k",
    "mobilenet_v2": "timm/mobilenetv2_100.ra_in1k",
    **{f"efficientnet_b{i}": f"timm/tf_efficientnet_b{i}.aa_in1k" for i in range(6)},
}
"""Where each backbone's ImageNet weights are on the Hugging Face hub: torchvision's ResNets, and
the EfficientNets that efficientnet_pytorch converted."""

RESNETS = ("resnet50", "resnet34", "resnet18")
EFFICIENTNETS = ("efficientnet_b3", "efficientnet_b1", "efficientnet_b0")


def base_config(name: str, num_classes: int) -> ConfigDict:
    """AR-Net with ResNets, trained as in Section 4.1 on a data set.

    Args:
        name: the data set's registered name.
        num_classes: its number of classes.
    """
    return ConfigDict(
        {
            "seed": 0,
            "init_from": "",
            "pretrained": {"backbones": (), "policy": "", "folder": ""},
            "model": _paper_model(num_classes),
            "data": _paper_data(name),
            "loss": {
                "classification": "cross_entropy",
                "accuracy_weight": 0.9,
                "efficiency_weight": 0.1,
                "uniform_weight": 0.3,
                "uniform_norm": "squared",
            },
            "optimizer": {
                "momentum": 0.9,
                "weight_decay": 1e-4,
                "clip_norm": 20.0,
                "head_multiplier": 5.0,
                "bias_multiplier": 2.0,
                "micro_batches": 1,
                "shard_state": False,
            },
            "stage_order": ("warmup", "joint", "finetune"),
            "stages": _paper_stages(),
            "log_every": 20,
            "evaluate_every": 1,
            "checkpoint_every": 1,
            "checkpoint_every_steps": 500,
        }
    )


def _paper_model(num_classes: int) -> dict[str, Any]:
    return {
        "approach": "ar_net",
        "num_classes": num_classes,
        "resolutions": (224, 168, 112, 84),
        "backbones": RESNETS,
        "skips": (1, 2, 4),
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


def _paper_data(name: str) -> dict[str, Any]:
    return {
        "name": name,
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


def _paper_stages() -> dict[str, dict[str, Any]]:
    return {
        "warmup": stage("separate", 10, 0.02, decay_epochs=(20, 40)),
        "joint": stage("joint", 50, 0.001, decay_epochs=(50, 100)),
        "finetune": stage(
            "joint",
            50,
            0.0005,
            decay_epochs=(50, 100),
            # 0: the temperature of the joint stage's best epoch.
            tau_start=0.0,
            freeze_policy="all",
        ),
    }


def stage(objective: str, epochs: int, learning_rate: float, **fields: Any) -> dict[str, Any]:
    """One stage's fields, complete, so that each can be overridden on the command line."""
    defaults = {
        "objective": objective,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "schedule": "step",
        "decay_epochs": (),
        "decay_factor": 0.1,
        "warmup_epochs": 0.0,
        "tau_start": 5.0,
        "tau_decay": -0.045,
        "freeze_policy": "none",
        "train_policy_features": False,
        "decisions": "sample",
        "separate_weight": 0.0,
        "routing": "masked",
        "routed_chunk": 16,
        "select": "best",
    }
    return {**defaults, **fields}


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


def paper_loss(config: ConfigDict) -> None:
    """Equation 12 with alpha = .1, beta = .3 (the default)."""
    config.loss.update(
        accuracy_weight=0.9, efficiency_weight=0.1, uniform_weight=0.3, uniform_norm="squared"
    )


def released_loss(config: ConfigDict) -> None:
    """The authors' scripts: .95 and .05, and the norm of eq. 11 not squared.

    Its factor inside the efficiency term is 3, or 5 in their EfficientNet script.
    """
    factor = 5.0 if config.model.backbones == EFFICIENTNETS else 3.0
    config.loss.update(
        accuracy_weight=0.95,
        efficiency_weight=0.05,
        uniform_weight=0.05 * factor,
        uniform_norm="euclidean",
    )


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


def imagenet(config: ConfigDict) -> None:
    """Backbones and policy start from ImageNet weights, as in the paper; give it last."""
    model = config.model
    config.pretrained.backbones = tuple(_imagenet_weights(name) for name in model.backbones)
    if model.approach not in ("uniform", "lstm"):
        config.pretrained.policy = _imagenet_weights(model.policy.backbone)


def _imagenet_weights(backbone: str) -> str:
    if backbone not in IMAGENET_WEIGHTS:
        raise UserError(
            f"variant 'imagenet': no ImageNet weights of {backbone} are known; choose one of "
            f"{', '.join(IMAGENET_WEIGHTS)}, or name a source in config.pretrained"
        )
    return IMAGENET_WEIGHTS[backbone]


def _single_resolution(config: ConfigDict, approach: str) -> None:
    config.model.update(
        approach=approach,
        resolutions=config.model.resolutions[:1],
        backbones=config.model.backbones[:1],
        skips=(),
    )
    _train_everything(config)


def _train_everything(config: ConfigDict) -> None:
    """Baselines have no policy to fix: their last stage trains the whole model."""
    if "finetune" in config.stages:
        config.stages.finetune.update(freeze_policy="none", decisions="sample", routing="masked")


def uniform(config: ConfigDict) -> None:
    """Uniform (Table 1): the highest resolution on every frame."""
    _single_resolution(config, "uniform")


def lstm(config: ConfigDict) -> None:
    """LSTM (Table 1)."""
    _single_resolution(config, "lstm")
    config.stages.warmup.objective = "joint"


def random_policy(config: ConfigDict) -> None:
    """Random policy (Table 1)."""
    config.model.approach = "random_policy"
    _train_everything(config)


def multi_scale(config: ConfigDict) -> None:
    """Multi-Scale (Table 1)."""
    config.model.update(approach="multi_scale", skips=())
    _train_everything(config)


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
    config.loss.update(accuracy_weight=1.0, efficiency_weight=0.0, uniform_weight=0.0)


def accuracy_efficiency(config: ConfigDict) -> None:
    """Table 5, "Acc+Eff": beta = 0."""
    config.loss.uniform_weight = 0.0


def joint_only(config: ConfigDict) -> None:
    """Table 6: joint training alone."""
    config.stage_order = ("joint",)


def no_finetune(config: ConfigDict) -> None:
    """Table 6: warm-up and joint training."""
    config.stage_order = ("warmup", "joint")


APPROACH_VARIANTS: dict[str, Variant] = {
    "uniform": uniform,
    "lstm": lstm,
    "random_policy": random_policy,
    "multi_scale": multi_scale,
}

PAPER_VARIANTS: dict[str, Variant] = {
    "resnet": resnet,
    "efficientnet": efficientnet,
    **APPROACH_VARIANTS,
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
