"""The pages' commands name what exists, and run on small models; links lead to pages."""

import re
import shlex
from pathlib import Path

import pytest
from example_commands import FAST, help_examples, is_run_here, make_world, small

from ar_net_jax.cli.main import JOBS, build_parser, main
from ar_net_jax.config.shipped import shipped_configs
from ar_net_jax.experiment import load_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _commands() -> list[str]:
    """Every command of a page's shell blocks, one a line, comments and assignments before left."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found += [part.strip() for part in line.split("&&")]
    return [line for line in dict.fromkeys(found) if line]


def _words(command: str) -> list[str]:
    return [word for word in shlex.split(command, comments=True) if word not in ("...", "…")]


# These are run by test_help_examples.
HELP = help_examples()
ARNET = [command for command in _commands() if command.startswith("arnet ")]


def test_there_are_commands_of_every_job() -> None:
    jobs = {_words(command)[1] for command in ARNET} - {"--help", "help", "JOB"}
    assert jobs <= set(JOBS)
    assert set(JOBS) - jobs == set()


@pytest.mark.parametrize("command", ARNET)
def test_its_flags_and_overrides_exist(command: str) -> None:
    words = _words(command)[1:]
    if "--help" in words or words[0] == "help":
        return
    flags, rest = build_parser(words[0]).parse_known_args(words)
    overrides = [word for word in rest if word.startswith("--config.")]
    assert [word for word in rest if word not in overrides] == []
    config = getattr(flags, "config", None)
    if config and str(config).split(":")[0] in shipped_configs():
        load_config(config, overrides)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        command if FAST.search(command) else pytest.param(command, marks=pytest.mark.slow)
        for command in ARNET
        if is_run_here(command) and " ".join(_words(command)) not in HELP
    ],
)
def test_it_runs(
    command: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    main(small(command, tmp_path / "new"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        # Sphinx includes the two pages of the root under these names.
        name = {"contributing.md": "../CONTRIBUTING.md", "changelog.md": "../CHANGELOG.md"}
        assert (page.parent / name.get(target, target)).exists(), target
