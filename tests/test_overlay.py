"""What is drawn on pictures, and the file that they are written to."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from ar_net_jax.errors import UserError
from ar_net_jax.reporting.overlay import Caption, Cell, Overlay, _fitted
from ar_net_jax.reporting.video_file import VideoFile, container_of

GREY = np.full((270, 480, 3), 128, np.uint8)


def test_pictures_keep_their_size_where_text_fits() -> None:
    overlay = Overlay(480, 270)
    drawn = overlay.draw(GREY, Caption("walk 90%", ("skips 4",)))
    assert overlay.size == (480, 270) and drawn.shape == GREY.shape
    assert (GREY == 128).all(), "the picture itself is left as it is"
    assert (drawn[120:] == 128).all(), "below the text nothing is drawn"
    assert drawn[:40].max() == 255 and np.median(drawn[:40]) < 60


@pytest.mark.parametrize(
    ("width", "height", "size"), [(64, 48, (320, 240)), (321, 241, (320, 240))]
)
def test_small_and_odd_sizes(width: int, height: int, size: tuple[int, int]) -> None:
    overlay = Overlay(width, height)
    drawn = overlay.draw(np.zeros((height, width, 3), np.uint8), Caption("x", ()))
    assert overlay.size == size and drawn.shape == (size[1], size[0], 3)


def test_the_strip_tells_costs_and_the_time() -> None:
    cells = (Cell(0.0, 1.0), Cell(0.5, 0.0), Cell(0.75, None))
    strip = Overlay(480, 270).draw(GREY, Caption("x", (), cells, now=0.25))[-15:]
    heights = [int((strip[:, x].astype(int).max(-1) > 68).sum()) for x in (60, 300, 420)]
    assert heights[0] == 15 and heights[0] > heights[1] > heights[2] > 0
    assert (strip[:, 120] == 255).all(), "where the picture is"


@pytest.mark.parametrize("text", ["x" * 500, "a\nb\t<c>[/red]", "прыжок на лыжах " * 20, ""])
def test_long_and_strange_names_fit(text: str) -> None:
    overlay = Overlay(320, 240)
    assert overlay._text.getlength(_fitted(text, overlay._text, 300)) <= 300
    overlay.draw(GREY, Caption(text, (text,)))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_growing_file_is_playable_before_it_is_closed(suffix: str, tmp_path: Path) -> None:
    path, copy = tmp_path / f"x{suffix}", tmp_path / f"copy{suffix}"
    with VideoFile(path, container_of("--video", path), (480, 270), 5.0, growing=True) as file:
        for number in range(100):
            file.write(GREY, number / 5)
        shutil.copy(path, copy)
    for place, least in ((copy, 20), (path, 100)):
        with av.open(str(place)) as video:
            times = [frame.time for frame in video.decode(video=0)]
        assert least <= len(times) <= 100
        assert times == pytest.approx(np.arange(len(times)) / 5, abs=1e-3)


def test_times_that_do_not_rise_are_put_behind_one_another(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with VideoFile(path, container_of("--video", path), (480, 270), 5.0) as file:
        for time in (0.0, 0.2, 0.2, 0.1, 0.6):
            file.write(GREY, time)
    with av.open(str(path)) as video:
        times = [frame.time for frame in video.decode(video=0)]
    assert times[-1] == pytest.approx(0.6) and times == sorted(times) and len(times) == 5


def test_a_suffix_that_is_not_written_is_named() -> None:
    with pytest.raises(UserError, match=r"--video=x.webm: give a name that ends in .mp4"):
        container_of("--video", "x.webm")
