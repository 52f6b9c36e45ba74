"""What goes wrong while training is said in one line, and the last good checkpoint stays."""

import dataclasses
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.checkpoints import Checkpoints
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.source import VideoExample, VideoSource
from ar_net_jax.errors import Preempted, StoppedByUser, UserError
from ar_net_jax.experiment import Config
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.runtime.preemption import Interrupted, PreemptionHandler
from ar_net_jax.training.log import Reporting
from ar_net_jax.training.loop import train
from ar_net_jax.training.nan_guard import NaNGuard, all_finite
from ar_net_jax.training.validation import Validation
from ar_net_jax.training.writers import ScalarWriter

SPEC = EmbeddedSpec(
    train=12, validation=5, test=1, num_classes=3, width=32, height=32, num_frames=48
)
CONFIG = Config.from_dict(
    {
        "method": "uniform",
        "model": {"num_classes": 3, "resolution": 16, "backbone": "resnet8_tiny"},
        "data": {"num_frames": 2, "batch_size": 4, "eval_batch_size": 5, "num_threads": 1},
        "stage_order": ("joint",),
        "stages": {"joint": {"epochs": 4, "learning_rate": 0.01}},
        "log_every": 3,
        "checkpoint_every_steps": 2,
    }
)


class Source:
    """A split whose examples a test may spoil."""

    def __init__(self, source: VideoSource) -> None:
        self.split, self.max_labels = source.split, source.max_labels
        self.class_names, self.identity = source.class_names, source.identity
        self.examples = [source[i] for i in range(len(source))]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> VideoExample:
        return self.examples[index]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    registry.prepare("embedded", data_dir=directory, progress=False, spec=SPEC)
    return directory


@pytest.fixture
def splits(data_dir: Path) -> tuple[Source, Source]:
    return tuple(
        Source(registry.open_split("embedded", split, data_dir=data_dir))
        for split in ("train", "validation")
    )


