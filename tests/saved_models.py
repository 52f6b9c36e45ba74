"""Small models with random weights, saved as a training saves them, and videos of noise."""

from pathlib import Path

import jax
import numpy as np

from ar_net_jax.checkpoints import save_model
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.experiment import Config

AR_NET = {
    "num_classes": 4,
    "resolutions": (24, 16),
    "backbones": ("resnet8_tiny",),
    "skips": (1, 4),
    "policy": {"backbone": "resnet8_tiny", "resolution": 16, "hidden_size": 8},
}
UNIFORM = {"num_classes": 4, "resolution": 24, "backbone": "resnet8_tiny"}


def write_noise(path: Path, num_frames: int, fps: int) -> None:
    """A video of 40 x 32 pixels, every one of them drawn."""
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, 32, 40, 3), np.uint8)
    write_video(path, frames, fps=fps, crf=30)


def save_random_model(
    folder: Path,
    model: dict,
    *,
    action: int | None = None,
    method: str = "ar_net",
    **fields: object,
) -> Config:
    """A model of 8 frames; its decision head may be made to prefer one action.

    Further fields are the config's.
    """
    values = {"method": method, "model": model, "data": {"num_frames": 8}, **fields}
    config = Config.from_dict(values)
    shapes = config.build_method().variable_shapes()
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        # Kernels have several axes; what has one may be a variance.
        values = rng.normal(0, 0.1, leaf.shape) if leaf.ndim > 1 else rng.random(leaf.shape) + 0.5
        return values.astype(leaf.dtype)

    variables = jax.tree.map(draw, shapes)
    if action is not None:
        variables["params"]["policy"]["decision"]["bias"][action] = 100
    save_model(folder / "model", variables, config.to_dict())
    return config
