"""The examples of every job's help: all are understood, and each is run on a small model.

Configs of the paper's sizes are replaced by `demo`, and that by networks that compile in a moment.
"""

import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from saved_models import save_random_model

from ar_net_jax.cli.main import JOBS, build_parser, main
from ar_net_jax.config.shipped import shipped_configs
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.experiment import load_config

# Other tests run these, or they need what a test has not.
ELSEWHERE = {
    "--coordinator": "several processes: test_distributed",
    "--beam-pipeline-options": "a Flink cluster; with one machine: test_prepare_beam",
    ".pth.tar": "released checkpoints: test_convert",
    "timm/": "the hub: test_weight_packages has a stand-in",
    "package:": "an installed package: test_weight_packages",
    ".onnx": "the extra onnx: test_export_onnx",
    "hf://": "the hub: test_hub has a stand-in",
    "arnet compare field": "minutes; tiny: test_compare",
    "arnet compare table": "minutes; tiny: test_compare",
    "arnet demo": "minutes; tiny: test_runs",
    "--config=activitynet --source-dir=FRAMES": "the paper's lists: test_official_files",
    "/dev/video0": "a camera",
    "rtsp:": "a stream: test_watch serves one",
    "--against-torch": "PyTorch: test_benchmark_training",
    "arnet doctor": "test_doctor",
    "arnet tune": "test_tune",
}
# Of the model, so that it compiles in a moment, and has as many choices as that of `demo`.
TINY = [
    "--config.model.resolutions=(32,24,16)",
    "--config.model.backbones=('resnet8_tiny','resnet8_tiny')",
    "--config.model.policy.resolution=16",
    "--config.model.policy.hidden_size=8",
]
SMALL_DATA = ["--config.data.num_frames=4", "--config.data.batch_size=2"]
MORE = {
    "train": ["--quiet", *TINY, *SMALL_DATA, "--config.stages.joint.epochs=1"],
    "benchmark": ["--quiet", "--quick", "--batch=2", "--num-frames=8", "--output=measured"],
    "benchmark-training": ["--quiet", "--repetitions=1", *TINY, *SMALL_DATA, "--only=steps"],
    "evaluate": ["--quiet"],
    "prepare": ["--quiet"],
}
MODEL = {
    "num_classes": 2,
    "resolutions": (24, 16),
    "backbones": ("resnet8_tiny",),
    "skips": (1, 4),
    "policy": {"backbone": "resnet8_tiny", "resolution": 16, "hidden_size": 8},
}
FAST = re.compile(r"arnet (costs|convert|prepare)|--print-config|arnet predict.* clip.mp4$")


def _examples() -> Iterator[str]:
    """The commands below `Examples:` in the help of each job."""
    for job in JOBS:
        text = importlib.import_module(f"ar_net_jax.cli.{job.replace('-', '_')}").__doc__ or ""
        below = text.partition("Examples:")[2].replace("\\\n", " ")
        yield from (" ".join(line.split()) for line in below.splitlines() if "arnet " in line)


EXAMPLES = list(_examples())
RUN = [e for e in EXAMPLES if not any(part in e for part in ELSEWHERE)]


def test_all_jobs_but_one_have_examples() -> None:
    """The demo's takes no more than its name."""
    jobs = {example.split()[1] for example in EXAMPLES}
    assert jobs == set(JOBS) - {"demo"} or jobs == set(JOBS)
    assert len(RUN) > 20


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_is_understood(example: str) -> None:
    words = shlex.split(example)[1:]
    flags, rest = build_parser(words[0]).parse_known_args(words)
    overrides = [word for word in rest if word.startswith("--config.")]
    assert rest == overrides
    config = getattr(flags, "config", None)
    if config and config.split(":")[0] in shipped_configs():
        load_config(config, overrides)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples name: a run, models, videos."""
    folder = tmp_path_factory.mktemp("world")
    frames = np.random.default_rng(0).integers(0, 255, (24, 32, 40, 3), np.uint8)
    write_video(folder / "clip.mp4", frames, fps=8, crf=30)
    for name in ("VIDEOS", "OTHER_VIDEOS", "frames"):
        for split in ("train", "validation", "test"):
            for label in "ab":
                (folder / name / split / label).mkdir(parents=True)
                for i in range(2):
                    shutil.copy(folder / "clip.mp4", folder / name / split / label / f"{i}.mp4")
    shutil.copy(folder / "clip.mp4", folder / "film.mp4")
    for place in ("videos/a.mp4", "more/b.mkv"):
        (folder / place).parent.mkdir()
        shutil.copy(folder / "clip.mp4", folder / place)
    (folder / "classes.txt").write_text("a\nb\n")
    data = {
        "name": "video_folder",
        "source_dir": str(folder / "VIDEOS"),
        "num_frames": 8,
        "eval_batch_size": 4,
        "num_threads": 1,
    }
    uniform = {"num_classes": 2, "resolution": 24, "backbone": "resnet8_tiny"}
    names = ["a", "b"]
    for place in ("run", "RUN", "models/ar_net", "arnet_demo/ar_net"):
        save_random_model(folder / place, MODEL, data=data, class_names=names)
    save_random_model(
        folder / "arnet_demo" / "uniform", uniform, method="uniform", data=data, class_names=names
    )
    return folder


def _small(example: str) -> list[str]:
    """The example's words, on small models."""
    words = shlex.split(re.sub(r"activitynet(:efficientnet)?\b", "demo", example))[1:]
    job = words[0]
    if "--print-config" in words or "--list" in words:
        return words
    words += MORE.get(job, [])
    if job == "benchmark" and "--configs" in example:
        words += TINY
    if job == "train" and "--dry-run" not in words:
        # A finished run would have nothing left to do.
        new = f"--workdir=new{EXAMPLES.index(example)}"
        words = [new if word.startswith("--workdir=") else word for word in words]
        words += ["--config.data.name=video_folder", "--config.stage_order=('joint',)"]
        if not any(word.startswith("--config.data.source_dir") for word in words):
            words.append("--config.data.source_dir=VIDEOS")
    if job == "costs" and "--usage" in example and "demo" in words[1]:
        # One choice less than the paper's.
        words = [re.sub(r"(--usage=[\d.,]+),([\d.]+),[\d.]+$", r"\1,\2", word) for word in words]
        words = [
            word.replace("0.2,0.1,0.1,0.2,0.1,0.1", "0.3,0.1,0.2,0.2,0.1,0.1") for word in words
        ]
    return words


@pytest.mark.parametrize(
    "example",
    [e if FAST.search(e) else pytest.param(e, marks=pytest.mark.slow) for e in RUN],
)
def test_it_runs(example: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    main(_small(example))
