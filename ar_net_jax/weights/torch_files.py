"""State dictionaries of `torch.save`, read without PyTorch and without running anything.

Since PyTorch 1.6 a file is a zip archive: one record is a pickle, which names storages, and each
storage is a record of its own. Before, a file was five pickles in a row (a magic number, a
version, the machine's byte order, the object, the keys of its storages), then each storage after
its length. Either way the file is mapped into memory and the arrays are views of it: nothing is
allocated only because a file says so.
"""

import mmap
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ar_net_jax.errors import UserError
from ar_net_jax.weights.torch_names import DTYPES, Storage, Tensor, count_elements, damaged
from ar_net_jax.weights.torch_pickle import Unpickler

_ZIP_MAGIC = b"PK\x03\x04"
_TAR_MAGIC = b"ustar"
_TAR_MAGIC_AT = 257
_PICKLE_MAGIC = b"\x80"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# Before a record's name in a zip archive: magic, what the directory tells too, and the lengths of
# the name and of what stands between that and the record.
_RECORD_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1
_NO_ARCHIVE = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    OverflowError,
    OSError,
    EOFError,
    struct.error,
)
_SAVE = "torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True)
class _Storages:
    """The numbers of a file.

    Attributes:
        data: the file.
        places: a storage's key -> where it begins in the file, and where it ends.
        byte_order: `<` or `>`, of all its numbers.
    """

    data: mmap.mmap
    places: dict[str, tuple[int, int]]
    byte_order: Literal["<", ">"] = "<"
    _known: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def view(self, tensor: Tensor) -> np.ndarray:
        """The elements of a tensor, not to be written to.

        Raises:
            UserError: its storage is missing, or does not hold all of it.
        """
        values = self._values(tensor.storage)
        elements = count_elements(tensor)
        size = values.dtype.itemsize
        # The stride of an axis of one element is never taken, and may be any number.
        strides = [s * size if n > 1 else 0 for n, s in zip(tensor.size, tensor.stride)]
        first = (tensor.storage.start + tensor.offset) * size
        try:
            if elements == 0:
                return np.empty(tensor.size, values.dtype)
            # NumPy checks once more that all of it is within the storage.
            return np.ndarray(tensor.size, values.dtype, values, first, strides)
        except (ValueError, OverflowError) as error:
            raise damaged(f"a tensor on storage {tensor.storage.key[:40]!r}: {error}") from None

    def _values(self, storage: Storage) -> np.ndarray:
        """All of a storage; what cannot be a view of the file is copied once for all tensors."""
        if storage.key not in self.places:
            raise damaged(f"storage {storage.key[:40]!r} is missing")
        start, stop = self.places[storage.key]
        wanted = storage.length * storage.numbers.itemsize
        if wanted > stop - start:
            raise damaged(f"storage {storage.key[:40]!r} has {stop - start} bytes of {wanted}")
        known = self._known.get((storage.key, storage.numbers.name))
        if known is None:
            kind = DTYPES[storage.numbers.name].newbyteorder(self.byte_order)
            known = np.frombuffer(self.data, np.uint8)[start : start + wanted].view(kind)
            known = _for_numpy(known, storage.numbers.name)
            known.setflags(write=False)
            self._known[storage.key, storage.numbers.name] = known
        return known


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dictionary that `torch.save` wrote, in its new or old format.

    Args:
        path: a file that holds a state dictionary, or a training's record with one under
            `state_dict`.

    Returns:
        Key -> array in PyTorch's axis order, bfloat16 as float32. What is no tensor is left out.
        The arrays are read-only and may be views of the file, so it should stay in place while
        they are in use.

    Raises:
        UserError: the file cannot be read, is truncated or damaged, was not written by
            `torch.save`, holds code or numbers that NumPy does not know, or has no tensors.
    """
    try:
        with path.open("rb") as file:
            content, storages = _read(file)
        tensors = _find_tensors(content)
        return {key: storages.view(tensor) for key, tensor in tensors.items()}
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _find_tensors(content: object) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    items = content.items() if isinstance(content, dict) else ()
    tensors = {key: value for key, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"holds no state dictionary; save one with {_SAVE}")
    return tensors


def _read(file: BinaryIO) -> tuple[object, _Storages]:
    if file.seek(0, 2) == 0:
        raise damaged("it is empty")
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if data[: len(_ZIP_MAGIC)] == _ZIP_MAGIC:
        return _read_archive(file, data)
    if data[_TAR_MAGIC_AT : _TAR_MAGIC_AT + len(_TAR_MAGIC)] == _TAR_MAGIC:
        raise UserError(
            "has the tar format of PyTorch before 0.2, which is not read here; load it with "
            f"PyTorch and save it anew: {_SAVE}"
        )
    if data[: len(_PICKLE_MAGIC)] != _PICKLE_MAGIC:
        raise UserError(
            "truncated, or not written by torch.save; nothing in it was run. Get the file once more"
        )
    return _read_legacy(data)


def _read_archive(file: BinaryIO, data: mmap.mmap) -> tuple[object, _Storages]:
    records = _list_records(file, data)
    # An archive has one folder, named after the file that was first written.
    pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UserError(f"is a zip archive, but none of torch.save; save a state with {_SAVE}")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in records:
        raise UserError(
            "refused, because it holds a TorchScript program, which is code; none of it was run. "
            f"Save the state dictionary alone: {_SAVE}"
        )
    content = Unpickler(data, *records[pickles[0]]).load()
    byte_order = data[slice(*records.get(f"{folder}byteorder", (0, 0)))] or b"little"
    if byte_order not in (b"little", b"big"):
        raise damaged("an unknown byte order")
    prefix = f"{folder}data/"
    places = {
        name.removeprefix(prefix): place
        for name, place in records.items()
        if name.startswith(prefix)
    }
    return content, _Storages(data, places, "<" if byte_order == b"little" else ">")


def _list_records(file: BinaryIO, data: mmap.mmap) -> dict[str, tuple[int, int]]:
    """Name -> where a record begins and ends, of all records of a zip archive."""
    try:
        entries = zipfile.ZipFile(file).infolist()
    except _NO_ARCHIVE as error:
        raise damaged(f"its directory cannot be read: {error}") from None
    # Records that lie on top of each other could make much out of little.
    if sum(entry.file_size for entry in entries) > len(data):
        raise damaged("its records are larger than the file")
    records: dict[str, tuple[int, int]] = {}
    for entry in entries:
        if entry.filename in records:
            raise damaged(f"two records are named {entry.filename[:80]!r}")
        records[entry.filename] = _find_record(entry, data)
    return records


def _find_record(entry: zipfile.ZipInfo, data: mmap.mmap) -> tuple[int, int]:
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
        raise UserError(
            "holds compressed or encrypted records, which torch.save does not write; save it anew: "
            + _SAVE
        )
    begin = entry.header_offset
    header = data[begin : begin + _RECORD_HEADER.size] if begin >= 0 else b""
    if len(header) < _RECORD_HEADER.size or not header.startswith(_ZIP_MAGIC):
        raise damaged(f"record {entry.filename[:80]!r} is not where the directory says")
    _, name, extra = _RECORD_HEADER.unpack(header)
    start = begin + _RECORD_HEADER.size + name + extra
    if entry.file_size > len(data) - start:
        raise damaged(f"record {entry.filename[:80]!r} reaches beyond the file")
    return start, start + entry.file_size


def _read_legacy(data: mmap.mmap) -> tuple[object, _Storages]:
    pickles = Unpickler(data, 0, len(data))
    if pickles.load() != _LEGACY_MAGIC:
        raise UserError(f"was not written by torch.save; save a state with {_SAVE}")
    if pickles.load() != _LEGACY_PROTOCOL:
        raise damaged("an unknown version of the old format")
    pickles.load()  # The writer's byte order; storages are little-endian whatever it says.
    content = pickles.load()
    keys = pickles.load()
    places: dict[str, tuple[int, int]] = {}
    position = pickles.position
    for key in keys if isinstance(keys, list) else ():
        storage = pickles.storages.get(key) if isinstance(key, str) else None
        if storage is None or key in places:
            raise damaged("its list of storages is not that of its tensors")
        start = position + 8
        position = start + storage.length * storage.numbers.itemsize
        if position > len(data):
            raise damaged(f"it ends within storage {key[:40]!r}")
        if int.from_bytes(data[start - 8 : start], "little") != storage.length:
            raise damaged(f"storage {key[:40]!r} has another length than its tensors say")
        places[key] = (start, position)
    return content, _Storages(data, places)


def _for_numpy(values: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """Numbers as callers expect them: aligned, in the machine's byte order, of a NumPy type."""
    if name == "bfloat16":
        # The upper half of a float32.
        bits = values.astype(np.uint32)
        np.left_shift(bits, 16, out=bits)
        return bits.view(np.float32)
    values = np.require(values, requirements="A")
    return values.astype(values.dtype.newbyteorder("="), copy=False)
