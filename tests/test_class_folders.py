"""Class folders: what is found, under which name and class, and what is said of all the rest."""

import os
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ar_net_jax.data.listing.catalogue import Catalogue
from ar_net_jax.data.listing.class_folders import list_class_folders
from ar_net_jax.data.listing.video_files import find_files, why_no_video
from ar_net_jax.errors import UserError


def _encode(path: Path, container: str, codec: str, pixels: str = "yuv420p") -> None:
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for pixels_of_one in np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), np.uint8):
            frame = av.VideoFrame.from_ndarray(pixels_of_one)
            output.mux(stream.encode(frame.reformat(format=pixels)))
        output.mux(stream.encode(None))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    _encode(path, "mp4", "mpeg4")
    return path.read_bytes()


def _put(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _left(catalogue: Catalogue) -> dict[str, str]:
    return {left.name: left.reason for left in catalogue.left_out}


def _names(catalogue: Catalogue) -> dict[str, list[str]]:
    return {split: [video.name for video in videos] for split, videos in catalogue.splits.items()}


# Containers that FFmpeg writes here, with suffixes that are theirs, somebody else's, or none.
CONTAINERS = {
    "mp4": ("mpeg4", "mp4 m4v mov 3gp weird"),
    "matroska": ("mpeg4", "mkv mk3d weird"),
    "avi": ("mpeg4", "avi divx dat"),
    "mpegts": ("mpeg2video", "ts m2ts mts tsv2"),
    "mpeg": ("mpeg2video", "mpg mpeg vob dat"),
    "asf": ("wmv2", "asf wmv bin"),
    "flv": ("flv", "flv f4v"),
    "mjpeg": ("mjpeg", "mjpeg"),
    "apng": ("apng", "apng"),
    "gif": ("gif", "gif"),
    "nut": ("mpeg4", "nut"),
    "ogg": ("libvpx", "ogv ogg"),
    "webm": ("libvpx", "webm"),
    "mxf": ("mpeg2video", "mxf"),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_ffmpeg_opens_is_a_video_whatever_it_is_called(tmp_path: Path, container: str) -> None:
    codec, suffixes = CONTAINERS[container]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    pixels = {"mjpeg": "yuvj420p", "apng": "rgb24", "gif": "rgb8"}.get(codec, "yuv420p")
    _encode(tmp_path / "video", container, codec, pixels)
    content = (tmp_path / "video").read_bytes()
    for name in ("video", *(f"v.{suffix}" for suffix in suffixes.split())):
        for spelling in (name, name.upper()):
            _put(tmp_path / spelling, content)
            assert why_no_video(tmp_path / spelling) is None, spelling


def test_what_is_no_video_is_told_by_suffix_or_content(tmp_path: Path, video: bytes) -> None:
    Image.new("RGB", (32, 24)).save(tmp_path / "picture.jpg")
    Image.new("RGB", (32, 24)).save(tmp_path / "picture", "PNG")
    contents = {
        "notes.txt": b"hello\n" * 50,
        "labels.json": b'{"a": 1}',
        "subtitles.srt": b"1\n00:00:01,000 --> 00:00:02,000\nhi\n",
        "rows.csv": b"a,b\n",
        "random.bin": bytes(range(256)) * 20,
        "empty": b"",
        "Thumbs.db": b"\xd0\xcf\x11\xe0" * 100,
    }
    for name, content in contents.items():
        _put(tmp_path / name, content)
    for name in (*contents, "picture.jpg", "picture"):
        suffix = Path(name).suffix.lower() or "no suffix"
        assert why_no_video(tmp_path / name) == f"not a video ({suffix})"
    for suffix in (".part", ".ytdl", ".crdownload"):
        _put(tmp_path / f"v.mp4{suffix}", video)
        assert why_no_video(tmp_path / f"v.mp4{suffix}") == "an unfinished download"
    # Broken, and said to be a video: that is for decoding to tell.
    for name in ("broken.mp4", "broken.AVI", "broken.m4v"):
        _put(tmp_path / name, b"not a video")
        assert why_no_video(tmp_path / name) is None


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.xyz"
    picture = tmp_path / "cover.png"
    Image.new("RGB", (32, 24)).save(picture)
    with av.open(str(path), "w", format="mp3") as output, av.open(str(picture)) as cover:
        sound = output.add_stream("mp3", rate=44100)
        front = output.add_stream_from_template(cover.streams.video[0])
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.float32), "fltp", "stereo")
        frame.sample_rate = 44100
        packets = [*sound.encode(frame), *sound.encode(None)]
        for packet in cover.demux(video=0):
            if packet.size:
                packet.stream = front
                output.mux(packet)
        output.mux(packets)
    with av.open(str(path)) as container:
        assert container.streams.video, "the test is of a file that has a picture"
    assert why_no_video(path) == "not a video (.xyz)"


