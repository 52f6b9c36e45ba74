"""What a model costs: every network and choice, and a video under a usage of the choices."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import rich.box
import rich.console
import rich.table

from ar_net_jax import backbones
from ar_net_jax.config.model import CONVENTIONS, Convention
from ar_net_jax.costs import Network, usage_gflops
from ar_net_jax.costs.usage import parse_usage
from ar_net_jax.costs.xla import xla_gmacs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.methods import Method
from ar_net_jax.reporting.console import standard_output

ByConvention = dict[Convention, float]

# Columns that hold words.
_TEXT = ("Backbone", "Runs per frame")
_CONVENTIONS_NOTE = (
    "GFLOPs are multiply-accumulates in 1e9. macs: convolutions and matrix products. paper: with "
    "BatchNorm terms, the paper's LSTM formula and the published EfficientNet figures. XLA: half "
    "of the operations that XLA counts in one frame; it leaves out taps on padding and adds "
    "elementwise work."
)


@dataclass(frozen=True)
class NetworkCost:
    """What one call of a network costs.

    Attributes:
        name: of the network.
        resolution: side of its frames in pixels; None where it takes none.
        backbone: name of its architecture; None likewise.
        parameters: that it holds.
        gflops: of a call; 0 where nothing uses the result.
        xla_gmacs: by XLA's count; None where there is none.
    """

    name: str
    resolution: int | None
    backbone: str | None
    parameters: int
    gflops: ByConvention
    xla_gmacs: float | None


@dataclass(frozen=True)
class ChoiceCost:
    """What a frame spent in a choice costs.

    Attributes:
        name: of the choice.
        calls: of each network that it needs, per frame.
        gflops: of all of them.
    """

    name: str
    calls: dict[str, float]
    gflops: ByConvention


@dataclass(frozen=True)
class VideoCost:
    """What a video costs.

    Attributes:
        usage: share of frames by choice; None where there is one choice.
        num_frames: of the video.
        gflops_per_frame: of a mean frame.
        gflops_per_video: of all frames.
    """

    usage: dict[str, float] | None
    num_frames: int
    gflops_per_frame: ByConvention
    gflops_per_video: ByConvention


@dataclass(frozen=True)
class ModelCosts:
    """What a model costs.

    Attributes:
        method: the method's name.
        networks: every network once.
        choices: what may be decided about a frame.
        videos: under the given usage, or with each choice on all frames.
        parameters: of the whole model.
        notes: what a reader has to know of the figures.
    """

    method: str
    networks: tuple[NetworkCost, ...]
    choices: tuple[ChoiceCost, ...]
    videos: tuple[VideoCost, ...]
    parameters: int
    notes: tuple[str, ...]


def model_costs(
    config: Config, *, usage: str | None = None, num_frames: int | None = None
) -> ModelCosts:
    """What a model costs, in both conventions.

    Args:
        config: of the model.
        usage: as for `parse_usage`; only for a method with several choices. Without it, such a
            model is costed with each choice on all frames.
        num_frames: frames of a video; by default the sum of `usage` where it counts frames, else
            the config's.

    Raises:
        UserError: a usage that does not fit the choices.
    """
    method = config.build_method()
    choices, networks = method.choices, method.networks()
    shares, counted = np.eye(len(choices)), None
    if usage is not None:
        if len(choices) == 1:
            raise UserError(
                f"--usage: method '{method.name}' treats every frame alike; leave it out, "
                "--num-frames sets the length of the video"
            )
        share, counted = parse_usage(usage, choices.names)
        shares = share[None]
    frames = num_frames or counted or config.data.num_frames
    counts = method.parameter_counts()
    leaves = jax.tree.leaves(method.variable_shapes()["params"])
    notes = [backbones.get(n.backbone).paper_note for n in networks.values() if n.backbone]
    return ModelCosts(
        method=method.name,
        networks=tuple(_network_cost(name, n, counts[name]) for name, n in networks.items()),
        choices=_choice_costs(method),
        videos=tuple(_video_cost(method, share, frames) for share in shares),
        parameters=sum(math.prod(leaf.shape) for leaf in leaves),
        notes=(_CONVENTIONS_NOTE, *dict.fromkeys(note for note in notes if note)),
    )


def print_costs(costs: ModelCosts, console: rich.console.Console | None = None) -> None:
    """Prints what a model costs; to the terminal where no console is given."""
    console = console or standard_output()
    networks = _table("Network", "px", "Backbone", "Parameters", *_headings(""), "XLA")
    for network in costs.networks:
        networks.add_row(
            network.name,
            str(network.resolution or ""),
            network.backbone or "",
            f"{network.parameters:,}",
            *(_gflops(network.gflops[name]) for name in CONVENTIONS),
            "" if network.xla_gmacs is None else _gflops(network.xla_gmacs),
        )
    console.print(networks)
    choices = _table("Choice", "Runs per frame", *_headings("/\nframe"))
    for choice in costs.choices:
        runs = " + ".join(_times(count) + name for name, count in choice.calls.items())
        choices.add_row(choice.name, runs, *(_gflops(choice.gflops[name]) for name in CONVENTIONS))
    console.print(choices)
    videos = _table("Video", "Frames", *_headings("/\nframe"), *_headings("/\nvideo"))
    for video in costs.videos:
        per = [d[name] for d in (video.gflops_per_frame, video.gflops_per_video) for name in d]
        videos.add_row(_usage_text(video), str(video.num_frames), *(f"{x:.4g}" for x in per))
    console.print(videos)
    console.print(f"{costs.parameters:,} parameters in all.")
    for note in costs.notes:
        console.print(note, style="dim")


def _network_cost(name: str, network: Network, parameters: int) -> NetworkCost:
    xla = None
    if network.backbone:
        xla = xla_gmacs(network.backbone, network.resolution, network.outputs, network.padding)
    return NetworkCost(
        name,
        resolution=network.resolution or None,
        backbone=network.backbone or None,
        parameters=parameters,
        gflops={c: network.gflops(c) if network.charged else 0.0 for c in CONVENTIONS},
        xla_gmacs=xla,
    )


def _choice_costs(method: Method[Any, Any]) -> tuple[ChoiceCost, ...]:
    choices = method.choices
    gflops = {convention: method.choice_gflops(convention) for convention in CONVENTIONS}
    return tuple(
        ChoiceCost(
            name,
            calls={network: per[i] for network, per in choices.calls.items() if per[i]},
            gflops={convention: float(costs[i]) for convention, costs in gflops.items()},
        )
        for i, name in enumerate(choices.names)
    )


def _video_cost(method: Method[Any, Any], share: np.ndarray, num_frames: int) -> VideoCost:
    networks, choices = method.networks(), method.choices
    per = {
        frames: {c: usage_gflops(networks, choices, share, c, frames) for c in CONVENTIONS}
        for frames in {1, num_frames}
    }
    usage = dict(zip(choices.names, share.tolist(), strict=True)) if len(choices) > 1 else None
    return VideoCost(usage, num_frames, per[1], per[num_frames])


def _usage_text(video: VideoCost) -> str:
    if video.usage is None:
        return "every frame alike"
    used = {name: share for name, share in video.usage.items() if share}
    if len(used) == 1:
        return f"always {next(iter(used))}"
    return "the given usage"


def _times(count: float) -> str:
    return "" if count == 1 else f"{count:.3g} "


def _headings(suffix: str) -> list[str]:
    return [f"{name}{suffix}" for name in CONVENTIONS]


def _gflops(value: float) -> str:
    """Four decimals, or three digits of what is smaller than those can show."""
    return f"{value:.4f}" if value >= 0.01 else f"{value:.3g}"


def _table(name: str, *columns: str) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="left" if column in _TEXT else "right", no_wrap=True)
    return table
