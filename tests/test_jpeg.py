"""Decoding and scaling of frames against Pillow."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ar_net_jax.data import resize
from ar_net_jax.data.jpeg import decode_jpeg


def _picture(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """Smooth with some noise, so that chroma varies at every scale."""
    rng = np.random.default_rng(seed)
    channels = len(Image.new(mode, (1, 1)).getbands())
    coarse = rng.integers(0, 256, (4, 4, channels), np.uint8)
    noise = rng.integers(0, 30, (height, width, channels), np.uint8)
    bands = [
        Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC)
        for c in range(channels)
    ]
    pixels = np.stack([np.asarray(band) for band in bands], -1) // 2 + noise
    return Image.merge(mode, [Image.fromarray(pixels[..., c]) for c in range(channels)])


def _file(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@given(
    st.sampled_from(["RGB", "L", "CMYK"]),
    st.integers(1, 100),
    st.integers(1, 100),
    st.integers(1, 100),
    st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)
def test_every_pixel_is_pillows(
    mode: str,
    width: int,
    height: int,
    quality: int,
    subsampling: str,
    progressive: bool,
    restarts: bool,
    seed: int,
) -> None:
    options = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
    if restarts:
        options["restart_marker_blocks"] = 3
    data = _file(_picture(mode, width, height, seed), **options)
    np.testing.assert_array_equal(decode_jpeg(data), _by_pillow(data))


@pytest.mark.parametrize("keep_rgb", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_other_files_are_pillows_too(kind: str, keep_rgb: bool) -> None:
    data = _file(_picture("RGB", 37, 23, 0), kind, keep_rgb=keep_rgb)
    np.testing.assert_array_equal(decode_jpeg(data), _by_pillow(data))


def _outcome(decode, data: bytes) -> object:
    try:
        return decode(data).tolist()
    except Exception as error:
        return type(error)


@given(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(["cut", "change", "add"]))
def test_damaged_files_fail_or_not_as_pillow_says(place: int, byte: int, damage: str) -> None:
    whole = _file(_picture("RGB", 60, 40, 0), quality=90)
    place %= len(whole)
    data = {
        "cut": whole[:place],
        "change": whole[:place] + bytes([byte]) + whole[place + 1 :],
        "add": whole[:place] + bytes([byte]) + whole[place:],
    }[damage]
    assert _outcome(decode_jpeg, data) == _outcome(_by_pillow, data)


@given(*[st.integers(1, 260)] * 4, st.integers(0, 1000))
def test_resize_is_pillows_to_two_levels(
    width: int, height: int, to_width: int, to_height: int, seed: int
) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    by_pillow = resize.resize_by_pillow(noise, to_width, to_height)
    found = resize.resize(noise, to_width, to_height)
    assert found.shape == (to_height, to_width, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - by_pillow).max() <= 2


def test_a_crop_is_scaled_by_its_own_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.zeros((60, 60, 3), np.uint8)
    frame[10:50, 10:50] = 255
    inside = frame[10:50, 10:50]
    assert (resize.resize(inside, 32, 32) == 255).all()
    # Where the fast one is not to be had, Pillow does it.
    monkeypatch.setattr(resize, "_BILINEAR", None)
    np.testing.assert_array_equal(
        resize.resize(frame, 32, 20), resize.resize_by_pillow(frame, 32, 20)
    )
