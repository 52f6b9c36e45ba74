"""Measured plans: where they are kept, when they are taken, and that both forms agree."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import saved_models
from hypothesis import given, settings
from hypothesis import strategies as st

from ar_net_jax.benchmarks.entries import fresh_variables
from ar_net_jax.benchmarks.tune import tune
from ar_net_jax.checkpoints import save_model
from ar_net_jax.cli.main import main
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.buckets import BucketedFunction
from ar_net_jax.inference.model import Model, load
from ar_net_jax.inference.plan import NetworkPlan, Plan, PlanKey
from ar_net_jax.inference.plans import describe_plan, find_plan, keep_plan, plan_path
from ar_net_jax.inference.split import SplitProgram
from ar_net_jax.inference.step import make_inference
from ar_net_jax.methods.ar_net import ARNet
from ar_net_jax.ops.routing import expected_trips, run_selected

CONFIG = Config.from_dict(
    {
        "method": "ar_net",
        "model": saved_models.AR_NET | {"skips": (1,)},
        "data": {"num_frames": 4},
    }
)
AR_NET = CONFIG.build_method()
SECONDS = ((1, 1.0), (2, 1.5), (4, 2.5))


def _plan(form: str = "buckets") -> Plan:
    key = PlanKey.of(AR_NET)
    return Plan(key, form, tuple(NetworkPlan(n, (4, 2), SECONDS) for n, _, _ in key.networks))


# --- The form in buckets --------------------------------------------------------------------------


def _toy(frames: Any, selected: Any, weights: Any) -> tuple[Any, ...]:
    """Two networks whose frames are given, and one whose frames the first one's results choose."""
    one, ones = run_selected(lambda x: x @ weights, frames, selected, (4, 2), name="one")
    two, twos = run_selected(lambda x: x @ weights + 1, frames, ~selected, (8, 4, 1), name="two")
    last, lasts = run_selected(lambda x: 2 * x, frames, one[:, 0] > 0, (3, 1), name="last")
    return one + two + last, ones, twos, lasts, frames


@functools.cache
def _split_toy() -> SplitProgram:
    return SplitProgram(
        _toy, np.zeros((11, 3), np.float32), np.zeros(11, bool), np.eye(3)
    ).compile()


