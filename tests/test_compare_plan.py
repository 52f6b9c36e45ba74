"""What a study trains: shared first stages, equal epochs, folders, and in which order."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from ar_net_jax.cli.main import main
from ar_net_jax.compare import train as training
from ar_net_jax.compare.plan import Choice, Plan, Run, efficiency_weight, make_plan, make_run
from ar_net_jax.compare.studies import FIELD, STUDIES, TABLE1, TABLE4
from ar_net_jax.compare.study import COST_PENALTY, Row, Setting, Study, Varied, settings_of
from ar_net_jax.demo.shipped import WARM_START
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import apply_overrides, load_config
from ar_net_jax.runtime.side_by_side import Outcome


def test_settings_begin_with_the_trained_one() -> None:
    config = load_config("demo:scsampler")
    assert settings_of(None, config) == (Setting(),)
    penalties = Varied(COST_PENALTY, (-1.0, 2.0))
    assert settings_of(penalties, config) == (Setting(),)  # It is not steerable.
    assert settings_of(penalties, load_config("demo"))[1:] == (
        Setting("penalty -1", (), -1.0),
        Setting("penalty 2", (), 2.0),
    )
    # Shares of 8 frames: .01 is one at least, .25 the trained two, which comes once.
    varied = Varied("model.frames", (0.01, 0.1, 0.25, 0.5), of_frames=True)
    labels = [setting.label for setting in settings_of(varied, config)]
    assert labels == ["", "model.frames=1", "model.frames=4"]
    assert settings_of(varied, config)[1].overrides == ("--config.model.frames=1",)


def _plan(study: Study, tmp_path: Path, **choice: Any) -> Plan:
    return make_plan(Choice(study, tmp_path, **choice))


def _run_of(plan: Plan, name: str) -> Run:
    return next(run for run in plan.runs if run.row.name == name)


def test_what_is_shared_is_trained_once(tmp_path: Path) -> None:
    plan = _plan(TABLE1, tmp_path, seeds=(0, 1))
    shown = _run_of(plan, "ar_net")
    starts = {run.start.workdir: run.start.name for run in plan.runs if run.start}
    assert list(starts.values()) == ["ar_net, seed 0", "ar_net, seed 1"]
    for name in ("uniform", "lstm", "random_policy", "multi_scale"):
        run = _run_of(plan, name)
        assert run.start == shown
        assert run.config.init_from == str((shown.workdir / "stages" / "warmup").absolute())
    # Rows that a config does not offer are told.
    assert set(plan.left_out) == {row.name for row in TABLE1.rows if "efficient" in row.name}
    assert "no variant 'efficientnet'" in plan.left_out["ar_net_efficientnet"]
    # A stage that the start has been through is left out.
    four = _run_of(_plan(TABLE4, tmp_path), "resolution_only")
    assert four.config.stage_order == ("joint", "finetune")


def test_studies_share_runs_that_are_alike(tmp_path: Path) -> None:
    picked = {"rows": ("uniform",)}
    one, four = (_run_of(_plan(study, tmp_path, **picked), "uniform") for study in (TABLE1, TABLE4))
    assert one.workdir == four.workdir
    others = [
        _run_of(_plan(TABLE1, tmp_path, **picked, **how), "uniform").workdir
        for how in (
            {"seeds": (1,)},
            {"overrides": ("--config.stages.joint.epochs=3",)},
            # Of the run that it starts from.
            {"overrides": ("--config.optimizer.momentum=.8",)},
            {"quick": True},
        )
    ]
    assert len({one.workdir, *others}) == 5
    # Where the same videos are says nothing about a run.
    moved = _plan(TABLE1, tmp_path, **picked, overrides=(f"--config.data.data_dir={tmp_path}",))
    assert _run_of(moved, "uniform").workdir == one.workdir


def test_rows_are_picked_with_what_they_are_held_against(tmp_path: Path) -> None:
    picked = Choice(TABLE4, tmp_path, rows=("skipping_only",)).picked()
    assert [row.name for row in picked] == ["uniform", "skipping_only", "ar_net"]
    with pytest.raises(UserError, match="'table4' has no such row; it has uniform, lstm"):
        _plan(TABLE4, tmp_path, rows=("scsampler",))


def test_errors_of_a_row_leave_the_others_alone(tmp_path: Path) -> None:
    rows = (*TABLE1.rows[:1], TABLE1.row("ar_net"))
    plan = _plan(Study("two", "", rows), tmp_path, overrides=("--config.model.skips=(1,)",))
    assert [run.row.name for run in plan.runs] == ["ar_net"]
    assert "skips" in plan.left_out["uniform"]
    with pytest.raises(UserError, match="nonsense"):
        _plan(TABLE1, tmp_path, overrides=("--config.nonsense=1",))


@pytest.mark.parametrize("name", STUDIES)
def test_shipped_studies_name_rows_that_are_there(name: str) -> None:
    study = STUDIES[name]
    names = [row.name for row in study.rows]
    assert len(set(names)) == len(names) and study.reference in names
    for row in study.rows:
        assert {row.start, row.match} - {""} <= set(names)
        # The search changes what is trained after the shared stage.
        assert not row.match or row.start


def test_what_varies_can_be_varied(tmp_path: Path) -> None:
    for run in _plan(FIELD, tmp_path).runs:
        settings = settings_of(run.row.varied, run.config)
        for setting in settings:
            apply_overrides(run.config, setting.overrides)
        assert (len(settings) > 1) == (run.row.varied is not None), run.name


def test_all_methods_of_the_field_have_equal_epochs_and_heads(tmp_path: Path) -> None:
    plan = _plan(FIELD, tmp_path)
    assert len(plan.runs) >= 6
    for run in plan.runs:
        order, stages = run.config.stage_order, run.config.stages
        before = 0
        if run.row.start:
            first = _run_of(plan, run.row.start).config
            before = first.stages[first.stage_order[0]].epochs
        # FrameExit's network without its gates, which alone train after it.
        expected = 14 if run.row.name == "frameexit_confidence" else 20
        assert before + sum(stages[name].epochs for name in order) == expected, run.name
        # The temperature of decisions ends low, as it does in the whole length.
        for stage in stages.values():
            if getattr(stage, "tau_start", 0.0) > 0:
                assert stage.tau_start * math.exp(stage.tau_decay * stage.epochs) < 0.5
        assert run.row.own_head or run.config.model.head == "max_mlp", run.name
        assert run.config.data.batch_size == 4
        # Those with a start begin where its first stage ended, which began there.
        assert run.row.start or run.config.init_from == str(WARM_START), run.name


def test_a_weight_is_of_every_stage_that_has_one(tmp_path: Path) -> None:
    row = TABLE4.row("resolution_only")
    choice = Choice(TABLE4, tmp_path)
    run = make_run(choice, row, 0, weight=12.5)
    assert efficiency_weight(run.config) == 12.5
    assert {run.config.stages[n].losses["efficiency"].weight for n in ("joint", "finetune")} == {
        12.5
    }
    assert run.workdir != make_run(choice, row, 0).workdir
    with pytest.raises(UserError, match="'uniform' is trained by no efficiency loss"):
        efficiency_weight(make_run(choice, TABLE4.row("uniform"), 0).config)


@dataclasses.dataclass
class Lanes:
    """Stands in for the cores: finishes what it is given, or not."""

    failing: tuple[str, ...] = ()
    calls: list[list[str]] = dataclasses.field(default_factory=list)

    def __call__(self, tasks: Mapping[str, Any], *, go_on: bool) -> dict[str, Outcome]:
        """In place of `run_side_by_side`."""
        assert go_on
        self.calls.append(list(tasks))
        outcomes = {}
        for name, task in tasks.items():
            failed = name in self.failing
            if not failed and isinstance(task, training.TrainAndJudge):
                (task.judging.workdir / "model" / "variables").mkdir(parents=True, exist_ok=True)
                task.judging.run()
            outcomes[name] = Outcome(2.5, "broke" if failed else "")
        return outcomes


@dataclasses.dataclass
class Judged:
    """In place of a `Judging`."""

    workdir: Path

    def run(self) -> None:
        """Only says that it was done."""
        (self.workdir / "judged").write_text("")

    def done(self) -> str | None:
        """A judgement, where there is one."""
        return "judged" if (self.workdir / "judged").exists() else None


@pytest.fixture
def small(tmp_path: Path) -> Plan:
    rows = (Row("a"), Row("b", "uniform", start="a"), Row("c", "scsampler"))
    return _plan(Study("small", "", rows, reference="b"), tmp_path)


def _train(plan: Plan, tmp_path: Path, lanes: Lanes) -> training.Trainer:
    trainer = training.Trainer(
        tmp_path, tmp_path / "compiled", False, judging=lambda run: Judged(run.workdir)
    )
    trainer.train(plan.runs)
    return trainer


def test_first_stages_come_first(
    small: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = Lanes()
    monkeypatch.setattr(training, "run_side_by_side", lanes)
    monkeypatch.setattr(training, "holds_model", lambda path: (path / "variables").is_dir())
    assert not _train(small, tmp_path, lanes).failures
    assert lanes.calls == [
        ["a, seed 0, first stage", "c, seed 0"],
        ["a, seed 0", "b, seed 0"],
    ]
    # Another call finds all of it done.
    _train(small, tmp_path, lanes)
    assert len(lanes.calls) == 2
    # What is trained already is judged alone, without the first stage that it started from.
    (small.runs[1].workdir / "judged").unlink()
    _train(small, tmp_path, lanes)
    assert lanes.calls[2:] == [["b, seed 0"]]


class Counted:
    """In place of a `Training`: counts its runs."""

    def __init__(self, workdir: Path) -> None:
        self.workdir, self.count = workdir, 0

    def run(self, row: int) -> None:
        """Leaves a model."""
        self.count += 1
        (self.workdir / "model" / "variables").mkdir(parents=True)


def test_a_run_is_trained_once_and_tells_how_long_it_took(
    small: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "holds_model", lambda path: (path / "variables").is_dir())
    run = small.runs[2]
    trained, judged = Counted(run.workdir), Judged(run.workdir)
    task = training.TrainAndJudge(cast(Any, trained), cast(Any, judged))
    assert training.training_seconds(run) is None
    for _ in range(2):
        task.run()
        assert judged.done()
        (run.workdir / "judged").unlink()
    assert trained.count == 1
    seconds = training.training_seconds(run)
    assert seconds is not None and 0 <= seconds < 60


@pytest.mark.parametrize(
    ("failing", "lost"),
    [
        ("a, seed 0, first stage", {"a, seed 0": "broke", "b, seed 0": "broke"}),
        ("c, seed 0", {"c, seed 0": "broke"}),
        ("a, seed 0", {"a, seed 0": "broke"}),
    ],
)
def test_what_fails_takes_along_what_starts_from_it_alone(
    small: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    lost: dict[str, str],
) -> None:
    lanes = Lanes((failing,))
    monkeypatch.setattr(training, "run_side_by_side", lanes)
    assert _train(small, tmp_path, lanes).failures == lost


def test_the_command_lists_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table4").mkdir()
    (tmp_path / "table4" / "study.json").write_text(json.dumps({"durations": {"total": 61.0}}))
    main(["compare", "--list", f"--workdir={tmp_path}"])
    told = capsys.readouterr().out
    assert "table4: what the policy may choose, at equal cost (its last call took 61 s)" in told
    assert "  uniform: joint 24 epochs, from ar_net's first stage\n" in told
    assert "(not run here yet)" in told
    for arguments, message in (
        (["compare"], "STUDY: name one; there are table1, table2"),
        (["compare", "table9"], "no study 'table9'"),
        (["compare", "table1", "--data=nowhere"], "no such config"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *([f"--workdir={tmp_path}"] if len(arguments) > 1 else [])])
        assert ended.value.code == 1 and message in capsys.readouterr().err
