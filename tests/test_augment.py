"""Crops and flips against the published recipe and plain Pillow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ar_net_jax.data.augment import (
    apply_crop,
    crop_positions,
    crop_sizes,
    eval_clip,
    eval_crop,
    random_clip,
    random_crop,
    shrink_short_side,
)


def _pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(_pixels(width, height, seed))


def test_crop_sizes_of_a_common_frame() -> None:
    # Scales 1, .875, .75, .66 of 256 are 256, 224, 192, 168.
    expected = {
        (256, 256),
        (224, 256),
        (256, 224),
        (224, 224),
        (192, 224),
        (224, 192),
        (192, 192),
        (168, 192),
        (192, 168),
        (168, 168),
    }
    sizes = crop_sizes(340, 256, 224)
    assert set(sizes) == expected and len(sizes) == 10


def test_a_crop_near_the_output_size_takes_it() -> None:
    # 64 / .875 = 73.1: 0.875 of 75 is 65, two pixels off.
    assert (64, 64) in crop_sizes(90, 75, 64)


def test_thirteen_positions() -> None:
    steps = {(x // 10, y // 5) for x, y in crop_positions(140, 120, 100, 100)}
    grid = {(i, j) for i in (0, 2, 4) for j in (0, 2, 4)}
    assert steps == grid | {(1, 1), (3, 1), (1, 3), (3, 3)}


@given(st.integers(8, 400), st.integers(8, 400), st.integers(4, 256), st.integers(0, 1000))
def test_random_crops_lie_within_the_frame(width: int, height: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    crop = random_crop(width, height, size, rng, multi_scale=seed % 2 == 0, flip=True)
    assert crop.left >= 0 and crop.left + crop.width <= width
    assert crop.top >= 0 and crop.top + crop.height <= height


def test_all_frames_of_a_video_are_treated_alike() -> None:
    frame = _pixels(104, 80)
    for seed in range(5):
        clip = random_clip([frame] * 3, 64, np.random.default_rng(seed))
        assert clip.shape == (3, 64, 64, 3) and clip.dtype == np.uint8
        np.testing.assert_array_equal(clip[0], clip[1])
        np.testing.assert_array_equal(clip[0], clip[2])


def test_the_same_generator_gives_the_same_crop() -> None:
    frames = [_pixels(104, 80)]
    once = random_clip(frames, 64, np.random.default_rng(3))
    np.testing.assert_array_equal(once, random_clip(frames, 64, np.random.default_rng(3)))
    others = [random_clip(frames, 64, np.random.default_rng(s)) for s in range(4, 12)]
    assert any((other != once).any() for other in others)


@given(st.integers(20, 300), st.integers(20, 300), st.integers(8, 224), st.integers(0, 1000))
def test_training_crops_are_those_of_pillow(width: int, height: int, size: int, seed: int) -> None:
    frame = _pixels(width, height, seed)
    crop = random_crop(
        width, height, size, np.random.default_rng(seed), multi_scale=True, flip=True
    )
    box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    scaled = Image.fromarray(frame).crop(box).resize((size, size), Image.Resampling.BILINEAR)
    expected = np.asarray(scaled)[:, ::-1] if crop.flip else np.asarray(scaled)
    (found,) = random_clip([frame], size, np.random.default_rng(seed))
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("multi_scale", [True, False])
@pytest.mark.parametrize("other", [(52, 40), (60, 200), (240, 30), (104, 81)])
def test_frames_of_another_size_are_scaled_to_the_first(
    other: tuple[int, int], multi_scale: bool
) -> None:
    # White throughout: what the crop found beyond a frame would be dark.
    frames = [np.full((h, w, 3), 255, np.uint8) for w, h in [(104, 80), other]]
    for seed in range(20):
        clip = random_clip(frames, 64, np.random.default_rng(seed), multi_scale=multi_scale)
        assert clip.shape == (2, 64, 64, 3) and (clip == 255).all()
    # And what is shown is the same part of the picture.
    ramp = np.linspace(0, 255, 104).astype(np.uint8)[None, :, None].repeat(80, 0).repeat(3, 2)
    scaled = np.asarray(Image.fromarray(ramp).resize(other, Image.Resampling.BILINEAR))
    clip = random_clip([ramp, scaled], 64, np.random.default_rng(3), multi_scale=multi_scale)
    assert np.abs(clip[0].astype(int) - clip[1]).max() <= 6


def test_flip_mirrors_half_of_the_videos_when_asked() -> None:
    crops = [
        random_crop(104, 80, 64, np.random.default_rng(s), multi_scale=True, flip=True)
        for s in range(200)
    ]
    assert 70 < sum(crop.flip for crop in crops) < 130
    frame = _pixels(104, 80)
    crop = next(crop for crop in crops if crop.flip)
    plain = apply_crop(frame, type(crop)(crop.left, crop.top, crop.width, crop.height), 64)
    np.testing.assert_array_equal(apply_crop(frame, crop, 64), plain[:, ::-1])
    never = [
        random_crop(104, 80, 64, np.random.default_rng(s), multi_scale=True, flip=False)
        for s in range(50)
    ]
    assert not any(crop.flip for crop in never)


def test_eval_crop_is_short_side_256_centre_224() -> None:
    frame = _picture(340, 256)
    expected = np.asarray(frame)[16:240, 58:282]
    np.testing.assert_array_equal(eval_crop(frame, 224), expected)


def test_eval_crop_scales_with_pillows_bilinear() -> None:
    frame = _picture(80, 104)
    scaled = frame.resize((73, int(73 * 104 / 80)), Image.Resampling.BILINEAR)
    top = round((scaled.height - 64) / 2)
    expected = np.asarray(scaled)[top : top + 64, 4:68]
    np.testing.assert_array_equal(eval_clip([frame, frame], 64)[1], expected)


def test_shrink_keeps_the_shape() -> None:
    assert shrink_short_side(_picture(200, 100), 50).size == (100, 50)
    assert shrink_short_side(_picture(100, 200), 50).size == (50, 100)
