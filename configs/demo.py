"""Everything small: the embedded data set, slim ResNets, minutes on two CPU cores.

    arnet demo                                   all approaches, compared
    arnet train --config=demo --workdir=RUN      AR-Net alone

Variants, combined with commas: `quick` (the same path in a few minutes); `paper_losses` (AR-Net
without losses of single networks), `weighted_frames` (and the policy learns how much each frame
counts); `warmed_up`, `warm_start` (go on from networks that are trained already, given by
`init_from`); `controls` (each backbone by itself: Uniform at every resolution); `uniform`, `lstm`,
`random_policy`, `multi_scale`, with a warm-up like AR-Net's; the other methods, each by its name,
which need none; after those `max_mlp`, the head of the newer works, and `brief`, a quarter as
long, from the networks that ship with the package (as in `arnet compare field`); and of
AR-Net the ablations `resolution_only`, `skipping_only`, `accuracy_only`, `accuracy_efficiency`,
`joint_only` and `no_finetune`.
"""

import dataclasses
import math
from typing import Any

from ml_collections import ConfigDict

from ar_net_jax import recipes
from ar_net_jax.demo.shipped import WARM_START
from ar_net_jax.losses import Accuracy, Efficiency, Separate, Uniform
from ar_net_jax.methods import StageConfig
from ar_net_jax.methods.adafocus_v2 import AdaFocusV2Rates, AdaFocusV2Stage
from ar_net_jax.methods.adaframe import AdaFrame, AdaFrameStage
from ar_net_jax.methods.ar_net import ARNetStage
from ar_net_jax.methods.frameexit import EveryExit, ExitGates, FrameExitStage
from ar_net_jax.methods.glance_focus import glance_focus_losses
from ar_net_jax.methods.listentolook import ListenToLookStage
from ar_net_jax.methods.liteeval import GateUsage, LiteEvalStage
from ar_net_jax.methods.multi_agent import MultiAgent
from ar_net_jax.methods.ocsampler import SetPolicy
from ar_net_jax.methods.scsampler import SCSamplerStage
from ar_net_jax.methods.uni_adafocus import UniAdaFocus, UniAdaFocusRates, UniAdaFocusStage


def controls(config: ConfigDict) -> None:
    """Each backbone goes on by itself for as long as AR-Net's other stages take together."""
    epochs = config.stages.joint.epochs + config.stages.finetune.epochs
    stage = dataclasses.replace(WARMUP, epochs=epochs, learning_rate=JOINT.learning_rate)
    recipes.set_stages(config, {"controls": stage})


def _after_warmup(baseline: recipes.Variant) -> recipes.Variant:
    """A baseline after its warm-up, where it has one, for as long as AR-Net's other stages take."""

    def variant(config: ConfigDict) -> None:
        warmup = ("warmup",) if "warmup" in config.stage_order else ()
        baseline(config)
        config.stage_order = (*warmup, "joint")
        config.stages.joint.update(
            epochs=config.stages.joint.epochs + config.stages.finetune.epochs,
            # On validation videos Uniform and LSTM do better at it than at twice the rate.
            learning_rate=JOINT.learning_rate,
            select="best",
        )

    return variant


def _stage_like(stage: StageConfig, cls: type[StageConfig], **fields: Any) -> StageConfig:
    """A stage of another method that trains as one of AR-Net's does, but for some fields."""
    shared = {f.name: getattr(stage, f.name) for f in dataclasses.fields(StageConfig)}
    return cls(**{**shared, **fields})


def scsampler(config: ConfigDict) -> None:
    """Two of the eight frames; each network by itself for as long as the others train."""
    recipes.scsampler(config)
    config.model.frames = 2
    epochs = WARMUP.epochs + JOINT.epochs + FINETUNE.epochs
    recipes.set_stages(config, {"train": _stage_like(WARMUP, SCSamplerStage, epochs=epochs)})


