"""Programs compiled for TPU slices that are not here, by the compiler of the extra `tpu`."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.described import check_inference
from ar_net_jax.methods.ar_net import ARNetStage
from ar_net_jax.methods.stages import baseline_losses
from ar_net_jax.runtime.mesh import replicated
from ar_net_jax.topology import CHIPS, compile_described, count_work, describe_devices, parse_slice
from ar_net_jax.topology.traffic import Work
from ar_net_jax.training.dry_run import describe_stage, require_fit

pytest.importorskip("libtpu", reason="compiles for TPU: pip install 'ar_net_jax[tpu]'")
slow = pytest.mark.slow

WANTED = parse_slice("v5e:2x2")
MODEL = {
    "num_classes": 3,
    "resolutions": (32, 24),
    "backbones": ("resnet8_tiny",),
    "skips": (1,),
    "policy": {"backbone": "resnet8_tiny", "resolution": 24, "hidden_size": 8},
}
STAGE = ARNetStage(losses=baseline_losses(), learning_rate=0.1)
CONFIG = dataclasses.replace(
    Config.from_dict({"method": "ar_net", "model": MODEL}),
    data=dataclasses.replace(Config().data, batch_size=8, num_frames=4),
    stage_order=("only",),
    stages={"only": STAGE},
)


@pytest.mark.parametrize("name", ["v4:2x2x4", "v5e:4x4", "v5e:16x16", "v5p:4x4x4", "v6e:4x4"])
def test_slices_are_described_without_hardware(name: str) -> None:
    wanted = parse_slice(name)
    devices = describe_devices(wanted).devices
    assert devices.size == wanted.size
    assert len({device.process_index for device in devices.flat}) == wanted.size // 4
    assert describe_devices(wanted, alone=True).size == 1


def test_slices_that_nobody_builds_are_told() -> None:
    wanted = dataclasses.replace(WANTED, shape=(2, 3))
    with pytest.raises(UserError, match="v5e:2x3: the compiler cannot describe it"):
        describe_devices(wanted)


def _layer(x: jax.Array, weights: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ weights)


def _work_of(function: Callable[..., jax.Array], *shapes: tuple[int, ...]) -> Work:
    where = replicated(describe_devices(WANTED, alone=True))
    arguments = [jax.ShapeDtypeStruct(s, jnp.bfloat16, sharding=where) for s in shapes]
    lowered = jax.jit(function).lower(*arguments)
    return count_work(compile_described(lowered, what="it", remedy="take less").text).work


def test_what_does_not_fit_is_refused() -> None:
    """Three arrays of 6 GiB on a chip with 16."""
    with pytest.raises(UserError, match=r"it does not fit a chip \(Ran out of .*\); take less"):
        _work_of(lambda x: jnp.stack([x, x + 1]), (3 * 2**30,))


@slow
def test_a_scanned_stack_costs_what_it_costs_unrolled() -> None:
    layers, width, rows = 8, 2048, 16
    shapes = (rows, width), (layers, width, width)

    def scanned(x: jax.Array, weights: jax.Array) -> jax.Array:
        return lax.scan(lambda x, w: (_layer(x, w), None), x, weights)[0]

    def unrolled(x: jax.Array, weights: jax.Array) -> jax.Array:
        for number in range(layers):
            x = _layer(x, weights[number])
        return x

    loop, stack = _work_of(scanned, *shapes), _work_of(unrolled, *shapes)
    assert loop.flops == stack.flops == layers * 2 * rows * width**2
    assert loop.bytes == pytest.approx(stack.bytes, rel=0.02)
    # Each layer's weights come once from HBM; the rows stay on the chip.
    assert loop.bytes == pytest.approx(layers * width**2 * 2, rel=0.02)


@slow
def test_a_training_step_is_compiled_for_four_chips() -> None:
    found = describe_stage(CONFIG, 0, WANTED)
    assert found.fits and 0 < found.chip.arguments < found.needed
    require_fit(CONFIG, [found])
    twice = dataclasses.replace(
        CONFIG,
        data=dataclasses.replace(CONFIG.data, batch_size=2 * CONFIG.data.batch_size),
        optimizer=dataclasses.replace(CONFIG.optimizer, micro_batches=2),
    )
    # A loop over two such batches does the work of both.
    parts = describe_stage(twice, 0, WANTED).chip
    assert parts.work.flops == pytest.approx(2 * found.chip.work.flops, rel=0.02)
    assert max(parts.loops, key=lambda loop: loop.work.flops).trips == 2
    work = found.chip.work
    assert work.collectives["all-reduce"] > 0
    # At least every gradient is summed over the four chips, in float32.
    shapes = CONFIG.build_method().variable_shapes()["params"]
    numbers = sum(x.size for x in jax.tree.leaves(shapes))
    assert work.sent >= 2 * 3 / 4 * 4 * numbers * 0.9
    # A quarter of the videos; forward and backward pass are three times the first at most.
    frame = 2e9 * float(CONFIG.build_method().choice_gflops("macs")[0])
    assert frame * 2 * 4 < work.flops < 4 * frame * 2 * 4
    assert found.chip.counted_once == 0
    tight = dataclasses.replace(found, chip=dataclasses.replace(found.chip, limit=1.0))
    with pytest.raises(UserError, match=f"stage '{found.name}' needs"):
        require_fit(CONFIG, [tight])


@slow
def test_routed_inference_is_compiled_and_its_chunks_are_counted() -> None:
    always, half = (np.array(shares) for shares in ((1.0, 0, 0), (0.5, 0.25, 0.25)))
    whole, part = check_inference(
        CONFIG, WANTED, [always, half], videos=4, num_frames=8, chunks=(8, 4)
    )
    trips = {(bound.network, bound.size): bound.trips for bound in whole.chunks}
    assert trips == {("32px", 8): 4, ("32px", 4): 0}
    assert [bound.trips for bound in part.chunks] == [2, 0]
    # Of 32 frames, 16 fewer see the backbone; nothing else changes.
    saved = whole.chip.work.flops - part.chip.work.flops
    large = next(bound for bound in whole.chunks if bound.size == 8)
    assert saved == pytest.approx(2 * large.work.flops)
    macs = 1e9 * CONFIG.build_method().networks()["32px"].gflops("macs")
    # Taps on padding are none here.
    assert 0.8 * macs < large.work.flops / 2 / 8 <= macs
    assert part.gflops_ratio < whole.gflops_ratio
    assert part.uniform == whole.uniform
    assert whole.chip.limit == CHIPS["v5e"].memory


@slow
def test_the_job_needs_nothing_set(tmp_path: Path) -> None:
    """In a process of its own, where the package is installed and no accelerator is there."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TPU_", "JAX_", "XLA_"))}
    job = ["benchmark", "--topology=v5e:1x1", "--configs=demo:uniform", f"--output={tmp_path}"]
    job += ["--config.model.backbone=resnet8_tiny", "--batch=1", "--num-frames=4"]
    result = subprocess.run(
        [sys.executable, "-m", "ar_net_jax", *job],
        env=env,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "routed inference of 1 videos x 4 frames" in result.stdout
    assert "Failed" not in result.stderr
    (row,) = json.loads((tmp_path / "topology.json").read_text())["results"]
    assert row["bound_seconds"] > 0 and row["chip"]["work"]["flops"] > 0
