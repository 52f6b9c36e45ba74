"""Counting a compiled program's work: trips, operations, bytes by layout, what chips send."""

import dataclasses
import functools
import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ar_net_jax.cli.main import main
from ar_net_jax.costs import count_macs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference import described
from ar_net_jax.inference.described import ChunkBound, InferenceCheck, expected_loops
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig
from ar_net_jax.ops.routing import expected_trips, network_scope, run_selected
from ar_net_jax.topology import (
    CHIPS,
    CompiledProgram,
    Roofline,
    Slice,
    Work,
    count_work,
    parse_slice,
)
from ar_net_jax.topology.hlo import parse_hlo
from ar_net_jax.training import dry_run

# Six convolutions in a scan on 16 images of 56 x 56 x 64, compiled for one chip of v5e.
SCAN = (Path(__file__).parent / "golden" / "tpu_scan.hlo").read_text()
# What XLA said of that program: bytes accessed with the body once, and bytes of the arguments.
XLA_BYTES, XLA_ARGUMENTS = 115_759_616, 13_729_792


def _text(function: Callable[..., object], *shapes: tuple[int, ...]) -> str:
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().as_text()


def test_bytes_of_the_arguments_are_those_of_the_compiler() -> None:
    """64 channels fill 128 lanes, and nine matrices of 64 x 64 eight rows each time."""
    module = parse_hlo(SCAN)
    parameters = module[module.entry].parameters
    images, kernels = (each.shape[0].size for each in parameters)
    assert images == 16 * 56 * 56 * 128 * 2
    assert kernels == 6 * 9 * 64 * 128 * 2
    assert images + kernels == XLA_ARGUMENTS


def test_a_loop_counts_as_often_as_it_runs() -> None:
    program = count_work(SCAN)
    (loop,) = program.loops
    assert (loop.place, loop.trips, loop.known) == ("jit(scanned)/while", 6, True)
    # Of 3 x 3 taps, those on the border's padding are none: 3 * 56 - 2 along each axis.
    assert program.work.flops == 6 * 2 * 16 * (3 * 56 - 2) ** 2 * 64 * 64
    assert program.work.flops == 6 * loop.work.flops


def test_bytes_are_those_of_xla_where_the_body_counts_once() -> None:
    program = count_work(SCAN)
    body = program.loops[0].work
    once = program.work + body * -5.0
    # Scalars apart, which XLA counts where they lie in neither memory.
    assert once.bytes + once.on_chip == pytest.approx(XLA_BYTES, abs=20_000)
    # The image comes from and goes to HBM, the rest stays on the chip but for one kernel a trip.
    image, kernel = 16 * 56 * 56 * 128 * 2, 9 * 64 * 128 * 2
    assert program.work.bytes == pytest.approx(2 * image + 6 * kernel, abs=20_000)


def _nested(x: jax.Array) -> jax.Array:
    def inner(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jnp.tanh(x @ x), None

    def outer(number: jax.Array, x: jax.Array) -> jax.Array:
        return lax.scan(inner, x, None, length=3)[0] + number

    return lax.fori_loop(2, 12, outer, x)


def test_nested_loops_multiply() -> None:
    work = count_work(_text(_nested, (8, 8))).work
    assert work.flops == 10 * 3 * 2 * 8**3


def test_a_convolution_and_its_gradients_count_as_the_traced_program() -> None:
    def loss(kernel: jax.Array, x: jax.Array) -> jax.Array:
        found = lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.sum(found**2)

    gradients = jax.grad(loss, argnums=(0, 1))
    shapes = (3, 3, 4, 8), (2, 9, 9, 4)
    counted = count_macs(gradients, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))
    found = count_work(_text(gradients, *shapes)).work.flops
    forward = 2 * 2 * 7 * 7 * 9 * 4 * 8
    assert found == 3 * forward
    # The traced count has the input's gradient with its zeros.
    assert forward < found <= 2 * counted


