"""The configuration: frozen, validated dataclasses built from an `ml_collections` config.

`Config.from_dict` refuses unknown fields, wrong types and impossible values with an error that
names the field by its full path, before anything is compiled or read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ar_net_jax.actions import ActionSpace
from ar_net_jax.architectures import architecture
from ar_net_jax.errors import UserError
from ar_net_jax.schema import build, require, to_plain

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
        dtype: computation type of the backbones; everything else stays float32.
        padding: padding rule of EfficientNet convolutions.
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
class LossConfig:
    """Weights of equation 12.

    Attributes:
        classification: `cross_entropy` on the smallest label, or `binary_cross_entropy` on all.
        accuracy_weight: of eq. 9; 1 - alpha in the paper.
        efficiency_weight: of eq. 10, per GFLOP in the model's convention; alpha in the paper.
        uniform_weight: of eq. 11; beta in the paper.
        uniform_norm: `squared` (eq. 11) or `euclidean` (released code: norm not squared).
    """

    classification: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    accuracy_weight: float = 0.9
    efficiency_weight: float = 0.1
    uniform_weight: float = 0.3
    uniform_norm: Literal["squared", "euclidean"] = "squared"

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        for name in ("accuracy_weight", "efficiency_weight", "uniform_weight"):
            require(getattr(self, name) >= 0, f"{path}.{name}", "must not be negative")


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with the released parameter groups.

    Attributes:
        momentum: heavy-ball momentum.
        weight_decay: added to the gradient of the groups that decay.
        clip_norm: bound on the gradient's global norm (per backbone in separate training).
        head_multiplier: learning-rate factor of every classifier and of the decision head.
        bias_multiplier: further factor of biases other than BatchNorm's; they do not decay.
    """

    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float = 20.0
    head_multiplier: float = 5.0
    bias_multiplier: float = 2.0

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        require(0 <= self.momentum < 1, f"{path}.momentum", "must lie in [0, 1)")
        require(self.weight_decay >= 0, f"{path}.weight_decay", "must not be negative")
        require(self.clip_norm > 0, f"{path}.clip_norm", "must be positive")


@dataclass(frozen=True)
class StageConfig:
    """One stage of training.

    Attributes:
        objective: `separate` trains each backbone as a frame-averaging classifier by itself (all
            in one pass); `joint` trains the approach as a whole.
        epochs: passes over the training videos.
        learning_rate: at the start.
        schedule: `step`, `cosine` or `constant`.
        decay_epochs: for `step`: the epochs at which the rate is multiplied by `decay_factor`.
        decay_factor: see `decay_epochs`.
        warmup_epochs: linear rise from zero.
        tau_start: Gumbel-Softmax temperature in the first epoch; 0 takes over the temperature of
            the epoch that the stage before handed on.
        tau_decay: tau(epoch) = tau_start * exp(tau_decay * epoch).
        freeze_policy: `none`; `parameters` (released fine-tuning: BatchNorm statistics move and
            dropout stays on); `all` (parameters, statistics and dropout).
        train_policy_features: in a `separate` stage, train the policy's extractor too.
        decisions: in a `joint` stage, `sample` by Gumbel-Softmax or take the `argmax`.
        select: hand on the `best` epoch by validation mAP, or the `last`.
    """

    objective: Literal["separate", "joint"] = "joint"
    epochs: int = 50
    learning_rate: float = 0.001
    schedule: Literal["step", "cosine", "constant"] = "step"
    decay_epochs: tuple[int, ...] = ()
    decay_factor: float = 0.1
    warmup_epochs: float = 0.0
    tau_start: float = 5.0
    tau_decay: float = -0.045
    freeze_policy: Literal["none", "parameters", "all"] = "none"
    train_policy_features: bool = False
    decisions: Literal["sample", "argmax"] = "sample"
    select: Literal["best", "last"] = "best"

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        require(self.epochs >= 1, f"{path}.epochs", "must be at least 1")
        require(self.learning_rate > 0, f"{path}.learning_rate", "must be positive")
        require(self.tau_start >= 0, f"{path}.tau_start", "must not be negative")
        require(self.warmup_epochs >= 0, f"{path}.warmup_epochs", "must not be negative")
        require(
            self.decisions == "sample" or self.freeze_policy != "none",
            f"{path}.decisions",
            "argmax gives the policy no gradient; freeze it, or sample",
        )


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
    frame_rate: float = 0.0
    max_bad_share: float = 0.05

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        for name in ("num_frames", "batch_size", "eval_batch_size"):
            require(getattr(self, name) >= 1, f"{path}.{name}", "must be at least 1")
        for name in ("num_threads", "frame_rate"):
            require(getattr(self, name) >= 0, f"{path}.{name}", "must not be negative")
        require(0 <= self.max_bad_share <= 1, f"{path}.max_bad_share", "must lie in [0, 1]")


@dataclass(frozen=True)
class Config:
    """Everything a run is determined by.

    Attributes:
        seed: of initialisation, order, augmentation, dropout and sampling.
        init_from: directory of a saved model whose matching variables start the run; empty for
            none.
        model: what is computed.
        data: what it is computed on.
        loss: what is minimised.
        optimizer: how.
        stage_order: names of the stages, in the order in which they run.
        stages: the stages by name.
        log_every: training steps between two lines of metrics.
        checkpoint_every: epochs between two checkpoints.
    """

    seed: int = 0
    init_from: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stage_order: tuple[str, ...] = ()
    stages: Mapping[str, StageConfig] = field(default_factory=dict)
    log_every: int = 20
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        for name in ("model", "data", "loss", "optimizer"):
            getattr(self, name).validate(name)
        for name, stage in self.stages.items():
            stage.validate(f"stages.{name}")
        self._validate_stage_order()
        require(self.seed >= 0, "seed", "must not be negative")
        for name in ("log_every", "checkpoint_every"):
            require(getattr(self, name) >= 1, name, "must be at least 1")

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
