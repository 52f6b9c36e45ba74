"""Lists of videos and classes as editors and spreadsheets write them, and names of all kinds."""

import codecs
import csv
import io
import itertools
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ar_net_jax.data.listing.lists import read_classes, read_lines, read_rows, read_text
from ar_net_jax.data.listing.names import class_name, text_of
from ar_net_jax.data.listing.split_names import hold_out, name_splits
from ar_net_jax.data.listing.video_lists import list_rows
from ar_net_jax.errors import UserError

ENCODINGS = {
    "UTF-8": (b"", "utf-8"),
    "UTF-8 with mark": (codecs.BOM_UTF8, "utf-8"),
    "UTF-16 LE": (codecs.BOM_UTF16_LE, "utf-16-le"),
    "UTF-16 BE": (codecs.BOM_UTF16_BE, "utf-16-be"),
    "UTF-32 LE": (codecs.BOM_UTF32_LE, "utf-32-le"),
}
FILE_NAMES = st.binary(min_size=1, max_size=60).filter(
    lambda name: not {*b"/\0"} & {*name} and name not in (b".", b"..")
)
# A list is text: it cannot name files whose names are not.
LISTABLE = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
    .filter(lambda name: not {*"/\0"} & {*name} and name not in (".", "..", "train.csv"))
    .filter(lambda name: len(name.encode()) < 255)
)
FORMS = list(itertools.product(ENCODINGS, ("\n", "\r\n", "\r")))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_classes_in_any_encoding_and_line_end(tmp_path: Path, form: tuple[str, str]) -> None:
    (mark, encoding), end = ENCODINGS[form[0]], form[1]
    path = tmp_path / "classes.txt"
    text = end.join(["\u00c9p\u00e9e ", "", "  ", "tai chi\t", "\u592a\u6975\u62f3"])
    for last in ("", end, end * 2):
        path.write_bytes(mark + (text + last).encode(encoding))
        assert read_classes(path) == ["\u00c9p\u00e9e", "tai chi", "\u592a\u6975\u62f3"]
        assert [number for number, _ in read_lines(path)] == [1, 4, 5]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp1251", "shift-jis"])
def test_another_encoding_is_refused_with_the_remedy(tmp_path: Path, encoding: str) -> None:
    text = {"cp1251": "\u0431\u0435\u0433", "shift-jis": "\u592a\u6975\u62f3"}
    path = tmp_path / "train.csv"
    path.write_bytes(("a.mp4,run\nb.mp4," + text.get(encoding, "Ép\u00e9e")).encode(encoding))
    with pytest.raises(UserError, match=r"train\.csv, line 2: not UTF-8 .*iconv"):
        read_text(path)


def test_utf_16_without_a_mark_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("run\njump\n".encode("utf-16-le"))
    with pytest.raises(UserError, match=r"classes\.txt: holds zero bytes.*save it as UTF-8"):
        read_classes(path)


@pytest.mark.parametrize(
    "lines, names",
    [
        ("0,Archery\n1,Ballet, modern\n", ["Archery", "Ballet, modern"]),
        ("1 Archery\n2 Ballet\n", ["Archery", "Ballet"]),
        ("Archery\nBallet\n", ["Archery", "Ballet"]),
        # No numbering: out of order, or names that begin with a number.
        ("1 Archery\n0 Ballet\n", ["1 Archery", "0 Ballet"]),
        ("100 m run\n200 m run\n", ["100 m run", "200 m run"]),
    ],
)
def test_numbers_before_classes(tmp_path: Path, lines: str, names: list[str]) -> None:
    path = tmp_path / "classInd.txt"
    path.write_text(lines)
    assert read_classes(path, numbered=True) == names
    assert read_classes(path) == lines.splitlines()


@pytest.mark.parametrize("lines, message", [(" \n\n", "empty"), ("a\nb\na \n", "names a twice")])
def test_wrong_classes_are_an_error(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "classes.txt").write_text(lines)
    with pytest.raises(UserError, match=message):
        read_classes(tmp_path / "classes.txt")


