"""The report and the two pictures, from made-up results."""

import io
import json
import pathlib

import numpy as np
import pytest
import rich.console
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ar_net_jax.reporting import curve, decisions
from ar_net_jax.reporting import tables as report
from ar_net_jax.runtime.versions import package_versions

CHANCE = {"mAP": 11.25, "top1": 8.3}


def _result(approach: str, mean_ap: float, gflops: float, usage: dict | None = None) -> dict:
    return {
        "approach": approach,
        "mAP": mean_ap,
        "top1": mean_ap - 5,
        "gflops_per_frame": gflops / 16,
        "gflops_per_video": gflops,
        "gflops_convention": "macs",
        "usage": usage,
    }


RESULTS = [
    _result("Uniform (16 frames)", 75.3, 1.76),
    _result("Uniform (6 frames)", 65.0, 0.66),
    _result("Uniform (7 frames)", 66.5, 0.77),
    _result("LSTM", 74.1, 1.79),
    _result("Random policy", 55.0, 0.41, {"64": 0.5, "skip 2": 0.5}),
    _result("Multi-Scale", 76.8, 3.1),
    _result("AR-Net", 77.94, 0.74, {"64": 0.25, "skip 2": 0.75}),
]


def test_results_json_holds_results_and_what_they_depend_on(tmp_path: pathlib.Path) -> None:
    context = {
        "config": {"model": {"resolutions": (64, 48)}},
        "seed": np.int64(1),
        "versions": package_versions(),
        "durations": {"train": 12.5, "evaluate": float("nan")},
        "chance": CHANCE,
    }
    report.write_report(tmp_path / "out", RESULTS, context)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "curve.png",
        "results.json",
        "table.md",
    ]
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["results"] == RESULTS
    assert found["config"] == {"model": {"resolutions": [64, 48]}}
    assert found["seed"] == 1
    assert found["durations"] == {"train": 12.5, "evaluate": None}
    assert found["versions"]["numpy"] == np.__version__


def test_a_result_without_its_cost_is_refused(tmp_path: pathlib.Path) -> None:
    result = dict(RESULTS[0])
    del result["gflops_convention"]
    with pytest.raises(ValueError, match=r"'Uniform \(16 frames\)' lacks gflops_convention"):
        report.write_report(tmp_path, [result], {})


def test_markdown_table_is_aligned_and_whole() -> None:
    text = report.markdown_table(RESULTS, CHANCE)
    comparison, note, _, usage = text.strip().split("\n\n")
    rows = comparison.splitlines()
    assert len({len(row) for row in rows}) == 1
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[-2] == ["**AR-Net**", "77.9", "72.9", "0.0462", "0.740", "macs"]
    assert cells[-1] == ["Chance", "11.2", "8.3", "", "", ""]
    assert "`macs`" in note and "multiply-accumulates" in note
    assert [row.split("|")[2].strip() for row in usage.splitlines()] == [
        "64",
        "----:",
        "50.0%",
        "25.0%",
    ]


def test_terminal_table_shows_all_in_80_columns() -> None:
    out = io.StringIO()
    report.print_table(RESULTS, CHANCE, console=rich.console.Console(file=out, width=80))
    text = out.getvalue()
    for result in RESULTS:
        line = next(
            line for line in text.splitlines() if line.strip().startswith(result["approach"])
        )
        assert f"{result['mAP']:.1f}" in line and "macs" in line
    assert "Chance" in text and "…" not in text


def test_measured_speed_is_a_column_of_both_tables() -> None:
    timed = [
        {**result, "videos_per_second": 1000.0 + i, "speed_batch_size": 160}
        for i, result in enumerate(RESULTS)
    ]
    out = io.StringIO()
    report.print_table(timed, CHANCE, console=rich.console.Console(file=out, width=100))
    for text in (report.markdown_table(timed, CHANCE), out.getvalue()):
        assert text.count("Videos/s") == 1 + text.count("Videos/s: measured")
        for result in timed:
            assert f"{result['videos_per_second']:.0f}" in text


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
    curve.plot_curve(tmp_path / "curve.png", RESULTS, CHANCE)
    axes: Axes = saved[0].axes[0]
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert set(boxes) == {r["approach"] for r in RESULTS} | {"chance 11.2"}
    names = list(boxes)
    for i, name in enumerate(names):
        assert not any(boxes[name].overlaps(boxes[other]) for other in names[i + 1 :]), name
        assert axes.get_window_extent().containsx(boxes[name].x1)
    uniform = next(line for line in axes.lines if len(line.get_xdata()) == 3)
    assert list(uniform.get_xdata()) == [0.66, 0.77, 1.76]
    assert "macs" in axes.get_xlabel()


@pytest.mark.parametrize("results", [RESULTS[:1], RESULTS[-1:] * 2])
def test_curve_of_one_place_only(tmp_path: pathlib.Path, results: list[dict]) -> None:
    curve.plot_curve(tmp_path / "curve.png", results)
    assert Image.open(tmp_path / "curve.png").size == (1600, 1040)


def _video(actions: list[int], prediction: str) -> dict:
    rng = np.random.default_rng(0)
    return {
        "frames": rng.integers(0, 256, (len(actions), 64, 64, 3), np.uint8),
        "actions": np.array(actions),
        "resolutions": [64, 48, 16],
        "action_names": ["64", "48", "16", "skip 1", "skip 2"],
        "labels": ["red star", "blue ring"],
        "prediction": prediction,
        "gflops": 0.12345,
        "gflops_convention": "macs",
    }


def test_decisions_draw_each_frame_at_its_size(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = _saved_figure(monkeypatch)
    videos = [_video([0, 1, 2, 4, 4, 3], "red star"), _video([2, 2], "green cross")]
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
    assert [t for t in texts if t in videos[0]["action_names"]] == (
        ["64", "48", "16", "skip 2", "skip 2", "skip 1", "16", "16"]
    )


def test_decisions_without_videos_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="no video"):
        decisions.plot_decisions(tmp_path / "decisions.png", [])
