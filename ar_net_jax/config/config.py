"""The configuration: frozen, validated dataclasses built from an `ml_collections` config.

`Config.from_dict` refuses unknown fields, wrong types and impossible values with an error that
names the field by its full path, before anything is compiled or read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ar_net_jax.backbones.architectures import architecture
from ar_net_jax.config.pretrained import PretrainedConfig
from ar_net_jax.config.schema import build, require, to_plain
from ar_net_jax.config.training import LossConfig, OptimizerConfig, StageConfig
from ar_net_jax.errors import UserError
from ar_net_jax.ops.actions import ActionSpace

Approach = Literal["ar_net", "uniform", "lstm", "random_policy", "multi_scale"]
Convention = Literal["macs", "paper"]


@dataclass(frozen=True)
class PolicyConfig:
    """The policy network: feature extractor, LSTM over time, decision head (Section 3.2).

    Attributes:
        backbone: name of the feature extractor.
        resolution: side in pixels at which the policy sees every frame.
        is_action: whether the policy's own prediction is the lowest resolution's action. When it
            is, `resolution` is the last of `model.resolutions`.
        hidden_size: LSTM units.
        dropout: on the features before the LSTM.
        cell_state: what happens to the LSTM's cell on frames covered by a skip: `frozen` (paper)
            or `advancing` (released code). The hidden state is frozen either way.
        lowest_head: what the lowest resolution's classifier reads: `features` (paper, footnote
            4) or `hidden` (released code).
    """

    backbone: str = "mobilenet_v2"
    resolution: int = 84
    is_action: bool = True
    hidden_size: int = 512
    dropout: float = 0.5
    cell_state: Literal["frozen", "advancing"] = "frozen"
    lowest_head: Literal["features", "hidden"] = "features"

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        _check_architecture(self.backbone, f"{path}.backbone")
        require(self.resolution >= 1, f"{path}.resolution", "must be at least 1 pixel")
        require(self.hidden_size >= 1, f"{path}.hidden_size", "must be at least 1")
        require(0 <= self.dropout < 1, f"{path}.dropout", "must lie in [0, 1)")


@dataclass(frozen=True)
class ModelConfig:
    """What is computed.

    Attributes:
        approach: `ar_net`, or a baseline of the paper's Table 1.
        num_classes: C.
        resolutions: sides in pixels, descending. Uniform and LSTM have exactly one.
        backbones: one name per resolution, without the lowest one when the policy serves it.
        skips: skip lengths, ascending; may be empty.
        policy: the policy network; unused by `uniform` and `lstm`, except that LSTM takes its
            `hidden_size`.
        dropout: before each classifier.
        resize: how lower resolutions are made on the device: `nearest` (released index rule) or
            `antialias`.
        dtype: computation type of the backbones; the policy and the rest stay float32.
        padding: padding rule of EfficientNet convolutions.
        norm: BatchNorm settings of EfficientNets: `tensorflow` or `pytorch`.
        remat: in training, keep only what enters each block of a network and compute the rest
            again in the backward pass: much less memory for about a third more computation.
        gflops_convention: how costs are counted wherever this model reports or is trained on
            them: `macs` or `paper` (see `ar_net_jax.costs`).
    """

    approach: Approach = "ar_net"
    num_classes: int = 200
    resolutions: tuple[int, ...] = (224, 168, 112, 84)
    backbones: tuple[str, ...] = ("resnet50", "resnet34", "resnet18")
    skips: tuple[int, ...] = (1, 2, 4)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    dropout: float = 0.5
    resize: Literal["nearest", "antialias"] = "nearest"
    dtype: Literal["float32", "bfloat16"] = "float32"
    padding: Literal["same", "symmetric", "static"] = "same"
    norm: Literal["tensorflow", "pytorch"] = "tensorflow"
    remat: bool = False
    gflops_convention: Convention = "macs"

    @property
    def space(self) -> ActionSpace:
        """The action space; baselines without skips or policy have one action per resolution."""
        return ActionSpace(self.resolutions, self.skips)

    @property
    def has_policy(self) -> bool:
        """Whether the model holds a policy network (and with it the multi-backbone set)."""
        return self.approach not in ("uniform", "lstm")

    @property
    def image_size(self) -> int:
        """Side in pixels of the frames that the model takes."""
        sizes = (*self.resolutions, self.policy.resolution) if self.has_policy else self.resolutions
        return max(sizes)

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        require(self.num_classes >= 2, f"{path}.num_classes", "must be at least 2")
        require(0 <= self.dropout < 1, f"{path}.dropout", "must lie in [0, 1)")
        self._validate_actions(path)
        for i, name in enumerate(self.backbones):
            _check_architecture(name, f"{path}.backbones[{i}]")
        served = self.has_policy and self.policy.is_action
        expected = len(self.resolutions) - int(served)
        require(
            len(self.backbones) == expected,
            f"{path}.backbones",
            f"{len(self.backbones)} given, but {len(self.resolutions)} resolutions need {expected}"
            + (" (the policy network serves the lowest)" if served else ""),
        )
        self.policy.validate(f"{path}.policy")
        if served:
            require(
                self.policy.resolution == self.resolutions[-1],
                f"{path}.policy.resolution",
                f"is {self.policy.resolution}, but with is_action=True it must equal the lowest "
                f"of model.resolutions, {self.resolutions[-1]}",
            )

    def _validate_actions(self, path: str) -> None:
        res, skips = self.resolutions, self.skips
        require(len(res) >= 1, f"{path}.resolutions", "needs at least one resolution")
        require(min(res) >= 1, f"{path}.resolutions", "must be at least 1 pixel each")
        require(
            all(a > b for a, b in zip(res, res[1:], strict=False)),
            f"{path}.resolutions",
            f"must be strictly descending, got {res}",
        )
        require(
            all(f >= 1 for f in skips),
            f"{path}.skips",
            f"must be at least 1 frame each, got {skips}; leave the tuple empty for no skipping",
        )
        require(
            all(a < b for a, b in zip(skips, skips[1:], strict=False)),
            f"{path}.skips",
            f"must be strictly ascending, got {skips}",
        )
        if not self.has_policy:
            require(
                len(res) == 1 and not skips,
                f"{path}.resolutions",
                f"approach '{self.approach}' takes one resolution and no skips, got {res}, {skips}",
            )
        if self.approach == "multi_scale":
            require(not skips, f"{path}.skips", "multi_scale uses every frame; leave it empty")


@dataclass(frozen=True)
class DataConfig:
    """Where videos come from and how they become batches.

    Attributes:
        name: a registered data set: `embedded`, `video_folder`, `activitynet`, `fcvid`,
            `mini_kinetics`.
        source_dir: the user's videos, frames and lists; unused by `embedded`.
        data_dir: where the prepared data set lives.
        num_frames: T, frames sampled from each video.
        batch_size: training videos per step, over all devices.
        eval_batch_size: evaluation videos per step, over all devices.
        flip: horizontal flips in training.
        multi_scale: the multi-scale crop in training; otherwise random crops of full scale.
        num_threads: threads that decode.
        num_workers: processes that decode instead of threads, each as fast as one core; 0 for none.
        frame_rate: frames per second kept when videos are prepared; 0 keeps every frame.
        max_bad_share: share of undecodable videos above which preparing fails.
    """

    name: str = "video_folder"
    source_dir: str = ""
    data_dir: str = ""
    num_frames: int = 16
    batch_size: int = 48
    eval_batch_size: int = 48
    flip: bool = True
    multi_scale: bool = True
    num_threads: int = 8
    num_workers: int = 0
    frame_rate: float = 0.0
    max_bad_share: float = 0.05

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        for name in ("num_frames", "batch_size", "eval_batch_size"):
            require(getattr(self, name) >= 1, f"{path}.{name}", "must be at least 1")
        for name in ("num_threads", "num_workers", "frame_rate"):
            require(getattr(self, name) >= 0, f"{path}.{name}", "must not be negative")
        require(0 <= self.max_bad_share <= 1, f"{path}.max_bad_share", "must lie in [0, 1]")


@dataclass(frozen=True)
class Config:
    """Everything a run is determined by.

    Attributes:
        seed: of initialisation, order, augmentation, dropout and sampling.
        init_from: directory of a saved model whose matching variables start the run; empty for
            none.
        pretrained: ImageNet weights that backbones start from where nothing else is given.
        model: what is computed.
        data: what it is computed on.
        loss: what is minimised.
        optimizer: how.
        stage_order: names of the stages, in the order in which they run.
        stages: the stages by name.
        log_every: training steps between two lines of metrics.
        evaluate_every: epochs between two evaluations on the validation videos, among which the
            best epoch is chosen; a stage's last epoch is always evaluated.
        checkpoint_every: epochs between two checkpoints.
        checkpoint_every_steps: steps between two checkpoints within an epoch; 0 for none.
    """

    seed: int = 0
    init_from: str = ""
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stage_order: tuple[str, ...] = ()
    stages: Mapping[str, StageConfig] = field(default_factory=dict)
    log_every: int = 20
    evaluate_every: int = 1
    checkpoint_every: int = 1
    checkpoint_every_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("model", "data", "loss", "optimizer"):
            getattr(self, name).validate(name)
        self.pretrained.validate("pretrained", self.model.backbones, self.model.has_policy)
        for name, stage in self.stages.items():
            stage.validate(f"stages.{name}")
        self._validate_stage_order()
        require(
            self.data.batch_size % self.optimizer.micro_batches == 0,
            "optimizer.micro_batches",
            f"{self.optimizer.micro_batches} equal parts cannot be made of "
            f"data.batch_size={self.data.batch_size}",
        )
        require(self.seed >= 0, "seed", "must not be negative")
        for name in ("log_every", "evaluate_every", "checkpoint_every"):
            require(getattr(self, name) >= 1, name, "must be at least 1")
        require(self.checkpoint_every_steps >= 0, "checkpoint_every_steps", "must not be negative")

    def _validate_stage_order(self) -> None:
        order, known = self.stage_order, ", ".join(self.stages) or "none"
        for name in order:
            require(name in self.stages, "stage_order", f"no stage named '{name}' (known: {known})")
            require(order.count(name) == 1, "stage_order", f"names the stage '{name}' twice")
        for before, name in zip(("", *order), order, strict=False):
            stage, path = self.stages[name], f"stages.{name}"
            require(
                stage.objective == "joint" or self.model.approach != "lstm",
                f"{path}.objective",
                "approach 'lstm' is one network, with nothing to train separately; use 'joint'",
            )
            require(
                stage.routing == "masked" or self.model.approach == "ar_net",
                f"{path}.routing",
                f"approach '{self.model.approach}' chooses nothing to route by; use 'masked'",
            )
            require(
                stage.separate_weight == 0 or self.model.approach not in ("uniform", "lstm"),
                f"{path}.separate_weight",
                f"approach '{self.model.approach}' is one network; set it to 0",
            )
            takes_over = (
                self.model.approach == "ar_net"
                and (stage.objective, stage.decisions) == ("joint", "sample")
                and stage.tau_start == 0
            )
            require(
                not takes_over or (before and self.stages[before].objective == "joint"),
                f"{path}.tau_start",
                "0 takes over the temperature of the stage before, but no joint stage comes right "
                "before; give a temperature above 0",
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Builds and validates a config.

        Args:
            values: an `ml_collections.ConfigDict` or a plain nested mapping. Missing fields take
                their defaults.

        Raises:
            UserError: an unknown field, a value of the wrong type, or an impossible value; the
                message names the field.
        """
        return build(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """The config as nested dictionaries and lists that JSON can hold."""
        return to_plain(self)


def _check_architecture(name: str, path: str) -> None:
    try:
        architecture(name)
    except UserError as error:
        raise UserError(f"config.{path}: {error}") from None
