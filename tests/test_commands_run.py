"""Commands of help, README and docs run as they stand there, on small models."""

from pathlib import Path

import pytest
from example_commands import (
    FAST,
    help_examples,
    is_run_here,
    make_world,
    page_commands,
    small,
    words_of,
)

from ar_net_jax.cli.main import main

# By their words, so that each is run once.
COMMANDS = {
    " ".join(words_of(command)): command
    for command in (*help_examples(), *page_commands())
    if command.startswith("arnet ") and is_run_here(command)
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.mark.parametrize(
    "words",
    [w if FAST.search(w) else pytest.param(w, marks=pytest.mark.slow) for w in COMMANDS],
)
def test_it_runs(words: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    main(small(COMMANDS[words], tmp_path / "new"))
