"""Odd files whose right contents are known beforehand; PyAV writes them."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_families import MATRICES, with_matrix
from video_files import number_of, numbered

from ar_net_jax.data.decoding.picture import upright
from ar_net_jax.data.video import decode_frames, read_video
from ar_net_jax.data.video_probe import probe_video
from ar_net_jax.errors import UserError


def _write(
    path: Path,
    millis: list[int],
    *,
    codec: str = "mpeg4",
    sound_seconds: float = 0,
    metadata: dict[str, str] | None = None,
    matrix: int | None = None,
) -> Path:
    """Numbered pictures at given times."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        if sound_seconds:
            voice = container.add_stream("aac", rate=16000, layout="mono")
        for number, pts in enumerate(millis):
            frame = av.VideoFrame.from_ndarray(numbered(number), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for block in range(int(sound_seconds * 16000 / 1024)):
            noise = np.random.default_rng(block).normal(0, 0.1, (1, 1024)).astype(np.float32)
            samples = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
            samples.sample_rate, samples.pts = 16000, block * 1024
            container.mux(voice.encode(samples))
        if sound_seconds:
            container.mux(voice.encode())
    return path


def _numbers(path: Path) -> list[int]:
    return [number_of(pixels) for pixels, _ in decode_frames(path)]


EVEN = [40 * number for number in range(30)]
# A picture that stays, in the middle and at the end; and frames that come close together.
UNEVEN = [0, 40, 1400, 1410, 1420, 1500, 1540, 6000]


@pytest.mark.parametrize("millis", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_numbers_and_times(suffix: str, millis: list[int], tmp_path: Path) -> None:
    path = _write(tmp_path / f"v.{suffix}", millis)
    assert _numbers(path) == list(range(len(millis)))
    times = [time for _, time in decode_frames(path)]
    np.testing.assert_allclose(times, np.array(millis) / 1000, atol=1e-6)


def test_sound_that_goes_on_after_the_last_picture_is_no_shortage(tmp_path: Path) -> None:
    for suffix in ("mkv", "mp4"):
        path = _write(tmp_path / f"v.{suffix}", EVEN, sound_seconds=6)
        assert _numbers(path) == list(range(30))


@pytest.mark.parametrize("sound_seconds", [0, 1.2])
def test_a_matroska_file_that_breaks_off_is_refused(sound_seconds: float, tmp_path: Path) -> None:
    path = _write(tmp_path / "v.mkv", EVEN, sound_seconds=sound_seconds)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"v.mkv: is cut short \(0\.\d of 1\.\d seconds\)"):
        list(decode_frames(path))
    path.write_bytes(data[: len(data) * 99 // 100])
    assert len(_numbers(path)) >= 27


@pytest.mark.parametrize("name", MATRICES)
def test_every_display_matrix(name: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "v.mp4", EVEN[:2])
    (pixels, _), *_ = decode_frames(path)
    path.write_bytes(with_matrix(path.read_bytes(), MATRICES[name]))
    (turned, _), *_ = decode_frames(path)
    # A point (x, y) is shown at (a x + c y, b x + d y), moved until no coordinate is negative.
    a, b, c, d = (int(np.sign(value)) for value in MATRICES[name])
    if name == "nothing":
        a, b, c, d = 1, 0, 0, 1
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    right, down = a * x + c * y, b * x + d * y
    expected = np.zeros(turned.shape, np.uint8)
    expected[down - down.min(), right - right.min()] = pixels
    np.testing.assert_array_equal(turned, expected)
    assert probe_video(path).size == turned.shape[1::-1]


def test_a_slanted_picture_keeps_its_size() -> None:
    one = round(2**16 * 2**-0.5)
    picture = np.full((40, 60, 3), 200, np.uint8)
    turned = upright(picture, (one, one, 0, -one, one, 0, 0, 0, 1 << 30))
    assert turned.shape == picture.shape
    assert turned[20, 30].tolist() == [200] * 3 and turned[0, 0].tolist() == [0] * 3


def test_frames_of_other_sizes_come_out_at_the_size_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        encoders = []
        for size in ((96, 64), (192, 128), (48, 96)):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height = size
            encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 25)
            encoders.append((size, encoder))
        for number, (size, encoder) in enumerate(encoders):
            frame = av.VideoFrame.from_ndarray(numbered(number + 9, *size), "rgb24")
            frame = frame.reformat(format="yuvj420p")
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            for packet in (*encoder.encode(frame), *encoder.encode(None)):
                packet.stream = stream
                packet.pts = packet.dts = 40 * number
                packet.time_base = Fraction(1, 1000)
                container.mux(packet)
    frames = [pixels for pixels, _ in decode_frames(path)]
    assert {frame.shape for frame in frames} == {(64, 96, 3)}
    assert [number_of(frame) for frame in frames] == [9, 10, 11]


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "%03d.mp4", "na\nme.mp4", "'q\" [x]*?.mp4", "#.mp4", "ünï 日本.mp4"]
)
def test_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "plain.mp4", EVEN[:5]).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert _numbers(Path(name)) == list(range(5))
    assert probe_video(name).num_frames == 5


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    _write(tmp_path / "plain.mp4", EVEN[:5]).rename(path)
    assert _numbers(path) == list(range(5))


def test_tags_in_a_forgotten_encoding(tmp_path: Path) -> None:
    path = _write(tmp_path / "v.mkv", EVEN[:5], metadata={"title": "cafe"})
    path.write_bytes(path.read_bytes().replace(b"cafe", b"caf\xe9"))
    assert _numbers(path) == list(range(5))


def test_colours_that_are_no_luma_and_two_differences_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "v.mkv", EVEN[:5], codec="libx264", matrix=8)
    with pytest.raises(UserError, match=r"v.mkv: its colours \(matrix 8"):
        list(decode_frames(path))
    with pytest.raises(UserError, match="v.mkv"):
        read_video(path, 2, 32)
    assert "colours" in (probe_video(path).fault or "")


def test_colours_of_constant_luminance_are_taken_for_bt2020(tmp_path: Path) -> None:
    constant = _write(tmp_path / "constant.mkv", EVEN[:3], codec="libx264", matrix=10)
    usual = _write(tmp_path / "usual.mkv", EVEN[:3], codec="libx264", matrix=9)
    for (got, _), (expected, _) in zip(decode_frames(constant), decode_frames(usual), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_text_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("this is no video\n" * 50)
    with pytest.raises(UserError, match="notes.txt: is a text"):
        list(decode_frames(path))


def test_probe_of_a_file_that_is_missing(tmp_path: Path) -> None:
    probe = probe_video(tmp_path / "nothing.mp4")
    assert probe.fault == "no such file" and probe.num_frames == 0 and probe.streams == ()


def test_probe_tells_the_streams(tmp_path: Path) -> None:
    path = _write(tmp_path / "v.mkv", EVEN, sound_seconds=1.2)
    for decode in (False, True):
        probe = probe_video(path, decode=decode)
        assert [(stream.kind, stream.codec) for stream in probe.streams] == [
            ("video", "mpeg4"),
            ("audio", "aac"),
        ]
        assert (probe.stream, probe.codec, probe.size) == (0, "mpeg4", (96, 64))
        assert (probe.num_frames, probe.decoded, probe.fault) == (30, decode, None)
        assert probe.seconds == pytest.approx(1.2, abs=0.05)
