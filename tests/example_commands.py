"""Commands of help and documentation, made small enough to be run: on tiny networks, in a folder.

Configs of the paper's sizes are replaced by `demo`, and that by networks that compile in a moment.
"""

import importlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
from saved_models import AR_NET, UNIFORM, save_random_model

from ar_net_jax.cli.main import JOBS
from ar_net_jax.data.embedded.builder import write_video

_ROOT = Path(__file__).parents[1]
PAGES = [_ROOT / "README.md", _ROOT / "CONTRIBUTING.md", *sorted((_ROOT / "docs").glob("*.md"))]
# Other tests run these, or they need what a test has not.
ELSEWHERE = {
    "--coordinator": "several processes: test_distributed",
    "--beam-pipeline-options": "a Flink cluster; with one machine: test_prepare_beam",
    ".pth.tar": "released checkpoints: test_convert",
    "timm/": "the hub: test_weight_packages has a stand-in",
    "package:": "an installed package: test_weight_packages",
    "packaged": "an installed package: test_packaged_start",
    ":imagenet": "the hub: test_imagenet",
    ".onnx": "the extra onnx: test_export_onnx",
    "hf://": "the hub: test_hub has a stand-in",
    "arnet compare field": "minutes; tiny: test_compare",
    "arnet compare table": "minutes; tiny: test_compare",
    "arnet demo": "minutes; tiny: test_runs",
    "--config=activitynet --source-dir=FRAMES": "the paper's lists: test_official_files",
    "/dev/video0": "a camera",
    "rtsp:": "a stream: test_watch serves one",
    "tcp:": "a stream: test_watch serves one",
    "--against-torch": "PyTorch: test_benchmark_training",
    "--topology": "the extra tpu: test_topology_compiled",
    "--suite=device": "minutes; tiny: test_device_suite",
    "my_method.py": "a user's code: test_own_method",
    "--plan=plan.json": "a measured plan: test_tune",
    "arnet doctor": "test_doctor",
    "arnet tune": "test_tune",
}
FAST = re.compile(r"arnet (costs|convert|prepare)|--print-config|arnet predict.* clip.mp4$")
# Of the model, so that it compiles in a moment, and has as many choices as that of `demo`.
TINY = [
    "--config.model.resolutions=(32,24,16)",
    "--config.model.backbones=('resnet8_tiny','resnet8_tiny')",
    "--config.model.policy.resolution=16",
    "--config.model.policy.hidden_size=8",
]
_SMALL_DATA = ["--config.data.num_frames=4", "--config.data.batch_size=2"]
_MORE = {
    "train": ["--quiet", *TINY, *_SMALL_DATA, "--config.stages.joint.epochs=1"],
    "benchmark": ["--quiet", "--quick", "--batch=2", "--num-frames=8", "--output=measured"],
    "benchmark-training": ["--quiet", "--repetitions=1", *TINY, *_SMALL_DATA, "--only=steps"],
    "evaluate": ["--quiet"],
    "prepare": ["--quiet"],
}


def page_commands() -> list[str]:
    """Every command of the pages' shell blocks, one a line, assignments before it left out."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found += [part.strip() for part in line.split("&&")]
    return [line for line in dict.fromkeys(found) if line]


def words_of(command: str) -> list[str]:
    """Its words, without the comment behind it and dots for more."""
    return [word for word in shlex.split(command, comments=True) if word not in ("...", "…")]


def help_examples() -> list[str]:
    """The commands below `Examples:` in the help of each job."""
    found = []
    for job in JOBS:
        text = importlib.import_module(f"ar_net_jax.cli.{job.replace('-', '_')}").__doc__ or ""
        below = text.partition("Examples:")[2].replace("\\\n", " ")
        found += [" ".join(line.split()) for line in below.splitlines() if "arnet " in line]
    return found


def is_run_here(command: str) -> bool:
    """Whether nothing of `ELSEWHERE` is in a command."""
    return not any(part in command for part in ELSEWHERE)


def make_world(folder: Path) -> None:
    """Makes what the commands name: runs, models, videos."""
    frames = np.random.default_rng(0).integers(0, 255, (24, 32, 40, 3), np.uint8)
    write_video(folder / "clip.mp4", frames, fps=8, crf=30)
    for name in ("VIDEOS", "OTHER_VIDEOS", "frames", "FRAMES"):
        for split in ("train", "validation", "test"):
            for label in "ab":
                (folder / name / split / label).mkdir(parents=True)
                for i in range(2):
                    shutil.copy(folder / "clip.mp4", folder / name / split / label / f"{i}.mp4")
    for place in ("film.mp4", "other.mkv", "videos/a.mp4", "more/b.mkv"):
        (folder / place).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "clip.mp4", folder / place)
    (folder / "classes.txt").write_text("a\nb\n")
    data = {
        "name": "video_folder",
        "source_dir": str(folder / "VIDEOS"),
        "num_frames": 8,
        "eval_batch_size": 4,
        "num_threads": 1,
    }
    ar_net, uniform = ({**model, "num_classes": 2} for model in (AR_NET, UNIFORM))
    names = ["a", "b"]
    for place in ("run", "RUN", "models/ar_net", "arnet_demo/ar_net"):
        save_random_model(folder / place, ar_net, data=data, class_names=names)
    for place in ("arnet_demo/uniform", "UNIFORM_RUN"):
        save_random_model(folder / place, uniform, method="uniform", data=data, class_names=names)


def small(command: str, new: Path) -> list[str]:
    """The command's words after `arnet`, on small models.

    Args:
        command: that starts with `arnet`.
        new: where a training may begin.
    """
    words = words_of(re.sub(r"activitynet(:efficientnet)?\b", "demo", command))[1:]
    job = words[0]
    if "--print-config" in words or "--list" in words:
        return words
    words += _MORE.get(job, [])
    if job == "benchmark" and "--configs" in command:
        words += TINY
    if job == "train" and "--dry-run" not in words:
        # A finished run would have nothing left to do.
        words = [f"--workdir={new}" if word.startswith("--workdir=") else word for word in words]
        words += ["--config.data.name=video_folder", "--config.stage_order=('joint',)"]
        if not any(word.startswith("--config.data.source_dir") for word in words):
            words.append("--config.data.source_dir=VIDEOS")
    if job == "costs":
        choices = 6 if "--config=demo" in words else 4
        words = [_usage_of(choices, word) for word in words]
    return words


def _usage_of(choices: int, word: str) -> str:
    """An imposed usage, of as many choices as the small model has; other words stay."""
    flag, _, given = word.partition("=")
    if flag != "--usage" or "," not in given:
        return word
    kept = given.split(",")[:choices]
    if "." in given:
        # Shares have to sum to 1; without a point they are frames.
        kept[-1] = f"{1 - sum(map(float, kept[:-1])):.6g}"
    return f"{flag}={','.join(kept)}"
