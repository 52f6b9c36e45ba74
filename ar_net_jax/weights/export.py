"""Model files: `.safetensors` with the config inside, and released checkpoints."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.runtime.extras import import_extra
from ar_net_jax.runtime.storage import write_output
from ar_net_jax.weights.released.export import export_released

SAFETENSORS = ".safetensors"
"""How a model's one file ends."""

_CONFIG = "config"
"""Name of the config in a file's metadata; what tells our files from others."""


def save_safetensors(path: str | Path, config: Config, variables: Any) -> None:
    """Writes a model into one file, replacing an earlier one in one move.

    Args:
        path: of the file.
        config: goes into the metadata, as JSON.
        variables: the tree, whose arrays are named `params/...` and `batch_stats/...`.

    Raises:
        UserError: the file cannot be written.
    """
    flat = flatten_dict(variables, sep="/")
    arrays = {key: np.ascontiguousarray(array) for key, array in flat.items()}
    metadata = {_CONFIG: json.dumps(config.to_dict())}

    def write(file: Path) -> None:
        save_file(arrays, file, metadata)
        # It makes files that nobody but their owner may read.
        file.chmod(0o666 & ~_umask())

    write_output(path, write)


def _umask() -> int:
    """The process's mask of permissions, which can be read only by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def load_safetensors(path: str | Path) -> tuple[Config, dict[str, Any]]:
    """Reads what `save_safetensors` wrote.

    Returns:
        The config, and the variables as host arrays.

    Raises:
        UserError: the file is damaged, or holds no config.
    """
    if not holds_config(path):
        raise UserError(f"{path}: no model of this package: its metadata hold no '{_CONFIG}'")
    with safe_open(path, "np") as file:
        values = json.loads(file.metadata()[_CONFIG])
        arrays = {key: file.get_tensor(key) for key in file.keys()}
    return Config.from_dict(values), unflatten_dict(arrays, sep="/")


def holds_config(path: str | Path) -> bool:
    """Whether a `.safetensors` file is a model of this package.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    try:
        with safe_open(path, "np") as file:
            return _CONFIG in (file.metadata() or {})
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}); get or export it once more") from None


def save_released(path: str | Path, config: Config, variables: Any) -> None:
    """Writes a `.pth.tar` as the authors' code does, replacing an earlier one in one move.

    Raises:
        UserError: the authors' code cannot express the config, PyTorch is not installed, or the
            file cannot be written.
    """
    method = config.build_method()
    arrays = export_released(method, variables)
    torch = import_extra("torch", f"{path}: writing it", "torch")
    state = {key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}
    checkpoint = {
        "epoch": 0,
        "arch": next(iter(method.backbone_modules().values())).backbone,
        "state_dict": state,
        "optimizer": {},
        "best_prec1": 0.0,
    }
    write_output(path, lambda file: torch.save(checkpoint, file))
