"""Everything small: the embedded data set, slim ResNets, minutes on two CPU cores.

    arnet demo                                   all approaches, compared
    arnet train --config=demo --workdir=RUN      AR-Net alone

Variants, combined with commas: `quick` (the same path in two minutes); `controls` (each backbone
by itself: Uniform at every resolution, in one pass); `lstm`, `random_policy`, `multi_scale`.
"""

from ml_collections import ConfigDict

from ar_net_jax import recipes


def controls(config: ConfigDict) -> None:
    """Each backbone goes on by itself for as long as AR-Net's other stages take together."""
    epochs = config.stages.joint.epochs + config.stages.finetune.epochs
    config.stage_order = ("controls",)
    config.stages.controls = recipes.stage(
        "separate",
        epochs,
        config.stages.joint.learning_rate,
        schedule="cosine",
        warmup_epochs=0.5,
        train_policy_features=True,
    )


def _after_warmup(approach: recipes.Variant) -> recipes.Variant:
    """The demo's baselines go on from AR-Net's warm-up, which is paid for once, for as long."""

    def variant(config: ConfigDict) -> None:
        approach(config)
        config.stage_order = ("joint",)
        config.stages.joint.update(
            epochs=config.stages.joint.epochs + config.stages.finetune.epochs, select="best"
        )

    return variant


def quick(config: ConfigDict) -> None:
    """One epoch a stage: shows the path, not the result (the demo draws fewer videos too)."""
    config.data.eval_batch_size = 32  # The quick demo tests on no more videos.
    for name in config.stage_order:
        config.stages[name].epochs = 1


def _lstm(config: ConfigDict) -> None:
    """One network, so nothing beside its own loss."""
    _after_warmup(recipes.lstm)(config)
    config.stages.joint.separate_weight = 0.0


VARIANTS: dict[str, recipes.Variant] = {
    "quick": quick,
    "controls": controls,
    "lstm": _lstm,
    "random_policy": _after_warmup(recipes.random_policy),
    "multi_scale": _after_warmup(recipes.multi_scale),
}


def get_config(variants: str = "") -> ConfigDict:
    """The config, with comma-separated variants applied in order."""
    config = recipes.base_config("embedded", 10)
    config.model.update(
        resolutions=(48, 32, 24),
        backbones=("resnet8_slim", "resnet8_slim"),
        dropout=0.2,
        dtype="float32",
        gflops_convention="macs",
    )
    config.model.policy.update(backbone="resnet8_tiny", resolution=24, hidden_size=64, dropout=0.0)
    config.data.update(num_frames=8, batch_size=4, eval_batch_size=160, flip=False, num_threads=2)
    # An epoch takes seconds: to evaluate and save each of them made the demo two minutes longer.
    config.update(evaluate_every=4, checkpoint_every=4)
    # A frame costs hundredths of a GFLOP here, where the paper's costs four.
    config.loss.update(efficiency_weight=70.0)
    fields = {"schedule": "cosine", "warmup_epochs": 0.5}
    config.stages = {
        "warmup": recipes.stage("separate", 56, 0.05, train_policy_features=True, **fields),
        "joint": recipes.stage(
            "joint",
            20,
            0.02,
            tau_decay=-0.15,
            # Few videos: the networks go on learning from all frames while the policy learns.
            separate_weight=1.0,
            # The last epoch: the most accurate may be an early one, whose policy knows nothing yet
            # and sends every frame to one resolution.
            select="last",
            **fields,
        ),
        # Each backbone sees the frames that it will be given, in its BatchNorm statistics too.
        "finetune": recipes.stage(
            "joint",
            4,
            0.005,
            tau_start=0.0,
            freeze_policy="all",
            decisions="argmax",
            routing="routed",
            **fields,
        ),
    }
    return recipes.apply_variants(config, variants, VARIANTS)