def test_the_class_is_the_folder_below_the_split(tmp_path: Path, video: bytes) -> None:
    for name in (
        "train/run/a.mp4",
        "train/run/day 1/cam/b.mp4",
        "train/jump/c.M4V",
        "Val/run/nested/d.ogv",
        "Val/swim/e.gif",
    ):
        _put(tmp_path / name, video)
    catalogue = list_class_folders(tmp_path, None)
    assert catalogue.classes == ["jump", "run", "swim"]
    assert _names(catalogue) == {
        "train": ["train/jump/c.M4V", "train/run/a.mp4", "train/run/day 1/cam/b.mp4"],
        "validation": ["Val/run/nested/d.ogv", "Val/swim/e.gif"],
    }
    assert [v.labels for v in catalogue.splits["train"]] == [(0,), (1,), (1,)]
    catalogue.note_classes(None)
    assert catalogue.notes == [
        "the split 'Val' is taken as 'validation'",
        "3 classes, in the order of their names: jump, run, swim",
    ]
    assert not catalogue.left_out


def test_everything_that_is_left_out_is_told(tmp_path: Path, video: bytes) -> None:
    run = tmp_path / "train" / "run"
    _put(run / "a.mp4", video)
    for path in (run / ".a.mp4", run / "._a.mp4", run / ".cache" / "b.mp4", run / "notes.txt"):
        _put(path, video)
    _put(run / "__MACOSX" / "._a.mp4")
    _put(tmp_path / ".git" / "x" / "y.mp4")
    _put(tmp_path / "train" / "stray.mp4", video)
    _put(tmp_path / "top.mp4", video)
    (tmp_path / "train" / "jump").mkdir()
    os.mkfifo(run / "pipe.mp4")
    (run / "gone.mp4").symlink_to("nowhere")
    (run / "circle").symlink_to("circle")
    (run / "back").symlink_to(tmp_path / "train")
    (run / "link.mp4").symlink_to(run / "a.mp4")
    catalogue = list_class_folders(tmp_path, None)
    assert _names(catalogue) == {"train": ["train/run/a.mp4", "train/run/link.mp4"]}
    assert _left(catalogue) == {
        ".git": "hidden",
        "top.mp4": "lies in no class folder",
        "train/stray.mp4": "lies in no class folder",
        "train/run/.a.mp4": "hidden",
        "train/run/._a.mp4": "hidden",
        "train/run/.cache": "hidden",
        "train/run/__MACOSX": "a folder of the system",
        "train/run/notes.txt": "not a video (.txt)",
        "train/run/pipe.mp4": "neither a file nor a folder",
        "train/run/gone.mp4": "a link that leads nowhere",
        "train/run/circle": "a link that leads nowhere",
        "train/run/back": "a link back to a folder above it",
    }
    assert {left.class_name for left in catalogue.left_out} == {None, "run"}
    assert catalogue.notes == ["the folder train/jump holds no videos"]


def test_a_class_that_classes_txt_does_not_name(tmp_path: Path, video: bytes) -> None:
    for name in ("train/cafe\u0301/a.mp4", "train/run/b.mp4"):
        _put(tmp_path / name, video)
    catalogue = list_class_folders(tmp_path, ["run", "swim", "caf\u00e9"])
    assert [v.labels for v in catalogue.splits["train"]] == [(2,), (0,)]
    with pytest.raises(UserError, match="classes.txt does not name: run;"):
        list_class_folders(tmp_path, ["caf\u00e9"])


def test_class_folders_without_splits(tmp_path: Path, video: bytes) -> None:
    for i in range(10):
        _put(tmp_path / "run" / f"{i}.mp4", video)
        _put(tmp_path / "jump" / "deep" / f"{i}.mp4", video)
    catalogue = list_class_folders(tmp_path, None)
    assert catalogue.classes == ["jump", "run"] and len(catalogue.splits["train"]) == 20
    assert "no top folder is called like a split" in catalogue.notes[0]
    catalogue.hold_out_validation(0.2)
    held_out = catalogue.splits["validation"]
    assert sorted(v.labels for v in held_out) == [(0,), (0,), (1,), (1,)]
    assert len(catalogue.splits["train"]) == 16
    assert not {v.name for v in held_out} & {v.name for v in catalogue.splits["train"]}
    with pytest.raises(UserError, match="there is a validation split already"):
        catalogue.hold_out_validation(0.2)


NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: not {*b"/\0"} & {*name} and not name.startswith(b".")
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES, st.sets(NAMES, min_size=1, max_size=3), min_size=1, max_size=3))
def test_any_name_that_a_file_system_allows(folders: dict[bytes, set[bytes]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        wanted = set()
        for folder, names in folders.items():
            os.makedirs(os.path.join(os.fsencode(root), b"train", folder))
            for name in names:
                path = os.path.join(os.fsencode(root), b"train", folder, name + b".mp4")
                with open(path, "wb"):
                    wanted.add(path)
        catalogue = list_class_folders(Path(root), None)
        videos = catalogue.splits["train"]
        assert {os.fsencode(video.path) for video in videos} == wanted
        assert not catalogue.left_out
        # Both can be stored by TFDS: as UTF-8, and a class name a line.
        for text in (*catalogue.classes, *(video.name for video in videos)):
            assert text.encode("utf-8").decode() == text and len(text.splitlines()) == 1
        assert all(name == name.strip() for name in catalogue.classes)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put(tmp_path / "shut" / "a.mp4")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "shut":  # Permissions would not stop a test that root runs.
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files, (other,) = find_files(tmp_path)
    assert not files and other.reason == "cannot be read (Permission denied)"
