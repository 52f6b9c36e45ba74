"""Decoding of real files: rates, times, rotation, and files that are broken."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import ar_net_jax
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.video import decode_frames, read_video
from ar_net_jax.errors import UserError

FPS = 8


def _levels(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose grey level tells their index."""
    levels = np.arange(count, dtype=np.uint8) * 5
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def _indices(frames: list[np.ndarray] | np.ndarray) -> list[int]:
    return [round(float(frame.mean()) / 5) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "levels.mp4"
    write_video(path, _levels(40), fps=FPS, crf=10)
    return path


def test_every_frame_in_order_with_its_time(video: Path) -> None:
    frames, times = zip(*decode_frames(video), strict=True)
    assert _indices(frames) == list(range(40))
    np.testing.assert_allclose(times, np.arange(40) / FPS, atol=1e-3)
    assert frames[0].shape == (48, 64, 3) and frames[0].dtype == np.uint8


@pytest.mark.parametrize("rate, step", [(4, 2), (2, 4), (8, 1), (100, 1)])
def test_a_chosen_rate(video: Path, rate: float, step: int) -> None:
    frames = [pixels for pixels, _ in decode_frames(video, rate)]
    assert _indices(frames) == list(range(0, 40, step))


def test_a_rate_that_does_not_divide_takes_the_next_frame(video: Path) -> None:
    times = [time for _, time in decode_frames(video, 3)]
    ticks = np.arange(len(times)) / 3
    np.testing.assert_allclose(times, np.ceil(ticks * FPS - 1e-6) / FPS, atol=1e-3)


def test_colours_survive(tmp_path: Path) -> None:
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    frames[..., 0], frames[..., 2] = 200, 60
    write_video(tmp_path / "red.mp4", frames, fps=FPS, crf=5)
    pixels, _ = next(decode_frames(tmp_path / "red.mp4"))
    np.testing.assert_allclose(pixels.mean((0, 1)), [200, 0, 60], atol=4)


def test_read_video_takes_the_evaluation_frames(video: Path) -> None:
    frames, times = read_video(video, num_frames=8, size=32)
    assert frames.shape == (8, 32, 32, 3) and frames.dtype == np.uint8
    assert times.dtype == np.float64
    assert _indices(frames) == [2, 7, 12, 17, 22, 27, 32, 37]
    np.testing.assert_allclose(times, np.array([2, 7, 12, 17, 22, 27, 32, 37]) / FPS, atol=1e-3)


def test_read_video_tells_the_times_of_a_variable_frame_rate(tmp_path: Path) -> None:
    path = tmp_path / "variable.mkv"
    millis = np.cumsum(np.arange(20) % 4 * 30 + 40)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, pts in zip(_levels(20), millis, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = int(pts), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames, times = ar_net_jax.read_video(path, num_frames=5, size=32)
    assert _indices(frames) == [2, 6, 10, 14, 18]
    np.testing.assert_allclose(times, (millis[2::4] - millis[0]) / 1000, atol=1.5e-3)


def test_read_video_repeats_the_last_frame_of_a_short_video(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", _levels(3), fps=FPS, crf=10)
    frames, times = read_video(tmp_path / "short.mp4", num_frames=5, size=32)
    assert _indices(frames) == [0, 1, 2, 2, 2]
    np.testing.assert_allclose(times, np.array([0, 1, 2, 2, 2]) / FPS, atol=1e-3)


@pytest.mark.parametrize("announced", [1, 30, 70])
def test_read_video_does_not_trust_the_number_of_packets(
    video: Path, monkeypatch: pytest.MonkeyPatch, announced: int
) -> None:
    monkeypatch.setattr("ar_net_jax.data.video._count_packets", lambda path: announced)
    frames, _ = read_video(video, num_frames=8, size=32)
    assert _indices(frames) == [2, 7, 12, 17, 22, 27, 32, 37]


@pytest.mark.parametrize(
    "matrix, turns",
    [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
)
def test_rotation_is_honoured(tmp_path: Path, matrix: tuple[int, ...], turns: int) -> None:
    """A phone's matrix (0 1 -1 0) asks for a quarter turn clockwise, three counterclockwise."""
    frames = np.zeros((4, 32, 64, 3), np.uint8)
    frames[:, :16, :32] = 255
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    write_video(plain, frames, fps=FPS, crf=5)
    data = bytearray(plain.read_bytes())
    # In the box `tkhd`, version 0, the matrix follows 40 bytes after the name.
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned.write_bytes(data)
    upright, _ = next(decode_frames(plain))
    rotated, _ = next(decode_frames(turned))
    np.testing.assert_array_equal(rotated, np.rot90(upright, turns))


def _broken(kind: str, video: Path, folder: Path) -> Path:
    path = folder / f"{kind}.mp4"
    data = video.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "text":
        path.write_text("this is no video\n" * 50)
    elif kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "cut_short":
        # A Matroska file opens from its front, so a missing end shows only while decoding.
        path = folder / "cut_short.mkv"
        frames = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
        write_video(path, frames, fps=FPS, crf=20)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("kind", ["empty", "noise", "text", "truncated", "cut_short", "missing"])
def test_a_broken_file_is_named(kind: str, video: Path, tmp_path: Path) -> None:
    path = _broken(kind, video, tmp_path)
    for read in (lambda: list(decode_frames(path)), lambda: read_video(path, 4, 32)):
        with pytest.raises(UserError, match=path.name):
            read()


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UserError, match="no video stream"):
        list(decode_frames(path))
