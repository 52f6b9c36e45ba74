"""What is fixed in an exported model, whatever its format, and what every format refuses."""

from dataclasses import dataclass
from typing import Any

import jax

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.chunks import plan_chunks
from ar_net_jax.inference.step import Policy
from ar_net_jax.ops.routing import Chunks

PLATFORMS = ("cpu", "cuda", "tpu")
# A flatbuffer addresses 2 GiB, and so does a protocol buffer; 64 MiB are left for the program.
_MOST_BYTES = 2**31 - 2**26


@dataclass(frozen=True)
class ExportOptions:
    """What is fixed in an artifact.

    Attributes:
        num_frames: T, frames of every video.
        batch: videos per call; None leaves it open.
        platforms: that it can be compiled for, some of `PLATFORMS`.
        policy: `argmax` takes the most likely action, `sample` draws it, the same way each call.
        seed: of sampled decisions and of the random policy.
        chunks: sizes of chunk for every backbone; the usual ones of each platform by default.

    Raises:
        UserError: an impossible value.
    """

    num_frames: int
    batch: int | None = None
    platforms: tuple[str, ...] = PLATFORMS
    policy: Policy = "argmax"
    seed: int = 0
    chunks: Chunks | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise UserError(f"num_frames: must be at least 1, got {self.num_frames}")
        if self.batch is not None and self.batch < 1:
            raise UserError(f"batch: must be symbolic or at least 1, got {self.batch}")
        unknown = [name for name in self.platforms if name not in PLATFORMS]
        if unknown or not self.platforms:
            raise UserError(
                f"platforms: '{','.join(unknown)}' must be one or several of {','.join(PLATFORMS)}"
            )


def check_size(weights: Any) -> None:
    """Refuses weights that no one file of an export holds.

    Args:
        weights: arrays.

    Raises:
        UserError: they have 2 GiB or more.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    if size > _MOST_BYTES:
        raise UserError(
            f"the weights have {size / 2**30:.2f} GiB, and one artifact holds less than 2 GiB; "
            "`arnet convert --to model.safetensors` writes files of any size"
        )


def usual_chunks(config: Config, options: ExportOptions, platform: str) -> dict[str, Chunks]:
    """Sizes of chunk of every network, for devices that are not at hand: no plan is taken.

    Args:
        config: of the model.
        options: whose chunks go before the usual ones.
        platform: as JAX names it.

    Raises:
        UserError: impossible chunks.
    """
    networks, dtype = config.build_method().networks(), config.model.dtype
    return plan_chunks(networks, platform, options.chunks, dtype=dtype)
