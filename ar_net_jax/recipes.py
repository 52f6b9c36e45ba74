"""The paper's set-ups as data, and the named variants that the shipped configs offer.

A shipped config starts from `base_config` and applies the variants named after the colon of
`--config=NAME:variant,variant`.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from ml_collections import ConfigDict

from ar_net_jax import backbones, methods
from ar_net_jax.config.pretrained import PretrainedConfig
from ar_net_jax.config.schema import build, to_plain
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, complete, with_code, with_tuples
from ar_net_jax.losses import Loss
from ar_net_jax.methods import Method, StageConfig
from ar_net_jax.methods.uniform import uniform_of

Variant = Callable[[ConfigDict], None]

RESNETS = ("resnet50", "resnet34", "resnet18")
EFFICIENTNETS = ("efficientnet_b3", "efficientnet_b1", "efficientnet_b0")
LITES = ("efficientnet_lite2", "efficientnet_lite1", "efficientnet_lite0")


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
    for name, network in _method_of(config).backbone_modules().items():
        source = source_of(network.backbone)
        if not source:
            known = ", ".join(name for name in backbones.names() if source_of(name))
            raise UserError(
                f"variant '{variant}': no such weights of {network.backbone} are known; choose one "
                f"of {known}, or name a source in config.pretrained.weights"
            )
        config.pretrained.weights[name] = source


def _baseline(config: ConfigDict, method: str, **model: Any) -> None:
    """Another method, trained in as many stages and for as long as the config says."""
    before = config.stages.to_dict()
    set_method(config, method, **model)
    stages = {name: _stage_of(methods.get(method), fields) for name, fields in before.items()}
    config.stages = ConfigDict(stages)


def _stage_of(method: type[Method[Any, Any]], before: dict[str, Any]) -> dict[str, Any]:
    """A stage of a baseline, with what it has in common with another method's stage.

    Losses that need what the baseline does not give are left out; accuracy has the weight 1,
    because there is nothing to weigh against it.
    """
    own = stage_fields(method.Stage())
    stage = {key: before.get(key, value) for key, value in own.items()}
    losses = dict(stage["losses"])
    if stage["objective"] == "separate" and not method.separable:
        stage["objective"] = "joint"
        losses = {"accuracy": losses["separate"]}
    if stage["objective"] == "joint":
        needs = {name: Loss.of_name(name, "losses").needs for name in losses}
        losses = {n: f for n, f in losses.items() if method.provides.issuperset(needs[n])}
        losses["accuracy"] = {**losses["accuracy"], "weight": 1.0}
    return {**stage, "losses": losses}


def uniform_beside(config: Config, network: str = "") -> Config:
    """A config of the Uniform that a model is held against, on the same data; it trains nothing.

    Args:
        config: of the model.
        network: which of its networks; by default the classifier of the highest resolution.
    """
    reference = uniform_of(config.build_method(), network)
    return with_code(
        replace(
            config,
            method=reference.name,
            model=reference.config,
            init_from="",
            pretrained=PretrainedConfig(),
            stage_order=(),
            stages={},
        )
    )


def _method_of(config: ConfigDict) -> Method[Any]:
    return methods.build(
        config.method, build(methods.get(config.method).Config, config.model, "model")
    )


def _highest(config: ConfigDict) -> dict[str, Any]:
    """Backbone and resolution of the Uniform beside a config's model."""
    reference = uniform_of(_method_of(config)).config
    return {"backbone": reference.backbone, "resolution": reference.resolution}


def uniform(config: ConfigDict) -> None:
    """Uniform (Table 1): the highest resolution on every frame."""
    _baseline(config, "uniform", **_highest(config))


def lstm(config: ConfigDict) -> None:
    """LSTM (Table 1)."""
    model = config.model
    _baseline(
        config,
        "lstm",
        **_highest(config),
        hidden_size=model.policy.hidden_size,
        feature_dropout=model.policy.dropout,
    )


def random_policy(config: ConfigDict) -> None:
    """Random policy (Table 1)."""
    _baseline(config, "random_policy")


def multi_scale(config: ConfigDict) -> None:
    """Multi-Scale (Table 1)."""
    _baseline(config, "multi_scale", skips=())


def scsampler(config: ConfigDict) -> None:
    """SCSampler (Table 2), trained as the authors of AR-Net did: each network by itself."""
    model = config.model
    set_method(
        config,
        "scsampler",
        backbone=model.backbones[0],
        resolution=model.resolutions[0],
        sampler_backbone=model.policy.backbone,
        sampler_resolution=model.policy.resolution,
    )
    set_stages(config, methods.get("scsampler").stages())


def frameexit(config: ConfigDict) -> None:
    """FrameExit on ten frames, its network as large as the highest resolution's."""
    set_method(config, "frameexit", **_highest(config), head="max_mlp")
    set_stages(config, methods.get("frameexit").stages())
    config.data.num_frames = config.model.steps


