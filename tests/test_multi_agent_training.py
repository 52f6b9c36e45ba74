"""MultiAgent, trained on the embedded data, beats random frames through the same networks."""

from pathlib import Path
from typing import Any

import pytest
from against_random import (
    Splits,
    assert_kept,
    embedded_splits,
    scores,
    train_stages,
    trained_networks,
)

from ar_net_jax.methods.multi_agent_module import MAIN

# Of the networks, which are trained once; for each seed the other stages are the demo's.
WARMUP_EPOCHS = 24


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """The embedded data set."""
    return embedded_splits(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, splits: Splits) -> Path:
    """What takes frames, trained."""
    folder = tmp_path_factory.mktemp("networks")
    return trained_networks("multi_agent", folder, splits, (MAIN,), WARMUP_EPOCHS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_it_beats_random_frames(
    seed: int, networks: Path, splits: Splits, tmp_path: Path, record_property: Any
) -> None:
    """At as many frames of every video, whatever the seed."""
    start = (f"--config.init_from={networks}", f"--config.seed={seed + 1}")
    config, variables = train_stages("multi_agent", tmp_path, splits, ("joint",), *start)
    assert_kept(networks, variables, (MAIN, "backbone"))
    found = scores(config, variables, splits["test"])
    record_property("mAP", found)
    print(f"seed {seed}: " + ", ".join(f"{k} {v:.1f}" for k, v in found.items()))
    assert found["chosen"] > found["random"]
