"""Rebuilds, with NumPy alone, the weights and frames behind the golden outputs of AR-Net.

The outputs in `arnet_resnet.npz` and `arnet_efficientnet.npz` were computed by the authors'
PyTorch code on weights that nobody trained: every tensor is drawn from a generator seeded by its
own name, so that no checkpoint need be stored. What cannot be drawn (calibrated BatchNorm
statistics, the centring of the LSTM's input) is in the files under `stored/<key>`.

    python tests/golden/recipe.py arnet_resnet OUT.pth.tar    # as a released file (needs torch)
"""

import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_FOLDER = Path(__file__).parent


def load(name: str) -> dict[str, np.ndarray]:
    """What is stored for `arnet_resnet` or `arnet_efficientnet`.

    The second file leaves out whatever is the same in the first: policy, actions and features.
    """
    stored: dict[str, np.ndarray] = {}
    for part in dict.fromkeys(("arnet_resnet", name)):
        stored |= np.load(_FOLDER / f"{part}.npz")
    return stored


def draw(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The tensor of that name: He-scaled for kernels, gentle for everything else."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    name = key.rsplit(".", 1)[-1]
    if name == "num_batches_tracked":
        return np.ones(shape, np.int64)
    if name in ("bias", "bias_ih", "bias_hh", "running_mean"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if name == "running_var":
        return rng.uniform(0.8, 1.25, shape).astype(np.float32)
    if len(shape) == 4:
        scale = np.sqrt(2.0 / np.prod(shape[1:]))
        return (scale * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 2:
        return (0.05 * rng.standard_normal(shape)).astype(np.float32)
    return rng.uniform(0.7, 1.3, shape).astype(np.float32)


def state_dict(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The checkpoint's `state_dict`: released key -> array, from what `load` gives."""
    seed = int(stored["seed"])
    state = {}
    for line in str(stored["keys"]).splitlines():
        key, sides = line.split("\t")
        shape = tuple(int(n) for n in sides.split(",") if n)
        state[key] = stored.get(f"stored/{key}")
        if state[key] is None:
            state[key] = draw(key, shape, seed)
    # Centres and spreads the features that enter the LSTM, so that decisions vary.
    weight = state["module.rnn.weight_ih"]
    weight = (20 * weight / np.sqrt(weight.shape[1]) / stored["policy_std"]).astype(np.float32)
    bias = state["module.rnn.bias_ih"] - weight @ stored["policy_mean"]
    state["module.rnn.weight_ih"] = weight
    state["module.rnn.bias_ih"] = bias.astype(np.float32)
    return state


def frames(seed: int, batch: int, steps: int, size: int = 224) -> np.ndarray:
    """Scenes that drift and cut, with gratings and texture: uint8 [batch, steps, size, size, 3].

    The videos of a larger batch start with those of a smaller one.
    """
    rng = np.random.default_rng([seed, 7])
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    out = np.zeros((batch, steps, size, size, 3), np.uint8)
    for video in range(batch):
        scene = _smooth(rng, 5, size)
        for step in range(steps):
            if rng.random() < 0.25:
                scene = _smooth(rng, 5, size)
            frequency, angle = rng.uniform(0.02, 0.6), rng.uniform(0, np.pi)
            phase = rng.uniform(0, 2 * np.pi)
            wave = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)[..., None]
            # Each call draws, so the order of these lines is part of the recipe.
            image = 0.7 * scene + 0.5 * _smooth(rng, 5, size)
            image = image + rng.uniform(0.1, 1) * _smooth(
                rng, int(rng.choice([4, 7, 14, 28])), size
            )
            image = image + rng.uniform(0, 1) * wave * rng.standard_normal(3)
            image = image + rng.uniform(0, 0.4) * rng.standard_normal((size, size, 3))
            image = 127 + rng.uniform(20, 60) * image + rng.uniform(-40, 40)
            out[video, step] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return out


def _smooth(rng: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """Bilinear interpolation of a random grid: [size, size, 3]."""
    grid = rng.standard_normal((cells, cells, 3))
    position = np.linspace(0, cells - 1, size)
    low = np.minimum(position.astype(int), cells - 2)
    share = (position - low)[:, None, None]
    rows = grid[low] * (1 - share) + grid[low + 1] * share
    share = (position - low)[None, :, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share


if __name__ == "__main__":
    import torch

    arrays = state_dict(load(sys.argv[1]))
    state = {key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}
    record = {"epoch": 1, "arch": "resnet50", "state_dict": state, "optimizer": {}}
    torch.save({**record, "best_prec1": 0.0}, sys.argv[2])
