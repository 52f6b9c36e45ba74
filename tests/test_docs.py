"""The pages' commands name jobs, flags, configs and fields that exist; links lead to pages."""

import re
from pathlib import Path

import pytest
from example_commands import PAGES, page_commands, words_of

from ar_net_jax.cli.main import JOBS, build_parser
from ar_net_jax.config.shipped import shipped_configs
from ar_net_jax.experiment import load_config

ARNET = [command for command in page_commands() if command.startswith("arnet ")]


def test_there_are_commands_of_every_job() -> None:
    jobs = {words_of(command)[1] for command in ARNET} - {"--help", "help", "JOB"}
    assert jobs <= set(JOBS)
    assert set(JOBS) - jobs == set()


@pytest.mark.parametrize("command", ARNET)
def test_its_flags_and_overrides_exist(command: str) -> None:
    words = words_of(command)[1:]
    if "--help" in words or words[0] == "help":
        return
    flags, rest = build_parser(words[0]).parse_known_args(words)
    overrides = [word for word in rest if word.startswith("--config.")]
    assert [word for word in rest if word not in overrides] == []
    config = getattr(flags, "config", None)
    if config and str(config).split(":")[0] in shipped_configs():
        load_config(config, overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        # Sphinx includes the two pages of the root under these names.
        name = {"contributing.md": "../CONTRIBUTING.md", "changelog.md": "../CHANGELOG.md"}
        assert (page.parent / name.get(target, target)).exists(), target
