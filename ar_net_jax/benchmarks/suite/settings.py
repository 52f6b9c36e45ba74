"""What the device suite measures, and for how long."""

import importlib.util
import re
from dataclasses import dataclass

import jax

from ar_net_jax import methods
from ar_net_jax.errors import UserError
from ar_net_jax.recipes import PAPER_VARIANTS

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class SuiteSettings:
    """What is measured.

    Attributes:
        config: name of a config of AR-Net, to which variants are added.
        methods: variants that turn it into other methods.
        dtypes: of the backbones, the most important first.
        batches: numbers of videos, the most important first.
        training_batch: videos of a training step.
        rounds: in which the calls are timed in turn.
        overrides: of single fields of every config.
        against_torch: whether to time torchvision's network beside Uniform.
    """

    config: str
    methods: tuple[str, ...]
    dtypes: tuple[str, ...]
    batches: tuple[int, ...]
    training_batch: int
    rounds: int
    overrides: tuple[str, ...] = ()
    against_torch: bool = False

    def spec(self, method: str = "") -> str:
        """The config's name with a method's variant."""
        joint = "," if ":" in self.config else ":"
        return f"{self.config}{joint}{method}" if method else self.config


def choose_suite(
    config: str | None, overrides: tuple[str, ...] = (), *, quick: bool = False
) -> SuiteSettings:
    """The suite for the device at hand.

    Args:
        config: of AR-Net; by default `activitynet`, and in the short form `demo`.
        overrides: of single fields of every config.
        quick: the short form, which a CPU takes always: small batches, float32, fewer rounds, and
            no PyTorch.
    """
    # The reference stands beside every one of them.
    others = tuple(
        name
        for name in methods.names()
        if name in PAPER_VARIANTS and not methods.get(name).traits.reference
    )
    if quick or jax.default_backend() == "cpu":
        return SuiteSettings(
            config or "demo",
            others,
            dtypes=("float32",),
            batches=(4, 1),
            training_batch=4,
            rounds=3,
            overrides=overrides,
        )
    return SuiteSettings(
        config or "activitynet",
        others,
        dtypes=("bfloat16", "float32"),
        batches=(64, 1, 8),
        training_batch=16,
        rounds=10,
        overrides=overrides,
        against_torch=importlib.util.find_spec("torch") is not None,
    )


def read_budget(text: str) -> float:
    """Seconds of a span of time such as `8m`, `90s`, `1.5h`, or plain seconds.

    Raises:
        UserError: it is none, or not above zero.

    >>> read_budget("8m")
    480.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
    if not seconds > 0:
        raise UserError(f"--budget={text}: must be a time above zero, such as 8m, 90s or 1.5h")
    return seconds
