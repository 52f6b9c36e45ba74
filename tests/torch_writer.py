"""Files as `torch.save` writes them, put together by hand, so that they can also be wrong."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def text(value: str) -> bytes:
    """A text's instructions in a pickle."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    """An integer's instructions."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def name(full: str) -> bytes:
    """The instruction that looks up `module.name`."""
    module, _, attribute = full.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def row(*parts: bytes) -> bytes:
    """A tuple's instructions."""
    return b"(" + b"".join(parts) + b"t"


def call(full: str, *arguments: bytes) -> bytes:
    """The instructions that call a function."""
    return name(full) + row(*arguments) + b"R"


def storage(length: int, kind: str = "Float", key: str = "0", view: bytes | None = None) -> bytes:
    """A storage's instructions; with a view, even an empty one, in the form of the old format."""
    parts = [text("storage"), name(f"torch.{kind}Storage"), text(key), text("cpu"), number(length)]
    return row(*parts, *([] if view is None else [view])) + b"Q"


def tensor(
    held: bytes, size: tuple[int, ...], stride: tuple[int, ...] | None = None, offset: int = 0
) -> bytes:
    """A tensor's instructions; of one axis without gaps unless a stride is given."""
    axes = (row(*map(number, lengths)) for lengths in (size, (1,) if stride is None else stride))
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", held, number(offset), *axes, b"\x89", hooks)


def dictionary(items: Mapping[str, bytes]) -> bytes:
    """A dictionary's instructions."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def pickled(instructions: bytes) -> bytes:
    """A whole pickle."""
    return b"\x80\x02" + instructions + b"."


def write_new(
    path: Path,
    instructions: bytes,
    storages: Mapping[str, bytes] | None = None,
    extra: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> None:
    """Writes a file of the new format.

    Args:
        path: of the file.
        instructions: those of its object.
        storages: key -> contents.
        extra: name in the archive -> contents.
        compression: of all records.
    """
    records = {"x/data.pkl": pickled(instructions)}
    records |= {f"x/data/{key}": contents for key, contents in (storages or {}).items()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for record, contents in (records | dict(extra or {})).items():
            archive.writestr(record, contents)


def write_old(
    path: Path,
    instructions: bytes,
    storages: list[tuple[str, int, bytes]] | None = None,
    version: int = 1001,
) -> None:
    """Writes a file of the old format.

    Args:
        path: of the file.
        instructions: those of its object.
        storages: key, length and contents of each.
        version: of the format.
    """
    held = storages or []
    keys = b"](" + b"".join(text(key) for key, _, _ in held) + b"e"
    parts = [MAGIC, pickled(number(version)), pickled(b"}"), pickled(instructions), pickled(keys)]
    parts += [struct.pack("<q", length) + contents for _, length, contents in held]
    path.write_bytes(b"".join(parts))
