"""Looks at every video of a data set as preparing it would, and writes nothing."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tqdm

from ar_net_jax.data.builder import VideoBuilder
from ar_net_jax.data.report import Report
from ar_net_jax.data.storing.limits import check_bad, check_missing
from ar_net_jax.data.storing.pool import Pulse, choose_processes, run_jobs
from ar_net_jax.data.storing.prepare import Found
from ar_net_jax.data.storing.shards import reason_of
from ar_net_jax.data.video_probe import VideoProbe, probe_video
from ar_net_jax.data.videos import LeftOut, Video
from ar_net_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class CheckedVideo:
    """What one video is.

    Attributes:
        split: that it belongs to.
        name: as of `Video`.
        class_name: of its main label.
        probe: what the file holds; None for a folder of frames.
        num_frames: that would be stored, decoded one by one, up to the fault if there is one.
        fault: why it would be left out; None for a good one.
    """

    split: str
    name: str
    class_name: str
    probe: VideoProbe | None
    num_frames: int
    fault: str | None

    def line(self) -> str:
        """The video in one line."""
        told = [f"{self.num_frames} frames stored"]
        if (probe := self.probe) is not None and probe.streams:
            streams = (f"{stream.kind} {stream.codec or '?'}" for stream in probe.streams)
            told.insert(0, f"{probe.container}: {', '.join(streams)}")
            if probe.size:
                size = "x".join(map(str, probe.size))
                told.insert(1, f"{size}, {probe.num_frames} frames, {probe.seconds:.1f} s")
        if self.fault is not None:
            told.append(f"WOULD BE LEFT OUT: {self.fault}")
        return f"{self.split} {self.name}: {'; '.join(told)}"


@dataclasses.dataclass(frozen=True)
class Check:
    """What a data set would be.

    Attributes:
        videos: that are listed, in order.
        report: as preparing would make it.
        refusal: why preparing would end with an error; None where it would not.
    """

    videos: Sequence[CheckedVideo]
    report: Report
    refusal: str | None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON holds it, `refusal`, and `videos` with all that is told of each."""
        videos = [dataclasses.asdict(video) for video in self.videos]
        for video in videos:
            if video["probe"] is not None:
                video["probe"]["path"] = str(video["probe"]["path"])
        return {**self.report.to_json(), "refusal": self.refusal, "videos": videos}

    def lines(self) -> list[str]:
        """A line a video, and the report."""
        return [*(video.line() for video in self.videos), *self.report.lines()]


# A video with its place in the listing, its split and the name of its class.
_Job = tuple[int, str, str, Video]


def check(
    builder: VideoBuilder,
    found: Found,
    made_from: dict[str, Any],
    *,
    max_bad_share: float,
    max_missing_share: float,
    processes: int | None = None,
    progress: bool = True,
) -> Check:
    """Decodes every video of a data set.

    Args:
        builder: of the data set.
        found: its videos.
        made_from: as of `Report`.
        max_bad_share: as of `registry.prepare`.
        max_missing_share: as of `registry.prepare`.
        processes: to share the work among; None for as many as cores.
        progress: whether to show a progress bar.

    Raises:
        UserError: a worker has died.
    """
    classes = found.listing.classes
    listed = [(split, video) for split, videos in found.listing.splits.items() for video in videos]
    jobs: list[_Job] = [
        (place, split, classes[video.labels[0]], video)
        for place, (split, video) in enumerate(listed)
    ]
    sizes = [state.size for split in found.listing.splits for state in found.states[split]]
    number = choose_processes(processes, len(jobs), sum(sizes))
    checked: dict[int, CheckedVideo] = {}
    with tqdm.tqdm(
        desc=f"checking {len(jobs)} videos",
        total=sum(sizes),
        disable=not progress,
        unit="B",
        unit_scale=True,
    ) as bar:
        for place, video in run_jobs(_check, builder, jobs, number):
            checked[place] = video
            bar.update(sizes[place])
    videos = [checked[place] for place in range(len(jobs))]
    used = {
        split: [v.class_name for v in videos if v.split == split and v.fault is None]
        for split in found.listing.splits
    }
    left_out = [
        LeftOut(v.split, v.name, v.class_name, v.fault) for v in videos if v.fault is not None
    ]
    all_left_out = [*found.listing.left_out, *left_out]
    report = Report(made_from, classes, used, all_left_out, found.listing.notes)
    refusal = None
    try:
        check_missing(found.listing, max_missing_share, builder.root)
        bad = [entry for entry in all_left_out if entry.bad]
        check_bad(found.listing, bad, max_bad_share, builder.root)
    except UserError as error:
        refusal = str(error)
    return Check(videos, report, refusal)


def _check(builder: VideoBuilder, job: _Job, pulse: Pulse) -> tuple[int, CheckedVideo]:
    place, split, class_name, video = job
    probe = None if video.path.is_dir() else probe_video(video.path)
    count, fault = 0, None
    try:
        for _ in builder.encode(video):
            count += 1
            pulse()
        if not count:
            fault = "holds no frames"
    except UserError as error:
        fault = reason_of(video, error)
    return place, CheckedVideo(split, video.name, class_name, probe, count, fault)
