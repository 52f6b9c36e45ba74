"""Small files of `torch.save` in both of its formats, and what is in them.

`torch_new.pth.tar` and `torch_old.pth.tar` hold a training's record of the form that AR-Net's
authors released. They were written once, by PyTorch 2.13:

    python tests/golden/torch_files.py    # Writes both anew (needs torch).
"""

from pathlib import Path

import numpy as np

NEW = Path(__file__).parent / "torch_new.pth.tar"
OLD = Path(__file__).parent / "torch_old.pth.tar"


def expected() -> dict[str, np.ndarray]:
    """The arrays of either file."""
    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    return {
        "module.kernel": kernel,
        "module.transposed": kernel.transpose(1, 0, 2, 3),
        "module.part": kernel[1, 1:],
        "module.half": np.array([0.5, -2], np.float16),
        "module.brain": np.array([1, -0.15625, 2.0**100], np.float32),
        "module.steps": np.array(7),
        "module.mask": np.array([True, False]),
        "module.none": np.empty((0, 3), np.float32),
    }


def main() -> None:
    """Writes both files."""
    import torch

    arrays = expected()
    kernel = torch.tensor(arrays["module.kernel"])
    views = {"module.transposed": kernel.transpose(0, 1), "module.part": kernel[1, 1:]}
    state = {key: torch.tensor(array) for key, array in arrays.items()}
    state |= {"module.kernel": torch.nn.Parameter(kernel), **views}
    state["module.brain"] = state["module.brain"].bfloat16()
    record = {
        "epoch": 50,
        "arch": "res50",
        "state_dict": state,
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.ones(2)}},
            "param_groups": [{"lr": 1e-3, "nesterov": False, "dampening": None, "params": [0]}],
        },
        "best_prec1": np.float64(73.8),
        "best_tensor": torch.tensor(73.8),
    }
    torch.save(record, NEW)
    torch.save(record, OLD, _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
