"""Files that are broken, or made to do harm, end in one line, and nothing in them is run."""

import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from golden import torch_files
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_writer import (
    call,
    dictionary,
    name,
    number,
    pickled,
    row,
    storage,
    tensor,
    text,
    write_new,
    write_old,
)

from ar_net_jax.errors import UserError
from ar_net_jax.weights.torch_files import read_torch_file
from ar_net_jax.weights.torch_pickle import MAX_STEPS

FOUR = np.array([1, 2, 3, 4], "<f4").tobytes()
GOLDEN = [torch_files.NEW, torch_files.OLD]


def _refused(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_torch_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("old", [True, False], ids=["old", "new"])
@pytest.mark.parametrize(
    "full",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "builtins.getattr",
        "torch.load",
        "torch.storage._load_from_bytes",
        "torch._utils._rebuild_sparse_tensor",
        "torch.nn.modules.linear.Linear",
        "numpy._core.multiarray._reconstruct",
        "collections.OrderedDict.__init__",
        "argparse.Namespace",
    ],
)
def test_code_is_refused_by_its_name(tmp_path: Path, full: str, old: bool) -> None:
    trace = tmp_path / "trace"
    attack = dictionary({"x": call(full, text(f"touch {trace}")), "y": tensor(storage(4), (4,))})
    path = tmp_path / "x.pth"
    if old:
        write_old(path, attack, [("0", 4, FOUR)])
    else:
        write_new(path, attack, {"0": FOUR})
    _refused(path, f"refused, because it holds {full}, which is code and no array; none of it was")
    assert not trace.exists()


@pytest.mark.parametrize("where", ["magic", "keys", "alone", "on the stack"])
def test_code_is_refused_wherever_it_stands(tmp_path: Path, where: str) -> None:
    path = tmp_path / "x.pth"
    attack = pickled(call("os.system", text("x")))
    if where == "magic" or where == "alone":
        path.write_bytes(attack)
    elif where == "keys":
        write_old(path, b"}")
        path.write_bytes(path.read_bytes().removesuffix(b"\x80\x02](e.") + attack)
    else:
        write_new(path, text("os") + text("system") + b"\x93" + row(text("x")) + b"R")
    _refused(path, "holds os.system, which is code")


def test_a_refused_name_stays_one_short_line(tmp_path: Path) -> None:
    write_new(tmp_path / "x.pth", text("a\n\x1b[31m") + text("é" * 9999) + b"\x93")
    _refused(tmp_path / "x.pth", r"holds a\?\?\[31m\.\?{50}")


