"""What a model costs: every action and network, and a video under a usage of the actions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.box
import rich.console
import rich.table

from ar_net_jax import backbones
from ar_net_jax.config.model import CONVENTIONS, ModelConfig
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.costs.parts import Part, model_parts
from ar_net_jax.costs.usage import parse_usage
from ar_net_jax.costs.xla import xla_gmacs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config

_PER = ("gflops_per_frame", "gflops_per_video")
_CONVENTIONS_NOTE = (
    "GFLOPs are multiply-accumulates in 1e9. macs: convolutions and matrix products. paper: with "
    "BatchNorm terms, the paper's LSTM formula and the published EfficientNet figures. XLA: half "
    "of the operations that XLA counts in one frame; it leaves out taps on padding and adds "
    "elementwise work. /f and /V: per frame and per video."
)


def cost_figures(
    config: Config, *, usage: str | None = None, num_frames: int | None = None
) -> dict[str, Any]:
    """What a model costs, as JSON holds it.

    Args:
        config: of the model.
        usage: as for `parse_usage`; only for a model that chooses actions. Without it, such a model
            is costed with each action on all frames.
        num_frames: frames of a video; by default the sum of `usage` where it counts frames, else
            the config's.

    Returns:
        `actions` and, for what runs besides them, `networks`: rows with `name`, `resolution`,
        `backbone`, `parameters`, `gflops` by convention and `xla_gmacs`, per frame. `videos`: rows
        with `usage` (share by action, None where nothing is chosen), `num_frames`,
        `gflops_per_frame` and `gflops_per_video` by convention. The total `parameters`; `notes`.

    Raises:
        UserError: a usage that does not fit the actions.
    """
    model = config.model
    chooses = model.approach in ("ar_net", "random_policy")
    if usage is not None and not chooses:
        raise UserError(
            f"--usage: approach '{model.approach}' runs all of its networks on every frame; leave "
            "it out, --num_frames sets the length of the video"
        )
    shares, counted = np.eye(model.space.num_actions if chooses else 1), None
    if usage is not None:
        share, counted = parse_usage(usage, model.space.names)
        shares = share[None]
    frames = num_frames or counted or config.data.num_frames
    parts = model_parts(model)
    notes = {backbones.get(part.backbone).paper_note for part in parts if part.backbone}
    return {
        "approach": model.approach,
        "actions": _action_rows(model, parts),
        "networks": [_network_row(model, part) for part in parts[len(model.backbones) :]],
        "videos": [_video_row(model, share, frames, chooses) for share in shares],
        "parameters": sum(part.parameters for part in parts),
        "notes": [_CONVENTIONS_NOTE, *sorted(filter(None, notes))],
    }


def print_costs(figures: dict[str, Any], console: rich.console.Console | None = None) -> None:
    """Prints what `cost_figures` returned; to the terminal where no console is given."""
    console = console or rich.console.Console()
    networks = _table("Part", "px", "Backbone", "Parameters", *_headings(""), "XLA")
    for row in [*figures["actions"], *figures["networks"]]:
        networks.add_row(
            row["name"],
            str(row["resolution"] or ""),
            row["backbone"] or "",
            "in policy" if row.get("in_policy") else f"{row['parameters']:,}",
            *(_gflops(row["gflops"][name]) for name in CONVENTIONS),
            "" if row["xla_gmacs"] is None else _gflops(row["xla_gmacs"]),
        )
    console.print(networks)
    videos = _table("Video", "Frames", *_headings("/f"), *_headings("/V"))
    for row in figures["videos"]:
        per = [row[key][name] for key in _PER for name in CONVENTIONS]
        videos.add_row(
            _usage_text(row["usage"]), str(row["num_frames"]), *(f"{x:.4g}" for x in per)
        )
    console.print(videos)
    console.print(f"{figures['parameters']:,} parameters in all.")
    for note in figures["notes"]:
        console.print(note, style="dim")


def _action_rows(model: ModelConfig, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """One row per action; what the policy computes anyway costs nothing on top."""
    rows = [_network_row(model, part) for part in parts[: len(model.backbones)]]
    for name in model.space.names[len(rows) :]:
        served = len(rows) < model.space.num_resolutions
        rows.append(
            {
                "name": name,
                "resolution": model.policy.resolution if served else None,
                "backbone": model.policy.backbone if served else None,
                "parameters": 0,
                "gflops": dict.fromkeys(CONVENTIONS, 0.0),
                "xla_gmacs": None,
                "in_policy": served,
            }
        )
    return rows


def _network_row(model: ModelConfig, part: Part) -> dict[str, Any]:
    xla = None
    if part.backbone:
        xla = xla_gmacs(part.backbone, part.resolution, part.num_classes, model.padding)
    return {
        "name": part.name,
        "resolution": part.resolution,
        "backbone": part.backbone,
        "parameters": part.parameters,
        "gflops": dict(part.gflops),
        "xla_gmacs": xla,
    }


def _video_row(
    model: ModelConfig, share: np.ndarray, num_frames: int, chooses: bool
) -> dict[str, Any]:
    tables = {name: model_cost_table(model, name) for name in CONVENTIONS}
    return {
        "usage": dict(zip(model.space.names, share.tolist())) if chooses else None,
        "num_frames": num_frames,
        "gflops_per_frame": {name: float(t.per_frame(share)) for name, t in tables.items()},
        "gflops_per_video": {
            name: float(t.per_video(share, num_frames)) for name, t in tables.items()
        },
    }


def _usage_text(usage: dict[str, float] | None) -> str:
    if usage is None:
        return "every frame alike"
    used = {name: share for name, share in usage.items() if share}
    if len(used) == 1:
        return f"always {next(iter(used))}"
    return "the given usage"


def _headings(suffix: str) -> list[str]:
    return [f"{name}{suffix}" for name in CONVENTIONS]


def _gflops(value: float) -> str:
    """Four decimals, or three digits of what is smaller than those can show."""
    return f"{value:.4f}" if value >= 0.01 else f"{value:.3g}"


def _table(name: str, *columns: str) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="left" if column == "Backbone" else "right", no_wrap=True)
    return table
