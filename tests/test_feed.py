"""Frames come in time: files at their rate, the oldest dropped when late, streams opened again."""

import contextlib
import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from stream_server import free_port, serving

from ar_net_jax.data.decoding.faults import VideoFault
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.feed import Feed, FeedFrame, Lost
from ar_net_jax.data.live import parse_source
from ar_net_jax.errors import UserError
from ar_net_jax.reporting.watch_display import Rate

FPS = 25
STEP = 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames, each four levels brighter than the one before."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    levels = STEP * np.arange(50, dtype=np.uint8)[:, None, None, None]
    write_video(path, np.broadcast_to(levels, (50, 48, 64, 3)).copy(), fps=FPS, crf=10)
    return path


def _number(frame: FeedFrame) -> int:
    return round(frame.pixels().mean() / STEP)


def test_a_file_plays_at_its_own_rate(clip: Path) -> None:
    with Feed(parse_source(str(clip))) as feed:
        begun, frames = time.monotonic(), list(feed)
        passed = time.monotonic() - begun
    assert passed >= 49 / FPS
    assert [frame.time for frame in frames] == pytest.approx(np.arange(50) / FPS)
    assert (feed.received, feed.dropped, feed.rate) == (50, 0, FPS)


def test_fast_neither_waits_nor_drops(clip: Path) -> None:
    with Feed(parse_source(str(clip)), fast=True, capacity=2) as feed:
        numbers = []
        for frame in feed:
            if len(numbers) < 3:
                time.sleep(0.05)  # Late, but the frames wait.
            numbers.append(_number(frame))
    assert numbers == list(range(50)) and feed.dropped == 0


def test_when_late_the_oldest_are_dropped_and_counted(clip: Path) -> None:
    with Feed(parse_source(str(clip)), capacity=4) as feed:
        frames = iter(feed)
        first = next(frames)
        time.sleep(1.0)  # Some 25 frames come meanwhile.
        assert len(feed._ready) <= 4
        rest = [_number(frame) for frame in frames]
    assert _number(first) == 0
    missing = rest[0] - 1
    assert missing > 10 and feed.dropped == missing
    assert rest == list(range(rest[0], 50)), "the newest of those that waited, in order"
    assert feed.received == 50


def test_a_feed_that_is_closed_early_ends_its_thread(clip: Path) -> None:
    with Feed(parse_source(str(clip)), fast=True, capacity=2) as feed:
        next(iter(feed))
    feed._thread.join(5)
    assert not feed._thread.is_alive()


def _open(address: str) -> Feed:
    """A feed of a server that has just been started."""
    source, end = parse_source(address), time.monotonic() + 20
    while True:
        try:
            # Room for all frames: on a busy machine the oldest would be dropped else.
            return Feed(source, capacity=100, waits=(0.2,) * 10)
        except UserError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_a_cut_stream_is_opened_again_and_lost_for_good_at_last(clip: Path) -> None:
    port = free_port()
    frames: list[FeedFrame] = []
    events: list[Lost] = []
    again: list[FeedFrame] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(clip, port))
        feed = stack.enter_context(_open(f"tcp://127.0.0.1:{port}"))
        with pytest.raises(UserError, match=rf"127.0.0.1:{port}: lost \(.*not back after 10 tries"):
            for item in feed:
                if not isinstance(item, Lost):
                    (again if events else frames).append(item)
                    if len(frames) == 10 and not events:
                        server.kill()
                    continue
                if not events:
                    stack.enter_context(serving(clip, port))
                events.append(item)
    assert _number(frames[0]) == 0 and 10 <= len(frames) <= 50
    assert [_number(frame) for frame in again] == list(range(50))
    times = [frame.time for frame in [*frames, *again]]
    assert all(one < other for one, other in itertools.pairwise(times))
    assert [event.attempt for event in events[-10:]] == list(range(1, 11))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.mp4", "nothing.mp4: no such file; give one, an address"),
        ("tcp://127.0.0.1:9", "tcp://127.0.0.1:9: Connection refused"),
        ("bad://x", "bad://x: Protocol not found"),
        ("/dev/video77", "/dev/video77: No such file or directory"),
    ],
)
def test_what_cannot_be_opened_is_told_at_once(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Feed(parse_source(name))


def test_a_damaged_file_is_told_after_its_frames(clip: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.ts"
    cut.write_bytes(clip.read_bytes()[:200])
    with pytest.raises(UserError, match="cut.ts"), Feed(parse_source(str(cut))) as feed:
        list(feed)


def test_rates_are_those_of_the_last_seconds() -> None:
    now = itertools.count()
    rate = Rate(clock=lambda: float(next(now)))
    assert rate() == 0
    for second in range(20):
        rate.update(10 * second if second < 10 else 90 + 2 * (second - 9))
    assert rate() == pytest.approx(2)


class _Strange:
    """Stands for a decoded frame in colours that nobody converts."""

    def pixels(self) -> np.ndarray:
        raise VideoFault("its colours are not converted")


def test_a_frame_that_cannot_be_converted_is_told_with_the_source() -> None:
    with pytest.raises(UserError, match="^clip.mp4: its colours are not converted$"):
        FeedFrame(0.0, _Strange(), "clip.mp4").pixels()  # type: ignore[arg-type]