def test_rows_as_spreadsheets_leave_them(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b'a.mp4,run,,\r\n,,\r\n \r\n"b, ""c""\n.mp4",jump \r\n')
    assert [row for _, row in read_rows(path)] == [["a.mp4", "run"], ['b, "c"\n.mp4', "jump "]]
    path.write_bytes(b'a.mp4,run\n"b.mp4,jump\n')
    with pytest.raises(UserError, match=r"train\.csv, line 2: .*quotation"):
        list(read_rows(path))


@settings(max_examples=300)
@given(FILE_NAMES)
def test_any_name_becomes_one_line_of_text(name: bytes) -> None:
    path = os.fsdecode(name)
    for text in (text_of(path), class_name(path)):
        assert text.encode("utf-8") and len(text.splitlines()) == 1 and "\0" not in text
    # What a strict reader of lines makes of it is the name again.
    assert class_name(path) == class_name(class_name(path))
    if path.isprintable():
        assert text_of(path) == path


@settings(max_examples=60, deadline=None)
@given(st.sets(LISTABLE, min_size=1, max_size=8), st.sampled_from(FORMS))
def test_every_file_that_a_list_can_name_is_found(names: set[str], form: tuple[str, str]) -> None:
    (mark, encoding), end = ENCODINGS[form[0]], form[1]
    rows = io.StringIO(newline="")
    writer = csv.writer(rows, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([name, "run "] for name in sorted(names))
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            Path(folder, name).write_bytes(b"")
        path = Path(folder, "train.csv")
        path.write_bytes(mark + rows.getvalue().encode(encoding))
        catalogue = list_rows([path], ["run"])
    assert {video.path.name for video in catalogue.splits["train"]} == names
    assert not catalogue.left_out


def test_paths_as_they_were_meant(tmp_path: Path) -> None:
    for name in ("a.mp4", "clips/b.mp4", "Caf\u00e9.mp4", "e\u0301.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    path = tmp_path / "val.csv"
    path.write_text(" a.mp4 ,run\nclips\\b.mp4,run\nCafe\u0301.mp4,run\n\u00e9.mp4,jump;run;jump\n")
    catalogue = list_rows([path], ["jump", "run"])
    videos = catalogue.splits["validation"]
    assert [video.name for video in videos] == [
        "a.mp4",
        "clips/b.mp4",
        "Caf\u00e9.mp4",
        "e\u0301.mp4",
    ]
    assert all(video.path.is_file() for video in videos) and videos[3].labels == (0, 1)
    assert catalogue.notes == ["the split 'val' is taken as 'validation'"]


def test_files_that_are_gone_are_left_out_as_missing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "all.csv").write_text("a.mp4,run\nb.mp4,jump\n")
    catalogue = list_rows([tmp_path / "all.csv"], ["jump", "run"])
    (left,) = catalogue.left_out
    assert (left.split, left.name, left.class_name) == ("train", "b.mp4", "jump")
    assert left.missing and left.reason == "no such file"
    assert "all.csv is not called like a split" in catalogue.notes[0]


def test_two_names_of_one_split_are_an_error(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("Train", "val", "fold1")]
    splits, notes = name_splits(folders)
    assert list(splits) == ["train", "validation", "fold1"] and len(notes) == 2
    with pytest.raises(UserError, match="val and .*validation are both the split 'validation'"):
        name_splits([tmp_path / "val", tmp_path / "validation"])


@settings(max_examples=50)
@given(
    st.dictionaries(st.text(max_size=6), st.integers(0, 3), max_size=40),
    st.floats(0.05, 0.6),
    st.randoms(),
)
def test_a_share_of_every_class_is_held_out(
    videos: dict[str, int], share: float, random: object
) -> None:
    names = list(videos)
    aside = {n for n, out in zip(names, hold_out(names, [*videos.values()], share)) if out}
    for label in set(videos.values()):
        members = {name for name in names if videos[name] == label}
        expected = min(max(1, round(share * len(members))), len(members) - 1)
        assert len(members & aside) == expected
    # By the names alone: in another order it is the same choice.
    random.shuffle(names)
    again = hold_out(names, [videos[name] for name in names], share)
    assert {name for name, out in zip(names, again) if out} == aside
