"""Hundreds of odd files, each decoded as the ffmpeg program decodes it."""

from pathlib import Path

import numpy as np
import pytest
from video_families import FAMILIES, cut, cut_files
from video_files import by_ffmpeg, needs_ffmpeg, number_of

from ar_net_jax.data.video import decode_frames
from ar_net_jax.data.video_probe import probe_video
from ar_net_jax.errors import UserError

pytestmark = needs_ffmpeg

ALL = {f"{family}/{name}": draw for family, make in FAMILIES.items() for name, draw in make()}
CUT = dict(cut_files())
# One of each kind for every run; the rest with -m slow.
QUICK = [
    "plain/h264b-25-sound.mp4",
    "plain/h264b-12-mute.avi",
    "irregular/stays-sound.mkv",
    "edit_lists/h264b-0.97-sound.mp4",
    "matrices/transposed.mp4",
    "several_streams/falling-default-1.mkv",
    "covers/cover-first.mp4",
    "joined/h264-smaller-500.ts",
    "starts/h264b-95442.9-mute.ts",
    "colours/bt709-pc.mp4",
]


def _is_as_by_ffmpeg(path: Path, *, is_numbered: bool) -> None:
    frames, times = by_ffmpeg(path)
    got = list(decode_frames(path))
    assert len(got) == len(frames)
    if is_numbered:
        assert [number_of(pixels) for pixels, _ in got] == [number_of(frame) for frame in frames]
    np.testing.assert_allclose([time for _, time in got], times, atol=1e-4)
    pixels = np.stack([pixels for pixels, _ in got])
    assert pixels.shape == frames.shape
    # Another matrix, range or turn is more than 5 levels away; releases of FFmpeg differ in where
    # they place colours of half the size.
    assert np.abs(pixels.astype(int) - frames).mean() < 2
    probe = probe_video(path)
    assert probe.fault is None and not probe.decoded
    assert probe.size == (frames.shape[2], frames.shape[1])
    assert probe_video(path, decode=True).num_frames == len(frames)


@pytest.mark.parametrize("name", QUICK)
def test_an_odd_file_is_decoded_as_by_ffmpeg(name: str, tmp_path: Path) -> None:
    path = tmp_path / Path(name).name
    ALL[name](path)
    # Pictures of colours have no number.
    _is_as_by_ffmpeg(path, is_numbered=not name.startswith("colours/"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ALL.keys() - set(QUICK)))
def test_every_odd_file_is_decoded_as_by_ffmpeg(name: str, tmp_path: Path) -> None:
    test_an_odd_file_is_decoded_as_by_ffmpeg(name, tmp_path)


def test_there_are_hundreds() -> None:
    assert len(ALL) >= 200
    assert set(QUICK) <= ALL.keys()


def _is_refused_when_cut(draw: str, folder: Path) -> None:
    path = folder / draw
    CUT[draw](path)
    assert len(list(decode_frames(path))) == 100
    for share in (0.4, 0.7):
        short = cut(path, share)
        with pytest.raises(UserError, match=rf"{short.name}: (is cut short|does not|holds no)"):
            list(decode_frames(short))
        assert probe_video(short).fault is not None


def test_a_cut_file_with_sound_is_refused(tmp_path: Path) -> None:
    _is_refused_when_cut("sound.mkv", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("draw", sorted(CUT.keys() - {"sound.mkv"}))
def test_every_cut_file_is_refused(draw: str, tmp_path: Path) -> None:
    _is_refused_when_cut(draw, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h264b-25-sound.ts", "mpeg2-25-mute.mpg", "theora-25-sound.ogv"])
def test_what_announces_no_length_is_as_long_as_ffmpeg_finds_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ALL[f"plain/{name}"](path)
    short = cut(path, 0.8)
    frames, _ = by_ffmpeg(short)
    assert len(list(decode_frames(short))) == len(frames)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mjpeg-25-mute.avi", "mpeg2-25-mute.mkv", "h264b-25-mute.ts"])
def test_a_file_with_few_damaged_bytes_is_read_as_by_ffmpeg(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ALL[f"plain/{name}"](path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3] = b"\x00\xff\x00"
    path.write_bytes(data)
    frames, _ = by_ffmpeg(path)
    assert len(list(decode_frames(path))) == len(frames)
