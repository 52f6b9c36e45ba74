"""The examples of every job's help: all are understood, and each is run on a small model."""

import shlex
from pathlib import Path

import pytest
from example_commands import FAST, help_examples, is_run_here, make_world, small

from ar_net_jax.cli.main import JOBS, build_parser, main
from ar_net_jax.config.shipped import shipped_configs
from ar_net_jax.experiment import load_config

EXAMPLES = help_examples()
RUN = [example for example in EXAMPLES if is_run_here(example)]


def test_all_jobs_but_one_have_examples() -> None:
    """The demo's takes no more than its name."""
    jobs = {example.split()[1] for example in EXAMPLES}
    assert jobs == set(JOBS) - {"demo"} or jobs == set(JOBS)
    assert len(RUN) > 20


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_is_understood(example: str) -> None:
    words = shlex.split(example)[1:]
    flags, rest = build_parser(words[0]).parse_known_args(words)
    overrides = [word for word in rest if word.startswith("--config.")]
    assert rest == overrides
    config = getattr(flags, "config", None)
    if config and config.split(":")[0] in shipped_configs():
        load_config(config, overrides)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.mark.parametrize(
    "example",
    [e if FAST.search(e) else pytest.param(e, marks=pytest.mark.slow) for e in RUN],
)
def test_it_runs(
    example: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    main(small(example, tmp_path / "new"))
