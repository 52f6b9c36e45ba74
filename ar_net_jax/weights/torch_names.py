"""The few names that PyTorch's tensors are pickled with, and what each of them stands for here.

A pickle says how to rebuild an object: which function of which module to call with what. The
names of `NAMES` are all that a state dictionary needs, and none of them is looked up in its
module: each stands for a small function of this file, which checks its arguments and describes a
tensor without allocating anything.
"""

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ar_net_jax.errors import UserError

DTYPES: Mapping[str, np.dtype[Any]] = {
    "bool": np.dtype("?"),
    "uint8": np.dtype("<u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "int8": np.dtype("<i1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
}
"""PyTorch's name of a kind of number -> how a file keeps it; bfloat16 by its bits."""

_STORAGE_CLASSES = {
    "torch.BoolStorage": "bool",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.ShortStorage": "int16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.UntypedStorage": "uint8",
    "torch.storage.UntypedStorage": "uint8",
}

_MAX_AXES = 32  # What every NumPy allows.
_MAX_LENGTH = 2**62
# Kinds of number that only PyTorch has: eight bits of float, quantised, packed, half complex.
_FOREIGN_NUMBERS = ("float8_", "float4_", "qint", "quint", "bits", "complex32")


@dataclass(frozen=True, slots=True)
class Numbers:
    """A kind of number, which a class of storages or a dtype names.

    Attributes:
        name: a key of `DTYPES`.
    """

    name: str

    @property
    def itemsize(self) -> int:
        """Bytes of one number in a file."""
        return DTYPES[self.name].itemsize


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers in a row, which lie somewhere else in the file and may be those of many tensors.

    Attributes:
        key: the storage's name in the file.
        numbers: what it holds.
        length: how many the file holds under that name.
        start: the first one that belongs to this view of it.
        stop: the one after the last.
    """

    key: str
    numbers: Numbers
    length: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where the elements of a tensor are; nothing is known yet to be there.

    Attributes:
        storage: what holds them.
        offset: of the first one from the storage's `start`.
        size: length of every axis.
        stride: how many numbers further the next element of every axis is.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Inert(enum.Enum):
    """What stands for a value that is known to be harmless and that no state needs."""

    VALUE = enum.auto()


@dataclass(frozen=True, slots=True)
class Maker:
    """What a function or class of a pickle is replaced with.

    Attributes:
        make: arguments -> a value made of this module's records and Python's plain types.
    """

    make: Callable[[tuple[object, ...]], object]


def damaged(reason: str) -> UserError:
    """The error of a file that is not as `torch.save` writes it, to be preceded by its path."""
    return UserError(f"truncated or damaged ({reason}); get the file once more")


def find(module: str, name: str) -> Maker | Numbers:
    """What stands for a name of a pickle.

    Raises:
        UserError: it is none of `NAMES`; the message is to be preceded by the file's path.
    """
    found = NAMES.get(f"{module}.{name}")
    if found is not None:
        return found
    # The name is an attacker's to choose, and the message has to stay one readable line.
    full = "".join(c if c.isascii() and c.isprintable() else "?" for c in f"{module}.{name}")[:100]
    if module == "torch" and (name.endswith("Storage") or name.startswith(_FOREIGN_NUMBERS)):
        raise UserError(f"holds numbers that NumPy does not know ({full}); save it in float32")
    raise UserError(
        f"refused, because it holds {full}, which is code and no array; none of it was run. Save "
        "the state dictionary alone: torch.save(model.state_dict(), FILE)"
    )


def make_storage(reference: object) -> Storage:
    """A storage from a pickle's reference to it.

    Args:
        reference: `("storage", class, key, device, length)`, and in the old format
            `(view's key, start, length) | None` besides.

    Raises:
        UserError: it is anything else.
    """
    match reference:
        case ("storage", Numbers() as numbers, str(key), str(), length):
            view: object = None
        case ("storage", Numbers() as numbers, str(key), str(), length, view):
            pass
        case _:
            raise damaged("an unknown reference to a storage")
    length = _count(length, "a storage's length")
    match view:
        case None:
            return Storage(key, numbers, length, 0, length)
        case (str(), first, many):
            start = _count(first, "a view's start")
            stop = start + _count(many, "a view's length")
        case _:
            raise damaged("an unknown view of a storage")
    if stop > length:
        raise damaged(f"a view reaches beyond storage {key[:40]!r}")
    return Storage(key, numbers, length, start, stop)


def to_key(value: object) -> str | None:
    """The key of a dictionary as text; None if it is of a kind that no state has.

    Text's hashes cannot be foreseen, whereas numbers can be chosen to collide.
    """
    if value is None or isinstance(value, (str, int, float)):
        return str(value)
    return None


def _count(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_LENGTH:
        raise damaged(f"{what} is no count")
    return value


def _counts(values: object, what: str) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > _MAX_AXES:
        raise damaged(f"{what} is no list of at most {_MAX_AXES} counts")
    return tuple(_count(value, what) for value in values)


def _make_tensor(arguments: tuple[object, ...]) -> Tensor:
    """`_rebuild_tensor(storage, offset, size, stride)`."""
    match arguments:
        case (Storage() as storage, offset, size, stride):
            pass
        case _:
            raise damaged("a tensor without storage, offset, size and stride")
    tensor = Tensor(
        storage,
        _count(offset, "a tensor's offset"),
        _counts(size, "a tensor's size"),
        _counts(stride, "a tensor's stride"),
    )
    if len(tensor.size) != len(tensor.stride):
        raise damaged("a tensor with more sizes than strides, or fewer")
    return tensor


def _make_tensor_2(arguments: tuple[object, ...]) -> Tensor:
    """`_rebuild_tensor_v2(..., requires_grad, hooks[, metadata])`."""
    if len(arguments) not in (6, 7):
        raise damaged(f"a tensor of {len(arguments)} parts")
    return _plain(_make_tensor(arguments[:4]), arguments[6:])


def _make_tensor_3(arguments: tuple[object, ...]) -> Tensor:
    """`_rebuild_tensor_v3(..., requires_grad, hooks, dtype[, metadata])`, on untyped bytes."""
    if len(arguments) not in (7, 8) or not isinstance(arguments[6], Numbers):
        raise damaged(f"a tensor of {len(arguments)} parts")
    tensor = _plain(_make_tensor(arguments[:4]), arguments[7:])
    storage, numbers = tensor.storage, arguments[6]
    length = storage.length * storage.numbers.itemsize // numbers.itemsize
    if (storage.start, storage.stop) != (0, storage.length):
        raise damaged("a view of untyped bytes")
    typed = Storage(storage.key, numbers, length, 0, length)
    return Tensor(typed, tensor.offset, tensor.size, tensor.stride)


def _plain(tensor: Tensor, metadata: tuple[object, ...]) -> Tensor:
    if any(isinstance(flags, dict) and any(flags.values()) for flags in metadata):
        raise UserError(
            "holds a conjugated or negated view; save tensor.resolve_conj().resolve_neg() instead"
        )
    return tensor


def _make_parameter(arguments: tuple[object, ...]) -> Tensor:
    """`_rebuild_parameter(tensor, requires_grad, hooks)`, perhaps with attributes besides."""
    if len(arguments) not in (3, 4) or not isinstance(arguments[0], Tensor):
        raise damaged("a parameter without a tensor")
    return arguments[0]


def _make_dictionary(arguments: tuple[object, ...]) -> dict[str, object]:
    """`OrderedDict()`, or of a list of pairs, as Python 2 wrote it."""
    match arguments:
        case ():
            return {}
        case (list(pairs),):
            return _from_pairs(pairs)
    raise damaged("a dictionary of an unknown form")


def _from_pairs(pairs: list[object]) -> dict[str, object]:
    found = {}
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise damaged("a dictionary's item is no pair")
        key = to_key(pair[0])
        if key is not None:
            found[key] = pair[1]
    return found


def _make_size(arguments: tuple[object, ...]) -> tuple[int, ...]:
    """`torch.Size(lengths)`."""
    if len(arguments) != 1:
        raise damaged("a size of an unknown form")
    return _counts(arguments[0], "a size")


def _make_nothing(arguments: tuple[object, ...]) -> Inert:
    return Inert.VALUE


NAMES: Mapping[str, Maker | Numbers] = {
    "collections.OrderedDict": Maker(_make_dictionary),
    "torch._utils._rebuild_tensor": Maker(_make_tensor),
    "torch._utils._rebuild_tensor_v2": Maker(_make_tensor_2),
    "torch._utils._rebuild_tensor_v3": Maker(_make_tensor_3),
    "torch._utils._rebuild_parameter": Maker(_make_parameter),
    "torch._utils._rebuild_parameter_with_state": Maker(_make_parameter),
    "torch.Size": Maker(_make_size),
    "torch.device": Maker(_make_nothing),
    # A score that was kept as a NumPy scalar, under the names of NumPy 1 and 2.
    "numpy.core.multiarray.scalar": Maker(_make_nothing),
    "numpy._core.multiarray.scalar": Maker(_make_nothing),
    "numpy.dtype": Maker(_make_nothing),
    "_codecs.encode": Maker(_make_nothing),
    **{name: Numbers(numbers) for name, numbers in _STORAGE_CLASSES.items()},
    **{f"torch.{numbers}": Numbers(numbers) for numbers in DTYPES},
}
"""Every name that a pickle may hold, and what it stands for."""


def count_elements(tensor: Tensor) -> int:
    """How many elements a tensor says it has.

    Raises:
        UserError: it reaches beyond its storage, or has more elements than that, as a tensor that
            was expanded without copying has.
    """
    elements = math.prod(tensor.size)
    if elements == 0:
        return 0
    key, available = tensor.storage.key[:40], tensor.storage.stop - tensor.storage.start
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.size, tensor.stride))
    if last >= available:
        raise damaged(f"a tensor reaches beyond storage {key!r}")
    if elements > available:
        raise UserError(
            f"holds a tensor of {elements} elements on a storage of {available}; save "
            "tensor.contiguous() instead"
        )
    return elements
