"""When a stage reports, evaluates and saves; what its record keeps for the next one."""

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st

from ar_net_jax.experiment import Config
from ar_net_jax.training.stage import StageRecord
from ar_net_jax.training.stage_loop import DataOrder, Plan


def _plan(epochs: int, steps_per_epoch: float, **changes: int) -> Plan:
    config = dataclasses.replace(Config(), **changes)
    return Plan.create(config, epochs, steps_per_epoch)


def test_epochs_end_on_the_nearest_whole_step() -> None:
    plan = _plan(3, 2.4)
    assert plan.epoch_ends == (2, 5, 7), "2.4, 4.8, 7.2"
    assert [plan.epoch(step) for step in (2, 5, 7)] == [0, 1, 2]


def test_what_is_due_after_each_step() -> None:
    plan = _plan(
        5, 3.0, log_every=4, evaluate_every=2, checkpoint_every=3, checkpoint_every_steps=7
    )
    steps = range(1, 16)
    assert [s for s in steps if plan.reports(s)] == [3, 4, 6, 8, 9, 12, 15]
    assert [s for s in steps if plan.evaluates(s)] == [6, 12, 15], (
        "every second epoch, and the last"
    )
    assert [s for s in steps if plan.saves(s)] == [7, 9, 14, 15]


@given(
    st.integers(1, 20),
    st.floats(1, 9),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(0, 5),
)
def test_every_evaluation_ends_an_epoch_and_the_last_step_has_all(
    epochs: int, steps_per_epoch: float, evaluate_every: int, save_every: int, save_steps: int
) -> None:
    plan = _plan(
        epochs,
        steps_per_epoch,
        evaluate_every=evaluate_every,
        checkpoint_every=save_every,
        checkpoint_every_steps=save_steps,
    )
    steps = range(1, plan.last_step + 1)
    assert len([s for s in steps if plan.ends_epoch(s)]) == epochs
    evaluated = [s for s in steps if plan.evaluates(s)]
    assert all(plan.ends_epoch(s) and plan.reports(s) for s in evaluated)
    assert len(evaluated) == -(-epochs // evaluate_every)
    last = plan.last_step
    assert plan.reports(last) and plan.evaluates(last) and plan.saves(last)


def test_a_record_keeps_what_is_handed_on_beside_its_own_fields() -> None:
    record = StageRecord({"model": 50.0}, {"model": 3}, {"tau": 4.5}, 12.0)
    text = json.dumps(record.to_dict())
    assert json.loads(text) == {
        "scores": {"model": 50.0},
        "epochs": {"model": 3},
        "tau": 4.5,
        "seconds": 12.0,
    }
    assert StageRecord.from_dict(json.loads(text)) == record


def test_the_place_in_the_data_tells_what_decides_the_batches() -> None:
    place = {"next_batch": 6, "batch_size": 5, "num_examples": 12, "seed": 7}
    assert DataOrder(5, 12, 7).after(6) == place
