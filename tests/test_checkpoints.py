"""Checkpoints: exact resume, atomicity, finished models and clear errors."""

import functools
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ar_net_jax import checkpoints
from ar_net_jax.errors import UserError


@flax.struct.dataclass
class _State:
    """The kinds of leaves that a train state has."""

    step: jax.Array
    params: dict[str, jax.Array]
    opt_state: optax.OptState
    key: jax.Array


def _state(size: int = 4) -> _State:
    params = {"dense": {"kernel": jnp.arange(3.0 * size).reshape(3, size), "bias": jnp.ones(size)}}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9))
    return _State(jnp.int32(0), params, optimizer.init(params), jax.random.key(7))


@functools.partial(jax.jit, donate_argnums=0)
def _advance(state: _State) -> _State:
    """Changes every leaf, in place where donation allows."""
    return state.replace(
        step=state.step + 1,
        params=jax.tree.map(lambda x: x * 1.5 - 1, state.params),
        opt_state=jax.tree.map(lambda x: x + 1, state.opt_state),
        key=jax.random.split(state.key, 1)[0],
    )


def _numbers(state: _State) -> list[np.ndarray]:
    leaves = jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
    return [np.array(leaf) for leaf in leaves]


def test_restores_all_as_it_was_though_the_state_moved_on(tmp_path: pathlib.Path) -> None:
    # Big enough that it is still being written while the state is donated away.
    state = _state(size=500_000)
    expected = _numbers(state)
    with checkpoints.Checkpoints(tmp_path) as store:
        assert store.restore_latest(state) is None
        store.save(1, state, {"stage": "joint", "best": 0.25})
        for _ in range(5):
            state = _advance(state)
        store.wait()
        assert store.latest_step() == 1

    abstract = jax.eval_shape(lambda: _state(size=500_000))
    with checkpoints.Checkpoints(tmp_path) as store:
        restored, meta = store.restore_latest(abstract)
    assert meta == {"stage": "joint", "best": 0.25}
    assert restored.key.dtype == state.key.dtype
    for found, wanted in zip(_numbers(restored), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_keeps_the_latest_and_leaves_a_saved_step_alone(tmp_path: pathlib.Path) -> None:
    with checkpoints.Checkpoints(tmp_path, keep=2) as store:
        for step in (1, 2, 3):
            store.save(step, _state(), meta={"step": step})
        store.save(3, _state(), meta={"step": -3})
        store.wait()
        assert store.latest_step() == 3
        assert store.restore_latest(_state())[1] == {"step": 3}
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "3"]


def test_keeps_the_best_beside_the_latest(tmp_path: pathlib.Path) -> None:
    scores = {1: 10.0, 2: 30.0, 3: None, 4: 20.0, 5: None, 6: None}
    with checkpoints.Checkpoints(tmp_path, keep=2) as store:
        for step, score in scores.items():
            store.save(step, _state(), score=score)
        store.wait()
        assert store.latest_step() == 6
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "5", "6"]


def test_places_arrays_where_the_template_says(tmp_path: pathlib.Path) -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.NamedSharding(mesh, jax.P())
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), _state()
    )
    with checkpoints.Checkpoints(tmp_path) as store:
        store.save(1, _state())
        store.wait()
        restored, _ = store.restore_latest(template)
    assert all(leaf.sharding == everywhere for leaf in jax.tree.leaves(restored))


def test_a_run_killed_while_saving_resumes_from_a_whole_checkpoint(tmp_path: pathlib.Path) -> None:
    program = """
        import sys, jax.numpy as jnp
        from ar_net_jax import checkpoints
        store = checkpoints.Checkpoints(sys.argv[1])
        for step in range(1, 10_000):
            store.save(step, {"w": jnp.full((1_000_000,), step)}, meta={"step": step})
            if step == 3:
                print("running", flush=True)
    """
    running = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline().strip() == "running"
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    running.stdout.close()
    with checkpoints.Checkpoints(tmp_path) as store:
        step = store.latest_step()
        assert step >= 2
        state, meta = store.restore_latest({"w": jnp.zeros((1_000_000,), jnp.int32)})
        assert meta == {"step": step}
        np.testing.assert_array_equal(state["w"], step)
        store.save(step + 1, state)
        store.wait()
        assert store.latest_step() == step + 1
    assert not [p for p in tmp_path.iterdir() if "tmp" in p.name]