CONJUGATED = call(
    "torch._utils._rebuild_tensor_v2",
    storage(4, "ComplexFloat"),
    number(0),
    row(number(2)),
    row(number(1)),
    b"\x89",
    b"}",
    b"}" + text("conj") + b"\x88s",
)


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        (b"(ios\nsystem\n", "instruction 0x69"),
        (b"(cos\nsystem\no", "holds os.system"),
        (b"}\x81", "truncated or damaged"),
        (b")\x92", "instruction 0x92"),
        (b"\x82\x01", "instruction 0x82"),
        (b"\x97", "instruction 0x97"),
        (b"\x8e" + struct.pack("<Q", 2**63), "instruction 0x8e"),
        (text("x") + b")R", "a call of no function"),
        (name("torch.float32") + b")R", "a call of no function"),
        (name("torch.Size") + b"]R", "a call of no function"),
        (tensor(storage(4), (4,)) + b"}b", "attributes of no object"),
        (name("collections.OrderedDict") + b"}b", "attributes of no object"),
        (b"]}b", "attributes of no object"),
        (b"}Na", "items of no list"),
        (b"]NNs", "items of no dictionary"),
        (b"}(Nu", "items of no dictionary"),
        (b"}NN\x93", "a name that is no text"),
        (b"h\x00", "no pickle before"),
        (b"t", "no pickle before"),
        (b"", "no pickle before"),
        (b"X\x01\x00\x00\x00\xff", "no pickle before"),
        (b"Ix\n", "no pickle before"),
        (b"X\xff\xff\xff\xff", "it ends within the 4294967295 bytes"),
        (b"T\xff\xff\xff\xff", "it ends within the 4294967295 bytes"),
        (b"\x8d" + b"\xff" * 8, "it ends within the 18446744073709551615 bytes"),
        (b"c" + b"a" * 500, "a name without end"),
        (text("0") + b"Q", "an unknown reference"),
        (row(text("module"), name("torch.float32"), text(""), text("")) + b"Q", "unknown refer"),
        (storage(-1), "a storage's length is no count"),
        (storage(2**62 + 1), "a storage's length is no count"),
        (storage(4, view=row(text("v"), number(-1), number(1))), "a view's start is no count"),
        (storage(4, view=row(text("v"), number(3), number(2))), "a view reaches beyond"),
        (storage(4, view=text("v")), "an unknown view"),
        (storage(4) + storage(5), "two kinds or lengths"),
        (storage(4) + storage(4, "Double"), "two kinds or lengths"),
        (storage(4, "QInt8"), r"NumPy does not know \(torch.QInt8Storage\)"),
        (call("torch._utils._rebuild_tensor", b"N", b"N", b"N", b"N"), "a tensor without storage"),
        (call("torch._utils._rebuild_tensor_v2"), "a tensor of 0 parts"),
        (CONJUGATED, "holds a conjugated or negated view"),
        (call("torch._utils._rebuild_parameter", b"N", b"N", b"N"), "a parameter without a"),
        (call("collections.OrderedDict", b"N"), "a dictionary of an unknown form"),
        (call("collections.OrderedDict", b"]Na"), "item is no pair"),
    ],
)
def test_instructions_that_make_no_state(tmp_path: Path, instructions: bytes, message: str) -> None:
    write_new(tmp_path / "x.pth", instructions, {"0": FOUR})
    _refused(tmp_path / "x.pth", message)


@pytest.mark.parametrize(
    ("size", "stride", "offset", "message"),
    [
        ((5,), (1,), 0, "reaches beyond storage '0'"),
        ((4,), (1,), 1, "reaches beyond storage '0'"),
        ((2,), (4,), 0, "reaches beyond storage '0'"),
        ((1,), (1,), 4, "reaches beyond storage '0'"),
        ((), (), 4, "reaches beyond storage '0'"),
        ((2**40, 2**40), (2**40, 1), 0, "reaches beyond storage '0'"),
        ((2,), (2**62,), 2**62, "reaches beyond storage '0'"),
        ((-1,), (1,), 0, "size is no list of at most 32 counts|size is no count"),
        ((2,), (-1,), 1, "stride is no count"),
        ((2,), (1,), -1, "offset is no count"),
        ((2**63,), (1,), 0, "size is no count"),
        ((2**40,), (0,), 0, "1099511627776 elements on a storage of 4"),
        ((3, 3), (0, 1), 0, "9 elements on a storage of 4"),
        ((0, 2**61, 2**61), (1, 1, 1), 0, "a tensor on storage"),
        ((1,) * 33, (1,) * 33, 0, "no list of at most 32 counts"),
        ((2, 2), (1,), 0, "more sizes than strides"),
    ],
)
def test_tensors_that_are_not_within_their_storage(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int, message: str
) -> None:
    state = dictionary({"x": tensor(storage(4), size, stride, offset)})
    write_new(tmp_path / "x.pth", state, {"0": FOUR})
    _refused(tmp_path / "x.pth", message)


STATE = dictionary({"x": tensor(storage(4), (4,))})


