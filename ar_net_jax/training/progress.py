"""Throughput of a training, and the line that reports a step."""

import datetime
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import jax

from ar_net_jax.training.nan_guard import NaNGuard

Item = TypeVar("Item")
_INDENT = "    "


class Throughput:
    """Measures steps and waiting between two reports; compiling and evaluation are left out."""

    def __init__(
        self, frames_per_step: int, last_step: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts with nothing measured.

        Args:
            frames_per_step: over all devices.
            last_step: of the stage.
            clock: seconds since some fixed moment.
        """
        self._frames, self._last_step, self._clock = frames_per_step, last_step, clock
        self._begun: tuple[int, float] | None = None
        self._since, self._waited = (0, clock()), 0.0

    def next_batch(self, batches: Iterator[Item], guard: NaNGuard) -> Item:
        """The next batch; if the devices ran idle over it, the time counts as waiting."""
        started = self._clock()
        batch = next(batches)
        if guard.idle():
            self._waited += self._clock() - started
        return batch

    def resume(self, step: int) -> None:
        """The devices have just finished this step, and measuring starts again from here."""
        if self._begun is None:
            self._begun = (step, self._clock())
        self._restart(step)

    def rates(self, step: int) -> dict[str, float]:
        """Rates since `resume` or the last call; the devices must have finished this step.

        Returns:
            `frames_per_second` of all devices, `frames_per_second_per_device`, `data_wait` (share
            of the time in which the devices were idle for want of data) and `seconds_left` in
            this stage, evaluations included; empty before the first whole step.
        """
        begun, since = self._begun, self._since
        seconds = self._clock() - since[1]
        if begun is None or step <= since[0] or seconds <= 0:
            return {}
        rate = self._frames * (step - since[0]) / seconds
        rates = {
            "frames_per_second": rate,
            "frames_per_second_per_device": rate / jax.device_count(),
            "data_wait": self._waited / seconds,
            "seconds_left": self.seconds_left(step),
        }
        self._restart(step)
        return rates

    def seconds_left(self, step: int) -> float:
        """Seconds left in the stage, evaluations included; after the first `resume`."""
        assert self._begun is not None, "nothing is measured yet"
        seconds_per_step = (self._clock() - self._begun[1]) / (step - self._begun[0])
        return seconds_per_step * (self._last_step - step)

    def _restart(self, step: int) -> None:
        self._since, self._waited = (step, self._clock()), 0.0


def progress_line(
    stage: str, step: int, last_step: int, values: Mapping[str, float], rates: Mapping[str, float]
) -> str:
    """One line for the terminal or a log file.

    Args:
        stage: its name.
        step: steps of the stage done so far.
        last_step: steps of the whole stage.
        values: a step's metrics, and `learning_rate`.
        rates: from `Throughput.rates`.

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
    if rates:
        left = datetime.timedelta(seconds=round(rates["seconds_left"]))
        speed = f"{rates['frames_per_second']:.4g} frames/s"
        if rates["frames_per_second"] != rates["frames_per_second_per_device"]:
            speed += f" ({rates['frames_per_second_per_device']:.4g} a device)"
        fields += [
            speed,
            f"waiting for data {rates['data_wait']:.0%}",
            f"{left} left",
        ]
    return " | ".join(fields)


def folded(line: str, width: int = 100) -> str:
    """A line in several of at most `width`, the later ones indented; broken between its fields.

    A single word that is longer, such as a path, is left whole.

    >>> print(folded("joint 20/100 | loss 1.5 | usage skip 2 40%", width=24))
    joint 20/100 | loss 1.5
        | usage skip 2 40%
    """
    lines: list[str] = []
    for number, field in enumerate(line.split(" | ")):
        piece = f"| {field}" if number else field
        if lines and len(lines[-1]) + 1 + len(piece) <= width:
            lines[-1] += f" {piece}"
        else:
            lines += textwrap.wrap(
                piece,
                width,
                initial_indent=_INDENT if lines else "",
                subsequent_indent=_INDENT,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def _grouped(values: Mapping[str, float], prefix: str, form: str) -> list[str]:
    return [
        form.format(name.removeprefix(prefix), value)
        for name, value in values.items()
        if name.startswith(prefix)
    ]
