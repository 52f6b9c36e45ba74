"""From judgements to rows, tables, CSV, LaTeX and curves."""

import csv
import dataclasses
import io
import json
import statistics
from pathlib import Path

import pytest
from PIL import Image

from ar_net_jax.compare.beside import ReferencePoint, at_equal_gflops, at_equal_time
from ar_net_jax.compare.judge import STRIPS, Control, Judgement, Score
from ar_net_jax.compare.report import as_csv, latex, markdown, write_study
from ar_net_jax.compare.results import (
    Found,
    StudyResult,
    Summary,
    hold_against,
    metric_of,
    result_row,
)
from ar_net_jax.compare.study import Setting
from ar_net_jax.compare.tables import study_tables
from ar_net_jax.compare.timing import Times
from ar_net_jax.evaluation.evaluate import Figures
from ar_net_jax.runtime.timing import Latency


def _figures(mean_ap: float, gflops: float, frames: int = 16, **more: object) -> Figures:
    values: dict[str, object] = {
        "mAP": mean_ap,
        "mAP_first_label": mean_ap,
        "top1": mean_ap - 5,
        "top5": 99.0,
        "gflops_per_frame": gflops / frames,
        "gflops_per_video": gflops,
        "gflops_convention": "paper",
        "usage": None,
        "executed_gflops_per_video": gflops,
        "routing": "routed",
        "cost_penalty": 0.0,
        "num_frames": frames,
        "num_videos": 9,
        **more,
    }
    return Figures(**values)  # type: ignore[arg-type]


def _times(milliseconds: float) -> Times:
    latency = Latency(milliseconds / 1e3, milliseconds / 1e3, milliseconds / 1e3, 4)
    return Times("float32", "routed", latency, 8, 250.0, latency, 20.0)


CHANCE = {"mAP": 12.0, "top1": 10.0}


def _uniform(*frames: int) -> Found:
    scores = tuple(
        Score(
            Setting(f"data.num_frames={k}" if k < 16 else ""),
            _figures(60 + k / 2, 4.11 * k, k),
        )
        for k in frames
    )
    times = {score.setting.label: _times(2.0 * score.figures.num_frames) for score in scores}
    judgement = Judgement(_figures(69, 65.76), scores, None, CHANCE)
    return Found("uniform", "Uniform", "uniform", "reference", "Uniform", {0: judgement}, times)


def _ar_net(*scores: float) -> Found:
    usage = {"224px": 0.25, "skip 1": 0.75}
    judgements = {
        seed: Judgement(
            _figures(score - 1, 30.0),
            (
                Score(Setting(), _figures(score, 33.0, usage=usage)),
                Score(Setting("penalty 1", (), 1.0), _figures(score - 2, 20.0)),
            ),
            Control(score - 9, score - 14, 33.0, 3),
            CHANCE,
        )
        for seed, score in enumerate(scores)
    }
    return Found("ar_net", "AR-Net", "", "adaptive", "AR-Net", judgements, {"": _times(20.5)})


@pytest.fixture
def result() -> StudyResult:
    rows = [result_row(found, "activitynet") for found in (_uniform(16, 4, 8, 12), _ar_net(74, 76))]
    return StudyResult(
        study="small",
        summary="two methods",
        data="activitynet",
        split="validation",
        metric="mAP",
        rows=hold_against(rows, "uniform"),
        failures={"lstm, seed 1": "broke"},
        chance=12.0,
        device="cpu",
        durations={"total": 1.0},
        versions={"jax": "0"},
    )


def test_summary_is_over_seeds() -> None:
    values = [73.0, 75.5, 74.0]
    found = Summary.of(values)
    assert found.mean == pytest.approx(statistics.mean(values))
    assert found.deviation == pytest.approx(statistics.stdev(values))
    assert Summary.of([1.0]).deviation is None


def test_a_judgement_survives_json() -> None:
    for judgement in (_ar_net(74).judgements[0], _uniform(16, 4).judgements[0]):
        assert Judgement.from_json(json.loads(json.dumps(judgement.to_json()))) == judgement


def test_reference_gets_at_least_as_much() -> None:
    points = [ReferencePoint(k, 50.0 + k, 4.0 * k, 2.0 * k) for k in (1, 2, 4, 8)]
    assert at_equal_gflops(points, 4.0).num_frames == 1
    assert at_equal_gflops(points, 4.0004).num_frames == 1  # Rounding of sums.
    assert at_equal_gflops(points, 4.1).num_frames == 2
    assert at_equal_gflops(points, 99.0).num_frames == 8
    found = at_equal_time(points, 9.0)
    assert found is not None and found.num_frames == 8
    assert at_equal_time([ReferencePoint(1, 50.0, 4.0)], 9.0) is None


