"""`arnet benchmark` on tiny models: its figures agree with each other, and with counts by hand."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cpu_devices import with_devices
from hypothesis import given
from hypothesis import strategies as st
from tiny_config import write_tiny

from ar_net_jax.benchmarks.entries import Source, fresh_variables, split_names
from ar_net_jax.benchmarks.usage import MIXES, impose_usage, read_usage
from ar_net_jax.checkpoints import save_model
from ar_net_jax.cli.main import main
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import load_config, with_classes
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.methods import Method
from ar_net_jax.ops.actions import ActionSpace, Choices, apply_skips, policy_choices
from ar_net_jax.runtime.timing import time_interleaved

# Of 16 frames: at 32 px, in the policy, and in the two skips.
COUNTS = (4, 5, 5, 2)
USAGE = ",".join(map(str, COUNTS))
OURS, UNIFORM = "AR-Net, 4 5 5 2", "Uniform, 8 frames"
OTHERS = ("random_policy", "multi_scale", "lstm")
QUICK = ["--quick", "--quiet", "--repetitions=2", "--batch=2"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A config of networks that compile in a moment."""
    return write_tiny(tmp_path_factory.mktemp("config"))


def _document(folder: Path, *flags: str) -> dict[str, Any]:
    main(["benchmark", *QUICK, *flags, f"--output={folder}"])
    return json.loads((folder / "benchmark.json").read_text())


@pytest.fixture(scope="module")
def imposed(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An untrained AR-Net under an imposed usage."""
    folder = tmp_path_factory.mktemp("imposed")
    return _document(folder, f"--configs={tiny}", f"--usage={USAGE}", "--chunks=5,2")


def _method(spec: str) -> Method[Any]:
    return load_config(spec).build_method()


def _look(method: Method[Any], convention: str) -> float:
    """GFLOPs of the policy's extractor and its LSTM on a frame."""
    networks = method.networks()
    return networks["policy"].gflops(convention) + networks["LSTM"].gflops(convention)


def _rows(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in document["results"]}


def test_rows_and_what_they_depend_on(imposed: dict[str, Any]) -> None:
    assert list(_rows(imposed))[:2] == [OURS, UNIFORM]
    assert set(imposed) == {*("results", "settings", "machine", "versions", "peak_memory", "torch")}
    assert imposed["machine"]["cores"] >= 1 and imposed["machine"]["platform"] == "cpu"
    assert imposed["versions"]["jax"] == jax.__version__
    assert imposed["peak_memory"]["bytes"] > 2**20
    for row in imposed["results"]:
        assert row["compile_seconds"] > 0 and row["program_bytes"] > 0
        for entry in (*row["latency_seconds"].values(), row["with_decoding"]["latency_seconds"]):
            assert 0 < entry["p50"] <= entry["p99"] and entry["calls"] == 2
        assert row["dtype"] == "float32" and row["split_figures"] is None
        assert (row["plan"] is None) == (row["routing"] == "masked")
        if row["plan"]:
            assert row["plan"]["source"] == "--chunks" and row["plan"]["form"] == "loop"
            assert all(sizes == [5, 2] for sizes in row["plan"]["chunks"].values())
        # Uniform runs in the faster form, found at all frames.
        assert (row["trial_seconds"] is not None) == (row["method"] == UNIFORM)


def test_imposed_usage_is_exact_and_costs_what_arnet_costs_says(
    tiny: str, imposed: dict[str, Any], tmp_path: Path
) -> None:
    row = _rows(imposed)[OURS]
    assert [16 * share for share in row["usage"].values()] == list(COUNTS)
    figures = tmp_path / "costs.json"
    main(["costs", f"--config={tiny}", f"--usage={USAGE}", "--num-frames=8", f"--json={figures}"])
    (video,) = json.loads(figures.read_text())["videos"]
    assert row["gflops_per_video"] == pytest.approx(video["gflops_per_video"])


def test_executed_is_counted_from_whole_chunks(tiny: str, imposed: dict[str, Any]) -> None:
    ours, method = _rows(imposed)[OURS], _method(tiny)
    largest = method.networks()["32px"]
    for convention in ("macs", "paper"):
        # Four frames in one chunk of five; 16 in the policy, skipped or not.
        executed = 5 * largest.gflops(convention) + 16 * _look(method, convention)
        assert ours["executed_gflops_per_video"][convention] == pytest.approx(executed / 2)
        for row in imposed["results"]:
            needed = row["gflops_per_video"][convention]
            assert row["executed_gflops_per_video"][convention] >= needed * (1 - 1e-9)
    executed = 2 * ours["executed_gflops_per_video"]["macs"]
    assert ours["filling_share"] * executed == pytest.approx(largest.gflops("macs"))
    # One skip of two frames covers one of them.
    assert ours["covered_share"] * executed == pytest.approx(_look(method, "macs"))


def test_ratios_follow_from_the_rows(imposed: dict[str, Any]) -> None:
    rows = _rows(imposed)
    uniform = rows[UNIFORM]
    assert uniform["reference"] is uniform["realised_saving"] is uniform["time_ratio"] is None
    for row in rows.values():
        median = row["latency_seconds"]["batch"]["p50"]
        assert row["videos_per_second"] == pytest.approx(2 / median)
        if row is uniform:
            continue
        assert row["reference"] == UNIFORM
        time = median / uniform["latency_seconds"]["batch"]["p50"]
        gflops = row["gflops_per_video"]["macs"] / uniform["gflops_per_video"]["macs"]
        assert (row["time_ratio"], row["gflops_ratio"]) == pytest.approx((time, gflops))
        assert row["realised_saving"] == pytest.approx((1 - time) / (1 - gflops))


def test_uniform_at_equal_cost_brackets_the_model(imposed: dict[str, Any]) -> None:
    rows = _rows(imposed)
    cost = imposed["results"][0]["gflops_per_video"]["macs"]
    fewer = [row for row in imposed["results"] if row["num_frames"] < 8]
    below, above = sorted(row["gflops_per_video"]["macs"] for row in fewer)
    assert below <= cost <= above
    assert above - below == pytest.approx(rows[UNIFORM]["gflops_per_video"]["macs"] / 8)


def test_parts_make_up_the_whole(imposed: dict[str, Any]) -> None:
    rows = _rows(imposed)
    parts = rows[OURS]["parts"]
    assert list(parts) == ["32px", "policy", "LSTM", "rest"]
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1)
    whole = rows[OURS]["latency_seconds"]["batch"]["p50"]
    assert sum(part["seconds"] for part in parts.values()) == pytest.approx(whole)
    assert rows[UNIFORM]["parts"] is None