@pytest.mark.parametrize(
    ("storages", "extra", "compression", "message"),
    [
        ({"0": FOUR}, {}, zipfile.ZIP_DEFLATED, "compressed or encrypted records"),
        ({}, {}, 0, "storage '0' is missing"),
        ({"0": FOUR[:15]}, {}, 0, "storage '0' has 15 bytes of 16"),
        ({"0": FOUR}, {"y/data.pkl": b""}, 0, "a zip archive, but none of torch.save"),
        ({"0": FOUR}, {"x/constants.pkl": b""}, 0, "a TorchScript program, which is code"),
        ({"0": FOUR}, {"x/byteorder": b"middle"}, 0, "an unknown byte order"),
    ],
)
def test_archives_that_are_none_of_torch_save(
    tmp_path: Path,
    storages: dict[str, bytes],
    extra: dict[str, bytes],
    compression: int,
    message: str,
) -> None:
    write_new(tmp_path / "x.pth", STATE, storages, extra, compression)
    _refused(tmp_path / "x.pth", message)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (8, b"\x01\x00", "compressed or encrypted"),  # The flags.
        (20, b"\xff\xff\xff\x7f\xff\xff\xff\x7f", "larger than the file"),  # Both sizes.
        (24, b"\xff\x01\x00\x00", "reaches beyond the file|larger than the file"),
        (42, b"\xff\xff\xff\x7f", "not where the directory says"),  # Where the record is.
        (42, b"\x01\x00\x00\x00", "not where the directory says"),
    ],
)
def test_a_directory_that_lies(tmp_path: Path, field: int, value: bytes, message: str) -> None:
    path = tmp_path / "x.pth"
    write_new(path, STATE, {"0": FOUR})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + field : entry + field + len(value)] = value
    path.write_bytes(content)
    _refused(path, message)


def test_two_records_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    write_new(path, STATE, {"0": FOUR})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x/data.pkl", b"")
    _refused(path, "two records are named 'x/data.pkl'")


@pytest.mark.parametrize(
    ("storages", "version", "message"),
    [
        ([("0", 4, FOUR)], 1000, "an unknown version of the old format"),
        ([], 1001, "storage '0' is missing"),
        ([("1", 4, FOUR)], 1001, "its list of storages is not that of its tensors"),
        ([("0", 4, FOUR), ("0", 4, FOUR)], 1001, "its list of storages is not"),
        ([("0", 5, FOUR)], 1001, "storage '0' has another length than its tensors say"),
        ([("0", 4, FOUR[:15])], 1001, "it ends within storage '0'"),
    ],
)
def test_old_files_with_other_storages_than_they_say(
    tmp_path: Path, storages: list[tuple[str, int, bytes]], version: int, message: str
) -> None:
    write_old(tmp_path / "x.pth", STATE, storages, version)
    _refused(tmp_path / "x.pth", message)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for content, message in {
        b"": r"truncated or damaged \(it is empty\)",
        b"<html>": "truncated, or not written by torch.save; nothing in it was run",
        pickle.dumps({"x": 1}): "was not written by torch.save; save a state with torch.save",
        b"PK\x03\x04": "truncated or damaged",
    }.items():
        path.write_bytes(content)
        _refused(path, message)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(torch_files.NEW, "storages")
    _refused(path, "has the tar format of PyTorch before 0.2.*save it anew")
    _refused(tmp_path / "none.pth", r"cannot be read \(No such file or directory\)")
    _refused(tmp_path, r"cannot be read \(Is a directory\)")


