"""One recipe a method: the variant that turns a config of AR-Net into one of another method."""

from dataclasses import replace
from typing import Any

from ml_collections import ConfigDict

from ar_net_jax import methods
from ar_net_jax.config.pretrained import PretrainedConfig
from ar_net_jax.experiment import Config, with_code, with_tuples
from ar_net_jax.losses import Loss
from ar_net_jax.methods import Method
from ar_net_jax.methods.uniform import uniform_of
from ar_net_jax.recipes.building import highest, set_method, set_stages, stage_fields


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


def uniform(config: ConfigDict) -> None:
    """Uniform (Table 1): the highest resolution on every frame."""
    _baseline(config, "uniform", **highest(config))


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


def lstm(config: ConfigDict) -> None:
    """LSTM (Table 1)."""
    model = config.model
    _baseline(
        config,
        "lstm",
        **highest(config),
        hidden_size=model.policy.hidden_size,
        feature_dropout=model.policy.dropout,
    )


def random_policy(config: ConfigDict) -> None:
    """Random policy (Table 1)."""
    _baseline(config, "random_policy")


def multi_scale(config: ConfigDict) -> None:
    """Multi-Scale (Table 1)."""
    _baseline(config, "multi_scale", skips=())


def _with_light_network(config: ConfigDict, method: str, role: str) -> None:
    """A method in its usual training, the policy's network in the role of its light one."""
    model = config.model
    light = {
        f"{role}_backbone": model.policy.backbone,
        f"{role}_resolution": model.policy.resolution,
    }
    heavy = {"backbone": model.backbones[0], "resolution": model.resolutions[0]}
    set_method(config, method, **heavy, **light)
    set_stages(config, methods.get(method).stages())


def scsampler(config: ConfigDict) -> None:
    """SCSampler (Table 2), trained as the authors of AR-Net did: each network by itself."""
    _with_light_network(config, "scsampler", "sampler")


def frameexit(config: ConfigDict) -> None:
    """FrameExit on ten frames, its network as large as the highest resolution's."""
    set_method(config, "frameexit", **highest(config), head="max_mlp")
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
    _with_light_network(config, "liteeval", "coarse")


def listentolook(config: ConfigDict) -> None:
    """ListenToLook (Table 2), image only: the policy's network previews for the highest resolution.

    The row of the table is of ResNet-101; add `--config.model.backbone=resnet101` and, of the
    previews that its cost allows, `--config.model.preview_resolution=168`.
    """
    _with_light_network(config, "listentolook", "preview")


def adaframe(config: ConfigDict) -> None:
    """AdaFrame (Table 2): the highest resolution's network, and the policy's for the memory.

    The row of the table is of ResNet-101, and of MobileNetV2 at 112 px: add
    `--config.model.backbone=resnet101 --config.model.memory_resolution=112`.
    """
    _with_light_network(config, "adaframe", "memory")


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
    side = highest(config)["resolution"]
    _glance_focus(config, "uni_adafocus", smallest=side * 3 // 7)
    config.optimizer.weight_decay = 2e-4
    config.data.num_frames = config.model.candidates


def _glance_focus(config: ConfigDict, method: str, **model: Any) -> None:
    """A method whose stages give learning rates to its parts, and none to layers by their kind."""
    top = highest(config)
    set_method(
        config,
        method,
        **top,
        head="max_mlp",
        dropout=0.2,
        crop=top["resolution"] * 4 // 7,
        glance_backbone=config.model.policy.backbone,
        glance_resolution=top["resolution"],
        **model,
    )
    set_stages(config, methods.get(method).stages())
    config.optimizer.update(head_multiplier=1.0, wide_head_multiplier=1.0, bias_multiplier=1.0)


def max_mlp(config: ConfigDict) -> None:
    """The head of the newer works; give it after the method."""
    config.model.head = "max_mlp"
