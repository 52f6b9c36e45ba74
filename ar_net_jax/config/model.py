"""What every method's model has in common; each method adds the fields that are its own."""

from dataclasses import dataclass
from typing import Literal

from ar_net_jax.config.schema import require

Convention = Literal["macs", "paper"]
Head = Literal["mean", "max_mlp"]
CONVENTIONS: tuple[Convention, ...] = ("macs", "paper")
"""Ways to count the GFLOPs of a frame, see `ar_net_jax.costs`."""

HEAD_WIDTH = 4096
"""Units of the layer that `max_mlp` puts before the classifier."""

NOMINAL_CLASSES = 200
"""Outputs of a model whose number of classes no data has decided yet, as for counting its cost."""


@dataclass(frozen=True)
class ModelConfig:
    """Settings shared by all methods; a method's `Config` derives from this.

    Attributes:
        num_classes: C; 0 takes it from the data. Jobs that read no data count `NOMINAL_CLASSES`
            for 0.
        dropout: on the features before each classifier.
        head: how a video's prediction follows from its frames. `mean`: a linear classifier on each
            frame, averaged, as in the paper. `max_mlp`, as in works since 2021: each frame's
            features through a layer of `HEAD_WIDTH` units with BatchNorm and ReLU, the element-wise
            maximum over frames, a linear classifier on that.
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

    num_classes: int = 0
    dropout: float = 0.5
    head: Head = "mean"
    resize: Literal["nearest", "antialias"] = "nearest"
    dtype: Literal["float32", "bfloat16"] = "float32"
    padding: Literal["same", "symmetric", "static"] = "same"
    norm: Literal["tensorflow", "pytorch"] = "tensorflow"
    remat: bool = False
    gflops_convention: Convention = "macs"

    @property
    def head_width(self) -> int:
        """Units of the layer before each classifier; 0 where there is none."""
        return HEAD_WIDTH if self.head == "max_mlp" else 0

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        require(
            self.num_classes == 0 or self.num_classes >= 2,
            f"{path}.num_classes",
            "must be at least 2, or 0 to take it from the data",
        )
        require(0 <= self.dropout < 1, f"{path}.dropout", "must lie in [0, 1)")
