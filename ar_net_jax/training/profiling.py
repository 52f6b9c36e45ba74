"""A profile of chosen training steps, as JAX's profiler writes it and xprof opens it."""

import re

import jax
from etils import epath

from ar_net_jax.errors import UserError


def parse_span(text: str) -> tuple[int, int]:
    """Reads `a:b`, steps counted from 1, both included.

    Raises:
        UserError: it is not of this form.

    >>> parse_span("10:12")
    (10, 12)
    """
    found = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= first <= last:
        raise UserError(
            f"--profile={text}: give the first and the last step of a stage, such as 10:12"
        )
    return first, last


class StepProfile:
    """Traces the steps first..last of a stage on the first process; does nothing without them.

    The first step of a run also compiles, so leave it out to see what a step costs.
    """

    def __init__(self, span: tuple[int, int] | None, directory: epath.PathLike) -> None:
        """Prepares the trace.

        Args:
            span: first and last step, or None.
            directory: gets `plugins/profile/<time>/`; give it to `xprof` or TensorBoard.
        """
        self._span = span if jax.process_index() == 0 else None
        self._directory, self._running = directory, False

    def before(self, step: int) -> None:
        """To be called before each step."""
        if self._span is not None and self._span[0] <= step <= self._span[1] and not self._running:
            jax.profiler.start_trace(self._directory)
            self._running = True

    def after(self, step: int, result: jax.Array) -> None:
        """To be called after each step with something it computes."""
        if self._running and self._span is not None and step >= self._span[1]:
            result.block_until_ready()
            self.close()
            self._span = None

    def close(self) -> None:
        """Writes out a trace that is under way."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
