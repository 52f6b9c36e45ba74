"""Sizes of chunk in which the routed form runs each backbone.

A larger chunk may use the machine better, a smaller one wastes less on the last chunk of a
selection. The sizes for CPUs follow measurements on two cores, in milliseconds per frame at chunks
of 1, 2, 4, 8 and 16: ResNet-50 at 224 px 75, 59, 52, 52, 56; ResNet-34 at 168 px 68, 29, 25, 23,
24; ResNet-18 at 112 px 20, 18, 17, 6.2, 5.5; MobileNetV2 at 84 px 3.6, 2.5, 2.2, 1.7, 1.6. A slim
ResNet of three blocks at 48 px wants more: 0.17 at chunks of 8, 0.15 at 32, 0.11 at 64 and 128.
"""

from collections.abc import Mapping

from ar_net_jax.costs.network import Network
from ar_net_jax.errors import UserError
from ar_net_jax.ops.routing import Chunks

# Sides in pixels, and the sizes of chunk from that side on. A few large frames keep a CPU busy, and
# more of them only leave its caches.
_CPU: tuple[tuple[int, Chunks], ...] = ((160, (4, 2)), (64, (16, 8)), (1, (128, 32, 8)))
# Accelerators need many frames at once to fill them.
_ACCELERATOR: Chunks = (64, 16)


def plan_chunks(
    networks: Mapping[str, Network], platform: str, override: Chunks | None = None
) -> dict[str, Chunks]:
    """The sizes of chunk of every network that takes frames, for `Mode.chunks`.

    Args:
        networks: of the model.
        platform: 'cpu', 'gpu', 'cuda', 'tpu', as JAX names its backends.
        override: sizes to be used for every network instead.

    Returns:
        Sizes in descending order by network.

    Raises:
        UserError: an override that is empty, not positive or not descending.
    """
    if override is not None:
        _check(override)
    return {
        name: override or _sizes(network.resolution, platform)
        for name, network in networks.items()
        if network.backbone
    }


def _sizes(side: int, platform: str) -> Chunks:
    if platform != "cpu":
        return _ACCELERATOR
    return next(chunks for least, chunks in _CPU if side >= least)


def _check(override: Chunks) -> None:
    descending = all(a > b for a, b in zip(override, override[1:]))
    if not override or min(override) < 1 or not descending:
        raise UserError(
            f"chunks: {override} must be whole numbers of frames from 1 on, in descending order, "
            "such as 16,4"
        )
