"""The examples of every job's help: all are understood."""

import shlex

import pytest
from example_commands import help_examples, is_run_here

from ar_net_jax.cli.main import JOBS, build_parser
from ar_net_jax.config.shipped import shipped_configs
from ar_net_jax.experiment import load_config

EXAMPLES = help_examples()


def test_all_jobs_but_one_have_examples() -> None:
    """The demo's takes no more than its name."""
    jobs = {example.split()[1] for example in EXAMPLES}
    assert jobs == set(JOBS) - {"demo"} or jobs == set(JOBS)
    assert sum(map(is_run_here, EXAMPLES)) > 20


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_is_understood(example: str) -> None:
    words = shlex.split(example)[1:]
    flags, rest = build_parser(words[0]).parse_known_args(words)
    overrides = [word for word in rest if word.startswith("--config.")]
    assert rest == overrides
    config = getattr(flags, "config", None)
    if config and config.split(":")[0] in shipped_configs():
        load_config(config, overrides)