def test_rows_hold_what_was_judged(result: StudyResult) -> None:
    uniform, ar_net = result.rows
    assert ar_net.score == Summary.of([74, 76]) and ar_net.validation.mean == 74
    assert ar_net.control == Summary.of([65, 67])
    assert ar_net.published is not None and ar_net.published.score == 73.8
    assert [(p.gflops, p.milliseconds) for p in ar_net.curve] == [(20.0, None), (33.0, 20.5)]
    # 33 GFLOPs pay for 8.03 frames of 4.11, 20.5 ms for 10.25 of 2: twelve both times.
    assert ar_net.equal_gflops is not None and ar_net.equal_gflops.num_frames == 12
    assert ar_net.equal_time is not None and ar_net.equal_time.num_frames == 12
    assert uniform.control is None and uniform.equal_gflops is None
    assert [point.num_frames for point in uniform.curve] == [4, 8, 12, 16]


def test_tables_tell_ours_theirs_and_the_difference(result: StudyResult) -> None:
    scores, controls, times, usage = study_tables(result)
    assert scores.cells[1][:4] == ("AR-Net", "75.0 ± 1.4", "70.0 ± 1.4", "33")
    assert scores.cells[1][4:] == ("73.8", "+1.2", "33.47", "-0.47")
    (control,) = controls.cells
    assert control[2:] == ("66.0 ± 1.4", "+9.0", "66.0 (k=12)", "+9.0", "66.0 (k=12)", "+9.0")
    assert times.cells[1][1] == "20.50" and times.cells[1][5] == "250.0"
    assert usage.cells == (("AR-Net", "224px 25%, skip 1 75%"),)


def test_no_difference_is_told_across_data_sets(result: StudyResult) -> None:
    rows = [result_row(found, "embedded") for found in (_uniform(16), _ar_net(90))]
    other = dataclasses.replace(result, data="embedded", rows=tuple(rows))
    assert study_tables(other)[0].cells[1][4:] == ("73.8", "", "33.47", "")


def test_mini_kinetics_is_judged_by_top1() -> None:
    assert metric_of("mini_kinetics") == "top1" and metric_of("fcvid") == "mAP"
    row = result_row(_ar_net(74), "mini_kinetics")
    assert row.score.mean == 69 and row.control is not None and row.control.mean == 60
    assert row.published is not None and row.published.score == 71.7


def test_every_form_has_every_row(result: StudyResult) -> None:
    text = markdown(result)
    assert "| AR-Net" in text and "- lstm, seed 1: broke" in text
    rows = list(csv.DictReader(io.StringIO(as_csv(result))))
    assert [row["method"] for row in rows] == ["Uniform", "AR-Net"]
    assert float(rows[1]["score_mean"]) == 75 and float(rows[1]["published_gflops"]) == 33.47
    assert float(rows[1]["latency_p50"]) == pytest.approx(0.0205)
    assert rows[0]["control_mean"] == ""
    tex = latex(result)
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 4
    assert r"75.0 $\pm$ 1.4" in tex and r"mAP (\%)" in tex
    for line in tex.splitlines():
        if line.endswith(r"\\"):
            body = line.replace(r"\&", "")
            assert body.count("&") + 1 in (2, 8, 9)


def test_a_report_is_whole(result: StudyResult, tmp_path: Path) -> None:
    runs = {name: tmp_path / name for name in ("uniform", "ar_net")}
    for folder in runs.values():
        folder.mkdir()
    Image.new("RGB", (4, 4)).save(runs["ar_net"] / STRIPS)
    folder = tmp_path / "study"
    write_study(folder, result, runs)
    assert {path.name for path in folder.iterdir()} == {
        "report.html",
        "study.json",
        "tables.md",
        "tables.csv",
        "tables.tex",
        "curve_gflops.png",
        "curve_ms.png",
        "decisions",
    }
    assert [path.name for path in (folder / "decisions").iterdir()] == ["ar_net.png"]
    document = json.loads((folder / "study.json").read_text())
    assert document["rows"][1]["score"] == {
        "mean": 75.0,
        "deviation": pytest.approx(2**0.5),
        "by_seed": [74.0, 76.0],
    }
    with Image.open(folder / "curve_gflops.png") as image:
        colors = image.convert("RGB").getcolors(1 << 24)
    assert colors is not None and len(colors) > 50
