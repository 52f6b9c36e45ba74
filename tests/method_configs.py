"""Tiny configs of every method, at least one stage of each kind that it trains."""

from typing import Any

from ar_net_jax.data.embedded.plan import EmbeddedSpec

SPEC = EmbeddedSpec(
    train=14, validation=7, test=1, num_classes=3, width=32, height=32, num_frames=48
)
JOINT = {"epochs": 2, "learning_rate": 0.02}
AR_NET_MODEL = {
    "num_classes": 3,
    "resolutions": (24, 16),
    "backbones": ("resnet8_tiny",),
    "skips": (2,),
    "policy": {"backbone": "resnet8_tiny", "resolution": 16, "hidden_size": 8},
}
CONFIG = {
    "seed": 3,
    "model": AR_NET_MODEL,
    # 14 videos in batches of 4: batches straddle epochs, and the last of an evaluation is padded.
    "data": {"num_frames": 4, "batch_size": 4, "eval_batch_size": 4, "num_threads": 1},
    "stage_order": ("joint",),
    "stages": {"joint": JOINT},
    "log_every": 1,
}
# The policy alone, which serves its own resolution.
ONE_NETWORK = CONFIG | {
    "model": AR_NET_MODEL | {"resolutions": (16,), "backbones": ()},
}
LONG = JOINT | {"epochs": 6}
SEPARATE = {"objective": "separate"}
ONE = {"num_classes": 3, "backbone": "resnet8_tiny", "resolution": 24}
GLANCE = ONE | {
    "crop": 16,
    "glance_backbone": "resnet8_tiny",
    "glance_resolution": 16,
}
FOCUS_LOSSES = ("every_step", "glance", "focus")
UNI_LOSSES = (*FOCUS_LOSSES, "when_to_focus", "where_to_focus", "large_parts")
ADAFRAME_LOSSES = dict.fromkeys(("accuracy", "utility", "selection"), {})
MULTI_AGENT_LOSSES = dict.fromkeys(("accuracy", "moves"), {})
# What of a config each method has of its own: at least one stage of each kind that it trains.
METHODS: dict[str, dict[str, Any]] = {
    "ar_net": {
        "stages": {
            "warmup": LONG | {"objective": "separate", "train_policy_features": True},
            "joint": LONG,
            "finetune": LONG | {"freeze_policy": "parameters", "tau_start": 0.0},
        }
    },
    "frameexit": {
        "model": ONE | {"steps": 4, "confidence": 0.5},
        # Rounding grows fast where gates normalise by four videos: 7 steps.
        "stages": {
            "classify": JOINT | {"losses": {"every_exit": {}}},
            "gate": JOINT | {"losses": {"exit_gates": {"beta": 0.3}}, "select": "last"},
        },
    },
    "liteeval": {
        "model": ONE
        | {
            "coarse_backbone": "resnet8_tiny",
            "coarse_resolution": 16,
            "fine_width": 6,
            "coarse_width": 5,
            "fine_hidden": 8,
            "coarse_hidden": 3,
        },
        "stages": {
            "warmup": JOINT | SEPARATE,
            "joint": JOINT | {"losses": {"accuracy": {}, "gate_usage": {"target": 0.25}}},
        },
    },
    "listentolook": {
        "model": ONE
        | {
            "preview_backbone": "resnet8_tiny",
            "preview_resolution": 16,
            "hidden_size": 8,
            "attention_width": 6,
            "frames": 2,
        },
        "stages": {"warmup": JOINT | SEPARATE, "joint": JOINT | {"losses": {"accuracy": {}}}},
    },
    "adaframe": {
        "model": ONE
        | {
            "memory_backbone": "resnet8_tiny",
            "memory_resolution": 16,
            "memory_frames": 2,
            "steps": 3,
            "hidden_size": 6,
        },
        "stages": {
            "warmup": JOINT | SEPARATE,
            "random": JOINT | {"losses": ADAFRAME_LOSSES, "locations": "uniform"},
            "joint": JOINT | {"losses": ADAFRAME_LOSSES},
        },
    },
    "multi_agent": {
        "model": ONE | {"agents": 2, "steps": 2, "hidden_size": 6},
        "stages": {
            "warmup": JOINT | SEPARATE,
            "joint": JOINT | {"losses": MULTI_AGENT_LOSSES},
        },
    },
    "ocsampler": {
        "model": ONE
        | {"skim_backbone": "resnet8_tiny", "skim_resolution": 16, "shift_div": 4, "frames": 2},
        "stages": {
            "classifier": JOINT | SEPARATE,
            "sampler": JOINT | {"losses": {"set_policy": {}}, "select": "last"},
        },
    },
    # Rounding grows fast where policies and classifiers normalise by few videos, too.
    "adafocus_v2": {
        "model": GLANCE | {"steps": 3, "policy_width": 4, "policy_hidden": 8},
        "stages": {"train": JOINT | {"losses": dict.fromkeys(FOCUS_LOSSES, {})}},
    },
    "uni_adafocus": {
        "model": GLANCE | {"candidates": 4, "glances": 3, "focuses": 2, "smallest": 12},
        "stages": {"train": JOINT | {"losses": dict.fromkeys(UNI_LOSSES, {})}},
    },
}


def config_of(method: str) -> dict[str, Any]:
    """The config of a method, its stages in their order."""
    config = CONFIG | {"method": method} | METHODS[method]
    return config | {"stage_order": tuple(config["stages"])}
