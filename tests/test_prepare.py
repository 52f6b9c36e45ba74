"""Preparation: shared among processes, stopped and gone on with, and what it tells."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ar_net_jax.cli.main import main
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.storing.prepare import write_locally
from ar_net_jax.data.storing.shards import Shard, Work, plan_shards
from ar_net_jax.data.videos import Video
from ar_net_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def _videos(root: Path, per_class: int = 2, count: int = 12) -> Path:
    """A folder of videos of two classes, each of its own brightness."""
    for split in ("train", "validation"):
        for label, name in enumerate(("run", "walk")):
            (root / split / name).mkdir(parents=True)
            for i in range(per_class):
                level = 40 + 100 * label + 10 * i
                frames = np.full((count, 48, 64, 3), level, np.uint8)
                write_video(root / split / name / f"{i}.mp4", frames, fps=4, crf=20)
    return root


def _contents(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _prepare(source: Path, data_dir: Path, **options: object) -> Path:
    return registry.prepare(
        "video_folder", source_dir=source, data_dir=data_dir, progress=False, **options
    )


def _command(source: Path, data_dir: Path, *flags: str) -> list[str]:
    job = [sys.executable, "-m", "ar_net_jax", "prepare", "--name=video_folder", "--quiet"]
    return [*job, f"--source-dir={source}", f"--data-dir={data_dir}", *flags]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_two_processes_and_one_write_the_same(tmp_path: Path) -> None:
    source = _videos(tmp_path / "videos")
    one, two = tmp_path / "one", tmp_path / "two"
    _prepare(source, one)
    # In a process of its own: there, protocol buffers would order the fields of a map otherwise.
    _run(_command(source, two, "--processes=2"))
    assert _contents(one) == _contents(two)


class _Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_what_was_finished_is_kept_and_the_rest_done_once(tmp_path: Path) -> None:
    source = _videos(tmp_path / "videos")
    whole = _contents(_prepare(source, tmp_path / "whole"))
    written: list[str] = []

    def stopped_after(count: int):
        def write(builder, folder: Path, shards: list[Shard]) -> Iterator[tuple]:
            for shard, record in write_locally(1)(builder, folder, shards):
                written.append(shard.file_name)
                yield shard, record
                if len(written) == count:
                    # As a writer leaves it that is killed in the middle.
                    (folder / "frames" / f".{shards[-1].file_name}.ab.new").write_bytes(b"half")
                    raise _Killed

        return write

    with pytest.raises(_Killed):
        _prepare(source, tmp_path / "data", write=stopped_after(3))
    assert len(written) == 3
    folder = _prepare(source, tmp_path / "data", write=stopped_after(-1))
    assert len(written) == len(set(written)) == 8
    assert _contents(folder) == whole
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "no leftovers"


def test_a_kill_while_the_index_is_put_in_place_loses_nothing(tmp_path: Path) -> None:
    source = _videos(tmp_path / "videos", per_class=1)
    program = f"""
        import os, pathlib
        from ar_net_jax.data import registry

        rename = pathlib.Path.rename

        def killed_after_it(path, target):
            rename(path, target)
            if path.name == "frames":
                os._exit(7)

        pathlib.Path.rename = killed_after_it
        places = {{"source_dir": {str(source)!r}, "data_dir": {str(tmp_path / "data")!r}}}
        registry.prepare("video_folder", **places)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL).returncode == 7
    assert len(list((tmp_path / "data").rglob("incomplete.*/frames/*_record*"))) == 4

    def write_nothing(builder, folder: Path, shards: list[Shard]) -> Iterator[tuple]:
        assert not shards, "all was finished"
        return iter(())

    again = _prepare(source, tmp_path / "data", write=write_nothing)
    assert _contents(again) == _contents(_prepare(source, tmp_path / "whole"))
    assert not list((tmp_path / "data").rglob("incomplete.*"))


