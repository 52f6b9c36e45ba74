"""Pages as an HTML parser reads them: one file, whole, and names of files and classes as text."""

import base64
import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import page_made_up as made_up
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, confusion_matrix

from ar_net_jax.errors import UserError
from ar_net_jax.evaluation import per_class
from ar_net_jax.reporting.page.blocks import Cell, Column, Page, Section, Table
from ar_net_jax.reporting.page.cost_curve import colors_of
from ar_net_jax.reporting.page.history import read_history
from ar_net_jax.reporting.page.render import to_html, write_page
from ar_net_jax.reporting.page.strips import picture
from ar_net_jax.reporting.page.view import ModelView


class _Reader(html.parser.HTMLParser):
    """What a browser would find: tags, text, scripts."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)
        else:
            self.text.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    workdir = tmp_path_factory.mktemp("run")
    made_up.write_history(workdir)
    return to_html(made_up.made_up_page(workdir))


@pytest.fixture(scope="module")
def read(written: str) -> _Reader:
    return _Reader(written)


def test_it_is_whole_and_needs_no_network(written: str, read: _Reader) -> None:
    assert read.open == []
    for tag, attributes in read.tags:
        for name in ("src", "href"):
            where = attributes.get(name) or ""
            assert where.startswith(("#", "data:")) or not where, (tag, where)
    assert len(written.encode()) < 5_000_000
    targets = {attributes.get("id") for _, attributes in read.tags}
    links = [attributes["href"] for tag, attributes in read.tags if tag == "a"]
    assert links and all((link or "").removeprefix("#") in targets for link in links)


def test_markup_in_names_stays_text(read: _Reader) -> None:
    # Bokeh's, ours, and one with the data of each chart: what a name holds makes none.
    charts = [text for attributes, text in read.scripts if "data-place" in attributes]
    assert len(read.scripts) == len(charts) + 2
    pictures = [attributes for tag, attributes in read.tags if tag == "img"]
    assert all((one["src"] or "").startswith("data:image/webp") for one in pictures)
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    text = "".join(read.text)
    # Title, heading, remark, tile, class, video, label, config and version tell it as it is.
    assert text.count(made_up.MARKUP) >= 12
    assert "{{ 7 * 7 }}" in text
    assert made_up.CLASSES[3] in text


def test_charts_know_the_figures_and_the_names(read: _Reader) -> None:
    charts = [json.loads(text) for attributes, text in read.scripts if "data-place" in attributes]
    places = [
        attributes["id"] for tag, attributes in read.tags if attributes.get("class") == "plot"
    ]
    assert len(charts) == len(places) == 5  # Curve, confusions, loss, validation, choices.
    told = json.dumps(charts[0])
    assert json.dumps(made_up.MARKUP)[1:-1] in told
    for row in made_up.ROWS:
        assert str(row.figures.mAP) in told and str(row.figures.gflops_per_video) in told
    # Where Bokeh sees TeX, it asks the network for MathJax.
    factors = re.findall(r'"factors": (\[.*?\])', json.dumps(charts[1]))
    assert factors and all("$$" not in one and "\\\\(" not in one for one in factors)


def test_a_table_can_be_sorted_by_its_values(read: _Reader) -> None:
    heads = [attributes for tag, attributes in read.tags if attributes.get("scope") == "col"]
    buttons = [tag for tag, attributes in read.tags if tag == "button"]
    assert len(heads) > 15 and len(buttons) > len(heads)
    values = [float(a["data-value"] or "") for _, a in read.tags if a.get("data-value")]
    for row in made_up.ROWS:
        assert row.figures.mAP in values and row.figures.gflops_per_video in values


def test_a_file_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    table = Table([Column("Video", numeric=False)], [[Cell(name)]])
    write_page(tmp_path / "page.html", Page("x", "", [Section("Videos", [table])]))
    found = (tmp_path / "page.html").read_text("utf-8")
    assert "caf?.mp4" in found
    # Without charts, a page does without the library for them.
    assert len(found) < 30_000


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing/page.html: cannot be written"):
        write_page(tmp_path / "missing" / "page.html", Page("x", "", []))


def test_classes_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    scores, actions = rng.random((60, 5)), rng.integers(0, 3, (60, 4))
    labels = np.stack([rng.integers(0, 4, 60), np.where(rng.random(60) < 0.3, 4, -1)], axis=1)
    gflops = rng.random(60)
    names, choices = list("abcde"), ("x", "y", "z")
    found = per_class.figures_by_class(names, scores, labels, gflops, actions, choices)
    for k, one in enumerate(found):
        own = (labels == k).any(axis=1)
        assert one.videos == own.sum()
        expected = 100 * average_precision_score(own, scores[:, k])
        assert one.average_precision == pytest.approx(expected)
        assert one.gflops == pytest.approx(gflops[own].mean())
        shares = [float((actions[own] == i).mean()) for i in range(3)]
        assert list((one.usage or {}).values()) == pytest.approx(shares)
    assert found[4].top1 is None  # Nobody's first label.
    matrix = per_class.confusion_matrix(scores, labels)
    expected = confusion_matrix(labels[:, 0], scores.argmax(axis=1), labels=range(5))
    np.testing.assert_array_equal(matrix, expected)
    first = labels[:, 0] == 2
    assert found[2].top1 == pytest.approx(100 * (scores[first].argmax(axis=1) == 2).mean())


def test_a_view_survives_json() -> None:
    view = made_up.made_up_view()
    again = ModelView.from_json(json.loads(json.dumps(view.to_json())))
    assert json.dumps(again.to_json()) == json.dumps(view.to_json())
    assert again.classes == view.classes and again.strips[0].right


def test_stages_follow_each_other(tmp_path: Path) -> None:
    made_up.write_history(tmp_path)
    found = read_history(tmp_path)
    assert found.stages == [("warmup", 0.0), ("joint", 60.0)]
    assert [step for step, _ in found.values["loss"]] == [20, 40, 60, 80, 100, 120]
    assert found.values["validation_mAP/model"] == [(60.0, 50.5), (120.0, 50.5)]
    assert read_history(tmp_path / "nothing").stages == []


def test_a_picture_is_small_and_is_the_frame() -> None:
    frame = np.zeros((224, 224, 3), np.uint8)
    frame[:, 112:] = 255
    head, data = picture(frame).split(",")
    decoded = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == "data:image/webp;base64" and decoded.size == (112, 112)
    pixels = np.asarray(decoded, float)
    assert pixels[:, :50].mean() < 5 and pixels[:, 62:].mean() > 250


def test_colors_tell_the_roles_apart() -> None:
    colors = colors_of(["adaptive", "reference", "other", "reference", "other"])
    assert len(set(colors)) == 4 and colors[1] == colors[3]
    assert len(set(colors_of(["adaptive"] * 12 + ["reference"]))) == 13
