"""The report and the two pictures, from made-up results."""

import dataclasses
import io
import json
import pathlib

import numpy as np
import pytest
import rich.console
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ar_net_jax.evaluation.comparison import Role, Row
from ar_net_jax.evaluation.evaluate import Figures, Speed
from ar_net_jax.reporting import curve, decisions
from ar_net_jax.reporting import tables as report
from ar_net_jax.runtime.versions import package_versions

CHANCE = {"mAP": 11.25, "top1": 8.3}


def _row(
    method: str, role: Role, mean_ap: float, gflops: float, usage: dict[str, float] | None = None
) -> Row:
    figures = Figures(
        mAP=mean_ap,
        mAP_first_label=mean_ap,
        top1=mean_ap - 5,
        top5=mean_ap,
        gflops_per_frame=gflops / 16,
        gflops_per_video=gflops,
        gflops_convention="macs",
        usage=usage,
        executed_gflops_per_video=gflops,
        routing="routed",
        cost_penalty=0.0,
        num_frames=16,
        num_videos=9,
    )
    return Row(method, role, figures)


ROWS = [
    _row("Uniform (16 frames)", "reference", 75.3, 1.76),
    _row("Uniform (6 frames)", "reference", 65.0, 0.66),
    _row("Uniform (7 frames)", "reference", 66.5, 0.77),
    _row("LSTM", "other", 74.1, 1.79),
    _row("Random policy", "other", 55.0, 0.41, {"64": 0.5, "skip 2": 0.5}),
    _row("Multi-Scale", "other", 76.8, 3.1),
    _row("AR-Net", "adaptive", 77.94, 0.74, {"64": 0.25, "skip 2": 0.75}),
]
POINTS = [curve.Point(r.method, r.role, r.figures.gflops_per_video, r.figures.mAP) for r in ROWS]


def test_results_json_holds_results_and_what_they_depend_on(tmp_path: pathlib.Path) -> None:
    context = {
        "config": {"model": {"resolutions": (64, 48)}},
        "seed": np.int64(1),
        "versions": package_versions(),
        "durations": {"train": 12.5, "evaluate": float("nan")},
        "chance": CHANCE,
    }
    report.write_report(tmp_path / "out", ROWS, context, remark="It says nothing.")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "curve.png",
        "results.json",
        "table.md",
    ]
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["results"] == [
        {"method": row.method, "role": row.role, **dataclasses.asdict(row.figures)} for row in ROWS
    ]
    assert found["config"] == {"model": {"resolutions": [64, 48]}}
    assert found["seed"] == 1
    assert found["durations"] == {"train": 12.5, "evaluate": None}
    assert found["versions"]["numpy"] == np.__version__
    table = (tmp_path / "out" / "table.md").read_text()
    assert table == "It says nothing.\n\n" + report.markdown_table(ROWS, CHANCE)


def test_markdown_table_is_aligned_and_whole() -> None:
    text = report.markdown_table(ROWS, CHANCE)
    comparison, note, _, usage = text.strip().split("\n\n")
    rows = comparison.splitlines()
    assert len({len(row) for row in rows}) == 1
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[-2] == ["**AR-Net**", "77.9", "72.9", "0.0462", "0.740", "macs"]
    assert cells[-1] == ["Chance", "11.2", "8.3", "", "", ""]
    assert "`macs`" in note and "multiply-accumulates" in note
    name, rule, *shares = [row.split("|")[2].strip() for row in usage.splitlines()]
    assert (name, rule.strip("-"), shares) == ("64", ":", ["50.0%", "25.0%"])


def test_terminal_table_shows_all_in_80_columns() -> None:
    out = io.StringIO()
    report.print_table(ROWS, CHANCE, console=rich.console.Console(file=out, width=80))
    text = out.getvalue()
    for row in ROWS:
        line = next(line for line in text.splitlines() if line.strip().startswith(row.method))
        assert f"{row.figures.mAP:.1f}" in line and "macs" in line
    assert "Chance" in text and "…" not in text


