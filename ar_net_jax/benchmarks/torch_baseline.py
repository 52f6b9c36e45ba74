"""PyTorch's own forward pass on Uniform's frames: is the baseline that speed is held to a fair one.

Needs torch and torchvision (the extra `parity`).
"""

from types import ModuleType
from typing import Any

import numpy as np

from ar_net_jax.benchmarks.rounds import Measurement
from ar_net_jax.benchmarks.subjects import Subject
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.extras import import_extra
from ar_net_jax.runtime.timing import Call


def import_torch() -> tuple[ModuleType, ModuleType]:
    """Imports torch and torchvision, which only a comparison needs.

    Raises:
        UserError: one is missing, or the two do not fit together.
    """
    torch, torchvision = (
        import_extra(name, "--against_torch", "parity") for name in ("torch", "torchvision")
    )
    return torch, torchvision


def torch_forward_calls(uniform: Subject, batch: int, platform: str) -> dict[str, Call]:
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
    model = uniform.config.model
    try:
        network = torchvision.models.get_model(model.backbones[0], num_classes=model.num_classes)
    except ValueError as error:
        raise UserError(f"--against_torch: torchvision has no {model.backbones[0]}") from error
    on_gpu = platform != "cpu"
    device, dtype = torch.device("cuda" if on_gpu else "cpu"), getattr(torch, model.dtype)
    size = model.resolutions[0]
    frames = torch.randn(batch * uniform.num_frames, 3, size, size).to(device, dtype)
    network = network.eval().to(device, dtype)
    calls = {}

    def add(name: str, network: Any, frames: Any) -> None:
        def call(number: int) -> None:
            with torch.inference_mode():
                network(frames)
            if on_gpu:
                torch.cuda.synchronize()

        call(0)
        calls[name] = call

    # A copy for each layout: `to` would change the one network in place.
    add("eager, NCHW", network, frames)
    layout = torch.channels_last
    beside = torchvision.models.get_model(model.backbones[0], num_classes=model.num_classes)
    beside = beside.eval().to(device, dtype).to(memory_format=layout)
    last = frames.to(memory_format=layout)
    add("eager, channels-last", beside, last)
    if on_gpu:
        add("compiled, channels-last", torch.compile(beside), last)
    return calls


def torch_ratios(
    uniform: Measurement, seconds: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Uniform's median time over PyTorch's on the same number of frames.

    Args:
        uniform: measured in the same rounds.
        seconds: of the calls from `torch_forward_calls`.

    Returns:
        By name `seconds`, `uniform_seconds` and their `ratio`; below 1 Uniform is the faster.
    """
    own = float(np.median(uniform.batch))
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        name: {"seconds": time, "uniform_seconds": own, "ratio": own / time}
        for name, time in medians.items()
    }
