"""State dictionaries from files, read as data alone: nothing in a file is ever run."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ar_net_jax.errors import UserError, first_line
from ar_net_jax.weights.torch_files import read_torch_file

PICKLED_SUFFIXES = (".pth", ".pth.tar", ".pt")
"""Names of files that `torch.save` wrote."""

SUFFIXES = (*PICKLED_SUFFIXES, ".safetensors")
"""Names of files that `read_state` reads."""


def read_state(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a PyTorch state dictionary.

    Args:
        path: a file of `torch.save` (`.pth`, `.pth.tar`, `.pt`), holding a state dictionary or a
            training's record with one under `state_dict`; or a `.safetensors` file.

    Returns:
        Key -> array in PyTorch's axis order. The arrays may be views of the file, so it should
        stay in place while they are in use.

    Raises:
        UserError: there is no such file, its name is of another kind, it is truncated or damaged,
            or it holds more than data.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.name.endswith(".safetensors"):
        return _read_safetensors(path)
    if path.name.endswith(PICKLED_SUFFIXES):
        return read_torch_file(path)
    raise UserError(
        f"{path}: unknown kind of file; weights are read from {', '.join(SUFFIXES)} files"
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return {key: _without_bfloat16(array) for key, array in load_file(path).items()}
    except SafetensorError as error:
        raise _damaged(path, error) from None
    except (TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{path}: holds numbers that NumPy does not know ({error}); save it in float32"
        ) from None


def _without_bfloat16(array: np.ndarray) -> np.ndarray:
    # NumPy's own types, which callers expect, have no bfloat16; float32 holds its every value.
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _damaged(path: Path, error: Exception) -> UserError:
    reason = first_line(error)[:120]
    return UserError(f"{path}: truncated or damaged ({reason}); get the file once more")
