"""When each frame is shown: what containers and decoders leave open, settled as ffmpeg does."""

from fractions import Fraction

import av

# In seconds: how far times may jump before ffmpeg takes it for a new start, in formats that are
# known for it (MPEG streams), and in others, where so wild a time is only forgotten.
_JUMP = 10
_WILD_JUMP = 3600 * 30
# How far such a format may step back before it counts as a new start.
_STEP_BACK = 0.1
# FFmpeg's flag (AVFMT_TS_DISCONT) of such a format.
_MAY_START_AGAIN = 0x0200
_USUAL_RATE = Fraction(25)


def frame_rate(stream: av.VideoStream) -> Fraction:
    """Frames per second as the file tells them, 25 where it does not."""
    return stream.average_rate or stream.guessed_rate or _USUAL_RATE


class _BestEffort:
    """libavcodec's choice between two faulty times: of presentation, and of decoding.

    Where presentation times are missing or run backwards more often than decoding times do, the
    latter are taken.
    """

    def __init__(self) -> None:
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = 0
        self._faulty_dts = 0

    def __call__(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if pts is not None and (self._faulty_pts <= self._faulty_dts or dts is None):
            return pts
        return dts


class Timestamps:
    """Times of one stream's packets and frames, in the order in which they come."""

    def __init__(self, stream: av.VideoStream, container: av.container.InputContainer) -> None:
        self._base = stream.time_base or Fraction(1, 90000)
        self._starts_again = bool(int(container.format.flags) & _MAY_START_AGAIN)
        # AVI stores none: what packets carry as times of presentation is FFmpeg's guess, wrong
        # where frames are reordered.
        self._presented = container.format.name != "avi"
        self._frame_length = max(1, round(1 / (frame_rate(stream) * self._base)))
        self._jump, self._wild_jump, self._step_back = (
            round(seconds / self._base) for seconds in (_JUMP, _WILD_JUMP, _STEP_BACK)
        )
        # Of packets, in units of the time base.
        self._offset = 0
        self._dts: int | None = None
        self._next_dts: int | None = None
        # Of frames.
        self._best_effort = _BestEffort()
        self._last: int | None = None
        self._last_length = self._frame_length
        self._first: int | None = None

    def correct(self, packet: "av.Packet[av.VideoStream]") -> None:
        """Joins the times of a packet to those before it where the file starts them again."""
        if self._offset:
            packet.pts = None if packet.pts is None else packet.pts + self._offset
            packet.dts = None if packet.dts is None else packet.dts + self._offset
        if packet.dts is not None and self._next_dts is not None:
            if self._starts_again:
                self._join(packet)
            else:
                self._forget_wild(packet)
        if packet.dts is not None:
            self._dts = packet.dts
        elif self._next_dts is not None:
            self._dts = self._next_dts
        if self._dts is not None:
            self._next_dts = self._dts + (packet.duration or self._frame_length)

    def _join(self, packet: "av.Packet[av.VideoStream]") -> None:
        assert packet.dts is not None and self._next_dts is not None and self._dts is not None
        delta = packet.dts - self._next_dts
        stepped_back = packet.dts + self._step_back < self._dts
        if abs(delta) > self._jump or stepped_back:
            self._offset -= delta
            packet.dts -= delta
            packet.pts = None if packet.pts is None else packet.pts - delta

    def _forget_wild(self, packet: "av.Packet[av.VideoStream]") -> None:
        assert packet.dts is not None and self._next_dts is not None
        if abs(packet.dts - self._next_dts) > self._wild_jump:
            packet.dts = None
        if packet.pts is not None and abs(packet.pts - self._next_dts) > self._wild_jump:
            packet.pts = None

    def seconds(self, frame: av.VideoFrame) -> float:
        """Seconds since the first frame; a frame without a time follows the one before it."""
        pts = self._best_effort(frame.pts if self._presented else None, frame.dts)
        if pts is None:
            pts = 0 if self._last is None else self._last + self._last_length
        self._last_length = self._length(frame, pts)
        self._last = pts
        self._first = pts if self._first is None else self._first
        return (pts - self._first) * self._base.numerator / self._base.denominator

    def _length(self, frame: av.VideoFrame, pts: int) -> int:
        """How long a frame is shown, as ffmpeg estimates it."""
        step = None if self._last is None else pts - self._last
        # A length of one tick is a demuxer's guess where frames are further apart.
        guessed = frame.duration == 1 and step is not None and step > 2
        if frame.duration > 0 and not guessed:
            return frame.duration
        return step if step is not None and step > 0 else self._frame_length
