"""Files of PyTorch are read as PyTorch reads them, without it."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import torch_files
from torch_writer import (
    call,
    dictionary,
    name,
    number,
    row,
    storage,
    tensor,
    text,
    write_new,
    write_old,
)

from ar_net_jax.errors import UserError
from ar_net_jax.weights.torch_files import read_torch_file

FOUR = np.array([1, 2, 3, 4], "<f4")


def _assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for key, array in expected.items():
        assert (key, found[key].dtype, found[key].shape) == (key, array.dtype, array.shape)
        np.testing.assert_array_equal(found[key], array, err_msg=key)


@pytest.mark.parametrize("path", [torch_files.NEW, torch_files.OLD], ids=["new", "old"])
def test_a_record_that_pytorch_wrote(path: Path) -> None:
    found = read_torch_file(path)
    _assert_same(found, torch_files.expected())
    # Views of one storage stay views of one storage; nobody may write to the file through them.
    assert np.shares_memory(found["module.kernel"], found["module.part"])
    assert found["module.kernel"].flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        found["module.kernel"][:] = 0


def _tensors(torch: Any) -> dict[str, Any]:
    grid = torch.arange(24.0).reshape(2, 3, 4)
    kinds = (
        "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
    )
    return {
        **{kind: torch.tensor([0, 1, 3]).to(getattr(torch, kind)) for kind in kinds.split()},
        "grid": grid,
        "permuted": grid.permute(2, 0, 1),
        "every second": grid[:, 1, ::2],
        "channels last": torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "brain view": torch.arange(6).bfloat16().reshape(2, 3).t(),
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0),
        "empty axis": torch.empty(2, 0, 3),
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "again": grid,
    }


def _with_torch(path: Path) -> dict[str, np.ndarray]:
    import torch

    loaded = torch.load(path, weights_only=True, map_location="cpu")
    loaded = loaded.get("state_dict", loaded)
    plain = {key: value.detach() for key, value in loaded.items()}
    return {
        key: (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        for key, value in plain.items()
    }


@pytest.mark.parity
@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("zipped", [True, False], ids=["new", "old"])
def test_the_arrays_are_those_of_torch_load(tmp_path: Path, zipped: bool, protocol: int) -> None:
    torch = pytest.importorskip("torch")
    state = _tensors(torch)
    path = tmp_path / "x.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    # PyTorch's own restricted reader knows protocol 2 alone.
    found, reference = read_torch_file(path), tmp_path / "reference.pth"
    torch.save(state, reference)
    _assert_same(found, _with_torch(path if protocol == 2 else reference))


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False], ids=["new", "old"])
def test_the_state_of_a_module_and_its_optimizer(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    module[0].weight.note = "a parameter with an attribute"
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    record = {
        "epoch": 3,
        "state_dict": module.state_dict(keep_vars=True),
        "optimizer": optimizer.state_dict(),
        "best_prec1": torch.tensor(70.0),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    path = tmp_path / "x.pth.tar"
    torch.save(record, path, _use_new_zipfile_serialization=zipped)
    _assert_same(read_torch_file(path), _with_torch(path))


@pytest.mark.parity
def test_unsigned_numbers_of_later_versions(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {kind: torch.arange(3).to(getattr(torch, kind)) for kind in ("uint16", "uint64")}
    torch.save(state, tmp_path / "x.pth")
    _assert_same(read_torch_file(tmp_path / "x.pth"), _with_torch(tmp_path / "x.pth"))
    torch.save({"x": torch.ones(2).to(torch.float8_e5m2)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"NumPy does not know \(torch.float8_e5m2\); save it in"):
        read_torch_file(tmp_path / "x.pth")


def _short(value: str) -> bytes:
    return b"U" + bytes([len(value)]) + value.encode()


def test_what_python_2_wrote(tmp_path: Path) -> None:
    # Texts are bytes, a dictionary is a call with a list of lists, a size is an object of its
    # own, and a large number is in decimals.
    held = row(_short("storage"), name("torch.FloatStorage"), _short("9"), _short("cpu"))
    held = held[:-1] + number(4) + b"N" + b"tQ"
    size = call("torch.Size", row(number(2), number(2)))
    kernel = call("torch._utils._rebuild_tensor", held, number(0), size, row(number(1), number(2)))
    pairs = b"](](" + _short("kernel") + kernel + b"e](" + _short("id") + b"I140737488355328\nee"
    write_old(
        tmp_path / "x.pth", call("collections.OrderedDict", pairs), [("9", 4, FOUR.tobytes())]
    )
    _assert_same(read_torch_file(tmp_path / "x.pth"), {"kernel": FOUR.reshape(2, 2).T})


def test_views_of_a_storage_in_the_old_format(tmp_path: Path) -> None:
    view = row(text("7"), number(1), number(3))
    part = tensor(storage(4, view=view), (2,), offset=1)
    write_old(tmp_path / "x.pth", dictionary({"part": part}), [("0", 4, FOUR.tobytes())])
    _assert_same(read_torch_file(tmp_path / "x.pth"), {"part": FOUR[2:]})
    beyond = tensor(storage(4, view=view), (3,), offset=1)
    write_old(tmp_path / "x.pth", dictionary({"part": beyond}), [("0", 4, FOUR.tobytes())])
    with pytest.raises(UserError, match="a tensor reaches beyond storage '0'"):
        read_torch_file(tmp_path / "x.pth")


@pytest.mark.parametrize(("order", "code"), [("little", "<"), ("big", ">")])
def test_both_byte_orders(tmp_path: Path, order: str, code: str) -> None:
    state = {
        "floats": tensor(storage(4), (4,)),
        "brain": tensor(storage(2, "BFloat16", "1"), (2,)),
    }
    contents = {
        "0": FOUR.astype(f"{code}f4").tobytes(),
        "1": np.array([0x3F80, 0xC000], f"{code}u2").tobytes(),
    }
    write_new(tmp_path / "x.pth", dictionary(state), contents, {"x/byteorder": order.encode()})
    expected = {"floats": FOUR, "brain": np.array([1, -2], np.float32)}
    _assert_same(read_torch_file(tmp_path / "x.pth"), expected)


def test_an_axis_of_one_element_has_any_stride(tmp_path: Path) -> None:
    state = dictionary({"x": tensor(storage(4), (1, 4), (2**61, 1))})
    write_new(tmp_path / "x.pth", state, {"0": FOUR.tobytes()})
    _assert_same(read_torch_file(tmp_path / "x.pth"), {"x": FOUR[None]})


def test_a_storage_is_converted_once_for_all_of_its_tensors(tmp_path: Path) -> None:
    state = {str(i): tensor(storage(2, "BFloat16"), (2,)) for i in range(3)}
    write_new(tmp_path / "x.pth", dictionary(state), {"0": b"\x80\x3f\x00\x40"})
    found = read_torch_file(tmp_path / "x.pth")
    assert found["0"].tolist() == [1, 2]
    assert np.shares_memory(found["0"], found["2"])


def test_keys_become_text_and_what_is_no_tensor_goes(tmp_path: Path) -> None:
    one = tensor(storage(4), (4,))
    items = b"}(" + number(3) + one + row(number(1)) + one + text("x") + row(one) + b"u"
    write_new(tmp_path / "x.pth", items, {"0": FOUR.tobytes()})
    _assert_same(read_torch_file(tmp_path / "x.pth"), OrderedDict({"3": FOUR}))
    for nothing in (b"}", b"N", b"]", dictionary({"state_dict": dictionary({"x": b"N"})}), one):
        write_new(tmp_path / "x.pth", nothing, {"0": FOUR.tobytes()})
        with pytest.raises(UserError, match="holds no state dictionary; save one with torch.save"):
            read_torch_file(tmp_path / "x.pth")
