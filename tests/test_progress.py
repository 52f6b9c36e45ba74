"""What a training reports: throughput, lines, TensorBoard, profile, compiled programs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tensorboardX.proto import event_pb2

from ar_net_jax.data import registry
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.errors import UserError
from ar_net_jax.training.nan_guard import NaNGuard
from ar_net_jax.training.profiling import StepProfile, parse_span
from ar_net_jax.training.progress import Throughput


class Clock:
    """Time that passes when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Batches:
    """An iterator whose `next` takes `seconds`."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def __next__(self) -> int:
        self.clock.now += self.seconds
        return 0


class Busy(NaNGuard):
    """Devices that always have something to do."""

    def idle(self) -> bool:
        """Never."""
        return False


def test_throughput_counts_steps_waiting_and_what_is_left() -> None:
    clock = Clock()
    throughput = Throughput(frames_per_step=64, last_step=40, clock=clock)
    assert throughput.rates(1) == {}, "the first step compiles"
    clock.now += 500
    throughput.resume(1)
    for _ in range(4):
        throughput.next_batch(Batches(clock, 0.5), NaNGuard())
        clock.now += 1.5
    rates = throughput.rates(5)
    assert rates["frames_per_second"] == pytest.approx(4 * 64 / 8)
    assert rates["frames_per_second_per_device"] == rates["frames_per_second"]
    assert rates["data_wait"] == pytest.approx(0.25)
    assert rates["seconds_left"] == pytest.approx(35 * 2)
    # An evaluation counts for what is left, not for the rate of the steps.
    clock.now += 12
    throughput.resume(5)
    throughput.next_batch(Batches(clock, 2), Busy())
    rates = throughput.rates(6)
    assert rates["frames_per_second"] == pytest.approx(32)
    assert rates["data_wait"] == 0, "the devices were at work meanwhile"
    assert rates["seconds_left"] == pytest.approx(34 * (8 + 12 + 2) / 5)


@pytest.mark.parametrize("text", ["", "3", "0:2", "4:3", "a:b", "1:2:3"])
def test_a_span_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="such as 10:12"):
        parse_span(text)


def test_a_profile_holds_the_chosen_steps(tmp_path: Path) -> None:
    @jax.jit
    def profiled_step(x: jax.Array) -> jax.Array:
        return jnp.sin(x) @ x

    x = profiled_step(jnp.ones((64, 64)))
    profile = StepProfile((2, 3), tmp_path)
    for step in range(1, 6):
        profile.before(step)
        with jax.profiler.StepTraceAnnotation("step", step_num=step):
            x = profiled_step(x)
        profile.after(step, x)
    (path,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    events = [event for plane in planes for line in plane.lines for event in line.events]
    steps = {dict(event.stats).get("step_num") for event in events if event.name == "step"}
    assert steps == {2, 3}


SMALL = {
    "model": {
        "num_classes": 3,
        "resolutions": (16,),
        "backbones": (),
        "skips": (1,),
        "policy": {"backbone": "resnet8_tiny", "resolution": 16, "hidden_size": 8},
    },
    "data": {"num_frames": 2, "batch_size": 4, "eval_batch_size": 5, "num_threads": 1},
    "stage_order": ("joint",),
    "stages": {"joint": {"epochs": 2, "learning_rate": 0.01}},
    "log_every": 3,
}
PROGRAM = """
import json, sys
from pathlib import Path
from ar_net_jax.experiment import Config
from ar_net_jax.data import registry
from ar_net_jax.runtime.compilation import keep_compiled_programs
from ar_net_jax.training.loop import train
from ar_net_jax.training.log import Reporting
config, data_dir, workdir = json.loads(sys.argv[1]), *map(Path, sys.argv[2:])
keep_compiled_programs(workdir.parent / "compiled")
splits = [
    registry.open_split("embedded", s, data_dir=data_dir) for s in ("train", "validation")
]
reporting = Reporting(lines=True, profile=(2, 3))
train(Config.from_dict(config), workdir, *splits, reporting=reporting)
"""


def _event_tags(folder: Path) -> set[str]:
    """The tags in TensorBoard's files: records of length, checksum, bytes, checksum."""
    tags = set()
    for path in folder.glob("events.*"):
        data, place = path.read_bytes(), 0
        while place < len(data):
            size = int.from_bytes(data[place : place + 8], "little")
            event = event_pb2.Event.FromString(data[place + 12 : place + 12 + size])
            tags |= {value.tag for value in event.summary.value}
            place += 16 + size
    return tags


def test_a_run_shows_lines_and_a_second_one_finds_its_programs_compiled(tmp_path: Path) -> None:
    spec = EmbeddedSpec(
        train=12, validation=5, test=1, num_classes=3, width=32, height=32, num_frames=48
    )
    registry.prepare("embedded", data_dir=tmp_path / "data", progress=False, spec=spec)
    outputs = []
    for name in ("one", "two"):
        arguments = [json.dumps(SMALL), str(tmp_path / "data"), str(tmp_path / name)]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    found = [
        re.search(r"joint: (\d+) of (\d+) compiled programs came from (.*)\n", output)
        for output in outputs
    ]
    assert found[0][3] == str(tmp_path / "compiled")
    assert int(found[0][1]) == 0 < int(found[1][1])
    assert re.search(
        r"joint 3/6 \| loss \S+ \(accuracy \S+, efficiency \S+, uniform \S+\) "
        r"\| usage 16px \d+%, skip 1 \d+% \| tau 5 \| lr 0\.01 \| \S+ frames/s \(\S+ a device\) "
        r"\| waiting for data \d+% \| 0:\d\d:\d\d left\n",
        outputs[0],
    )
    assert re.search(r"joint 3/6 \| validation mAP model \d+\.\d\d%", outputs[0])
    history = tmp_path / "one" / "history" / "0_joint"
    tags = _event_tags(history)
    # TensorBoard knows no spaces in names.
    shown = {
        "loss",
        "loss/accuracy",
        "usage/skip_1",
        "tau",
        "learning_rate",
        "validation_mAP/model",
    }
    speeds = ("frames_per_second", "frames_per_second_per_device", "data_wait", "seconds_left")
    assert {f"joint/{name}" for name in shown} <= tags
    assert {f"joint/speed/{name}" for name in speeds} <= tags
    assert list(history.glob("profile/plugins/profile/*/*.xplane.pb"))
