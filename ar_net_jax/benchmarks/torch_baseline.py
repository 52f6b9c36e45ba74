"""PyTorch's own forward pass on Uniform's frames: is the baseline that speed is held to a fair one.

Needs torch and torchvision (the extra `parity`).
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ar_net_jax.benchmarks.entries import Entry
from ar_net_jax.benchmarks.measure import Measurement
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.extras import import_extra
from ar_net_jax.runtime.timing import Call


def import_torch() -> tuple[ModuleType, ModuleType]:
    """Imports torch and torchvision, which only a comparison needs.

    Raises:
        UserError: one is missing, or the two do not fit together.
    """
    torch, torchvision = (
        import_extra(name, "--against-torch", "parity") for name in ("torch", "torchvision")
    )
    return torch, torchvision


def torch_forward_calls(uniform: Entry, batch: int, platform: str) -> dict[str, Call]:
    """Torchvision's network of Uniform's kind, fresh, on as many frames in one batch.

    Args:
        uniform: at all frames.
        batch: videos.
        platform: 'cpu', or else the CUDA device is used.

    Returns:
        By name a call for the layouts NCHW and channels-last in eager mode and, on a GPU, for
        channels-last under `torch.compile`; warmed up. Frames are normalised beforehand.

    Raises:
        UserError: no torch or torchvision here, or no such network there.
    """
    torch, torchvision = import_torch()
    (described,) = uniform.method.networks().values()
    name, size, outputs = described.backbone, described.resolution, described.outputs
    try:
        network = torchvision.models.get_model(name, num_classes=outputs)
    except ValueError as error:
        raise UserError(f"--against-torch: torchvision has no {name}") from error
    on_gpu = platform != "cpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    dtype = getattr(torch, uniform.config.model.dtype)
    frames = torch.randn(batch * uniform.num_frames, 3, size, size).to(device, dtype)
    network = network.eval().to(device, dtype)
    calls: dict[str, Call] = {}

    def add(title: str, network: Any, frames: Any) -> None:
        def call(number: int) -> None:
            with torch.inference_mode():
                network(frames)
            if on_gpu:
                torch.cuda.synchronize()

        call(0)
        calls[title] = call

    # A copy for each layout: `to` would change the one network in place.
    add("eager, NCHW", network, frames)
    layout = torch.channels_last
    beside = torchvision.models.get_model(name, num_classes=outputs)
    beside = beside.eval().to(device, dtype).to(memory_format=layout)
    last = frames.to(memory_format=layout)
    add("eager, channels-last", beside, last)
    if on_gpu:
        add("compiled, channels-last", torch.compile(beside), last)
    return calls


@dataclass(frozen=True)
class TorchRatio:
    """Uniform's median time beside PyTorch's on the same number of frames.

    Attributes:
        seconds: of PyTorch.
        uniform_seconds: of Uniform.
        ratio: of Uniform's to PyTorch's; below 1 Uniform is the faster.
    """

    seconds: float
    uniform_seconds: float
    ratio: float


def torch_ratios(uniform: Measurement, seconds: dict[str, np.ndarray]) -> dict[str, TorchRatio]:
    """Uniform held against PyTorch.

    Args:
        uniform: measured in the same rounds.
        seconds: of the calls from `torch_forward_calls`, by name.
    """
    own = float(np.median(uniform.batch))
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {name: TorchRatio(time, own, own / time) for name, time in medians.items()}
