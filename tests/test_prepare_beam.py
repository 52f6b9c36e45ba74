"""Preparation as a Beam pipeline, where Beam is installed."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from ar_net_jax.data import registry
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.storing.beam import pipeline_options, write_with_beam
from ar_net_jax.errors import UserError

TWO_WORKERS = "runner=DirectRunner,direct_num_workers=2,direct_running_mode=multi_processing"


def _contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos, one of them broken."""
    root = tmp_path_factory.mktemp("videos")
    for split, name in (("train", "run"), ("train", "walk"), ("test", "run")):
        (root / split / name).mkdir(parents=True)
        for i in range(3):
            frames = np.full((12, 48, 64, 3), 50 * i, np.uint8)
            write_video(root / split / name / f"{i}.mp4", frames, fps=4, crf=20)
    (root / "train" / "walk" / "1.mp4").write_bytes(b"not a video")
    return root


@pytest.mark.parametrize("options", ["runner=DirectRunner", TWO_WORKERS])
def test_it_writes_what_a_local_preparation_does(
    source: Path, tmp_path: Path, options: str
) -> None:
    pytest.importorskip("apache_beam")
    common = {"source_dir": source, "max_bad_share": 0.2, "progress": False}
    registry.prepare("video_folder", data_dir=tmp_path / "local", **common)
    write = write_with_beam(pipeline_options(options))
    registry.prepare("video_folder", data_dir=tmp_path / "beam", write=write, **common)
    assert _contents(tmp_path / "local") == _contents(tmp_path / "beam")


def test_without_beam_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"Apache Beam needs 'apache_beam'.*ar_net_jax\[beam\]"):
        write_with_beam()