def frameexit(config: ConfigDict) -> None:
    """Eight frames at the highest resolution, a classifier and, but for two, a gate for each."""
    recipes.frameexit(config)
    config.model.update(steps=8, confidence=0.95)
    config.data.num_frames = 8
    shared = {"schedule": "cosine", "warmup_epochs": 0.5}
    classify = FrameExitStage(
        losses={"every_exit": EveryExit()}, epochs=WARMUP.epochs, learning_rate=0.02, **shared
    )
    # Few videos: the classifiers' losses are far from what they are on a large data set.
    gate = FrameExitStage(
        losses={"exit_gates": ExitGates(beta=0.05)},
        epochs=JOINT.epochs + FINETUNE.epochs,
        learning_rate=0.02,
        select="last",
        **shared,
    )
    recipes.set_stages(config, {"classify": classify, "gate": gate})


def frameexit_confidence(config: ConfigDict) -> None:
    """The same network, its gates left out: a threshold on confidence ends videos."""
    frameexit(config)
    recipes.without_gates(config)


def ocsampler(config: ConfigDict) -> None:
    """Two of the eight frames; the classifier for as long as AR-Net's warm-up, then the sampler."""
    recipes.ocsampler(config)
    policy = {"skim_backbone": "resnet8_tiny", "skim_resolution": 24, "shift_div": 8, "frames": 2}
    config.model.update(**policy)
    config.data.num_frames = 8
    shared = {"schedule": "cosine", "warmup_epochs": WARMUP.warmup_epochs}
    classifier = StageConfig(
        objective="separate",
        losses=WARMUP.losses,
        epochs=WARMUP.epochs,
        learning_rate=0.02,
        **shared,
    )
    sampler = StageConfig(
        losses={"set_policy": SetPolicy(entropy=0.01)},
        epochs=JOINT.epochs + FINETUNE.epochs,
        learning_rate=JOINT.learning_rate,
        select="last",
        **shared,
    )
    recipes.set_stages(config, {"classifier": classifier, "sampler": sampler})


def liteeval(config: ConfigDict) -> None:
    """The heavy network on two of the eight frames; the networks train as long as SCSampler's."""
    recipes.liteeval(config)
    config.model.update(fine_width=64, coarse_width=32, fine_hidden=64, coarse_hidden=32)
    # Of eight frames the usual tenth is less than one. At a weight of 1 accuracy pulls harder, and
    # the gate stays open on two fifths of the frames.
    losses = {"accuracy": Accuracy(), "gate_usage": GateUsage(10.0, target=0.25)}
    epochs = JOINT.epochs + FINETUNE.epochs
    stages = {
        "warmup": _stage_like(WARMUP, LiteEvalStage),
        "joint": _stage_like(JOINT, LiteEvalStage, losses=losses, epochs=epochs),
    }
    recipes.set_stages(config, stages)


def listentolook(config: ConfigDict) -> None:
    """Two of the eight frames; its three stages are as long as AR-Net's."""
    recipes.listentolook(config)
    config.model.update(frames=2, hidden_size=64, attention_width=64)
    losses = {"accuracy": Accuracy()}
    joint = _stage_like(JOINT, ListenToLookStage, losses=losses, select="best")
    finetune = dataclasses.replace(
        joint, epochs=FINETUNE.epochs, learning_rate=FINETUNE.learning_rate, trains="main"
    )
    stages = {
        "warmup": _stage_like(WARMUP, ListenToLookStage),
        "joint": joint,
        "finetune": finetune,
    }
    recipes.set_stages(config, stages)


def adaframe(config: ConfigDict) -> None:
    """Three looks at eight frames, all of them remembered."""
    recipes.adaframe(config)
    config.model.update(steps=3, hidden_size=64, utility_margin=0.05, patience=1)
    losses = AdaFrame.usual_losses("joint")
    stages = {
        "warmup": _stage_like(WARMUP, AdaFrameStage),
        "random": _stage_like(JOINT, AdaFrameStage, losses=losses, epochs=8, locations="uniform"),
        "joint": _stage_like(JOINT, AdaFrameStage, losses=losses, epochs=16),
    }
    recipes.set_stages(config, stages)