@pytest.mark.slow
def test_killed_at_ten_moments_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    source = _videos(tmp_path / "videos", per_class=12, count=60)
    started = time.monotonic()
    _run(_command(source, tmp_path / "whole", "--processes=2"))
    lasted = time.monotonic() - started
    moments, kills = random.Random(0), 0
    while kills < 10:
        process = subprocess.Popen(_command(source, tmp_path / "data", "--processes=2"), cwd=ROOT)
        try:
            # Later and later, for else it would never get past its start.
            process.wait(timeout=moments.uniform(0.3, 1.0) * lasted)
            shutil.rmtree(tmp_path / "data")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    _run(_command(source, tmp_path / "data", "--processes=2"))
    assert _contents(tmp_path / "data") == _contents(tmp_path / "whole")


def test_frames_of_a_video_that_turns_out_bad_are_not_stored(tmp_path: Path) -> None:
    frames = {"a": [b"a0", b"a1"], "b": [b"b0", b"b1"], "c": [b"c0"]}
    videos = tuple(Video(name, Path(f"/videos/{name}"), (0,)) for name in "abc")

    def encode(video: Video) -> Iterable[bytes]:
        yield from frames[video.name]
        if video.name == "b":
            raise UserError(f"{video.path}: is cut short")

    def plain(names: str) -> bytes:
        work = Work(tmp_path / names)
        shard = Shard("train", 0, 1, tuple(v for v in videos if v.name in names), 0)
        work.write(shard, encode, lambda: None)
        assert not list(work.folder.glob("*tmp*"))
        return (work.frames / shard.file_name).read_bytes()

    assert plain("abc") == plain("ac")
    record = Work(tmp_path / "abc").record(Shard("train", 0, 1, videos, 0))
    assert record is not None
    assert [(v.name, v.first_frame, v.num_frames) for v in record.stored] == [
        ("a", 0, 2),
        ("c", 2, 1),
    ]
    assert record.failed == (("b", "is cut short"),)


def test_shards_are_runs_of_videos_that_follow_from_the_sizes_alone() -> None:
    rng = np.random.default_rng(0)
    for count, largest in ((1, 9), (5, 9), (40, 2**20), (3000, 2**10), (300, 2**25)):
        sizes = rng.integers(1, largest, count).tolist()
        videos = [Video(str(i), Path(str(i)), (0,)) for i in range(count)]
        shards = plan_shards("train", videos, sizes)
        assert [video for shard in shards for video in shard.videos] == videos
        assert [shard.number for shard in shards] == list(range(len(shards)))
        assert {shard.count for shard in shards} == {len(shards)}
        assert sum(shard.size for shard in shards) == sum(sizes)
        assert len(shards) >= min(16, count)
        assert all(len(s.videos) == 1 or s.size <= 32 * 2**20 for s in shards)
        assert plan_shards("train", videos, sizes) == shards


