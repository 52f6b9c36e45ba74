"""Serves a video on localhost, as a camera of the network would."""

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# What is served where there is no ffmpeg program: the same, by PyAV.
_BY_PYAV = """
import sys, time, av
source, address = sys.argv[1:]
with av.open(source) as video, av.open(address, "w", format="mpegts") as out:
    stream = out.add_stream("mpeg2video", rate=video.streams.video[0].average_rate)
    stream.width, stream.height = video.streams.video[0].width, video.streams.video[0].height
    stream.pix_fmt = "yuv420p"
    begun = time.monotonic()
    for frame in video.decode(video=0):
        time.sleep(max(0, begun + frame.time - time.monotonic()))
        frame.pts = None
        out.mux(stream.encode(frame))
    out.mux(stream.encode())
"""


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def serving(video: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Plays a video at its own rate to the one that connects first; cut at the end of the block."""
    address = f"tcp://127.0.0.1:{port}?listen=1"
    command = [sys.executable, "-c", _BY_PYAV, str(video), address]
    if ffmpeg := shutil.which("ffmpeg"):
        codec = ["-c:v", "mpeg2video", "-q:v", "3", "-an", "-f", "mpegts"]
        command = [ffmpeg, "-v", "error", "-re", "-i", str(video), *codec, address]
    server = subprocess.Popen(command)
    try:
        yield server
    finally:
        server.kill()
        server.wait()
