"""From listed videos to a prepared data set: frame files first, then the index of the videos.

Below `<data_dir>/<name>/<fingerprint>/`, where the fingerprint changes with whatever decides the
content, `unfinished/` gathers frame files; a run that was stopped leaves what it finished there,
and the next goes on from it. `2.0.0/` appears at the end, in one move, with all that belongs to the
data set: TFDS's files, `frames/` and the report.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tqdm

from ar_net_jax.data.builder import VideoBuilder
from ar_net_jax.data.report import REPORT, Report
from ar_net_jax.data.source import FRAMES
from ar_net_jax.data.storing.limits import check_bad, check_missing
from ar_net_jax.data.storing.pool import Pulse, choose_processes, run_jobs
from ar_net_jax.data.storing.shards import Shard, ShardRecord, StoredVideo, Work, plan_shards
from ar_net_jax.data.videos import LeftOut, Listing, SourceState, source_state
from ar_net_jax.errors import UserError

# What waits for a disk far away can be many.
_STAT_THREADS = 16
_UNFINISHED = "unfinished"

# Writes shards to a folder and gives their records, as they are done.
Writer = Callable[[VideoBuilder, Path, list[Shard]], Iterator[tuple[Shard, ShardRecord]]]


@dataclasses.dataclass(frozen=True)
class Job:
    """How a data set is built, which leaves what it holds as it is.

    Attributes:
        max_bad_share: share of the videos that may be undecodable.
        max_missing_share: share of the listed videos of a split that may not be there.
        progress: whether to show a progress bar.
        write: writes frame files.
    """

    max_bad_share: float
    max_missing_share: float
    progress: bool
    write: Writer


@dataclasses.dataclass(frozen=True)
class Found:
    """A listing, and how the source of each video is at present."""

    listing: Listing
    states: dict[str, list[SourceState]]


def look(builder: VideoBuilder) -> Found:
    """Lists a data set's videos and looks at their files, without reading any.

    Raises:
        UserError: there are no videos, or a list is wrong.
    """
    listing = builder.listing()
    with concurrent.futures.ThreadPoolExecutor(_STAT_THREADS) as pool:
        states = {
            split: list(pool.map(source_state, (video.path for video in videos)))
            for split, videos in listing.splits.items()
        }
    return Found(listing, states)


def fingerprint(options: dict[str, Any], found: Found) -> str:
    """Changes with the videos, their labels, their files, and with how they are stored.

    Args:
        options: fields of the builder's config that decide how frames are stored.
        found: the videos.
    """
    content = hashlib.sha256(repr(sorted(options.items())).encode())
    content.update(repr(found.listing.classes).encode())
    for split, videos in found.listing.splits.items():
        for video, state in zip(videos, found.states[split]):
            entry = (split, video.name, video.labels, video.num_frames, state.digest)
            content.update(repr(entry).encode())
    return content.hexdigest()[:12]


def write_locally(processes: int | None) -> Writer:
    """A `Writer` that shares the work among processes of this machine.

    Args:
        processes: how many; None for as many as cores, or fewer where there is little to do.
    """

    def write(
        builder: VideoBuilder, folder: Path, shards: list[Shard]
    ) -> Iterator[tuple[Shard, ShardRecord]]:
        number = choose_processes(processes, len(shards), sum(shard.size for shard in shards))
        return run_jobs(functools.partial(write_shard, folder), builder, shards, number)

    return write


def write_shard(
    folder: Path, builder: VideoBuilder, shard: Shard, pulse: Pulse
) -> tuple[Shard, ShardRecord]:
    """Writes the frame file of a shard, unless it is there: the task of each worker."""
    work = Work(folder)
    return shard, work.record(shard) or work.write(shard, builder.encode, pulse)


def build(
    builder: VideoBuilder,
    found: Found,
    made_from: dict[str, Any],
    job: Job,
) -> Report:
    """Builds a data set at the builder's `data_path`, which must not be there.

    What an earlier call has finished is kept.

    Args:
        builder: of the data set; its config's name is the fingerprint.
        found: its videos.
        made_from: as of `Report`.
        job: how to go about it.

    Raises:
        UserError: too many videos are bad, or all of a split; a worker has died.
    """
    check_missing(found.listing, job.max_missing_share, builder.root)
    home = Path(builder.data_path).parent
    work = _take_up(home)
    shards = [
        shard
        for split, videos in found.listing.splits.items()
        for shard in plan_shards(split, videos, [state.size for state in found.states[split]])
    ]
    records: dict[str, ShardRecord] = {}
    bad = [entry for entry in found.listing.left_out if entry.bad]
    for shard in shards:
        if record := work.record(shard):
            records[shard.file_name] = record
            bad += _failures(found.listing, shard, record)
    check_bad(found.listing, bad, job.max_bad_share, builder.root)
    pending = [shard for shard in shards if shard.file_name not in records]
    # Bytes, for what is left takes time by them more than by the number of videos.
    with tqdm.tqdm(
        desc=f"preparing {sum(map(len, found.listing.splits.values()))} videos",
        total=sum(shard.size for shard in shards),
        initial=sum(shard.size for shard in shards if shard.file_name in records),
        disable=not job.progress,
        unit="B",
        unit_scale=True,
    ) as bar:
        for shard, record in job.write(builder, work.folder, pending):
            records[shard.file_name] = record
            bar.update(shard.size)
            bad += _failures(found.listing, shard, record)
            check_bad(found.listing, bad, job.max_bad_share, builder.root)
    stored = _by_split(shards, records, builder.root)
    report = _report(found.listing, made_from, shards, records)

    def finish(folder: Path) -> None:
        (folder / REPORT).write_text(json.dumps(report.to_json(), indent=1))
        # Last: until the folder is whole, a killed run finds them here or there.
        work.frames.rename(folder / FRAMES)

    counts = {shard.split: shard.count for shard in shards}
    builder.write_index(stored, counts, finish)
    clean_up(Path(builder.data_path))
    return report


def clean_up(folder: Path) -> None:
    """Removes what a run leaves that is killed right after its data set is whole."""
    shutil.rmtree(folder.parent / _UNFINISHED, ignore_errors=True)


def _take_up(home: Path) -> Work:
    """The work folder, with what a stopped run has finished and without what it has not."""
    unfinished = home / _UNFINISHED
    for leftover in home.glob("incomplete.*"):
        if (leftover / FRAMES).exists() and unfinished.exists():
            (leftover / FRAMES).rename(unfinished / FRAMES)
        shutil.rmtree(leftover)
    for other in home.parent.glob(f"*/{_UNFINISHED}"):
        if other.parent != home:
            # Of content that has changed since.
            shutil.rmtree(other)
    work = Work(unfinished)
    work.clean()
    return work


def check_splits(listing: Listing, needed: Sequence[str], root: Path) -> None:
    """Checks that there are all splits that a job needs, before anything is decoded.

    Raises:
        UserError: one is not there.
    """
    for split in needed:
        if split not in listing.splits:
            there = ", ".join(listing.splits)
            remedy = (
                "; --config.data.validation_share=0.2 makes one of a fifth of the training videos"
                if split == "validation" and "train" in listing.splits
                else ""
            )
            raise UserError(f"{root}: has no videos of the split {split!r} (only {there}){remedy}")


def _failures(listing: Listing, shard: Shard, record: ShardRecord) -> list[LeftOut]:
    main = {video.name: listing.classes[video.labels[0]] for video in shard.videos}
    return [LeftOut(shard.split, name, main[name], why) for name, why in record.failed]


def _by_split(
    shards: list[Shard], records: dict[str, ShardRecord], root: Path
) -> dict[str, list[StoredVideo]]:
    stored: dict[str, list[StoredVideo]] = {shard.split: [] for shard in shards}
    for shard in shards:
        stored[shard.split] += records[shard.file_name].stored
    for split, videos in stored.items():
        if not videos:
            raise UserError(f"{root}: every video of {split} is bad")
    return stored


def _report(
    listing: Listing,
    made_from: dict[str, Any],
    shards: list[Shard],
    records: dict[str, ShardRecord],
) -> Report:
    used: dict[str, list[str]] = {shard.split: [] for shard in shards}
    left_out = list(listing.left_out)
    for shard in shards:
        used[shard.split] += [listing.classes[v.labels[0]] for v in records[shard.file_name].stored]
        left_out += _failures(listing, shard, records[shard.file_name])
    return Report(made_from, listing.classes, used, left_out, listing.notes)
