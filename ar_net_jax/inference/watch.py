"""A streaming model on frames that come one after the other, window after window of time."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ar_net_jax.config.model import Convention
from ar_net_jax.data.augment import eval_crop
from ar_net_jax.data.feed import FeedFrame
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.predict import (
    DecidedFrame,
    PredictedClass,
    PredictedWindow,
    best_classes,
)
from ar_net_jax.inference.probabilities import class_probabilities

# As containers round the times of frames.
_SLACK = 5e-4


class Watcher:
    """What a model makes of a video on its way.

    The model was trained on a fixed number of frames from a whole video. So it takes as many,
    evenly, from each window of time, and begins anew with the next.

    Attributes:
        window: the one under way: its decisions, and the classes that the frames so far speak for.
        frames: that the model was shown, over all windows.
        gflops: that they needed.
        gflops_at_most: that they would have needed, each in the costliest decision.
        gflops_convention: how they are counted.
        costliest: GFLOPs of the costliest decision about a frame.
    """

    def __init__(
        self, model: Model, class_names: Sequence[str], *, seconds: float, top: int = 3
    ) -> None:
        """Compiles the model.

        Args:
            model: of a method that takes frames one by one.
            class_names: of the model's classes.
            seconds: that a window lasts.
            top: classes to name.

        Raises:
            UserError: the method decides nothing frame by frame.
        """
        self._model, self._names, self._top = model, class_names, top
        self._seconds, self._per_window = seconds, model.config.data.num_frames
        self._stream = model.stream()
        self.gflops_convention: Convention = model.method.config.gflops_convention
        self.costliest = float(model.method.choice_gflops().max())
        self.frames, self.gflops, self.gflops_at_most = 0, 0.0, 0.0
        self._shown: FeedFrame | None = None
        self._frame_seconds = 0.0
        self._begin(0.0)

    @property
    def skipped_work(self) -> float:
        """Share of the computation that decisions saved, 0 to 1."""
        return 1 - self.gflops / self.gflops_at_most if self.gflops_at_most else 0.0

    def take(self, frame: FeedFrame) -> list[PredictedWindow]:
        """Takes the next frame; the windows that are complete by it, mostly none.

        The model is shown the frame before, where one was due at a time before this one's: which
        frame is on show in the middle of a part of the window is known when the next one comes.
        """
        shown, self._shown = self._shown, frame
        finished: list[PredictedWindow] = []
        if shown is not None and frame.time <= self._due() + self._seconds:
            self._frame_seconds = frame.time - shown.time
        else:
            # The first frame of all or after a gap: what comes now belongs to no window before.
            finished += self._end(frame.time)
            shown = frame
        while self._due() < frame.time - _SLACK:
            finished += self._show(shown)
        return finished

    def finish(self) -> list[PredictedWindow]:
        """Ends the window under way: after the last frame, or where a stream is lost.

        Returns:
            Windows that the last frame completes, and what there is of the one after.
        """
        finished: list[PredictedWindow] = []
        if self._shown is not None:
            end = self._shown.time + self._frame_seconds
            while self._due() < end - _SLACK:
                finished += self._show(self._shown)
            finished += self._end(end)
            self._shown = None
        return finished

    def _due(self) -> float:
        """When the next frame is to be taken."""
        part = self._seconds / self._per_window
        return self.window.start + part * (len(self.window.frames) + 0.5)

    def _begin(self, start: float) -> None:
        self._stream.reset()
        self.window = PredictedWindow(start, start + self._seconds, (), (), 0.0)

    def _end(self, start_of_next: float) -> list[PredictedWindow]:
        """Ends the window early."""
        early = self.window
        self._begin(start_of_next)
        if not early.frames:
            return []
        end = min(early.end, start_of_next)
        return [PredictedWindow(early.start, end, early.classes, early.frames, early.gflops)]

    def _show(self, frame: FeedFrame) -> list[PredictedWindow]:
        """Shows the model a frame; the window, if that was its last."""
        method, window = self._model.method, self.window
        picture = eval_crop(Image.fromarray(frame.pixels()), method.image_size)
        step = self._stream.push(picture)
        gflops = self._stream.gflops
        decided = DecidedFrame(
            time=frame.time,
            action=method.choices.names[step.action],
            description=method.tell(step.action),
            left_out=method.choices.leaves_out(step.action),
            covered=step.covered,
            gflops=gflops - window.gflops,
        )
        self.frames += 1
        self.gflops += decided.gflops
        self.gflops_at_most += self.costliest
        self.window = PredictedWindow(
            window.start, window.end, self._classes(), (*window.frames, decided), gflops
        )
        if len(self.window.frames) < self._per_window:
            return []
        full = self.window
        self._begin(full.end)
        return [full]

    def _classes(self) -> tuple[PredictedClass, ...]:
        """The most likely ones; none while all frames were left out."""
        logits = np.asarray(self._stream.logits)
        if not np.any(logits):
            return ()
        return best_classes(class_probabilities(self._model.config, logits), self._names, self._top)