def multi_agent(config: ConfigDict) -> None:
    """Two agents, which start on two of the eight frames and move twice at most."""
    recipes.multi_agent(config)
    config.model.update(agents=2, steps=2, hidden_size=64)
    epochs = JOINT.epochs + FINETUNE.epochs
    losses = MultiAgent.usual_losses("joint")
    stages = {
        "warmup": _stage_like(WARMUP, StageConfig),
        "joint": _stage_like(JOINT, StageConfig, losses=losses, epochs=epochs),
    }
    recipes.set_stages(config, stages)


def adafocus_v2(config: ConfigDict) -> None:
    """Parts of 24 px; one stage as long as the others' together."""
    recipes.adafocus_v2(config)
    config.model.update(
        crop=24,
        glance_resolution=32,
        steps=8,
        policy_width=16,
        policy_hidden=64,
    )
    config.optimizer.wide_head_multiplier = WIDE_HEAD
    # No part is trained already, so all learn at one rate.
    rates = AdaFocusV2Rates(policy=1.0, glance=1.0, classifier=1.0)
    stage = AdaFocusV2Stage(losses=glance_focus_losses(), rates=rates, **ONE_STAGE)
    recipes.set_stages(config, {"train": stage})


def uni_adafocus(config: ConfigDict) -> None:
    """Four of the eight frames are glanced at, and parts of two seen at 24 px."""
    recipes.uni_adafocus(config)
    config.data.num_frames = 8
    config.model.update(
        crop=24,
        glance_resolution=32,
        candidates=8,
        glances=4,
        focuses=2,
        smallest=20,
        spatial_hidden=16,
        temporal_hidden=16,
    )
    config.optimizer.wide_head_multiplier = WIDE_HEAD
    rates = UniAdaFocusRates(
        spatial=1.0, temporal=1.0, glance=1.0, glance_classifier=1.0, focus_classifier=1.0
    )
    stage = UniAdaFocusStage(losses=UniAdaFocus.usual_losses("joint"), rates=rates, **ONE_STAGE)
    recipes.set_stages(config, {"train": stage})


def paper_losses(config: ConfigDict) -> None:
    """AR-Net's joint stage as in the paper, equations 9 to 12: no losses of single networks."""
    del config.stages.joint.losses["separate"]


def weighted_frames(config: ConfigDict) -> None:
    """The same, and the policy learns how much each frame counts."""
    paper_losses(config)
    config.model.policy.frame_weight = "learned"


def warmed_up(config: ConfigDict) -> None:
    """Goes on from networks that are warmed up already, which `init_from` names; give it first."""
    config.stage_order = ("joint", "finetune")


def warm_start(config: ConfigDict) -> None:
    """The same, from networks that have learnt from more videos, and need fewer epochs.

    An epoch of the last stage takes half of the time of one before it, so there its share grows.
    """
    warmed_up(config)
    config.stages.joint.update(epochs=8, learning_rate=0.03, tau_decay=-0.39)
    config.stages.finetune.update(epochs=4, learning_rate=0.02)
    for name in config.stage_order:
        # In fewer epochs the policy saves less of its own accord.
        config.stages[name].losses["efficiency"]["weight"] = 78.0
    config.update(evaluate_every=8, checkpoint_every=8)


def brief(config: ConfigDict) -> None:
    """A quarter as long in all, from the networks that ship with the package.

    Those are warm already, so it is the first stage that is cut most, where others follow.
    """
    config.init_from = str(WARM_START)
    shares = (4,) if len(config.stage_order) == 1 else (7, *(2 for _ in config.stage_order[1:]))
    for name, share in zip(config.stage_order, shares, strict=True):
        stage = config.stages[name]
        stage.epochs = math.ceil(stage.epochs / share)
        if "tau_decay" in stage:
            # So that noise ends where it ends in the whole length.
            stage.tau_decay *= share