def _saved(workdir: Path) -> list[int]:
    folder = workdir / "checkpoints" / "joint"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_a_batch_that_gives_nan_stops_with_step_and_last_good_checkpoint(
    tmp_path: Path, splits: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, steps = devices.put_batch, []

    def poison(batch: dict[str, np.ndarray], mesh: Any) -> Any:
        if "epoch" in batch and batch["mask"].all() and len(batch["mask"]) == 4:
            steps.append(len(steps) + 1)
            if steps[-1] == 5:
                # There is no such class, and the cross-entropy of none is NaN.
                batch = {**batch, "labels": np.full_like(batch["labels"], 1000)}
        return put(batch, mesh)

    monkeypatch.setattr(devices, "put_batch", poison)
    with pytest.raises(UserError) as caught:
        train(CONFIG, tmp_path, *splits, progress=False)
    message = str(caught.value)
    assert message.startswith("stage 'joint', step 5: the loss is nan")
    assert "learning rate 0.01" in message
    assert f"(step 4 in {tmp_path / 'checkpoints' / 'joint'})" in message
    assert _saved(tmp_path) == [3, 4], "4 is good, and 6 was never saved"
    # Once the cause is gone, the same call goes on.
    monkeypatch.setattr(devices, "put_batch", put)
    train(CONFIG, tmp_path, *splits, progress=False)


def test_numbers_that_are_not_finite_are_never_saved() -> None:
    good = {"a": jnp.ones(3), "step": jnp.int32(3)}
    assert all_finite(good)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not all_finite({**good, "b": jnp.array([0.0, bad])})


def test_the_first_bad_loss_is_found_among_many() -> None:
    guard = NaNGuard()
    assert guard.first_nonfinite() is None and guard.idle()
    for step, loss in enumerate([1.0, 2.0, np.inf, np.nan, 1.0], start=10):
        guard.add(step, jnp.float32(loss))
    assert guard.first_nonfinite() == (12, np.inf)
    assert guard.first_nonfinite() is None, "each loss is looked at once"


def test_a_damaged_video_is_named_and_may_be_mended(
    tmp_path: Path, splits: tuple[Source, Source]
) -> None:
    whole = splits[0].examples[7]
    splits[0].examples[7] = {**whole, "frames": [b"not a picture"] * len(whole["frames"])}
    with pytest.raises(UserError, match=rf"video '{whole['name']}' \(example 7\): a stored frame"):
        train(CONFIG, tmp_path, *splits, progress=False)
    splits[0].examples[7] = whole
    train(CONFIG, tmp_path, *splits, progress=False)


def test_other_videos_than_before_are_refused(
    tmp_path: Path, splits: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Validation, "scores", _raise_stop)
        with pytest.raises(Stop):
            train(CONFIG, tmp_path, *splits, progress=False)
    splits[0].examples.pop()
    with pytest.raises(UserError, match=r"not those .* \(12 then, 11 now\)"):
        train(CONFIG, tmp_path, *splits, progress=False)


class Stop(Exception):
    """Ends a training at a moment of the test's choice."""


def _raise_stop(*_: Any) -> None:
    raise Stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_order_to_stop_is_taken_back_with_its_handler(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with PreemptionHandler() as handler:
        assert not handler.requested()
        signal.raise_signal(number)
        assert handler.requested()
        with pytest.raises(Interrupted):
            next(handler.interruptible([1]))
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_stops_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with PreemptionHandler():
        signal.raise_signal(signal.SIGINT)
        assert "Ctrl-C once more stops at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_told_to_stop_in_an_evaluation_it_evaluates_when_it_goes_on(
    tmp_path: Path,
    splits: tuple[Source, Source],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = Validation.scores
    for number, kind, told in (
        (signal.SIGTERM, Preempted, "told to stop; stage 'joint' is saved at step 3 of 12"),
        (signal.SIGINT, StoppedByUser, "stopped; stage 'joint' is saved at step 3 of 12"),
    ):

        def tell(
            self: Validation, variables: Any, watch: Any, number: signal.Signals = number
        ) -> dict[str, float]:
            signal.raise_signal(number)
            return scores(self, variables, watch)

        with monkeypatch.context() as patch:
            patch.setattr(Validation, "scores", tell)
            with pytest.raises(kind, match=f"^{told}"):
                train(CONFIG, tmp_path / "told", *splits, progress=False)
    capsys.readouterr()
    for name in ("told", "whole"):
        reporting = Reporting(lines=True)
        train(CONFIG, tmp_path / name, *splits, progress=False, reporting=reporting)
        goes_on = "goes on: joint, step 4 of 12\n" in capsys.readouterr().out
        assert goes_on == (name == "told")
    histories = [
        (tmp_path / name / "history" / "0_joint" / "metrics.jsonl").read_text()
        for name in ("told", "whole")
    ]
    assert histories[0] == histories[1]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 20 kB, as on a disk that is full; one kernel alone is larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _noise(seed: int) -> dict[str, Any]:
    return {"w": jnp.asarray(np.random.default_rng(seed).random(200_000, np.float32))}


def test_a_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, _noise(1))
        checkpoints.wait()
        request.getfixturevalue("small_files")
        with pytest.raises(UserError) as caught:
            checkpoints.save(2, _noise(2))
            checkpoints.wait()
        message = str(caught.value)
        assert "could not be written (File too large" in message
        assert f"kept (step 1 in {tmp_path})" in message and "run the same command" in message
    with Checkpoints(tmp_path) as checkpoints:
        np.testing.assert_array_equal(checkpoints.restore_latest(_noise(0))[0]["w"], _noise(1)["w"])


@pytest.mark.usefixtures("small_files")
def test_tensorboards_file_ends_where_the_disk_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with ScalarWriter(tmp_path) as writer:
        for step in range(1000):
            writer.write_events(step, {"frames_per_second": 1.0}, stage="joint")
    (told,) = [record.message for record in caplog.records]
    assert "TensorBoard's file ends here (File too large)" in told
    assert "Traceback" not in capfd.readouterr().err
    (events,) = tmp_path.glob("events.*")
    assert 0 < events.stat().st_size <= 20_000


def test_a_training_on_a_full_disk_says_so(
    tmp_path: Path, splits: tuple[Source, Source], request: pytest.FixtureRequest
) -> None:
    config = dataclasses.replace(CONFIG, checkpoint_every_steps=0)
    request.getfixturevalue("small_files")
    with pytest.raises(UserError, match=r"could not be written \(File too large.*no checkpoint"):
        train(config, tmp_path, *splits, progress=False)
