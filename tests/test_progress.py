"""What a training reports: throughput, lines, TensorBoard, profile, compiled programs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from ar_net_jax.data import registry
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.errors import UserError
from ar_net_jax.training.nan_guard import NaNGuard
from ar_net_jax.training.parts import tell_taken
from ar_net_jax.training.profiling import StepProfile, parse_span
from ar_net_jax.training.progress import Throughput, folded
from ar_net_jax.training.usage_watch import UsageWatch


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


def test_a_collapse_is_said_once_until_it_is_over() -> None:
    watch = UsageWatch()
    told = [watch.look({"32px": share, "skip 1": 1 - share}) for share in (0.6, 0.995, 1, 0.5, 0)]
    assert [line is not None for line in told] == [False, True, False, False, True]
    assert "100% of the frames get 'skip 1'" in str(told[-1])
    assert watch.look({}) is None and watch.look({"all": 1.0}) is None


def test_lines_are_folded_between_fields_and_words_stay_whole() -> None:
    fields = [
        "joint 20/100",
        "usage " + ", ".join(f"skip {i} 5%" for i in range(20)),
        "/" + 120 * "x",
    ]
    lines = folded(" | ".join(fields)).splitlines()
    assert max(map(len, lines[:-1])) <= 100 and lines[-1].strip() == fields[-1]
    assert " ".join(" ".join(lines).split()) == " | ".join(fields)
    assert folded("short | line") == "short | line"


def test_what_a_start_does_not_give_is_told() -> None:
    here = {"params": {"head": np.zeros((4, 3)), "conv": np.zeros(2), "policy": np.zeros(1)}}
    there = {"params": {"head": np.zeros((4, 5)), "conv": np.zeros(2)}}
    assert tell_taken(here, there, "run") == (
        "init_from run: 1 of 3 arrays taken over; anew start, of another shape params/head (there "
        "(4, 5), here (4, 3)); not there params/policy"
    )
    assert tell_taken(there, there, "run") is None


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
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    for name in ("one", "two"):
        arguments = [json.dumps(SMALL), str(tmp_path / "data"), str(tmp_path / name)]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        words = done.stdout.split("\n    ")
        assert all(len(line) <= 100 or "/" in line for line in done.stdout.splitlines())
        outputs.append(" ".join(words))
    for what in ("what draws its first variables", "the training step", "the evaluation"):
        assert f"joint: compiling {what}\n" in outputs[0]
    found = [
        re.search(
            r"joint: first step after \d+ s; (\d+) of (\d+) compiled programs came from (.*)\n",
            output,
        )
        for output in outputs
    ]
    assert found[0][3] == str(tmp_path / "compiled")
    assert int(found[0][1]) == 0 < int(found[1][1])
    assert re.search(
        r"joint 3/6 \| loss \S+ \(accuracy \S+, efficiency \S+, uniform \S+\) "
        r"\| usage 16px \d+%, skip 1 \d+% \| tau 5 \| lr 0\.01 \| \S+ frames/s "
        r"\| waiting for data \d+% \| 0:\d\d:\d\d left\n",
        outputs[0],
    )
    assert re.search(
        r"joint 3/6 \| validation mAP model \d+\.\d\d% \| usage 16px \d+%, skip 1 \d+%\n",
        outputs[0],
    )
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
