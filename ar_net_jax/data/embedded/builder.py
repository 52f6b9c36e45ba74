"""The embedded data set: drawn by program, written as H.264 files that any video reader opens."""

import concurrent.futures
import csv
import dataclasses
import functools
import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import tqdm
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from ar_net_jax.data.embedded.plan import SPLITS, EmbeddedSpec, plan_video, video_rng
from ar_net_jax.data.embedded.scene import draw_frames
from ar_net_jax.errors import UserError, first_few
from ar_net_jax.runtime.children import exit_with_parent
from ar_net_jax.runtime.storage import write_whole

__all__ = ["EmbeddedSpec", "drawn_spec", "frame_kinds", "make", "write_video"]

_WORKERS = 2
_MARKER = "finished.json"
_UNFINISHED = "unfinished.json"
_ANNOTATIONS = "annotations.json"
# To be raised whenever the drawing changes, so that sets made by older code are made anew.
_DRAWING = 7


def write_video(path: Path, frames: UInt8[np.ndarray, "t h w 3"], *, fps: int, crf: int) -> None:
    """Encodes frames as H.264.

    Args:
        path: file to write; its suffix chooses the container.
        frames: RGB, uint8 [T, H, W, 3], H and W even.
        fps: frames per second.
        crf: x264's constant rate factor; lower is better and larger.
    """
    with av.open(str(path), "w") as container:
        # One thread, so that the output does not depend on the number of cores; and nothing that
        # looks ahead: deciding where to put B-frames and key frames, x264 was seen to differ from
        # run to run on equal frames.
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        options["x264-params"] = "bframes=0:scenecut=0:rc-lookahead=0"
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        convert = VideoReformatter()
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            # Starting threads for so small a picture takes longer than converting it.
            frame = convert.reformat(frame, format=stream.pix_fmt, threads=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _video_name(index: int) -> str:
    return f"{index:05d}"


def _make_one(directory: Path, spec: EmbeddedSpec, job: tuple[str, int]) -> dict[str, Any]:
    """Draws and writes one video; returns its annotation."""
    split, index = job
    rng = video_rng(spec, split, index)
    plan = plan_video(rng, spec, index)
    frames = draw_frames(rng, plan, spec)
    crf = int(rng.integers(spec.crf[0], spec.crf[1] + 1))
    name = _video_name(index)
    write_video(directory / split / f"{name}.mp4", frames, fps=spec.fps, crf=crf)
    return {"name": name, "labels": list(plan.labels), "kinds": plan.kinds}


def _marker(spec: EmbeddedSpec) -> dict[str, object]:
    return json.loads(json.dumps({"drawing": _DRAWING, **dataclasses.asdict(spec)}))


def _finished(directory: Path, spec: EmbeddedSpec) -> bool:
    try:
        return json.loads((directory / _MARKER).read_text()) == _marker(spec)
    except (FileNotFoundError, json.JSONDecodeError):
        return False


def drawn_spec(directory: str | Path) -> EmbeddedSpec | None:
    """What is drawn in a folder, in full or in part; None where that is nothing, or not known."""
    for name in (_MARKER, _UNFINISHED):
        try:
            values: dict[str, Any] = json.loads((Path(directory) / name).read_text())
            del values["drawing"]
            fields: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
            }
            return EmbeddedSpec(**fields)
        except (OSError, ValueError, KeyError, TypeError):
            # None there, or one of a version that drew by other rules.
            continue
    return None


def _refuse_another(directory: Path, spec: EmbeddedSpec) -> None:
    """Raises UserError if videos of another spec are there: they may be those of a model."""
    found = drawn_spec(directory) if (directory / _MARKER).exists() else None
    if found is None or found == spec:
        return
    here, asked = dataclasses.asdict(found), dataclasses.asdict(spec)
    told = [
        f"{name} {here[name]} there, {asked[name]} asked for"
        for name in here
        if here[name] != asked[name]
    ]
    raise UserError(
        f"{directory}: holds embedded videos of another spec ({first_few(told)}); choose another "
        "folder (config.data.data_dir, or --workdir), or remove this one"
    )


def _clear(directory: Path, spec: EmbeddedSpec) -> None:
    """Removes what an earlier call left, and nothing that is not ours."""
    ours = (directory / _MARKER).exists() or (directory / _UNFINISHED).exists()
    taken = [split for split in SPLITS if (directory / split).exists()]
    if taken and not ours:
        raise UserError(
            f"{directory}: already holds {taken[0]!r}, which the embedded data did not make; "
            "choose another folder"
        )
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / _UNFINISHED, json.dumps(_marker(spec), indent=1))
    (directory / _MARKER).unlink(missing_ok=True)
    for split in SPLITS:
        shutil.rmtree(directory / split, ignore_errors=True)
        (directory / split).mkdir()


def _write_split(
    directory: Path, split: str, spec: EmbeddedSpec, annotations: list[dict[str, Any]]
) -> None:
    with open(directory / f"{split}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        for entry in annotations:
            names = [spec.class_names[label] for label in entry["labels"]]
            writer.writerow([f"{split}/{entry['name']}.mp4", ";".join(names)])
    (directory / split / _ANNOTATIONS).write_text(json.dumps(annotations))


def make(directory: str | Path, spec: EmbeddedSpec | None = None, progress: bool = True) -> None:
    """Makes the data set, or leaves it be when it is there in full.

    Writes `<split>/<index>.mp4`, `<split>.csv` and `classes.txt`, which the `video_folder` builder
    reads, and `<split>/annotations.json` with the kind of every frame. A marker file, written last,
    tells a finished set from one that was interrupted.

    Args:
        directory: where to write; made if missing.
        spec: what to draw; when None what is drawn there already, else the default set.
        progress: whether to show a progress bar.

    Raises:
        UserError: the folder holds a split that is not from here, or a set of another spec.
    """
    directory = Path(directory)
    spec = spec or drawn_spec(directory) or EmbeddedSpec()
    if _finished(directory, spec):
        return
    _refuse_another(directory, spec)
    _clear(directory, spec)
    jobs = [(split, i) for split in SPLITS for i in range(getattr(spec, split))]
    work = functools.partial(_make_one, directory, spec)
    # Spawned, because forking a process in which JAX runs threads can hang.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(_WORKERS, context, exit_with_parent) as pool:
        results = pool.map(work, jobs, chunksize=4)
        bar = tqdm.tqdm(results, "drawing videos", len(jobs), disable=not progress, unit="video")
        annotations = dict(zip(jobs, bar, strict=True))
    for split in SPLITS:
        entries = [annotations[split, i] for i in range(getattr(spec, split))]
        _write_split(directory, split, spec, entries)
    (directory / "classes.txt").write_text("\n".join(spec.class_names) + "\n")
    write_whole(directory / _MARKER, json.dumps(_marker(spec), indent=1))
    (directory / _UNFINISHED).unlink()


def frame_kinds(directory: str | Path, split: str) -> dict[str, list[str]]:
    """The kind of every frame of every video.

    Args:
        directory: where `make` wrote.
        split: "train", "validation" or "test".

    Returns:
        By the name of the video (as the builder names its examples), one of
        `embedded_plan.KINDS` for each frame.
    """
    entries = json.loads((Path(directory) / split / _ANNOTATIONS).read_text())
    return {f"{split}/{entry['name']}.mp4": entry["kinds"] for entry in entries}