def test_strides_padding_and_groups() -> None:
    text = _text(
        functools.partial(
            lax.conv_general_dilated,
            window_strides=(2, 2),
            padding=((1, 1), (0, 0)),
            feature_group_count=2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        (1, 6, 5, 4),
        (3, 3, 2, 6),
    )
    # Rows start at -1, 1, 3 and meet 2, 3, 3 pixels; columns at 0, 2 and meet 3 each.
    assert count_work(text).work.flops == 2 * (2 + 3 + 3) * (3 + 3) * 2 * 6


@pytest.mark.parametrize("selected", [0, 1, 5, 6, 7, 13, 20])
def test_chunks_of_chosen_frames_run_as_often_as_expected(selected: int) -> None:
    chunks, total = (8, 2), 20
    chosen = jnp.arange(total) < selected

    def run(frames: jax.Array, chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
        return run_selected(lambda x: x @ jnp.ones((4, 4)), frames, chosen, chunks)

    computed = int(run(jnp.ones((total, 4)), chosen)[1])
    assert sum(size * trips for size, trips in expected_trips(selected, chunks).items()) == computed


def test_trips_that_depend_on_data_are_those_of_a_usage() -> None:
    method = ARNet(ARNetConfig(num_classes=3, resolutions=(32, 16), backbones=("resnet8_tiny",)))
    usage = np.zeros(len(method.choices))
    usage[:2] = 0.5
    trips_of = expected_loops(method, usage, 4, 10, {"32px": (8, 2)})

    def run(frames: jax.Array, weights: jax.Array) -> jax.Array:
        chosen = frames[:, 0] > 0
        with network_scope("32px"):
            return run_selected(lambda x: x @ weights, frames, chosen, (8, 2))[0]

    text = _text(run, (40, 16), (16, 16))
    chosen = count_work(text, trips_of)
    # 20 of 40 frames: two chunks of eight, two of two.
    assert [loop.trips for loop in chosen.loops if loop.work.flops] == [2, 2]
    assert chosen.work.flops == 20 * 2 * 16 * 16
    once = count_work(text)
    assert once.work.flops == (8 + 2) * 2 * 16 * 16
    assert [loop.known for loop in once.loops if loop.work.flops] == [False, False]


@pytest.mark.parametrize(
    "groups", ["{{0,1,2,3},{4,5,6,7}}", "[2,4]<=[8]", "mesh['a'=4,'b'=2] {'a'}"]
)
def test_what_a_chip_sends_in_groups_of_four(groups: str) -> None:
    text = f"""HloModule sums

%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}}

ENTRY %main (x: f32[1000]) -> f32[4000] {{
  %x = f32[1000]{{0}} parameter(0)
  %reduced = f32[1000]{{0}} all-reduce(%x), replica_groups={groups}, to_apply=%add
  ROOT %all = f32[4000]{{0}} all-gather(%reduced), replica_groups={groups}, dimensions={{0}}
}}
"""
    work = count_work(text).work
    assert work.collectives == {"all-reduce": 1, "all-gather": 1}
    # Round a ring of four: three quarters to add, three quarters to tell; then three parts.
    assert work.sent == 4000 * 2 * 3 / 4 + 4000 * 3
    # Each reads its operand and writes its result.
    assert work.bytes == 4000 + 4000 + 4000 + 16000


def test_the_largest_time_binds() -> None:
    chip = dataclasses.replace(CHIPS["v5e"], flops=10.0, bandwidth=4.0, network=2.0)
    assert Roofline.of(Work(flops=30, bytes=4), chip).binds == "arithmetic"
    memory = Roofline.of(Work(flops=30, bytes=16, sent=2), chip)
    assert (memory.seconds, memory.binds) == (4.0, "memory")
    assert Roofline.of(Work(sent=9), chip).binds == "network"


MEMORY = types.SimpleNamespace(
    argument_size_in_bytes=XLA_ARGUMENTS,
    output_size_in_bytes=30,
    alias_size_in_bytes=20,
    temp_size_in_bytes=3 * 2**30,
    generated_code_size_in_bytes=0,
)
SCANNED = CompiledProgram(SCAN, MEMORY, seconds=7.0).check(CHIPS["v5e"], lambda place: None)


def test_memory_of_a_program_is_all_that_it_holds() -> None:
    assert SCANNED.needed == XLA_ARGUMENTS + 3 * 2**30 + 10
    assert SCANNED.limit == 16 * 2**30 and SCANNED.counted_once == 0
    # 21.7 GFLOP take longer than 27 MB.
    assert SCANNED.roofline.seconds == SCANNED.work.flops / 197e12
    assert SCANNED.roofline.memory == SCANNED.work.bytes / 819e9


def test_a_dry_run_prints_stages_and_inference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = dataclasses.replace(SCANNED.loops[0], known=False)
    asked = []

    def describe_stage(config: Config, index: int, wanted: Slice) -> dry_run.DescribedStage:
        asked.append((config.stage_order[index], wanted.name))
        check = dataclasses.replace(SCANNED, loops=(unknown,))
        return dry_run.DescribedStage(config.stage_order[index], 2**30, check)

    chunk = ChunkBound("48px", 64, 2, SCANNED.work, SCANNED.roofline)
    inference = InferenceCheck(
        "AR-Net", 32, 8, {"48px": 0.5, "skip 1": 0.5}, SCANNED, (chunk,), 1e-3, 0.5
    )
    monkeypatch.setattr(dry_run, "describe_stage", describe_stage)
    monkeypatch.setattr(described, "check_inference", lambda config, wanted: [inference])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    main(["train", "--config=demo", "--dry-run", "--topology=v5e:4x4"])
    told, meanwhile = capsys.readouterr()
    assert asked == [(name, "v5e:4x4") for name in ("warmup", "joint", "finetune")]
    assert meanwhile.count("needs 4.01 of 16 GiB a chip, moves ") == 3
    for line in ("4.01 of 16", "16 chips", "finetune: 1 loops run as often as the data says"):
        assert line in told
    # 0.11 ms of 1 ms, at half of the GFLOPs.
    assert "bound 0.110 of the largest network's on every frame, at 0.500 of its GFLOPs" in told
    assert "at best 1.78 of the saving is realised" in told


@pytest.mark.parametrize("name", CHIPS)
def test_every_chip_has_its_axes(name: str) -> None:
    shape = (2, 2, 1)[: CHIPS[name].axes]
    wanted = parse_slice(f"{name}:{'x'.join(map(str, shape))}")
    assert wanted.size == 4 and wanted.host == wanted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v9:2x2", "give v4:AxAxA, v5e:AxA, v5p:AxAxA, v6e:AxA"),
        ("v5e", "not a known topology"),
        ("v5e:2x", "not a known topology"),
        ("v5e:0x2", "not a known topology"),
        ("v5e:2x2x2", "v5e has 2 axes"),
        ("v5p:2x2", "as in v5p:2x2x2"),
        ("v5e:2x3", "multiples of 2"),
    ],
)
def test_unknown_topologies_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_slice(name)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "--config=demo", "--workdir=x", "--topology=v5e:2x2"], "give --dry-run too"),
        (["train", "--config=demo", "--dry-run", "--topology=v7:2x2"], "give v4:AxAxA"),
        (["benchmark", "--checkpoints=x", "--topology=v5e:1x1"], "leave out --checkpoints"),
        (
            ["train", "--config=demo:uniform", "--dry-run", "--topology=v5e:2x2"],
            r"needs 'libtpu' .*pip install 'ar_net_jax\[tpu\]'",
        ),
        (
            ["benchmark", "--configs=demo:uniform", "--topology=v5e:1x1"],
            r"needs 'libtpu' .*pip install 'ar_net_jax\[tpu\]'",
        ),
    ],
)
def test_what_cannot_be_described_is_one_line(
    argv: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "libtpu", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # It is prepared for the compiler.
    with pytest.raises(SystemExit):
        main(argv)
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, told), told
