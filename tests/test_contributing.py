"""The worked examples of CONTRIBUTING.md: each is written to a file and used as a user would.

The method and the backbone go through every job by the command line's own functions; the long form
of that, on two processes of two devices too, is in `test_own_method.py`.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ar_net_jax.cli.main import main
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.embedded.plan import EmbeddedSpec

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", TEXT, flags=re.S))
LONGEST = {"middle.py": 80, "plain.py": 60, "entropy.py": 60, "clips.py": 60}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few embedded videos, prepared once."""
    folder = tmp_path_factory.mktemp("embedded")
    spec = EmbeddedSpec(train=8, validation=4, test=4, width=32, height=32)
    registry.prepare("embedded", data_dir=folder, source_dir=None, progress=False, spec=spec)
    return folder


def _write(name: str, folder: Path) -> Path:
    path = folder / name
    path.write_text(EXAMPLES[name])
    return path


def _metrics(run: Path) -> list[dict[str, float]]:
    lines = next(run.glob("history/*/metrics.jsonl")).read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", LONGEST)
def test_the_examples_are_as_short_as_promised(name: str) -> None:
    assert len(EXAMPLES[name].splitlines()) <= LONGEST[name]


# Without optimisation, as tests compile, a step on the example's own sizes takes half a minute.
SMALLER = "--config.model.resolution=16"
SMALL = [SMALLER, "--config.model.backbone=resnet8_tiny"]
METHOD_AND_BACKBONE = {"middle.py": SMALL, "plain.py": [SMALLER]}


@pytest.mark.parametrize("name", METHOD_AND_BACKBONE)
def test_a_method_and_a_backbone_of_ones_own(
    name: str, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = _write(name, tmp_path), tmp_path / "run"
    config = [f"--config={file}", f"--config.data.data_dir={data_dir}", *METHOD_AND_BACKBONE[name]]
    main(["train", *config, f"--workdir={run}", "--quiet"])
    recorded = json.loads((run / "model" / "config.json").read_text())
    assert recorded["code"]["file"] == str(file)
    main(["evaluate", f"--workdir={run}", f"--method={file}", "--quiet"])
    row = json.loads((run / "evaluation_test.json").read_text())["results"][0]
    assert 0 <= row["mAP"] <= 100 and row["gflops_per_video"] > 0
    main(["costs", f"--workdir={run}", f"--method={file}", f"--json={tmp_path / 'costs.json'}"])
    # With the same code at hand, the same command finds nothing left to do.
    main(["train", *config, f"--workdir={run}", "--quiet"])
    assert "trained model" in capsys.readouterr().out


def test_a_loss_of_ones_own(tmp_path: Path, data_dir: Path) -> None:
    file, run = _write("entropy.py", tmp_path), tmp_path / "run"
    flags = [f"--config={file}", f"--config.data.data_dir={data_dir}", f"--workdir={run}"]
    main(["train", *flags, *SMALL, "--config.log_every=1", "--quiet"])
    steps = [line for line in _metrics(run) if "loss/entropy" in line]
    assert steps
    for step in steps:
        total = step["loss/accuracy"] + 0.1 * step["loss/entropy"]
        assert step["loss"] == pytest.approx(total, rel=1e-5)
        assert 0 <= step["loss/entropy"] <= np.log(10) + 1e-6


def test_a_data_set_of_ones_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        (tmp_path / "clips" / split).mkdir(parents=True)
        for name in ("run_1", "run_2", "walk_1", "walk_2"):
            frames = rng.integers(0, 256, (6, 48, 48, 3), np.uint8)
            write_video(tmp_path / "clips" / split / f"{name}.mp4", frames, fps=5, crf=30)
    file, run = _write("clips.py", tmp_path), tmp_path / "run"
    flags = [f"--config={file}", f"--config.data.source_dir={tmp_path / 'clips'}"]
    main(["train", *flags, *SMALL, f"--workdir={run}", "--quiet"])
    assert registry.class_names("clips", data_dir=run / "data") == ["run", "walk"]