def test_a_checkpoint_of_another_config_is_refused(tmp_path: pathlib.Path) -> None:
    with checkpoints.Checkpoints(tmp_path) as store:
        store.save(1, _state(size=4))
        store.wait()
        with pytest.raises(UserError, match=r"params/dense/kernel \(3, 4\), expected \(3, 5\)"):
            store.restore_latest(_state(size=5))


def test_model_round_trip_and_replacement(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "runs" / "best"
    for value in (1.0, 2.0):
        variables = {"params": {"w": jnp.full((2, 3), value)}, "batch_stats": {"m": jnp.zeros(3)}}
        checkpoints.save_model(folder, variables, {"seed": value, "model": {"skips": [1, 2]}})
    loaded, config = checkpoints.load_model(str(folder))
    assert config == {"seed": 2.0, "model": {"skips": [1, 2]}}
    assert isinstance(loaded["params"]["w"], np.ndarray)
    np.testing.assert_array_equal(loaded["params"]["w"], np.full((2, 3), 2.0, np.float32))
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "variables"]
    assert [p.name for p in folder.parent.iterdir()] == ["best"]


def test_a_kill_while_replacing_a_model_loses_nothing(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "best"
    checkpoints.save_model(folder, {"w": jnp.ones(2)}, {"n": 1})
    # Killed between the two renames: the new model is whole but not yet in its place.
    folder.rename(tmp_path / ".best.new")
    assert checkpoints.load_model(folder)[1] == {"n": 1}
    # Killed while writing the new model: the half is not used, the old one stands.
    (tmp_path / ".best.new").mkdir()
    assert checkpoints.load_model(folder)[1] == {"n": 1}
    checkpoints.save_model(folder, {"w": jnp.ones(2)}, {"n": 2})
    assert checkpoints.load_model(folder)[1] == {"n": 2}


def test_a_folder_that_is_no_model_is_a_user_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is no model checkpoint: it has no config.json"):
        checkpoints.load_model(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no variables"):
        checkpoints.load_model(tmp_path)
    (tmp_path / "variables").mkdir()
    with pytest.raises(UserError, match="damaged"):
        checkpoints.load_model(tmp_path)


def test_a_damaged_config_is_a_user_error(tmp_path: pathlib.Path) -> None:
    checkpoints.save_model(tmp_path / "m", {"w": jnp.ones(2)}, {"n": 1})
    (tmp_path / "m" / "config.json").write_text('{"n": ')
    with pytest.raises(UserError, match="damaged"):
        checkpoints.load_model(tmp_path / "m")


def test_misfit_names_every_kind_of_fault_with_both_shapes() -> None:
    expected = {"params": {"a": np.zeros(2), "b": np.zeros((3, 3))}}
    found = {"params": {"b": np.zeros((3, 4)), **{f"x{i}": np.zeros(1) for i in range(5)}}}
    with pytest.raises(UserError) as caught:
        checkpoints.check_fits(found, expected)
    message = str(caught.value)
    assert "missing: params/a (2,)" in message
    assert "unexpected: params/x0 (1,), params/x1 (1,), params/x2 (1,) and 2 more" in message
    assert "differently shaped: params/b (3, 4), expected (3, 3)" in message
    assert "Use the config" in message
    checkpoints.check_fits(json.loads("{}"), {})


def test_orbax_stays_quiet(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="absl"):
        with checkpoints.Checkpoints(tmp_path / "run") as store:
            store.save(1, _state())
        checkpoints.save_model(tmp_path / "model", {"w": jnp.ones(2)}, {})
        checkpoints.load_model(tmp_path / "model")
    assert not [r for r in caplog.records if r.levelno < logging.ERROR and "orbax" in r.pathname]
