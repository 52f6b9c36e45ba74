"""Folders of frames: names, numbering, formats, and everything that may be wrong with them."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ar_net_jax.data.frame_folder import find_frames, read_frame
from ar_net_jax.errors import UserError

EXPECTED = "image_{:05d}.jpg"
PATTERNS = [
    EXPECTED,
    "{:05d}.jpg",
    "img_{:05d}.jpg",
    "frame{:d}.jpg",
    "{:06d}.JPG",
    "v_abc-{{1}}_{:03d}.jpeg",
    "image_{:05d}.png",
    "2_{:d}.jpg",
]
NUMBERINGS = list(itertools.product(PATTERNS, (0, 1)))


def _draw(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for level, name in enumerate(names):
        kind = "PNG" if name.lower().endswith("png") else "JPEG"
        Image.new("RGB", (40, 30), (10 * level, 0, 0)).save(folder / name, kind)


def _levels(folder: Path, listed: int) -> list[int]:
    frames = find_frames(folder, EXPECTED, listed)
    found = []
    for k in range(frames.count):
        image = Image.open(io.BytesIO(read_frame(frames.path(k), None, 90)))
        assert image.format == "JPEG" and image.mode == "RGB"
        found.append(round(np.asarray(image)[..., 0].mean() / 10))
    return found


@pytest.mark.parametrize("pattern, first", NUMBERINGS)
def test_any_one_way_of_numbering(tmp_path: Path, pattern: str, first: int) -> None:
    _draw(tmp_path, [pattern.format(first + k) for k in range(12)])
    (tmp_path / ".hidden_00099.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    assert _levels(tmp_path, 12) == list(range(12))


@pytest.mark.parametrize("pattern, first", NUMBERINGS)
@pytest.mark.parametrize("gone", [0, 1, 5, 11])
def test_a_missing_frame_is_never_passed_over(
    tmp_path: Path, pattern: str, first: int, gone: int
) -> None:
    _draw(tmp_path, [pattern.format(first + k) for k in range(12)])
    (tmp_path / pattern.format(first + gone)).unlink()
    with pytest.raises(UserError, match="missing.*; extract the frames anew"):
        _levels(tmp_path, 12)


def test_the_released_way_comes_first(tmp_path: Path) -> None:
    _draw(tmp_path, [EXPECTED.format(k) for k in range(1, 5)])
    _draw(tmp_path, [f"flow_x_{k:05d}.jpg" for k in range(1, 5)])
    assert _levels(tmp_path, 4) == [0, 1, 2, 3]
    for k in range(1, 5):
        (tmp_path / EXPECTED.format(k)).rename(tmp_path / f"rgb_{k}.jpg")
    with pytest.raises(UserError, match=r"several series .*flow_x_.*rgb_.*expected image_00001"):
        _levels(tmp_path, 4)


@pytest.mark.parametrize("there, listed, right", [(100, 100, 100), (102, 100, 100), (4, 3, 3)])
def test_a_few_frames_more(tmp_path: Path, there: int, listed: int, right: int) -> None:
    for k in range(1, there + 1):
        (tmp_path / EXPECTED.format(k)).write_bytes(b"")
    frames = find_frames(tmp_path, EXPECTED, listed)
    assert (frames.first, frames.count) == (1, right)


@pytest.mark.parametrize("there, listed", [(103, 100), (300, 100)])
def test_far_more_frames_than_listed(tmp_path: Path, there: int, listed: int) -> None:
    for k in range(1, there + 1):
        (tmp_path / EXPECTED.format(k)).write_bytes(b"")
    with pytest.raises(UserError, match=f"holds {there} frames, but the list says {listed};"):
        find_frames(tmp_path, EXPECTED, listed)


@pytest.mark.parametrize("there, listed", [(99, 100), (25, 750)])
def test_fewer_frames_than_listed(tmp_path: Path, there: int, listed: int) -> None:
    for k in range(1, there + 1):
        (tmp_path / EXPECTED.format(k)).write_bytes(b"")
    first = EXPECTED.format(there + 1)
    with pytest.raises(UserError, match=rf"{first}: missing \({listed - there} of {listed} frames"):
        find_frames(tmp_path, EXPECTED, listed)


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no frames; expected image_00001.jpg"):
        find_frames(tmp_path / "empty", EXPECTED, 3)
    with pytest.raises(UserError, match="none: cannot be read"):
        find_frames(tmp_path / "none", EXPECTED, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_pictures_of_all_modes_become_rgb_or_grey(tmp_path: Path, mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    grey = Image.fromarray(np.full((30, 40), 200, np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.full((30, 40), 200 * 256, np.uint16))
    elif mode == "1":
        image = Image.fromarray(np.full((30, 40), True))
    else:
        image = grey.convert("RGB").convert(mode)
    image.save(tmp_path / "frame", kind)
    stored = Image.open(io.BytesIO(read_frame(tmp_path / "frame", None, 95)))
    assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", (40, 30))
    assert abs(np.asarray(stored).mean() - (255 if mode == "1" else 200)) < 3


def test_whole_jpeg_files_are_kept_to_the_byte(tmp_path: Path) -> None:
    for mode in ("RGB", "L"):
        Image.new(mode, (40, 30)).save(tmp_path / "f.jpg")
        data = (tmp_path / "f.jpg").read_bytes()
        assert (
            read_frame(tmp_path / "f.jpg", None, 50)
            == data
            == read_frame(tmp_path / "f.jpg", 30, 50)
        )
        smaller = Image.open(io.BytesIO(read_frame(tmp_path / "f.jpg", 15, 90)))
        assert smaller.size == (20, 15)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_cut_anywhere_is_bad(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f"
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(path, kind)
    whole = path.read_bytes()
    for length in {*range(0, 40), *range(40, len(whole) - 12, 97)}:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=str(path)):
            read_frame(path, None, 90)
    path.write_bytes(b"GIF89a" + whole[6:])
    with pytest.raises(UserError, match=str(path)):
        read_frame(path, None, 90)