def quick(config: ConfigDict) -> None:
    """Few videos, one epoch a stage: shows the path, not the result."""
    config.data.embedded.update(train=40, validation=32, test=32)
    config.data.eval_batch_size = 32  # The quick demo tests on no more videos.
    for name in config.stage_order:
        config.stages[name].epochs = 1


VARIANTS: dict[str, recipes.Variant] = {
    "quick": quick,
    "warmed_up": warmed_up,
    "warm_start": warm_start,
    "brief": brief,
    "paper_losses": paper_losses,
    "weighted_frames": weighted_frames,
    "controls": controls,
    "uniform": _after_warmup(recipes.uniform),
    "lstm": _after_warmup(recipes.lstm),
    "random_policy": _after_warmup(recipes.random_policy),
    "multi_scale": _after_warmup(recipes.multi_scale),
    "scsampler": scsampler,
    "frameexit": frameexit,
    "frameexit_confidence": frameexit_confidence,
    "ocsampler": ocsampler,
    "liteeval": liteeval,
    "listentolook": listentolook,
    "adaframe": adaframe,
    "multi_agent": multi_agent,
    "adafocus_v2": adafocus_v2,
    "uni_adafocus": uni_adafocus,
    "max_mlp": recipes.max_mlp,
    "resolution_only": recipes.resolution_only,
    "skipping_only": recipes.skipping_only,
    "accuracy_only": recipes.accuracy_only,
    "accuracy_efficiency": recipes.accuracy_efficiency,
    "joint_only": recipes.joint_only,
    "no_finetune": recipes.no_finetune,
}

WARMUP = ARNetStage(
    objective="separate",
    losses={"separate": Separate()},
    epochs=56,
    learning_rate=0.05,
    schedule="cosine",
    warmup_epochs=0.5,
    train_policy_features=True,
)
# A frame costs hundredths of a GFLOP here, where the paper's costs four.
LOSSES = {"accuracy": Accuracy(0.9), "efficiency": Efficiency(70.0), "uniform": Uniform(0.3)}
JOINT = ARNetStage(
    # Few videos: the networks go on learning from all frames while the policy learns.
    losses={**LOSSES, "separate": Separate(1.0)},
    epochs=20,
    learning_rate=0.02,
    schedule="cosine",
    warmup_epochs=0.5,
    tau_decay=-0.15,
    # The last epoch: the most accurate may be an early one, whose policy knows nothing yet and
    # sends every frame to one resolution.
    select="last",
)
# Each backbone sees the frames that it will be given, in its BatchNorm statistics too.
FINETUNE = ARNetStage(
    losses=LOSSES,
    epochs=4,
    learning_rate=0.005,
    schedule="cosine",
    warmup_epochs=0.5,
    tau_start=0.0,
    freeze_policy="all",
    decisions="argmax",
    routing="routed",
)


# At the usual rate a step on ten classes changes a prediction from 4096 inputs by hundreds.
WIDE_HEAD = 0.01
# For methods that are trained from end to end at once, as long as AR-Net's three stages.
ONE_STAGE: dict[str, Any] = {
    "epochs": 80,
    "learning_rate": 0.02,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
}


def get_config(variants: str = "") -> ConfigDict:
    """The config, with comma-separated variants applied in order."""
    config = recipes.base_config("embedded")
    config.model.update(
        resolutions=(48, 32, 24),
        backbones=("resnet8_slim", "resnet8_slim"),
        dropout=0.2,
        dtype="float32",
        gflops_convention="macs",
    )
    config.model.policy.update(backbone="resnet8_tiny", resolution=24, hidden_size=64, dropout=0.0)
    config.data.update(num_frames=8, batch_size=4, eval_batch_size=160, flip=False, num_threads=2)
    config.optimizer.wide_head_multiplier = WIDE_HEAD
    # An epoch takes seconds: to evaluate and save each of them made the demo two minutes longer.
    config.update(evaluate_every=4, checkpoint_every=4)
    recipes.set_stages(config, {"warmup": WARMUP, "joint": JOINT, "finetune": FINETUNE})
    return recipes.apply_variants(config, variants, VARIANTS)