def test_a_source_that_is_gone_leaves_the_prepared_set_usable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _videos(tmp_path / "videos", per_class=1)
    monkeypatch.chdir(tmp_path)
    folder = _prepare(Path("videos"), tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = {"source_dir": "videos", "data_dir": tmp_path / "data"}
    assert registry.prepare("video_folder", **options) == folder
    assert f"using what was prepared from {source}" in capsys.readouterr().err
    with pytest.raises(UserError, match="other options"):
        registry.prepare("video_folder", **options, frame_rate=2.0)
    with pytest.raises(UserError, match=f"no such folder; .* was made from {source}"):
        registry.prepare("video_folder", source_dir="video", data_dir=tmp_path / "data")
    told = registry.report("video_folder", data_dir=tmp_path / "data")
    assert told["made_from"]["source_dir"] == str(source)


def test_a_set_of_the_earlier_form_is_prepared_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, data_dir = _videos(tmp_path / "videos", per_class=1), tmp_path / "data"
    data_dir.mkdir()
    index = {"video_folder": "video_folder/0123456789ab/1.0.0"}
    (data_dir / "prepared.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="by an earlier version.*give the source"):
        registry.prepare("video_folder", data_dir=data_dir)
    with pytest.raises(UserError, match="by an earlier version"):
        registry.open_split("video_folder", "train", data_dir=data_dir)
    registry.prepare("video_folder", source_dir=source, data_dir=data_dir)
    assert "by an earlier version in another form; preparing anew" in capsys.readouterr().err
    assert len(registry.open_split("video_folder", "train", data_dir=data_dir)) == 2


def test_the_embedded_set_takes_no_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no source; .* 'video_folder'"):
        registry.prepare("embedded", source_dir=tmp_path, data_dir=tmp_path / "data")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["content", "removed", "added"])
def test_frames_that_were_extracted_anew_are_seen(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "source" / "frames" / "v"
    folder.mkdir(parents=True)
    for number in (1, 2, 3, 4):
        Image.new("RGB", (40, 30), (50, 0, 0)).save(folder / f"{number:05d}.jpg")
    for split in ("train", "val"):
        list_ = tmp_path / "source" / f"mini_{split}_videofolder.txt"
        list_.write_text("v 4 0\n")
    arguments = {"source_dir": tmp_path / "source", "data_dir": tmp_path / "data"}
    first = registry.prepare("mini_kinetics", **arguments, progress=False)
    assert registry.prepare("mini_kinetics", **arguments, progress=False) == first
    frame = folder / "00002.jpg"
    if change == "content":
        before = frame.stat()
        Image.new("RGB", (40, 30), (51, 0, 0)).save(frame)
        assert frame.stat().st_size == before.st_size
    elif change == "removed":
        (folder / "00004.jpg").unlink()
        with pytest.raises(UserError, match="00004.jpg"):
            registry.prepare("mini_kinetics", **arguments, progress=False)
        return
    else:
        shutil.copy(frame, folder / "00005.jpg")
    assert registry.prepare("mini_kinetics", **arguments, progress=False) != first


def test_check_tells_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = _videos(tmp_path / "videos")
    whole = (source / "train" / "run" / "0.mp4").read_bytes()
    (source / "train" / "walk" / "1.mp4").write_bytes(whole[: len(whole) // 2])
    (source / "train" / "walk" / "0.mp4").write_bytes(b"not a video")
    before = _contents(tmp_path)
    told = tmp_path / "check.json"
    flags = [f"--source-dir={source}", "--check", "--quiet", f"--json={told}"]
    main(["prepare", "--name=video_folder", "--config.data.max_bad_share=0.9", *flags])
    allowed = json.loads(told.read_text())
    assert allowed["refusal"] is None
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["prepare", "--name=video_folder", *flags])
    lines = capsys.readouterr().out.splitlines()
    good = next(line for line in lines if "train/run/0.mp4" in line)
    assert "video h264; 64x48, 12 frames, 3.0 s; 12 frames stored" in good
    bad = [line for line in lines if "WOULD BE LEFT OUT" in line]
    assert [line.split()[1] for line in bad] == ["train/walk/0.mp4:", "train/walk/1.mp4:"]
    assert "train: 2 videos of 1 of 2 classes, 2 left out" in lines
    assert "  no videos of walk" in lines
    found = json.loads(told.read_text())
    assert found["splits"]["train"]["classes"]["walk"] == {"found": 2, "used": 0, "left_out": 2}
    assert "2 of 8 videos are bad" in found["refusal"]
    assert found["videos"][0]["probe"]["streams"][0]["codec"] == "h264"
    told.unlink()
    assert _contents(tmp_path) == before


@pytest.mark.slow
def test_a_worker_that_is_killed_is_reported_and_its_work_taken_up(tmp_path: Path) -> None:
    source = _videos(tmp_path / "videos", per_class=6, count=40)
    process = subprocess.Popen(
        _command(source, tmp_path / "data", "--processes=2"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    frames = "*/*/unfinished/frames/*array_record*"
    while process.poll() is None and not list((tmp_path / "data").glob(frames)):
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1 and "a process that reads videos has died" in told, told
    _run(_command(source, tmp_path / "data"))
    assert len(registry.open_split("video_folder", "train", data_dir=tmp_path / "data")) == 12
