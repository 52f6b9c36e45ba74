"""The part of the configuration that says where videos come from and how they become batches."""

from dataclasses import dataclass, field

from ar_net_jax.config.schema import require


@dataclass(frozen=True)
class EmbeddedConfig:
    """How many videos the embedded data set is drawn with; 0 each time for its usual number.

    Attributes:
        train: videos of the training split.
        validation: of the validation split.
        test: of the test split.
    """

    train: int = 0
    validation: int = 0
    test: int = 0


@dataclass(frozen=True)
class DataConfig:
    """Where videos come from and how they become batches.

    Attributes:
        name: a registered data set: `embedded`, `video_folder`, `activitynet`, `fcvid`,
            `mini_kinetics`.
        source_dir: the user's videos, frames and lists; nothing is ever written there. Empty for
            `embedded`, and where `data_dir` is prepared already.
        data_dir: where the prepared data set lives.
        num_frames: T, frames sampled from each video.
        batch_size: training videos per step, over all devices; 0 takes as many as fit the training
            videos and the machine, see `training.batch_size`.
        eval_batch_size: evaluation videos per step, over all devices.
        flip: horizontal flips in training.
        multi_scale: the multi-scale crop in training; otherwise the centre crop of evaluation.
        num_threads: threads that decode.
        num_workers: processes that decode instead of threads, each as fast as one core; 0 for none.
        frame_rate: frames per second kept when videos are prepared; 0 keeps every frame (of FCVID,
            one a second).
        max_bad_share: share of undecodable videos above which preparing fails.
        max_missing_share: share of the listed videos of a split that may not be there.
        validation_share: share of each class's training videos that are the validation split, of a
            `video_folder` that has none; 0 for none.
        embedded: how many videos `embedded` draws.
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
    max_missing_share: float = 0.05
    validation_share: float = 0.0
    embedded: EmbeddedConfig = field(default_factory=EmbeddedConfig)

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        for name in ("num_frames", "eval_batch_size"):
            require(getattr(self, name) >= 1, f"{path}.{name}", "must be at least 1")
        for name in ("batch_size", "num_threads", "num_workers", "frame_rate"):
            require(getattr(self, name) >= 0, f"{path}.{name}", "must not be negative")
        for name in ("max_bad_share", "max_missing_share"):
            require(0 <= getattr(self, name) <= 1, f"{path}.{name}", "must lie in [0, 1]")
        share = self.validation_share
        require(0 <= share < 1, f"{path}.validation_share", "must lie in [0, 1)")
        for split, number in vars(self.embedded).items():
            require(number >= 0, f"{path}.embedded.{split}", "must not be negative")
