"""The ahead-of-time check: what it counts, what it refuses, and that it needs no data."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import pytest
from cpu_devices import with_devices

from ar_net_jax.cli import train
from ar_net_jax.cli.main import build_parser
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.methods import StageConfig
from ar_net_jax.methods.stages import baseline_losses
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.reporting.dry_run import print_checks
from ar_net_jax.training import dry_run

CONFIG = Config(
    method=Uniform.name,
    model=UniformConfig(num_classes=3, resolution=24, backbone="resnet8_tiny"),
    data=dataclasses.replace(Config().data, batch_size=4, num_frames=2),
    stage_order=("only",),
    stages={"only": StageConfig("joint", baseline_losses(), learning_rate=0.1)},
)


@pytest.fixture(scope="module")
def check() -> dry_run.StageCheck:
    return dry_run.dry_run(CONFIG)[0]


def test_state_and_batches_are_counted(check: dry_run.StageCheck) -> None:
    variables = CONFIG.build_method().variable_shapes()
    params = sum(x.size for x in jax.tree.leaves(variables["params"])) * 4
    stats = sum(x.size for x in jax.tree.leaves(variables["batch_stats"])) * 4
    # Twice for the copy of the best epoch, and the momentum; a few counters besides.
    assert check.state == pytest.approx(2 * (params + stats) + params, abs=64)
    frames = 4 * 2 * 24 * 24 * 3
    assert check.batches == pytest.approx(3 * frames, rel=0.05)
    assert check.step > 0


def test_a_step_costs_about_three_forward_passes(check: dry_run.StageCheck) -> None:
    """One forward, and one for each of the two gradients; the first layer has only one of them."""
    forward = 2e9 * float(CONFIG.build_method().choice_gflops("macs")[0]) * 4 * 2
    # With a stride, a gradient also multiplies the zeros between its pixels.
    assert 2.5 * forward < check.flops < 4 * forward


def test_what_does_not_fit_is_refused_with_a_remedy(
    check: dry_run.StageCheck, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.fits
    tight = dataclasses.replace(check, limit=check.needed - 1)
    assert not tight.fits
    print_checks(CONFIG, [tight])
    assert "only" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"stage 'only' needs .*optimizer\.micro_batches \(now 1\)"):
        dry_run.require_fit(CONFIG, [tight])


def test_the_flag_asks_for_neither_workdir_nor_data(
    monkeypatch: pytest.MonkeyPatch, check: dry_run.StageCheck, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(dry_run, "dry_run", lambda config: asked.append(config) or [check])
    parser = build_parser("train")
    train.run(parser.parse_args(["train", "--config=activitynet", "--dry-run"]), [])
    assert asked[0].data.name == "activitynet"
    assert "yes" in capsys.readouterr().out
    with pytest.raises(UserError, match="--workdir: missing"):
        train.run(parser.parse_args(["train", "--config=activitynet"]), [])


def test_the_config_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser("train")
    flags = parser.parse_args(["train", "--config=activitynet:uniform", "--print-config"])
    train.run(flags, ["--config.model.resolution=168"])
    printed = json.loads(capsys.readouterr().out)
    config = Config.from_dict(printed)
    assert config.method == Uniform.name and config.model.resolution == 168
    assert printed["optimizer"]["momentum"] == 0.9 and config.to_dict() == printed


_ON_FOUR_DEVICES = """
import dataclasses, sys
sys.path.insert(0, "tests")
import test_dry_run as t
from ar_net_jax.training import dry_run
split = dataclasses.replace(t.CONFIG.optimizer, shard_state=True)
configs = (t.CONFIG, dataclasses.replace(t.CONFIG, optimizer=split))
print(*[(c.state, c.batches) for config in configs for c in dry_run.dry_run(config)], sep=";")
"""


def test_four_devices_share_the_batch_and_if_asked_the_momentum(check: dry_run.StageCheck) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _ON_FOUR_DEVICES],
        env=with_devices(4),
        cwd=pathlib.Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    (whole, batches), (split, _) = (eval(x) for x in result.stdout.strip().split(";"))
    assert whole == check.state
    assert batches == check.batches / 4
    assert split < whole
