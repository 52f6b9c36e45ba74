"""A released checkpoint of SCSampler, and what torchvision's networks choose and predict with it.

The file holds those weights of `arnet_resnet.npz` that such a file has, MobileNetV2 and ResNet-50,
and a classifier on MobileNetV2's features. `scsampler.npz` holds the outputs, for small frames and
for one video at the sides and the numbers of frames of the paper; written again (needs the parity
extra) by

    python tests/golden/scsampler.py
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

if __package__:
    from golden import recipe
    from golden.libraries import import_torchvision
else:
    import recipe
    from libraries import import_torchvision

STORED = Path(__file__).parent / "scsampler.npz"
CLASSES = 200
_SEED = 11
_FROM_AR_NET = ("module.lite_backbone.", "module.base_model_list.0.", "module.new_fc_list.0.")


class Size(NamedTuple):
    """How large a case is.

    Attributes:
        videos: B.
        frames: T.
        chosen: k.
        main: side in pixels at which the main network looks at frames, which is that of the frames.
        sampler: side at which the sampler does.
    """

    videos: int
    frames: int
    chosen: int
    main: int
    sampler: int


SIZES = {"small": Size(2, 6, 3, 64, 32), "paper": Size(1, 16, 10, 224, 84)}


def frames(size: Size) -> np.ndarray:
    """Videos: uint8 [B, T, S, S, 3]."""
    return recipe.frames(_SEED, batch=size.videos, steps=size.frames, size=size.main)


def state() -> dict[str, np.ndarray]:
    """The file's `state_dict`."""
    ar_net = recipe.state_dict(recipe.load("arnet_resnet"))
    shared = {key: value for key, value in ar_net.items() if key.startswith(_FROM_AR_NET)}
    heads = {
        key: recipe.draw(key, shape, _SEED)
        for key, shape in (
            ("module.lite_fc.weight", (CLASSES, 1280)),
            ("module.lite_fc.bias", (CLASSES,)),
        )
    }
    return {**shared, **heads}


def outputs() -> dict[str, np.ndarray]:
    """PyTorch's outputs: by size `saliency` and `chosen` [B, T], and `logits` [B, 200]."""
    import torch

    weights, found = state(), {}
    with torch.no_grad():
        for name, size in SIZES.items():
            sampled = _classify(weights, size, "mobilenet_v2", size.sampler)
            saliency = sampled.amax(-1)
            index = saliency.topk(size.chosen, dim=1).indices
            main = _classify(weights, size, "resnet50", size.main)
            picked = main.gather(1, index[..., None].expand(-1, -1, main.shape[-1]))
            chosen = torch.zeros_like(saliency, dtype=torch.bool).scatter(1, index, True)
            found[f"{name}/saliency"] = saliency.numpy()
            found[f"{name}/chosen"] = chosen.numpy()
            found[f"{name}/logits"] = picked.mean(1).numpy()
    return found


def _classify(weights: dict[str, np.ndarray], size: Size, name: str, side: int):
    """Logits [B, T, 200] of a network on all frames, shrunk as the authors' code shrinks them."""
    import torch

    light = name == "mobilenet_v2"
    backbone, head = (
        ("lite_backbone", "lite_fc") if light else ("base_model_list.0", "new_fc_list.0")
    )
    network = getattr(import_torchvision().models, name)(weights=None)
    setattr(network, "classifier" if light else "fc", torch.nn.Identity())
    network.load_state_dict(_under(weights, f"module.{backbone}."))
    clips = torch.from_numpy(frames(size)).float() / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((clips - mean) / deviation).flatten(0, 1).permute(0, 3, 1, 2)
    x = torch.nn.functional.interpolate(x, size=(side, side), mode="nearest")
    features = network.eval()(x)
    logits = torch.nn.functional.linear(features, **_under(weights, f"module.{head}."))
    return logits.unflatten(0, clips.shape[:2])


def _under(weights: dict[str, np.ndarray], prefix: str) -> dict:
    """The tensors below a released name, by what is left of theirs."""
    import torch

    return {
        key.removeprefix(prefix): torch.from_numpy(np.array(value))
        for key, value in weights.items()
        if key.startswith(prefix)
    }


if __name__ == "__main__":
    np.savez_compressed(STORED, **outputs())
