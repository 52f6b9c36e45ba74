"""How fast training goes, and the line that tells of it."""

import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import jax

from ar_net_jax.training.nan_guard import LossWatch

Item = TypeVar("Item")


class Pace:
    """Measures steps and waiting between two reports; compiling and evaluation are left out."""

    def __init__(
        self, frames_per_step: int, last_step: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts with nothing measured.

        Args:
            frames_per_step: over all devices.
            last_step: of the stage.
            clock: seconds from some moment on.
        """
        self._frames, self._last_step, self._clock = frames_per_step, last_step, clock
        self._begun: tuple[int, float] | None = None
        self._mark(0)

    def _mark(self, step: int) -> None:
        self._since, self._waited = (step, self._clock()), 0.0

    def next_of(self, batches: Iterator[Item], watch: LossWatch) -> Item:
        """The next batch. The time it takes counts as waiting if the devices ran dry over it."""
        started = self._clock()
        batch = next(batches)
        if watch.idle():
            self._waited += self._clock() - started
        return batch

    def resume(self, step: int) -> None:
        """The devices have just finished this step, and training goes on from here."""
        if self._begun is None:
            self._begun = (step, self._clock())
        self._mark(step)

    def figures(self, step: int) -> dict[str, float]:
        """Rates since `resume` or the last call; the devices must have finished this step.

        Returns:
            `frames_per_second` of all devices, `frames_per_second_per_device`, `data_wait` (share
            of the time in which the devices had nothing to do for want of data) and
            `seconds_left` in this stage, evaluations included; empty before the first whole step.
        """
        begun, since = self._begun, self._since
        seconds = self._clock() - since[1]
        if begun is None or step <= since[0] or seconds <= 0:
            return {}
        rate = self._frames * (step - since[0]) / seconds
        pace = (self._clock() - begun[1]) / (step - begun[0])
        figures = {
            "frames_per_second": rate,
            "frames_per_second_per_device": rate / jax.device_count(),
            "data_wait": self._waited / seconds,
            "seconds_left": pace * (self._last_step - step),
        }
        self._mark(step)
        return figures


def progress_line(
    stage: str, step: int, last_step: int, values: Mapping[str, float], pace: Mapping[str, float]
) -> str:
    """One line for the terminal or a log file.

    Args:
        stage: its name.
        step: how many steps of it are done.
        last_step: how many there are.
        values: a step's metrics, and `learning_rate`.
        pace: from `Pace.figures`.

    >>> progress_line("joint", 20, 100, {"loss": 1.5, "loss/uniform": 0.25, "usage/skip 2": 0.4,
    ...               "tau": 5.0, "learning_rate": 1e-3}, {})
    'joint 20/100 | loss 1.5 (uniform 0.25) | usage skip 2 40% | tau 5 | lr 0.001'
    """
    parts = _grouped(values, "loss/", "{} {:.4g}")
    usage = _grouped(values, "usage/", "{} {:.0%}")
    fields = [f"{stage} {step}/{last_step}", f"loss {values['loss']:.4g}"]
    if parts:
        fields[-1] += f" ({', '.join(parts)})"
    if usage:
        fields.append(f"usage {', '.join(usage)}")
    if "tau" in values:
        fields.append(f"tau {values['tau']:.3g}")
    fields.append(f"lr {values['learning_rate']:.3g}")
    if pace:
        left = datetime.timedelta(seconds=round(pace["seconds_left"]))
        fields += [
            f"{pace['frames_per_second']:.4g} frames/s "
            f"({pace['frames_per_second_per_device']:.4g} a device)",
            f"waiting for data {pace['data_wait']:.0%}",
            f"{left} left",
        ]
    return " | ".join(fields)


def _grouped(values: Mapping[str, float], prefix: str, form: str) -> list[str]:
    return [
        form.format(name.removeprefix(prefix), value)
        for name, value in values.items()
        if name.startswith(prefix)
    ]
