"""The whole of training on a very small data set: stages, resuming, refusals."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from method_configs import AR_NET_MODEL

from ar_net_jax.checkpoints import load_model
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, with_classes
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.training import steps
from ar_net_jax.training.loop import train

SPEC = EmbeddedSpec(
    train=12, validation=5, test=1, num_classes=3, width=32, height=32, num_frames=48
)
Splits = tuple[VideoSource, VideoSource]


class Killed(Exception):
    """Stands for the death of the process."""


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    data_dir = tmp_path_factory.mktemp("data")
    registry.prepare("embedded", data_dir=data_dir, progress=False, spec=SPEC)
    train_split, validation = (
        registry.open_split("embedded", split, data_dir=data_dir)
        for split in ("train", "validation")
    )
    return train_split, validation


def _config(**changes: Any) -> Config:
    values = {
        "seed": 3,
        "model": AR_NET_MODEL,
        # 12 videos in batches of 5: an epoch is 2.4 steps, so batches straddle epochs.
        "data": {"num_frames": 4, "batch_size": 5, "eval_batch_size": 4, "num_threads": 2},
        "stage_order": ("warmup", "joint"),
        "stages": {
            "warmup": {
                "objective": "separate",
                "epochs": 2,
                "learning_rate": 0.05,
                "train_policy_features": True,
            },
            "joint": {"epochs": 3, "learning_rate": 0.05, "select": "last"},
        },
        "log_every": 1,
        "checkpoint_every": 1,
    }
    return Config.from_dict(values | changes)


def _assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def _history(workdir: Path) -> list[dict[str, Any]]:
    files = sorted(workdir.glob("history/*/metrics.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, splits: Splits) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    make, made = steps.make_train_step, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            steps, "make_train_step", lambda *a, **k: made.append(make(*a, **k)) or made[-1]
        )
        train(_config(), workdir, *splits, progress=False)
    assert [step._cache_size() for step in made] == [1, 1], "compiled once in each stage"
    return workdir


def _dying_after(count: int) -> Callable[..., steps.TrainStep]:
    """`make_train_step` with steps that raise once `count` of them have run, over all stages."""
    make, left = steps.make_train_step, [count]

    def make_dying(*args: Any, **kwargs: Any) -> steps.TrainStep:
        step = make(*args, **kwargs)

        def run(state: Any, batch: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return step(state, batch)

        return run

    return make_dying


def test_leaves_a_model_a_record_of_each_stage_and_a_history(undisturbed: Path) -> None:
    variables, values = load_model(undisturbed / "model")
    assert Config.from_dict(values) == with_classes(_config(), SPEC.class_names)
    assert set(variables) == {"params", "batch_stats"}
    assert "warmup_head" not in variables["params"]["policy"], "a temporary classifier"
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))
    warmup, joint = (
        json.loads((undisturbed / "stages" / name / "stage.json").read_text())
        for name in ("warmup", "joint")
    )
    assert set(warmup["scores"]) == {"backbone_0", "policy"}
    assert set(joint["scores"]) == {"model"}
    assert joint["tau"] == pytest.approx(5 * np.exp(-0.045 * 2)), "of the last epoch, as selected"
    lines = _history(undisturbed)
    losses = [(line["stage"], line["step"]) for line in lines if "loss" in line]
    expected = [("warmup", s) for s in range(1, 6)] + [("joint", s) for s in range(1, 8)]
    assert losses == expected
    scored = [(x["stage"], x["step"]) for x in lines if any("validation" in k for k in x)]
    # Epochs end on the nearest whole step: 2.4, 4.8; 2.4, 4.8, 7.2.
    assert scored == [("warmup", 2), ("warmup", 5), ("joint", 2), ("joint", 5), ("joint", 7)]


def test_the_joint_stage_starts_from_the_best_epoch_of_each_backbone(undisturbed: Path) -> None:
    record = json.loads((undisturbed / "stages" / "warmup" / "stage.json").read_text())
    scores = {"backbone_0": [], "policy": []}
    for line in _history(undisturbed):
        for name, found in scores.items():
            if f"validation_mAP/{name}" in line:
                found.append(line[f"validation_mAP/{name}"])
    for name, found in scores.items():
        assert record["epochs"][name] == int(np.argmax(np.float32(found)))
        assert record["scores"][name] == pytest.approx(max(found), rel=1e-6)


def test_evaluating_fewer_epochs_changes_which_are_compared_and_no_step(
    tmp_path: Path, splits: Splits, undisturbed: Path
) -> None:
    train(_config(evaluate_every=2), tmp_path, *splits, progress=False)
    lines, every = _history(tmp_path), _history(undisturbed)
    scored = [(x["stage"], x["step"]) for x in lines if any("validation" in k for k in x)]
    assert scored == [("warmup", 5), ("joint", 5), ("joint", 7)], "the second, and the last"
    record = json.loads((tmp_path / "stages" / "warmup" / "stage.json").read_text())
    assert set(record["epochs"].values()) == {1}
    losses, expected = (
        [x["loss"] for x in rows if x["stage"] == "warmup" and "loss" in x]
        for rows in (lines, every)
    )
    assert losses == expected


def test_interrupted_twice_it_ends_with_the_very_same_variables(
    tmp_path: Path, splits: Splits, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "run"
    # In the second epoch of the warm-up; then, three steps of which repeat lost ones, in the
    # second epoch of the joint stage.
    for count in (4, 3 + 4):
        with monkeypatch.context() as patch:
            patch.setattr(steps, "make_train_step", _dying_after(count))
            with pytest.raises(Killed):
                train(_config(), workdir, *splits, progress=False)
        assert not (workdir / "model").exists()
    # The warm-up is done by now, so there is nothing to do up to its end.
    handed_on = train(_config(), workdir, *splits, progress=False, until="warmup")
    assert handed_on == workdir / "stages" / "warmup"
    assert not (workdir / "model").exists()
    train(_config(), workdir, *splits, progress=False)
    for part in ("stages/warmup", "stages/joint", "model"):
        _assert_same(load_model(workdir / part)[0], load_model(undisturbed / part)[0])
    assert _history(workdir) == _history(undisturbed), "as of one run, bit for bit"


def test_a_finished_run_is_left_alone_and_a_lost_model_comes_from_its_stages(
    undisturbed: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "make_train_step", _dying_after(0))
    before = load_model(undisturbed / "model")[0]
    assert train(_config(), undisturbed, *splits, progress=False) == undisturbed / "model"
    for path in sorted((undisturbed / "model").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (undisturbed / "model").rmdir()
    train(_config(), undisturbed, *splits, progress=False)
    _assert_same(load_model(undisturbed / "model")[0], before)


def test_another_config_in_the_same_workdir_is_refused(undisturbed: Path, splits: Splits) -> None:
    config = _config(seed=4, log_every=2)
    with pytest.raises(UserError, match=r"different: seed was \d+, is 4\).*--workdir"):
        train(config, undisturbed, *splits, progress=False)


@pytest.mark.parametrize(
    "config, message",
    [
        (_config(stage_order=()), "config.stage_order: names no stage"),
        (
            _config(data={"batch_size": 13, "num_frames": 4}),
            "config.data.batch_size: 13 is more than the 12 training videos",
        ),
        (_config(init_from="/nowhere"), "/nowhere: no finished model here"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, splits: Splits, config: Config, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run", *splits, progress=False)


def test_starting_from_a_model_that_shares_nothing_is_refused(
    tmp_path: Path, splits: Splits, undisturbed: Path
) -> None:
    config = _config(
        method="lstm",
        model={"num_classes": 3, "resolution": 16, "backbone": "mobilenet_v2", "hidden_size": 9},
        init_from=str(undisturbed),
        stage_order=("joint",),
        stages={"joint": {"epochs": 1}},
    )
    with pytest.raises(UserError, match="config.init_from: no variable of .* matches"):
        train(config, tmp_path / "run", *splits, progress=False)


# --- Batches on their way to the device ---------------------------------------------------------


def test_prefetch_hands_out_every_batch_in_order_and_closes_its_source() -> None:
    closed, drawn = [], []

    def count() -> Iterator[int]:
        try:
            for number in itertools.count():
                drawn.append(number)
                yield number
        finally:
            closed.append(True)

    batches = devices.DevicePrefetch(count(), jnp.int32, depth=3)
    assert [int(next(batches)) for _ in range(4)] == [0, 1, 2, 3]
    assert len(drawn) > 4, "it fetches ahead"
    batches.close()
    assert closed