_loops = jax.jit(_toy)


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_both_forms_agree_on_any_pattern(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    args = (
        jnp.asarray(rng.normal(size=(11, 3)), jnp.float32),
        jnp.asarray(rng.random(11) < share),
        jnp.asarray(rng.normal(size=(3, 3)), jnp.float32),
    )
    split = _split_toy().run(lambda told, count: expected_trips(count, told.chunks), *args)
    for one, other in zip(split, _loops(*args), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_number_of_programs_is_bounded_and_told() -> None:
    program = _split_toy()
    asked = [[loops.told.network for loops in stage.networks] for stage in program.stages]
    assert asked == [["one", "two"], ["last"], []], "as few transfers as decisions on decisions"
    assert program.num_programs == 3 + 2 + 3 + 2
    assert program.num_programs == len(program.stages) + sum(
        len(loops.steps) for loops in program.networks
    )


def test_loops_within_loops_stay_there() -> None:
    def scanned(frames: jax.Array, selected: jax.Array) -> jax.Array:
        def body(total: jax.Array, chosen: jax.Array) -> tuple[jax.Array, None]:
            return total + run_selected(lambda x: 2 * x, frames, chosen, (2,))[0], None

        return jax.lax.scan(body, jnp.zeros_like(frames), selected)[0]

    frames, selected = jnp.arange(10.0).reshape(5, 2), jnp.eye(5, dtype=bool)
    program = SplitProgram(scanned, frames, selected).compile()
    assert not program.networks and program.num_programs == 1
    np.testing.assert_allclose(program.run(lambda *_: {}, frames, selected), 2 * frames)


@functools.cache
def _models() -> tuple[Model, Model]:
    """The same model in both forms, with decisions that differ between frames."""
    variables = jax.tree.map(np.array, fresh_variables(AR_NET))
    decision = variables["params"]["policy"]["decision"]
    decision["kernel"] *= 30
    return Model(CONFIG, variables, plan=_plan()), Model(CONFIG, variables)


@contextlib.contextmanager
def _compilations() -> Iterator[list[str]]:
    """What JAX compiles within, or takes from its cache of compiled programs."""
    told: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if "backend_compile" in event:
            told.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield told
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_a_model_in_buckets_says_what_it_says_in_loops(seed: int) -> None:
    buckets, loops = _models()
    frames = np.random.default_rng(seed).integers(0, 256, (2, 4, 24, 24, 3), np.uint8)
    first = buckets(frames, policy="sample", seed=seed)
    with _compilations() as compiled:
        again = buckets(frames, policy="sample", seed=seed + 1)
        found = buckets(frames, policy="sample", seed=seed)
        assert not compiled, "no decisions compile anything"
        # What is counted would have been.
        jax.jit(lambda x: x + len(frames))(np.zeros(seed % 97 + 1))
        assert compiled
    masked = loops(frames, policy="sample", seed=seed, routing="masked")
    np.testing.assert_array_equal(found.actions, masked.actions)
    scale = np.abs(masked.logits).max()
    np.testing.assert_allclose(found.logits, masked.logits, atol=1e-5 * scale)
    np.testing.assert_array_equal(found.logits, first.logits)
    chosen = int((np.asarray(masked.actions) == 0).sum())
    # A single frame takes 1, three take 2 + 1 or 4: as long, but never more rows than those.
    assert chosen <= found.executed["24px"] <= chosen + 1
    assert again.logits.shape == found.logits.shape


# --- Where plans come from ------------------------------------------------------------------------


def _told(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_a_plan_that_is_kept_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARNET_CACHE_DIR", str(tmp_path))
    assert find_plan(AR_NET) is None
    path = keep_plan(_plan())
    assert tmp_path in path.parents
    found = find_plan(AR_NET)
    assert found == dataclasses.replace(_plan(), source=str(path))
    assert find_plan(AR_NET, "none") is None
    assert find_plan(AR_NET, str(path)) == found
    in_half = ARNet(dataclasses.replace(AR_NET.config, dtype="bfloat16"))
    assert find_plan(in_half) is None, "each precision has its own"
    assert _told(capsys) == ""
    assert find_plan(in_half, str(path)) is None
    assert _told(capsys).count("\n") == 1
    with pytest.raises(UserError, match="no such file"):
        find_plan(AR_NET, str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "TPU v9"}, "of another device: TPU v9"),
        ({"method": "uniform"}, "of another method"),
        ({"networks": {}}, "of another networks"),
        ({"form": "spiral"}, "damaged (ValueError: form 'spiral')"),
        ({"format": "arnet plan 9"}, "damaged"),
        ({"networks": {"24px": {"backbone": "x", "resolution": 1, "chunks": [2, 4]}}}, "damaged"),
        (None, "damaged"),
    ],
)
def test_a_damaged_or_foreign_plan_is_ignored_with_a_line(
    change: dict[str, Any] | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = keep_plan(_plan())
    text = path.read_text()
    path.write_text(
        text[: len(text) // 2] if change is None else json.dumps({**json.loads(text), **change})
    )
    try:
        assert find_plan(AR_NET) is None
    finally:
        path.unlink()
    (line,) = _told(capsys).splitlines()
    assert line.startswith(f"plan {path} is ignored: ") and reason in line


def test_what_a_plan_changes_and_what_not() -> None:
    mesh = jax.make_mesh((1,), ("data",))
    assert isinstance(make_inference(AR_NET, plan=_plan()), BucketedFunction)
    for kept in ({"mesh": mesh}, {"chunks": (2,)}, {"routing": "masked"}, {"plan": _plan("loop")}):
        assert not isinstance(make_inference(AR_NET, **{"plan": _plan(), **kept}), BucketedFunction)
    told = describe_plan(AR_NET, _plan())
    assert told["form"] == "buckets" and told["chunks"]["24px"] == [4, 2, 1]
    assert describe_plan(AR_NET, _plan(), alone=False)["chunks"]["24px"] == [4, 2]
    assert describe_plan(AR_NET, _plan(), (3,))["source"] == "--chunks"
    assert describe_plan(AR_NET, None)["source"] == "built in"


def test_tune_measures_and_load_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARNET_CACHE_DIR", str(tmp_path / "cache"))
    save_model(tmp_path / "model", fresh_variables(AR_NET), CONFIG.to_dict())
    # No time is left after the first size.
    main(["tune", f"--workdir={tmp_path}", "--seconds=1e-9", "--batch=2", "--quiet"])
    path = plan_path(PlanKey.of(AR_NET))
    assert f"plan: {path}" in capsys.readouterr().out
    model = load(tmp_path)
    assert model.describe_plan() == {
        "source": str(path),
        "form": "loop",
        "chunks": {"24px": [8], "policy": [128, 32, 8]},
    }
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 24, 24, 3), np.uint8)
    plain = load(tmp_path, plan="none")
    assert plain.plan is None
    np.testing.assert_allclose(model(frames).logits, plain(frames).logits, rtol=1e-4, atol=1e-6)


def test_tune_times_every_size_and_both_forms() -> None:
    model = {"num_classes": 3, "backbone": "resnet8_tiny", "resolution": 16}
    config = Config.from_dict({"method": "uniform", "model": model, "data": {"num_frames": 2}})
    variables = fresh_variables(config.build_method())
    found = tune(config, variables, videos=2, budget=1e9, progress=False)
    (network,) = found.plan.networks
    assert [size for size, _ in network.seconds] == [1, 2, 4] and not found.left_out
    assert {videos: set(forms) for videos, forms in found.form_seconds.items()} == {
        2: {"loop", "buckets"},
        1: {"loop", "buckets"},
    }
    faster = all(forms["buckets"] < forms["loop"] for forms in found.form_seconds.values())
    slower = all(forms["buckets"] > forms["loop"] for forms in found.form_seconds.values())
    assert (found.plan.form == "loop") if slower else (faster <= (found.plan.form == "buckets"))
