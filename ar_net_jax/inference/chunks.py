"""Sizes of chunk in which the routed form runs each backbone, where none were measured.

A larger chunk may use the machine better, a smaller one wastes less on the last chunk of a
selection. `arnet tune` measures both; see `inference.plan`.

The sizes for CPUs follow measurements on two cores, in milliseconds per frame at chunks of 1, 2, 4,
8 and 16: ResNet-50 at 224 px 75, 59, 52, 52, 56; ResNet-34 at 168 px 68, 29, 25, 23, 24; ResNet-18
at 112 px 20, 18, 17, 6.2, 5.5; MobileNetV2 at 84 px 3.6, 2.5, 2.2, 1.7, 1.6. With 3x3 convolutions
by Winograd's way, on two busy cores of another CPU, ResNet-34 took 32, 29.9, 26.2 and 24.6 at 2, 4,
8 and 16, ResNet-50 61, 57 and 56 at 2, 4 and 8. A slim ResNet of three blocks at 48 px wants more:
0.17 at chunks of 8, 0.15 at 32, 0.11 at 64 and 128.

Within the loop, where the transformed kernels are made once, ResNet-50 took .93, .89 and .83 of its
time in one piece at 2, 4 and 8, in another run .84, .80 and .78 at 4, 8 and 16; ResNet-34 1.06,
.90 and .91; ResNet-18 .97, .89 and .89 at 8, 16 and 32. MobileNetV2 on 64 frames took .82, .73, .73
and .89 of its time in one piece in parts of 4, 8, 16 and 32.

The sizes for accelerators follow from the roofline. What a chunk costs whatever its size, the
reading of the weights and the start of every operation, shall be no more than an eighth of what its
frames cost, the longer of their arithmetic and their traffic. Time is told in bytes of memory
traffic: an accelerator does some 300 operations in the time of a byte (197 TFLOP/s and 819 GB/s on
a TPU v5e are 240, 989 and 3,350 on an H100 are 295). A frame's traffic is four passes over the
outputs of convolutions in the model's precision: what XLA's compiler for TPUs tells of ResNet-50,
85 MB for outputs of 22 MB. An operation takes 3 us to start, 4 MB.

On a GPU it takes longer, and few frames do not fill it: 80 MB, by ResNet-50 in bfloat16 on an H100,
which took 1.9, 2.1, 4.6 and 27.4 ms for 16, 32, 128 and 1,024 frames in one piece. So its chunks
are larger, and there is a third size wherever that saves a quarter of the second one's time.

A TPU has 128 MiB of memory on the chip (v5e, v6e), where maps need not go through the large one.
So no more frames are computed at once than have room there, a quarter of it for the largest map.
XLA's compiler tells for ResNet-50 in bfloat16, for a frame of 64, of 32 and of 16 in one piece,
26.7, 15.4 and 6.3 MB of traffic to the large memory; for EfficientNet-B3 20.3 of 64 and 9.3 of 16.
But every part starts all operations again, which must not cost more than the traffic that is saved.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from ar_net_jax.costs.network import Network
from ar_net_jax.costs.traffic import Traffic, count_traffic
from ar_net_jax.errors import UserError
from ar_net_jax.inference.plan import Form, Plan
from ar_net_jax.ops.routing import Chunks

# Sides in pixels, and the sizes of chunk from that side on. A few large frames keep a CPU busy, and
# more of them only leave its caches.
_CPU: tuple[tuple[int, Chunks], ...] = (
    (160, (8, 2)),
    (64, (16, 8)),
    (1, (128, 32, 8)),
)
# Of accelerators, see above.
_FLOPS_PER_BYTE, _PASSES, _MOST_OVERHEAD = 300, 4, 1 / 8
_START_BYTES, _GPU_START_BYTES = 4e6, 8e7
_WEIGHT_BYTES = 4  # Parameters are float32 always.
_LEAST, _MOST, _GPU_MOST = 16, 256, 512
# Of a TPU, see above: for the largest map; passes over the outputs that do not fit, 26.7 MB of 22.
_MAPS_BYTES, _SPILLED = 1 << 25, 1.2
# Each further size, for the rest; a GPU's third one, where a chunk of it takes so much less time.
_PART, _LEAST_SAVED = 4, 1 / 4


def plan_chunks(
    networks: Mapping[str, Network],
    platform: str,
    override: Chunks | None = None,
    plan: Plan | None = None,
    form: Form = "loop",
    *,
    dtype: str = "float32",
) -> dict[str, Chunks]:
    """The sizes of chunk of every network that takes frames, for `Mode.chunks`.

    Args:
        networks: of the model.
        platform: 'cpu', 'gpu', 'cuda', 'tpu', as JAX names its backends.
        override: sizes to be used for every network instead.
        plan: measured sizes, for the networks that it has; an override goes before it.
        form: of execution that a plan's sizes are for.
        dtype: of the networks' computation.

    Returns:
        Sizes in descending order by network.

    Raises:
        UserError: an override that is empty, not positive or not descending.
    """
    if override is not None:
        _check(override)
    measured = {} if plan is None else plan.chunks(form)
    return {
        name: override or measured.get(name) or _sizes(network, platform, dtype)
        for name, network in networks.items()
        if network.backbone
    }


def plan_parts(
    networks: Mapping[str, Network], platform: str, routing: str, *, dtype: str = "float32"
) -> dict[str, int] | None:
    """How many frames a network that runs on all of them computes at once, for `Mode.parts`.

    Args:
        networks: as in `plan_chunks`, like the following.
        platform: a GPU computes all at once; a TPU as many as its memory holds; a CPU a chunk.
        routing: the form. On a TPU only the masked one is computed in parts.
        dtype: of the networks' computation.

    Returns:
        Frames by network, or None for all.
    """
    framed = {name: network for name, network in networks.items() if network.backbone}
    if platform == "cpu":
        return {name: _sizes(network, platform, dtype)[0] for name, network in framed.items()}
    if platform != "tpu" or routing != "masked":
        return None
    return {name: frames_on_chip(_traffic(network), dtype) for name, network in framed.items()}


def _sizes(network: Network, platform: str, dtype: str) -> Chunks:
    if platform == "cpu":
        return next(chunks for least, chunks in _CPU if network.resolution >= least)
    traffic = _traffic(network)
    if platform != "tpu":
        return gpu_chunks(traffic, dtype)
    most = frames_on_chip(traffic, dtype)
    sizes = tpu_chunks(traffic, dtype)
    return sizes if sizes[0] <= most else (most, max(most // _PART, 1))


def _traffic(network: Network) -> Traffic:
    return count_traffic(network.backbone, network.resolution, network.padding)


def tpu_chunks(traffic: Traffic, dtype: str) -> Chunks:
    """Sizes by a TPU's roofline, see the module's docstring.

    Args:
        traffic: of a network on one frame.
        dtype: of its computation.

    >>> tpu_chunks(Traffic(25_500_000, 11_000_000, 1_600_000, 4_100_000_000, 54), "bfloat16")
    (32, 8)
    """
    size = _filling(_fixed_bytes(traffic, _START_BYTES), _frame_bytes(traffic, dtype), _MOST)
    return size, size // _PART


def gpu_chunks(traffic: Traffic, dtype: str) -> Chunks:
    """Sizes by a GPU's roofline, see the module's docstring.

    Args:
        traffic: of a network on one frame.
        dtype: of its computation.

    >>> gpu_chunks(Traffic(25_500_000, 11_000_000, 1_600_000, 4_100_000_000, 54), "bfloat16")
    (512, 128, 32)
    """
    fixed, frame = _fixed_bytes(traffic, _GPU_START_BYTES), _frame_bytes(traffic, dtype)
    size = _filling(fixed, frame, _GPU_MOST)
    second, third = size // _PART, size // _PART**2
    pays = fixed + third * frame <= (1 - _LEAST_SAVED) * (fixed + second * frame)
    return (size, second, third) if pays else (size, second)


def _filling(fixed: float, frame: float, most: int) -> int:
    """The least power of two of frames beside which what is fixed is small."""
    size = _LEAST
    while size < most and fixed > _MOST_OVERHEAD * size * frame:
        size *= 2
    return size


def _fixed_bytes(traffic: Traffic, start: float) -> float:
    return _WEIGHT_BYTES * traffic.weights + start * traffic.operations


def _frame_bytes(traffic: Traffic, dtype: str) -> float:
    moved = _PASSES * jnp.dtype(dtype).itemsize * traffic.outputs
    return max(moved, 2 * traffic.macs / _FLOPS_PER_BYTE)


def frames_on_chip(traffic: Traffic, dtype: str) -> int:
    """How many frames a TPU computes at once, a power of two; see the module's docstring.

    Args:
        traffic: of a network on one frame.
        dtype: of its computation.

    >>> frames_on_chip(Traffic(25_500_000, 11_000_000, 800_000, 4_100_000_000, 54), "bfloat16")
    16
    """
    bytes_each = jnp.dtype(dtype).itemsize
    room = _MAPS_BYTES // (bytes_each * traffic.largest)
    starts, saved = _START_BYTES * traffic.operations, _SPILLED * bytes_each * traffic.outputs
    most = _power_of_two_up_to(max(room, 1))
    while starts > most * saved:
        most *= 2
    return most


def _power_of_two_up_to(number: int) -> int:
    return 1 << number.bit_length() - 1


def _check(override: Chunks) -> None:
    descending = all(a > b for a, b in zip(override, override[1:]))
    if not override or min(override) < 1 or not descending:
        raise UserError(
            f"chunks: {override} must be whole numbers of frames from 1 on, in descending order, "
            "such as 16,4"
        )