def test_trained_models_are_scored_and_decide_for_themselves(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = EmbeddedSpec(train=1, validation=1, test=6)
    registry.prepare("embedded", data_dir=tmp_path / "data", progress=False, spec=spec)
    for name, variant in {"ar_net": tiny, "uniform": f"{tiny}:uniform"}.items():
        config = with_classes(load_config(variant), spec.class_names)
        save_model(
            tmp_path / name / "model", fresh_variables(config.build_method()), config.to_dict()
        )
    folder = tmp_path / "out"
    document = _document(folder, f"--checkpoints={tmp_path / 'ar_net'},{tmp_path / 'uniform'}")
    rows = document["results"]
    assert [row["method"] for row in rows][:2] == ["AR-Net", UNIFORM]
    for row in rows:
        assert 0 <= row["split_figures"]["mAP"] <= 100
        assert row["split_figures"]["num_videos"] == 6
        assert row["split_figures"]["num_frames"] == row["num_frames"]
        assert not row["usage_imposed"]
    names = {"benchmark.json", "benchmark.md", "curve.png", "curve_time.png"}
    assert {path.name for path in folder.iterdir()} == names
    assert "mAP" in (folder / "benchmark.md").read_text()
    assert UNIFORM in capsys.readouterr().out


def test_imposed_actions_do_not_spare_the_policy(tiny: str) -> None:
    """What nothing depends on, the compiler leaves out; the LSTM must not be that."""
    method = _method(tiny)
    variables = fresh_variables(method)
    frames = jnp.zeros((3, 5, 32, 32, 3), jnp.uint8)
    keys = jax.random.split(jax.random.key(0), 3)
    request = Request(frames, keys, forced_actions=jnp.zeros((3, 5), jnp.int32))
    compiled = make_inference(method).lower(variables, request, jnp.float32(0)).compile()
    assert "f32[3,52]" in compiled.as_text(), "the gates of three videos, four times 13"
    result = compiled(variables, request, jnp.float32(0))
    assert (np.asarray(result.actions) == 0).all()


def test_fresh_variables_are_those_of_the_model() -> None:
    method = _method("activitynet")
    real = jax.eval_shape(method.initial_variables, jax.random.key(0))
    fresh = fresh_variables(method)
    assert jax.tree.structure(real) == jax.tree.structure(fresh)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), real, fresh)
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("name", MIXES)
def test_named_mixes_are_those_of_the_paper_set_up(name: str) -> None:
    method = _method("activitynet")
    choices = method.choices
    forced = impose_usage(read_usage(name, method), choices, 4, 16, seed=0)
    counts = np.bincount(forced.ravel(), minlength=7)
    assert counts.tolist() == [*MIXES[name], 0, 0]
    actions, covered = apply_skips(forced, choices)
    np.testing.assert_array_equal(actions, forced)
    assert not covered.any()
    share = np.dot(counts / 64, method.choice_gflops()) / method.networks()["224px"].gflops("paper")
    assert share == pytest.approx({"half": 0.497, "quarter": 0.246}[name], abs=6e-4)


@pytest.mark.parametrize(("name", "share"), [("half", 0.5), ("quarter", 0.25)])
@pytest.mark.parametrize("spec", ["demo", "demo:liteeval", "activitynet:resolution_only"])
def test_named_mixes_of_other_choices_cost_as_much(spec: str, name: str, share: float) -> None:
    method = _method(spec)
    uniform = method.main_network().gflops(method.config.gflops_convention)
    usage = read_usage(name, method)
    assert usage.sum() == pytest.approx(1) and (usage >= 0).all()
    assert usage @ method.choice_gflops() == pytest.approx(share * uniform)
    # And they fit into a few short videos.
    assert impose_usage(usage, method.choices, 2, 8, seed=0).shape == (2, 8)


