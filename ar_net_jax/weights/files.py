"""State dictionaries from files, read as data alone: nothing in a file is ever run."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ar_net_jax.errors import UserError, first_line
from ar_net_jax.runtime.extras import import_extra

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
            it holds more than data, or PyTorch is needed and missing.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.name.endswith(".safetensors"):
        return _read_safetensors(path)
    if path.name.endswith(PICKLED_SUFFIXES):
        return _read_pickled(path)
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


def _read_pickled(path: Path) -> dict[str, np.ndarray]:
    torch = import_extra("torch", f"{path}: reading it", "torch")
    # Only the format since PyTorch 1.6, a zip archive, can be mapped into memory.
    mapped = zipfile.is_zipfile(path)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise _damaged(path, error) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = content.items() if isinstance(content, Mapping) else ()
    state = {str(key): _to_numpy(value) for key, value in tensors if torch.is_tensor(value)}
    if not state:
        raise UserError(
            f"{path}: holds no state dictionary; save one with torch.save(model.state_dict(), FILE)"
        )
    return state


def _without_bfloat16(array: np.ndarray) -> np.ndarray:
    # NumPy's own types, which callers expect, have no bfloat16; float32 holds its every value.
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def _numpy_scalars() -> list[Any]:
    """What a score kept as a NumPy scalar is pickled with, under its names in NumPy 1 and 2."""
    scalar = np.float64(0).__reduce__()[0]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        np.dtypes.Float64DType,
        np.dtypes.Float32DType,
    ]


def _refused(path: Path, reason: str) -> UserError:
    found = re.search(r"GLOBAL (\w[\w.]*)", reason)
    if found is None:
        return UserError(
            f"{path}: truncated, or not written by torch.save; nothing in it was run. Get the file "
            "once more"
        )
    return UserError(
        f"{path}: refused, because it holds {found.group(1)}, which is code and no array; none of "
        "it was run. Save the state dictionary alone: torch.save(model.state_dict(), FILE)"
    )


def _damaged(path: Path, error: Exception) -> UserError:
    reason = first_line(error)[:120]
    return UserError(f"{path}: truncated or damaged ({reason}); get the file once more")
