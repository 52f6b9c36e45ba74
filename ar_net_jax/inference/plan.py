"""How the routed form was measured to run best: sizes of chunk, and which form of execution.

A plan is of one kind of device and one model's networks. It changes how inference runs, and its
results by rounding alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ar_net_jax.errors import UserError, first_line
from ar_net_jax.methods import Method
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.machine import device_name

Form = Literal["loop", "buckets"]
FORMS: tuple[Form, ...] = ("loop", "buckets")
"""Loops on the device; or the host, told the decisions once, runs chunk after chunk."""

_FORMAT = "arnet plan 1"


class PlanError(UserError):
    """A plan that is damaged, or that was measured for something else."""


@dataclass(frozen=True)
class PlanKey:
    """What a plan is measured for.

    Attributes:
        device: see `device_name`.
        method: of the model.
        dtype: of its backbones.
        networks: those that take frames, as (name, backbone, side in pixels).
    """

    device: str
    method: str
    dtype: str
    networks: tuple[tuple[str, str, int], ...]

    @classmethod
    def of(cls, method: Method[Any, Any]) -> "PlanKey":
        """For a model on the device at hand."""
        networks = tuple(
            (name, network.backbone, network.resolution)
            for name, network in sorted(method.networks().items())
            if network.backbone
        )
        return cls(device_name(), method.name, method.config.dtype, networks)


@dataclass(frozen=True)
class NetworkPlan:
    """What was measured of a network.

    Attributes:
        name: of the network.
        chunks: sizes for the loop, descending.
        seconds: of one chunk by its size, ascending by size.
    """

    name: str
    chunks: Chunks
    seconds: tuple[tuple[int, float], ...]

    @property
    def buckets(self) -> Chunks:
        """Every size that was measured, descending."""
        return tuple(size for size, _ in reversed(self.seconds))


@dataclass(frozen=True)
class Plan:
    """How the routed form of a model runs best on a kind of device.

    Attributes:
        key: what it was measured for.
        form: the faster one.
        networks: those that were measured; others keep the usual sizes.
        source: where it comes from, for those who read a result.
    """

    key: PlanKey
    form: Form
    networks: tuple[NetworkPlan, ...]
    source: str = "measured"

    def chunks(self, form: Form) -> dict[str, Chunks]:
        """Sizes of chunk by network for a form."""
        return {n.name: n.chunks if form == "loop" else n.buckets for n in self.networks}

    def seconds(self, network: str) -> tuple[tuple[int, float], ...]:
        """Of one chunk by its size; empty where the network was not measured."""
        return next((n.seconds for n in self.networks if n.name == network), ())

    def to_json(self) -> dict[str, Any]:
        """As `read_plan` reads it."""
        return {
            "format": _FORMAT,
            "device": self.key.device,
            "method": self.key.method,
            "dtype": self.key.dtype,
            "form": self.form,
            "networks": {
                name: {"backbone": backbone, "resolution": side} | self._measured(name)
                for name, backbone, side in self.key.networks
            },
        }

    def _measured(self, network: str) -> dict[str, Any]:
        found = next((n for n in self.networks if n.name == network), None)
        if found is None:
            return {}
        seconds = {str(size): taken for size, taken in found.seconds}
        return {"chunks": list(found.chunks), "seconds": seconds}


def read_plan(text: str, source: str) -> Plan:
    """Reads a plan.

    Args:
        text: JSON.
        source: where it comes from.

    Raises:
        PlanError: it is damaged.
    """
    try:
        return _plan(json.loads(text), source)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PlanError(f"damaged ({type(error).__name__}: {first_line(error)})") from None


def _plan(found: Mapping[str, Any], source: str) -> Plan:
    if found["format"] != _FORMAT:
        raise ValueError(f"format {found['format']!r} where {_FORMAT!r} is known")
    if found["form"] not in FORMS:
        raise ValueError(f"form {found['form']!r}")
    networks = found["networks"]
    sides = [(name, str(n["backbone"]), int(n["resolution"])) for name, n in networks.items()]
    key = PlanKey(found["device"], found["method"], found["dtype"], tuple(sorted(sides)))
    measured = [_network(name, n) for name, n in networks.items() if "chunks" in n]
    return Plan(key, found["form"], tuple(measured), source)


def _network(name: str, found: Mapping[str, Any]) -> NetworkPlan:
    chunks = tuple(found["chunks"])
    seconds = tuple(sorted((int(size), float(s)) for size, s in found["seconds"].items()))
    descending = all(a > b for a, b in zip(chunks, chunks[1:]))
    whole = all(isinstance(size, int) and size > 0 for size in chunks)
    if not (chunks and descending and whole):
        raise ValueError(f"{name}: chunks {found['chunks']}")
    if not seconds or seconds[0][0] < 1 or not all(0 < taken < 1e6 for _, taken in seconds):
        raise ValueError(f"{name}: seconds {found['seconds']}")
    return NetworkPlan(name, chunks, seconds)


def check_plan(plan: Plan, key: PlanKey) -> None:
    """Raises PlanError, saying what differs, if a plan was measured for something else."""
    for field in ("device", "method", "dtype", "networks"):
        its, wanted = getattr(plan.key, field), getattr(key, field)
        if its != wanted:
            raise PlanError(f"of another {field}: {its} where {wanted} is needed")