def _choices(*, resolutions: tuple[int, ...], skips: tuple[int, ...]) -> Choices:
    return policy_choices(ActionSpace(resolutions, skips), 1, "policy", "LSTM")


@given(st.data())
def test_any_usage_is_imposed_exactly(data: st.DataObject) -> None:
    choices = _choices(resolutions=(32, 16), skips=(1, 2, 4))
    length = 4 * data.draw(st.integers(1, 4))
    fours = data.draw(st.integers(0, length // 4))
    twos = data.draw(st.integers(0, (length - 4 * fours) // 2))
    rest = length - 4 * fours - 2 * twos
    counts = np.array([rest - rest // 2, rest // 3, rest // 2 - rest // 3, 2 * twos, 4 * fours])
    seed = data.draw(st.integers(0, 9))
    forced = impose_usage(counts / length, choices, 3, length, seed)
    actions = np.asarray(apply_skips(forced, choices)[0])
    assert np.bincount(actions.ravel(), minlength=5).tolist() == (3 * counts).tolist()
    np.testing.assert_array_equal(actions, forced)


@pytest.mark.parametrize(
    ("configs", "checkpoints", "found"),
    [
        ("demo,activitynet", None, [("demo", None), ("activitynet", None)]),
        (
            "activitynet:efficientnet,released,demo:lstm,quick",
            ",run",
            [("activitynet:efficientnet,released", None), ("demo:lstm,quick", "run")],
        ),
        (None, "a,b", [(None, "a"), (None, "b")]),
    ],
)
def test_names_of_configs_and_their_variants(
    configs: str | None, checkpoints: str | None, found: list[tuple]
) -> None:
    assert split_names(configs, checkpoints) == [Source(*names) for names in found]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --configs, or --checkpoints"),
        (["--configs=demo,demo:lstm", "--checkpoints=a"], "1 given for 2 configs"),
        (["--configs=demo", "--usage=1,2"], "2 given, but there are 6 actions"),
        (["--configs=demo", "--usage=1,0,0,0,0,0", "--batch=0"], "--batch: must be at least 1"),
        (["--configs=dmeo", "--usage=1,0,0,0,0,0"], "did you mean 'demo'"),
        (["--checkpoints=/nowhere"], "/nowhere: no finished model"),
    ],
)
def test_bad_flags_are_one_line(
    capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "--quiet", *flags])
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_a_usage_that_no_order_gives() -> None:
    with pytest.raises(UserError, match="no order of skips"):
        impose_usage(
            np.array([0, 0.5, 0.5]), _choices(resolutions=(8,), skips=(2, 4)), 1, 2, seed=0
        )


def test_rounds_are_interleaved_and_turn_about() -> None:
    called = []
    calls = {name: lambda number, name=name: called.append((number, name)) for name in "abc"}
    seconds = time_interleaved(calls, 2)
    assert [name for _, name in called] == list("abccba")
    assert [number for number, _ in called] == [0, 0, 0, 1, 1, 1]
    assert all(values.shape == (2,) and (values >= 0).all() for values in seconds.values())


@pytest.mark.slow
def test_several_devices_every_approach_and_the_imbalance(tiny: str, tmp_path: Path) -> None:
    configs = ",".join([tiny, *(f"{tiny}:{name}" for name in OTHERS)])
    argv = [*QUICK, f"--configs={configs}", f"--usage={USAGE}", f"--output={tmp_path}"]
    subprocess.run(
        [sys.executable, "-m", "ar_net_jax", "benchmark", *argv, "--chunks=1"],
        env=with_devices(2),
        check=True,
        timeout=300,
    )
    document = json.loads((tmp_path / "benchmark.json").read_text())
    assert document["machine"]["devices"] == 2
    ours, random_policy, multi_scale, lstm, uniform = document["results"][:5]
    # The order of the actions is drawn over the whole batch, one video of which each device has.
    method = _method(tiny)
    forced = impose_usage(np.array(COUNTS) / 16, method.choices, 2, 8, seed=0)
    largest = method.networks()["32px"].gflops("macs")
    costs = largest * (forced == 0).sum(1) + 8 * _look(method, "macs")
    assert costs[0] != costs[1]
    assert ours["device_imbalance"] == pytest.approx(costs.max() / costs.mean())
    for row in (lstm, multi_scale, uniform):
        assert row["device_imbalance"] == 1
        assert row["usage"] is None and row["trial_seconds"]
    assert lstm["realised_saving"] is multi_scale["realised_saving"] is None, "they save nothing"
    assert list(lstm["parts"]) == ["32px", "rest"]
    assert list(multi_scale["parts"]) == ["32px", "policy", "LSTM", "rest"]
    assert sum(random_policy["usage"].values()) == pytest.approx(1)
