"""torchvision, imported so that its networks can be built whatever else of it is missing."""

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest


def import_torchvision() -> ModuleType:
    """Imports it, declaring operators first that a build without its compiled part lacks.

    Skips the test that is running where PyTorch or torchvision is not installed.
    """
    for name in ("torch", "torchvision"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; the extra 'parity' brings it")
    import torch

    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
    # Kept on the module, because the definitions go with the library.
    torch.missing_operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        torch.missing_operators.define(
            f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    return importlib.import_module("torchvision")