@pytest.mark.parametrize("old", [True, False], ids=["old", "new"])
def test_a_file_cut_anywhere(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "x.pth"
    if old:
        write_old(path, STATE, [("0", 4, FOUR)])
    else:
        write_new(path, STATE, {"0": FOUR})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        _refused(path, "truncated")


@pytest.mark.parametrize("whole", GOLDEN, ids=["new", "old"])
@given(data=st.data())
@settings(max_examples=200)
def test_changed_bytes(
    tmp_path_factory: pytest.TempPathFactory, whole: Path, data: st.DataObject
) -> None:
    content = bytearray(whole.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    _read_or_refuse(tmp_path_factory.getbasetemp() / "changed.pth", bytes(content))


PIECES = [
    *(bytes([code]) for code in b"NK\x88\x89)(]}tesuabR\x81Q\x85\x86\x87\x94.0"),
    b"h\x00",
    b"q\x00",
    b"K\x02",
    text("storage"),
    text("0"),
    number(2**62),
    name("torch.FloatStorage"),
    name("torch._utils._rebuild_tensor"),
    name("torch._utils._rebuild_tensor_v2"),
    name("torch._utils._rebuild_tensor_v3"),
    name("torch._utils._rebuild_parameter"),
    name("collections.OrderedDict"),
    name("numpy.dtype"),
    name("torch.Size"),
    storage(4),
    tensor(storage(4), (2, 2), (1, 2)),
    dictionary({"x": tensor(storage(4), (4,))}),
]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=30))
@settings(max_examples=400)
def test_instructions_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_order.pth"
    write_new(path, b"".join(pieces), {"0": FOUR})
    _read_or_refuse(path, path.read_bytes())


def _read_or_refuse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found = read_torch_file(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
        return
    # Whatever they say, the arrays are no larger than the file; bfloat16 doubles.
    assert all(array.nbytes <= 2 * len(content) for array in found.values())
    assert all(np.isfinite(array).size == array.size for array in found.values())


def test_nesting_is_no_danger(tmp_path: Path) -> None:
    for deep in (b")" + b"\x85" * 100_000, b"]" * 100_000 + b"a" * 99_999):
        write_new(tmp_path / "x.pth", dictionary({"deep": deep}))
        _refused(tmp_path / "x.pth", "holds no state dictionary")
    key = b"})" + b"\x85" * 100_000 + b"Ns"
    write_new(tmp_path / "x.pth", key)
    _refused(tmp_path / "x.pth", "holds no state dictionary")


@pytest.mark.parametrize(
    "instructions",
    [
        b"N" * (MAX_STEPS + 1),
        # A list of ten thousand pairs, copied again and again.
        name("collections.OrderedDict") + b"q\x00]q\x01(" + (b"NN\x86" * 10_000) + b"e"
        b"h\x01\x85q\x02" + b"h\x00h\x02R" * 1000,
    ],
    ids=["many", "copied"],
)
def test_the_work_is_bounded(tmp_path: Path, instructions: bytes) -> None:
    write_new(tmp_path / "x.pth", instructions)
    _refused(tmp_path / "x.pth", f"holds more than {MAX_STEPS} values; save the state dictionary")


@pytest.mark.parametrize(
    "instructions",
    [
        b"X\xff\xff\xff\xff",
        b"\x8d\x00\x00\x00\x00\x01\x00\x00\x00",
        b"\x95\xff\xff\xff\xff\x00\x00\x00\x00}",
        b"}r\xff\xff\xff\xff",
        dictionary({"x": tensor(storage(2**40, "BFloat16"), (2**40,))}),
        dictionary({"x": tensor(storage(4), (2**40,), (0,))}),
        dictionary({"x": tensor(storage(4, "BFloat16"), (0, 2**40), (0, 0))}),
    ],
)
def test_nothing_is_allocated_because_a_file_says_so(tmp_path: Path, instructions: bytes) -> None:
    write_new(tmp_path / "x.pth", instructions, {"0": FOUR})
    tracemalloc.start()
    try:
        _read_or_refuse(tmp_path / "x.pth", (tmp_path / "x.pth").read_bytes())
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_many_views_of_a_storage_are_no_copies(tmp_path: Path) -> None:
    state = {str(i): tensor(storage(2**16), (2**16,)) for i in range(500)}
    write_new(tmp_path / "x.pth", dictionary(state), {"0": bytes(2**18)})
    tracemalloc.start()
    try:
        assert len(read_torch_file(tmp_path / "x.pth")) == 500
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
