"""Does the device compute what a CPU computes? Logits of AR-Net at an imposed usage."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.benchmarks.entries import Entry
from ar_net_jax.benchmarks.suite.speed import entries_of
from ar_net_jax.errors import UserError
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.ops.rng import example_keys

_VIDEOS, _FRAMES = 2, 8


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Logits of the device beside those of a CPU in float32, on equal weights and decisions.

    Attributes:
        model: its title.
        dtype: of the backbones on the device.
        precision: of products of float32 operands, as JAX names it; `default` may be TF32.
        difference: the largest, over the standard deviation of the CPU's logits.
        same_class: share of videos for which both take the same class.
    """

    model: str
    dtype: str
    precision: str
    difference: float
    same_class: float


def measure_agreement(
    spec: str, dtypes: tuple[str, ...], overrides: tuple[str, ...]
) -> list[Agreement]:
    """Compares the routed form on the device with the masked form on a CPU.

    Args:
        spec: name of the config.
        dtypes: of the backbones on the device; float32 comes at the highest precision too.
        overrides: of single fields.

    Returns:
        One `Agreement` for each dtype and precision.

    Raises:
        UserError: JAX was told to leave the CPU out.
    """
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError:
        raise UserError("no CPU to compare with: JAX_PLATFORMS leaves it out") from None
    entry = entries_of(spec, "float32", overrides)[0]
    expected = _logits(entry, cpu, "masked", "highest")
    found = []
    for dtype in dtypes:
        entry = entries_of(spec, dtype, overrides)[0]
        for precision in ("highest", "default") if dtype == "float32" else ("default",):
            logits = _logits(entry, jax.devices()[0], "routed", precision)
            found.append(
                Agreement(
                    model=entry.title,
                    dtype=dtype,
                    precision=precision,
                    difference=float(np.abs(logits - expected).max() / expected.std()),
                    same_class=float(np.mean(logits.argmax(-1) == expected.argmax(-1))),
                )
            )
    return found


def _logits(entry: Entry, device: jax.Device, form: Any, precision: str) -> np.ndarray:
    """Of noise under the imposed decisions, float32 [B, C]."""
    method = entry.method
    rng, side = np.random.default_rng(0), method.image_size
    frames = jnp.asarray(rng.integers(0, 256, (_VIDEOS, _FRAMES, side, side, 3), np.uint8))
    forced = dataclasses.replace(entry, num_frames=_FRAMES).forced_actions(_VIDEOS, seed=0)
    order = jnp.arange(_VIDEOS)
    request = Request(frames, example_keys(0, order, order), forced_actions=jnp.asarray(forced))
    infer = make_inference(method, routing=form, platform=device.platform)
    with jax.default_matmul_precision(precision):
        given = jax.device_put((entry.variables, request, np.float32(0)), device)
        return np.asarray(infer(*given).logits)
