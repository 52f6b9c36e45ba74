"""The device suite's tables in Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ar_net_jax.reporting.tables import aligned_table

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], str]]
"""By header what stands in the column."""


def suite_markdown(document: Mapping[str, Any]) -> str:
    """All tables, headed by the device's name.

    Args:
        document: as it stands in `device.json`.
    """
    machine, versions = document["machine"], document["versions"]
    where = f"{machine['devices']} x {machine['device_kind']} ({machine['cpu']}, "
    where += f"{machine['cores']} cores); jax {versions['jax']}, jaxlib {versions['jaxlib']}"
    parts = [f"# {machine['device_kind']}", where]
    for kind, (title, columns) in _TABLES.items():
        rows = [r for step in document["steps"] if step["kind"] == kind for r in step["rows"]]
        if rows:
            cells = [[cell(row) for cell in columns.values()] for row in rows]
            parts += [f"## {title}", aligned_table(list(columns), cells)]
    parts += _left_out(document["steps"])
    return "\n\n".join(parts) + "\n"


def _text(key: str) -> Callable[[Row], str]:
    return lambda row: str(row[key])


def _digits(key: str, digits: int = 3, unit: str = "", scale: float = 1.0) -> Callable[[Row], str]:
    """So many significant digits; empty where there is nothing."""
    return lambda row: "" if row[key] is None else f"{scale * row[key]:.{digits}g}{unit}"


def _percent(key: str) -> Callable[[Row], str]:
    return lambda row: "" if row[key] is None else f"{row[key]:.1%}"


def _milliseconds(quantile: str, key: str = "latency") -> Callable[[Row], str]:
    return lambda row: f"{1e3 * row[key][quantile]:.3g}"


_SPEED: Columns = {
    "Model": _text("model"),
    "Precision": _text("dtype"),
    "Batch": _text("batch"),
    "Form": _text("form"),
    "Chunks": lambda row: "" if row["form"] == "masked" else row["chunks"],
    "ms": _milliseconds("p50"),
    "p95": _milliseconds("p95"),
    "Videos/s": _digits("videos_per_second", 4),
    "GFLOPs/video": _digits("gflops_per_video"),
    "TFLOP/s": _digits("tflops_per_second"),
    "Of peak": _percent("share_of_peak"),
    "Time": _percent("time_ratio"),
    "GFLOPs": _percent("gflops_ratio"),
    "Realised": _percent("realised_saving"),
}
_TABLES: Mapping[str, tuple[str, Columns]] = {
    "agreement": (
        "Agreement with a CPU's float32 logits",
        {
            "Model": _text("model"),
            "Precision": _text("dtype"),
            "Products": _text("precision"),
            "Largest difference": _digits("difference", 2, " std"),
            "Same class": _percent("same_class"),
        },
    ),
    "speed": ("Inference; time and GFLOPs as shares of Uniform's, decisions imposed", _SPEED),
    "parts": (
        "AR-Net's parts, each by itself",
        {
            "Model": _text("model"),
            "Part": _text("part"),
            "ms": _milliseconds("p50"),
            "p95": _milliseconds("p95"),
        },
    ),
    "torch": (
        "Uniform beside PyTorch on the same frames",
        {
            "PyTorch": _text("network"),
            "ms": _milliseconds("p50"),
            "Uniform's ms": _milliseconds("p50", "uniform_latency"),
            "Uniform / PyTorch": _digits("uniform_to_torch", 2),
        },
    ),
    "training": (
        "Training steps",
        {
            "Step": _text("name"),
            "Precision": _text("dtype"),
            "Videos": _text("batch"),
            "ms": _digits("seconds", scale=1e3),
            "Clips/s": _digits("clips_per_second"),
            "TFLOP/s": _digits("tflops_per_second"),
            "Of peak": _percent("share_of_peak"),
            "Of masked": _percent("of_masked"),
        },
    ),
    "chunks": (
        "Chunks",
        {
            "Network": _text("network"),
            "Frames at once": _text("frames"),
            "ms": _digits("seconds", scale=1e3),
            "us a frame": lambda row: f"{1e6 * row['seconds'] / row['frames']:.3g}",
            "In the loop": lambda row: "yes" if row["in_loop"] else "",
        },
    ),
}


def _left_out(steps: Sequence[Row]) -> list[str]:
    """What failed, and how much there was no time for."""
    lines = [
        f"- {step['kind']}, {step['title']}: failed ({step['reason']})"
        for step in steps
        if step["status"] == "failed"
    ]
    late = [f"{step['kind']}: {step['title']}" for step in steps if step["status"] == "no time"]
    if late:
        lines.append(f"- no time for {len(late)} steps, first {late[0]}")
    return ["\n".join(lines)] if lines else []
