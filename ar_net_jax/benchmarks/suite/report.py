"""The device suite's tables in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from ar_net_jax.reporting.tables import aligned_table

Row = Mapping[str, Any]


def suite_markdown(document: Mapping[str, Any]) -> str:
    """All tables, headed by the device's name.

    Args:
        document: as it stands in `device.json`.
    """
    machine, versions = document["machine"], document["versions"]
    where = f"{machine['devices']} x {machine['device_kind']} ({machine['cpu']}, "
    where += f"{machine['cores']} cores); jax {versions['jax']}, jaxlib {versions['jaxlib']}"
    parts = [f"# {machine['device_kind']}", where]
    for kind, (title, table) in _TABLES.items():
        rows = [r for step in document["steps"] if step["kind"] == kind for r in step["rows"]]
        if rows:
            parts += [f"## {title}", table(rows)]
    parts += _left_out(document["steps"])
    return "\n\n".join(parts) + "\n"


def _agreement(rows: Sequence[Row]) -> str:
    header = ["Model", "Precision", "Products", "Largest difference", "Same class"]
    return aligned_table(
        header,
        [
            [
                row["model"],
                row["dtype"],
                row["precision"],
                f"{row['difference']:.2g} std",
                f"{row['same_class']:.0%}",
            ]
            for row in rows
        ],
    )


def _speed(rows: Sequence[Row]) -> str:
    header = [
        "Model",
        "Precision",
        "Batch",
        "Form",
        "Chunks",
        "ms",
        "p95",
        "Videos/s",
        "GFLOPs/video",
        "TFLOP/s",
        "Of peak",
        "Time",
        "GFLOPs",
        "Realised",
    ]
    cells = []
    for row in rows:
        latency = row["latency"]
        cells.append(
            [
                row["model"],
                row["dtype"],
                str(row["batch"]),
                row["form"],
                "" if row["form"] == "masked" else row["chunks"],
                f"{1e3 * latency['p50']:.3g}",
                f"{1e3 * latency['p95']:.3g}",
                f"{row['videos_per_second']:.4g}",
                f"{row['gflops_per_video']:.3g}",
                f"{row['tflops_per_second']:.3g}",
                _percent(row["share_of_peak"]),
                _percent(row["time_ratio"]),
                _percent(row["gflops_ratio"]),
                _percent(row["realised_saving"]),
            ]
        )
    return aligned_table(header, cells)


def _parts(rows: Sequence[Row]) -> str:
    header = ["Model", "Part", "ms", "p95"]
    return aligned_table(
        header,
        [
            [
                row["model"],
                row["part"],
                *(f"{1e3 * row['latency'][key]:.3g}" for key in ("p50", "p95")),
            ]
            for row in rows
        ],
    )


def _torch(rows: Sequence[Row]) -> str:
    header = ["PyTorch", "ms", "Uniform's ms", "Uniform / PyTorch"]
    return aligned_table(
        header,
        [
            [
                row["network"],
                f"{1e3 * row['latency']['p50']:.3g}",
                f"{1e3 * row['uniform_latency']['p50']:.3g}",
                f"{row['uniform_to_torch']:.2f}",
            ]
            for row in rows
        ],
    )


def _training(rows: Sequence[Row]) -> str:
    header = ["Step", "Precision", "Videos", "ms", "Clips/s", "TFLOP/s", "Of peak", "Of masked"]
    cells = []
    for row in rows:
        rate = row["tflops_per_second"]
        cells.append(
            [
                row["name"],
                row["dtype"],
                str(row["batch"]),
                f"{1e3 * row['seconds']:.3g}",
                f"{row['clips_per_second']:.3g}",
                "" if rate is None else f"{rate:.3g}",
                _percent(row["share_of_peak"]),
                _percent(row["of_masked"]),
            ]
        )
    return aligned_table(header, cells)


def _chunks(rows: Sequence[Row]) -> str:
    header = ["Network", "Frames at once", "ms", "us a frame", "In the loop"]
    return aligned_table(
        header,
        [
            [
                row["network"],
                str(row["frames"]),
                f"{1e3 * row['seconds']:.3g}",
                f"{1e6 * row['seconds'] / row['frames']:.3g}",
                "yes" if row["in_loop"] else "",
            ]
            for row in rows
        ],
    )


_TABLES = {
    "agreement": ("Agreement with a CPU's float32 logits", _agreement),
    "speed": ("Inference; time and GFLOPs as shares of Uniform's, decisions imposed", _speed),
    "parts": ("AR-Net's parts, each by itself", _parts),
    "torch": ("Uniform beside PyTorch on the same frames", _torch),
    "training": ("Training steps", _training),
    "chunks": ("Chunks", _chunks),
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


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
