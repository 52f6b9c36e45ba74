"""A page as one HTML file that opens from disk, without network: scripts and styles are inside."""

import functools
import os
from typing import Any

import jinja2
from bokeh.embed import json_item
from bokeh.models.ui import UIElement
from bokeh.resources import Resources
from markupsafe import Markup

from ar_net_jax.reporting.page.blocks import Page
from ar_net_jax.runtime.storage import write_output


def write_page(path: str | os.PathLike[str], page: Page) -> None:
    """Writes a page, replacing an earlier one in one move.

    Args:
        path: of the file.
        page: what is on it.

    Raises:
        UserError: it cannot be written.
    """
    # Names of files need not be text; what is none becomes a question mark.
    write_output(path, to_html(page).encode("utf-8", "replace"))


def to_html(page: Page) -> str:
    """The page as HTML, all of its text escaped."""
    places: list[str] = []

    def embedded(model: UIElement) -> dict[str, Any]:
        """What Bokeh's script makes the chart from, and a place of its own."""
        places.append(f"chart{len(places)}")
        return {"place": places[-1], "item": json_item(model)}

    def library() -> str:
        """Bokeh's script, at the end of a page with charts."""
        return _bokeh_script() if places else ""

    environment = _environment()
    return environment.get_template("page.html.j2").render(
        page=page,
        embedded=embedded,
        style=_source("page.css"),
        script=_source("page.js"),
        library=library,
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    # Bokeh's reader wants what is defined before what refers to it.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


def _source(name: str) -> Markup:
    """A style or script of this package's own, which goes into the page as it is."""
    loader = _environment().loader
    assert loader is not None
    return Markup(loader.get_source(_environment(), name)[0])


@functools.cache
def _bokeh_script() -> Markup:
    """Bokeh's script for charts, without those for its widgets, tables and formulas."""
    resources = Resources(mode="inline", components=["bokeh"], log_level="warn")
    return Markup("\n".join(resources.js_raw))
