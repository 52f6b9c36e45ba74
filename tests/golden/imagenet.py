r"""What torchvision and timm compute on weights drawn from seeds; nobody trained them.

The tests compare with the stored values, `tests/golden/imagenet.npz`, without PyTorch. To make
them anew (needs the extra `parity`):

    python tests/golden/imagenet.py tests/golden/imagenet.npz
"""

import sys
import zlib
from typing import Any, NamedTuple

import numpy as np

from ar_net_jax import backbones
from ar_net_jax.backbones.layouts import from_flax
from ar_net_jax.weights.imagenet import variable_shapes

if __package__:
    from golden.libraries import import_torchvision
else:
    from libraries import import_torchvision


class Case(NamedTuple):
    """A backbone, the reference it is compared with, and the settings it must have for that.

    `model` is the reference's name for it.
    """

    backbone: str
    library: str
    model: str
    padding: str = "same"
    norm: str = "tensorflow"

    @property
    def key(self) -> str:
        """Under which the golden features are stored."""
        return f"{self.library}:{self.model}"

    @property
    def variance(self) -> float:
        """What the drawn variances are multiplied by.

        An EfficientNet's squeeze-excite halves everything, and without amplification too little
        of the frames would be left in the features. With too much, a deep one is chaotic: float32
        would not agree with float64.
        """
        if not self.backbone.startswith("efficientnet_b"):
            return 1.0
        return 0.9 if self.backbone == "efficientnet_b5" else 0.8


_VARIANTS = tuple(f"efficientnet_b{i}" for i in range(6))
_LITE = tuple(f"efficientnet_lite{i}" for i in range(3))

CASES = (
    *(Case(n, "torchvision", n) for n in ("resnet18", "resnet34", "resnet50", "resnet101")),
    Case("mobilenet_v2", "torchvision", "mobilenet_v2"),
    *(Case(n, "timm", n) for n in ("resnet18", "resnet34", "resnet50", "resnet101")),
    Case("mobilenet_v2", "timm", "mobilenetv2_100"),
    *(Case(n, "timm", f"tf_{n}") for n in _VARIANTS),
    *(Case(n, "timm", n, "symmetric", "pytorch") for n in _VARIANTS),
    *(Case(n, "torchvision", n, "symmetric", "pytorch") for n in _VARIANTS[:5]),
    Case("efficientnet_b5", "torchvision", "efficientnet_b5", "symmetric", "tensorflow"),
    *(Case(n, "timm", f"tf_{n}") for n in _LITE),
    *(Case("convnext_tiny", library, "convnext_tiny") for library in ("timm", "torchvision")),
)

# One of each architecture, and B0 under both padding rules. Each takes seconds to compile.
GOLDEN = tuple(
    case
    for case in CASES
    if (case.library == "torchvision") == (not case.backbone.startswith("efficientnet"))
    and (
        case.backbone in ("efficientnet_b0", *_LITE)
        or case.model.startswith("tf_") == (case.backbone[-1] in "135")
        or case.library == "torchvision"
    )
)


def draw(key: str, shape: tuple[int, ...], variance: float) -> np.ndarray:
    """The float32 array of that name: He-scaled for kernels, gentle for everything else."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if len(shape) in (2, 4):
        scale = np.sqrt(2.0 / np.prod(shape[1:]))
        return (scale * rng.standard_normal(shape)).astype(np.float32)
    if key.endswith((".bias", ".running_mean")):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    scale = variance if key.endswith("running_var") else 1.0
    return (scale * rng.uniform(0.5, 1.0, shape)).astype(np.float32)


def draw_backbone(name: str, layout: str, variance: float = 1.0) -> dict[str, np.ndarray]:
    """A backbone's drawn state dictionary, without a classifier, under the names of a layout."""
    shapes = variable_shapes(name)
    state = {}
    for entry in backbones.get(name).entries(layout):
        shape = from_flax(entry, np.empty(shapes[entry.collection, *entry.path], bool)).shape
        state[entry.source] = draw(entry.source, shape, variance)
    return state


def frames(rows: int, columns: int) -> np.ndarray:
    """Two normalised frames, float32 [2, rows, columns, 3]."""
    rng = np.random.default_rng([rows, columns])
    return rng.standard_normal((2, rows, columns, 3), np.float32)


def reference(case: Case) -> Any:
    """The reference's module, which computes pooled features, with drawn weights."""
    torchvision = import_torchvision()
    import timm
    import torch

    if case.library == "timm":
        model = timm.create_model(case.model, num_classes=0)
    else:
        model = getattr(torchvision.models, case.model)()
        if case.model.startswith("convnext"):
            model.classifier[2] = torch.nn.Identity()
        else:
            name = "fc" if case.model.startswith("resnet") else "classifier"
            setattr(model, name, torch.nn.Identity())
    state = {
        key: torch.from_numpy(draw(key, tuple(value.shape), case.variance))
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    model.load_state_dict(state, strict=False)
    return model.eval()


def reference_features(case: Case, pixels: np.ndarray) -> np.ndarray:
    """The reference's features float32 [N, D] of normalised frames [N, H, W, 3]."""
    import torch

    with torch.inference_mode():
        return reference(case)(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()


if __name__ == "__main__":
    np.savez_compressed(
        sys.argv[1], **{case.key: reference_features(case, frames(64, 64)) for case in GOLDEN}
    )