def test_measured_speed_is_a_column_of_both_tables() -> None:
    timed = [dataclasses.replace(row, speed=Speed(1000.0 + i, 160)) for i, row in enumerate(ROWS)]
    out = io.StringIO()
    report.print_table(timed, CHANCE, console=rich.console.Console(file=out, width=100))
    for text in (report.markdown_table(timed, CHANCE), out.getvalue()):
        assert text.count("Videos/s") == 1 + text.count("Videos/s: measured")
        for row in timed:
            assert f"{row.speed.videos_per_second:.0f}" in text


def _saved_figure(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """A list that will hold each figure that is saved."""
    saved: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kw: (saved.append(self), save(self, *args, **kw))
    )
    return saved


def test_curve_labels_every_point_and_none_overlap(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = _saved_figure(monkeypatch)
    curve.plot_curve(tmp_path / "curve.png", POINTS, "GFLOPs", CHANCE["mAP"])
    axes: Axes = saved[0].axes[0]
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert set(boxes) == {row.method for row in ROWS} | {"chance 11.2"}
    names = list(boxes)
    for i, name in enumerate(names):
        assert not any(boxes[name].overlaps(boxes[other]) for other in names[i + 1 :]), name
        assert axes.get_window_extent().containsx(boxes[name].x1)
    uniform = next(line for line in axes.lines if len(line.get_xdata()) == 3)
    assert list(uniform.get_xdata()) == [0.66, 0.77, 1.76]
    assert axes.get_xlabel() == "GFLOPs"


@pytest.mark.parametrize("points", [POINTS[:1], POINTS[-1:] * 2])
def test_curve_of_one_place_only(tmp_path: pathlib.Path, points: list[curve.Point]) -> None:
    curve.plot_curve(tmp_path / "curve.png", points, curve.gflops_label(["macs", "macs"]))
    assert Image.open(tmp_path / "curve.png").size == (1600, 1040)


SIDES = {"64": 64, "48": 48, "16": 16, "skip 1": 0, "skip 2": 0}


def _video(captions: list[str], prediction: str) -> decisions.DecidedVideo:
    rng = np.random.default_rng(0)
    return decisions.DecidedVideo(
        frames=rng.integers(0, 256, (len(captions), 64, 64, 3), np.uint8),
        sides=[SIDES[caption] for caption in captions],
        captions=captions,
        full_side=64,
        labels=["red star", "blue ring"],
        prediction=prediction,
        gflops=0.12345,
        gflops_convention="macs",
    )


def test_decisions_draw_each_frame_at_its_size(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = _saved_figure(monkeypatch)
    videos = [
        _video(["64", "48", "16", "skip 2", "skip 2", "skip 1"], "red star"),
        _video(["16", "16"], "green cross"),
    ]
    videos[0] = dataclasses.replace(videos[0], times=[0.25 * i for i in range(6)])
    decisions.plot_decisions(tmp_path / "decisions.png", videos)
    axes = saved[0].axes[0]
    widths = [image.get_extent()[1] - image.get_extent()[0] for image in axes.images]
    shown = [1.0] * 8 + [1.0, 0.75, 0.25] + [0.25] * 2
    assert sorted(np.round(widths, 6)) == sorted(shown)
    assert len(axes.patches) == 3, "one blank for each frame skipped"
    texts = [text.get_text() for text in axes.texts]
    assert [t for t in texts if "predicted" in t] == [
        "✓ predicted red star",
        "✗ predicted green cross",
    ]
    assert texts.count("red star + blue ring") == 2
    assert texts.count("0.123 GFLOPs (macs)") == 2
    assert [t for t in texts if t.endswith(" s")] == [f"{0.25 * i:.2f} s" for i in range(6)]
    assert texts.count("2") == 1, "where times are not known, frames are numbered"
    assert "dashed: left out" in texts[-1] and "with their numbers" in texts[-1]
    assert [t for t in texts if t in SIDES] == (
        ["64", "48", "16", "skip 2", "skip 2", "skip 1", "16", "16"]
    )


def test_decisions_without_videos_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="no video"):
        decisions.plot_decisions(tmp_path / "decisions.png", [])