def frameexit_confidence(config: ConfigDict) -> None:
    """The control for FrameExit's gates: the plain rule of confidence after every frame."""
    frameexit(config)
    without_gates(config)


def without_gates(config: ConfigDict) -> None:
    """Lets confidence alone end FrameExit's videos, and trains no gates."""
    config.model.exit = "confidence"
    config.stage_order = ("classify",)


def scsampler_ranking(config: ConfigDict) -> None:
    """SCSampler whose sampler, trained as usual, then learns the main network's order of frames."""
    scsampler(config)
    usual = config.stages.train.to_dict()
    ranking = {"objective": "joint", "losses": {"ranking": {}}, "freeze_backbone": True}
    config.stages.ranking = ConfigDict(with_tuples({**usual, **ranking}))
    config.stage_order = ("train", "ranking")


def ocsampler(config: ConfigDict) -> None:
    """OCSampler as published: 5 of 10 frames, on Mini-Kinetics 4, with the head of its classifier.

    Its learning rate, .005, is for batches of 320 videos, and is scaled to the config's.
    """
    model, short = config.model, config.data.name == "mini_kinetics"
    set_method(
        config,
        "ocsampler",
        backbone=model.backbones[0],
        resolution=model.resolutions[0],
        head="max_mlp",
        skim_backbone=model.policy.backbone,
        shift_div=8 if short else 10,
        frames=4 if short else 5,
    )
    config.data.num_frames = 10
    set_stages(config, methods.get("ocsampler").stages())
    config.stages.sampler.learning_rate *= config.data.batch_size / 320


def liteeval(config: ConfigDict) -> None:
    """LiteEval (Table 2): between the highest resolution's network and the policy's, per frame.

    The row of the table is of ResNet-101, and of MobileNetV2 at 112 px: add
    `--config.model.backbone=resnet101 --config.model.coarse_resolution=112`.
    """
    model = config.model
    set_method(
        config,
        "liteeval",
        backbone=model.backbones[0],
        resolution=model.resolutions[0],
        coarse_backbone=model.policy.backbone,
        coarse_resolution=model.policy.resolution,
    )
    set_stages(config, methods.get("liteeval").stages())


def listentolook(config: ConfigDict) -> None:
    """ListenToLook (Table 2), image only: the policy's network previews for the highest resolution.

    The row of the table is of ResNet-101; add `--config.model.backbone=resnet101` and, of the
    previews that its cost allows, `--config.model.preview_resolution=168`.
    """
    model = config.model
    set_method(
        config,
        "listentolook",
        backbone=model.backbones[0],
        resolution=model.resolutions[0],
        preview_backbone=model.policy.backbone,
        preview_resolution=model.policy.resolution,
    )
    set_stages(config, methods.get("listentolook").stages())


def adaframe(config: ConfigDict) -> None:
    """AdaFrame (Table 2): the highest resolution's network, and the policy's for the memory.

    The row of the table is of ResNet-101, and of MobileNetV2 at 112 px: add
    `--config.model.backbone=resnet101 --config.model.memory_resolution=112`.
    """
    model = config.model
    set_method(
        config,
        "adaframe",
        backbone=model.backbones[0],
        resolution=model.resolutions[0],
        memory_backbone=model.policy.backbone,
        memory_resolution=model.policy.resolution,
    )
    set_stages(config, methods.get("adaframe").stages())


def multi_agent(config: ConfigDict) -> None:
    """MultiAgent (Fig. 3), with the highest resolution's network; the figure has ResNet-101."""
    model = config.model
    backbone, resolution = model.backbones[0], model.resolutions[0]
    set_method(config, "multi_agent", backbone=backbone, resolution=resolution)
    set_stages(config, methods.get("multi_agent").stages())


def adafocus_v2(config: ConfigDict) -> None:
    """AdaFocusV2: parts of 128 of 224 px, its heavy network that of the highest resolution."""
    _glance_focus(config, "adafocus_v2")


def uni_adafocus(config: ConfigDict) -> None:
    """Uni-AdaFocus: 16 of 48 frames, and parts of them from 96 of 224 px on, seen at 128 px."""
    side = _highest(config)["resolution"]
    _glance_focus(config, "uni_adafocus", smallest=side * 3 // 7)
    config.optimizer.weight_decay = 2e-4
    config.data.num_frames = config.model.candidates


def _glance_focus(config: ConfigDict, method: str, **model: Any) -> None:
    """A method whose stages give learning rates to its parts, and none to layers by their kind."""
    highest = _highest(config)
    set_method(
        config,
        method,
        **highest,
        head="max_mlp",
        dropout=0.2,
        crop=highest["resolution"] * 4 // 7,
        glance_backbone=config.model.policy.backbone,
        glance_resolution=highest["resolution"],
        **model,
    )
    set_stages(config, methods.get(method).stages())
    config.optimizer.update(head_multiplier=1.0, bias_multiplier=1.0)


def max_mlp(config: ConfigDict) -> None:
    """The head of the newer works; give it after the method."""
    config.model.head = "max_mlp"


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
