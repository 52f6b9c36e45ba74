"""The embedded data set: what the plans hold, and that files are made once and alike."""

import collections
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from ar_net_jax.data.embedded import builder as embedded
from ar_net_jax.data.embedded.glyphs import CLASS_NAMES, draw_board
from ar_net_jax.data.embedded.plan import (
    EVIDENCE_KINDS,
    KINDS,
    EmbeddedSpec,
    Shot,
    VideoPlan,
    plan_video,
    video_rng,
)
from ar_net_jax.data.embedded.scene import draw_frames
from ar_net_jax.data.video import decode_frames
from ar_net_jax.errors import UserError

TINY = EmbeddedSpec(train=3, validation=2, test=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("embedded")
    embedded.make(directory, TINY, progress=False)
    return directory


@pytest.fixture(scope="module")
def plans() -> list[VideoPlan]:
    spec = EmbeddedSpec()
    return [plan_video(video_rng(spec, "train", i), spec, i) for i in range(spec.train)]


def _share(plans: list[VideoPlan], kinds: tuple[str, ...]) -> float:
    return float(np.mean([kind in kinds for plan in plans for kind in plan.kinds]))


def test_evidence_is_a_minority_and_much_is_empty(plans: list[VideoPlan]) -> None:
    spec = EmbeddedSpec()
    assert all(len(plan.kinds) == spec.num_frames for plan in plans)
    assert {kind for plan in plans for kind in plan.kinds} <= set(KINDS)
    assert 0.28 < _share(plans, EVIDENCE_KINDS) < 0.42
    assert 0.3 < _share(plans, ("empty",)) < 0.5
    assert _share(plans, ("misleading", "blurred")) > 0.1


def test_some_videos_are_small_only_and_some_have_two_labels(plans: list[VideoPlan]) -> None:
    spec = EmbeddedSpec()
    sizes = [{k for k in plan.kinds if k in EVIDENCE_KINDS} for plan in plans]
    assert abs(np.mean([s == {"small"} for s in sizes]) - spec.small_only_share) < 0.08
    assert abs(np.mean([s == {"large"} for s in sizes]) - spec.large_only_share) < 0.08
    two = np.mean([len(plan.labels) == 2 for plan in plans])
    assert abs(two - spec.two_label_share) < 0.06


def test_evidence_shows_the_labels_and_misleading_boards_do_not(plans: list[VideoPlan]) -> None:
    for plan in plans:
        shown = collections.Counter()
        for shot in plan.shots:
            if shot.kind in EVIDENCE_KINDS:
                shown[shot.glyph] += shot.num_frames
        assert set(plan.labels) == set(shown)
        assert len(plan.labels) == len(shown)
        assert shown[plan.labels[0]] == max(shown.values())
        wrong = {shot.glyph for shot in plan.shots if shot.kind == "misleading"}
        assert not wrong & set(plan.labels)


def test_previews_open_videos_and_show_another_class(plans: list[VideoPlan]) -> None:
    spec = EmbeddedSpec()
    fewest, most = spec.preview_frames
    opened = 0
    for plan in plans:
        previews = [i for i, shot in enumerate(plan.shots) if shot.kind == "preview"]
        opened += bool(previews)
        assert previews in ([], [0])
        for shot in plan.shots[: len(previews)]:
            assert shot.glyph not in plan.labels
            assert fewest <= shot.num_frames <= most
    assert abs(opened / len(plans) - spec.preview_share) < 0.08


def test_a_preview_looks_like_evidence() -> None:
    spec = dataclasses.replace(TINY, noise=0.0, flicker=0.0)

    def draw(kind: str) -> np.ndarray:
        plan = VideoPlan((0,), (Shot(kind, spec.num_frames, 1, 0.7),))
        return draw_frames(video_rng(spec, "train", 0), plan, spec)

    np.testing.assert_array_equal(draw("preview"), draw("large"))
    assert (draw("preview") != draw("misleading")).any()


def test_classes_are_equally_frequent(plans: list[VideoPlan]) -> None:
    spec = EmbeddedSpec()
    single = [plan.labels[0] for plan in plans if len(plan.labels) == 1]
    assert max(collections.Counter(single).values()) <= spec.train // spec.num_classes
    assert set(single) == set(range(spec.num_classes))


def test_the_same_seed_draws_the_same_frames() -> None:
    def draw(spec: EmbeddedSpec, index: int) -> np.ndarray:
        rng = video_rng(spec, "test", index)
        return draw_frames(rng, plan_video(rng, spec, index), spec)

    first = draw(TINY, 1)
    assert first.shape == (48, 80, 104, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, draw(TINY, 1))
    assert (first != draw(TINY, 0)).any()
    assert (first != draw(dataclasses.replace(TINY, seed=7), 1)).any()


def test_glyphs_differ() -> None:
    grey = {"base": (220, 220, 220), "glyph": (40, 40, 40), "border": (60, 60, 60)}
    boards = [draw_board(name, 24, **grey).astype(float) for name in CLASS_NAMES]
    for i, one in enumerate(boards):
        for other in boards[i + 1 :]:
            assert np.abs(one - other).mean() > 5


def test_files_decode_and_annotations_match(tiny: Path) -> None:
    kinds = embedded.frame_kinds(tiny, "train")
    assert list(kinds) == [f"train/{i:05d}.mp4" for i in range(TINY.train)]
    for name, per_frame in kinds.items():
        frames = [pixels for pixels, _ in decode_frames(tiny / name)]
        assert len(frames) == len(per_frame) == TINY.num_frames
        assert frames[0].shape == (TINY.height, TINY.width, 3)
    rows = (tiny / "test.csv").read_text().splitlines()
    assert len(rows) == TINY.test and rows[0].startswith("test/00000.mp4,ring")
    assert (tiny / "classes.txt").read_text().split() == list(TINY.class_names)


def _files(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(directory).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.rglob("*.mp4")
    }


def _decoded(path: Path) -> np.ndarray:
    """All frames of a video, float [T, H, W, 3]."""
    return np.stack([pixels for pixels, _ in decode_frames(path)]).astype(float)


def test_a_finished_set_is_reused_and_a_half_made_one_made_again(
    tiny: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(tiny, directory)
    before = _files(directory)
    embedded.make(directory, TINY, progress=False)
    assert _files(directory) == before

    (directory / "finished.json").rename(directory / "unfinished.json")
    (directory / "train" / "00001.mp4").write_bytes(b"half")
    embedded.make(directory, TINY, progress=False)
    after = _files(directory)
    assert sorted(after) == sorted(before)
    for name in before:
        # Equal frames go in; rarely, and in another process, x264 makes other bytes of them.
        first, again = (_decoded(folder / name) for folder in (tiny, directory))
        assert first.shape == again.shape
        assert np.abs(first - again).mean() < 2, "grey levels"


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "holiday.mp4").write_bytes(b"precious")
    with pytest.raises(UserError, match="choose another folder"):
        embedded.make(tmp_path, TINY, progress=False)
    assert (tmp_path / "train" / "holiday.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 99},
        {"width": 101},
        {"evidence_share": (0.5, 0.9)},
        {"preview_frames": (6, 20)},
        {"misleading_share": 0.05},
        {"num_frames": 5},
    ],
)
def test_an_impossible_spec_is_an_error(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="EmbeddedSpec"):
        EmbeddedSpec(**change)
