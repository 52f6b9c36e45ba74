"""Every method that decides, trained on the embedded data, beats random decisions for as much.

    pytest -n 0 -s -m slow tests/test_against_random.py -k ocsampler

Networks that see frames are trained once and shared by the seeds of what decides; the heavy one
starts from the demo's warm start. Epochs were fixed before any test video was looked at.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from against_random import Judge, Splits, embedded_splits, save_modules, train_stages

from ar_net_jax.checkpoints import load_model
from ar_net_jax.demo.shipped import WARM_START

MAIN = "backbone_0"


@dataclass(frozen=True)
class Trial:
    """How a method is trained.

    Attributes:
        shared: epochs by stage that all seeds share; none where it has one stage.
        modules: that are taken over from these stages.
        decides: epochs by stage that each seed has its own.
        overrides: for those.
        frozen: paths of modules that those stages leave as they were.
    """

    decides: dict[str, int]
    shared: dict[str, int] = field(default_factory=dict)
    modules: tuple[str, ...] = (MAIN,)
    overrides: tuple[str, ...] = ()
    frozen: tuple[tuple[str, ...], ...] = ()


TRIALS = {
    "scsampler": Trial(
        {"train": 24},
        {"train": 4},
        overrides=("--config.stages.train.freeze_backbone=True",),
        frozen=((MAIN,),),
    ),
    "frameexit": Trial(
        {"gate": 6}, {"classify": 6}, (MAIN, *(f"exits_{place}" for place in range(8)))
    ),
    "ocsampler": Trial({"sampler": 10}, {"classifier": 6}, frozen=((MAIN,),)),
    "liteeval": Trial({"joint": 12}, {"warmup": 8}, (MAIN, "coarse")),
    "listentolook": Trial({"joint": 6, "finetune": 2}, {"warmup": 8}, (MAIN, "preview")),
    "adaframe": Trial(
        {"random": 4, "joint": 8},
        {"warmup": 8},
        (MAIN, "memory"),
        frozen=((MAIN, "backbone"), ("memory", "backbone")),
    ),
    "multi_agent": Trial({"joint": 10}, {"warmup": 4}, frozen=((MAIN, "backbone"),)),
    "adafocus_v2": Trial({"train": 24}),
    "uni_adafocus": Trial({"train": 24}),
}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """The embedded data set."""
    return embedded_splits(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def networks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, splits: Splits
) -> Path | None:
    """What all seeds of a method start from."""
    method = request.param
    trial, folder = TRIALS[method], tmp_path_factory.mktemp(method)
    if not trial.shared:
        return None
    config, variables = train_stages(method, folder / "run", splits, trial.shared, 0, WARM_START)
    return save_modules(folder / "networks", config, variables, trial.modules)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, networks", [(name, name) for name in TRIALS], indirect=["networks"], ids=list(TRIALS)
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_beats_random_decisions(
    method: str,
    seed: int,
    networks: Path | None,
    splits: Splits,
    tmp_path: Path,
    record_property: Any,
) -> None:
    """At the same cost, whatever the seed."""
    trial = TRIALS[method]
    config, variables = train_stages(
        method, tmp_path, splits, trial.decides, seed, networks, trial.overrides
    )
    for path in trial.frozen:
        assert networks is not None
        _assert_kept(networks, variables, path)
    judge = Judge(config, variables, splits["test"])
    own, actions = judge.own()
    random, spent = judge.at_random(actions), float(np.mean(actions[judge.mask] == 0))
    record_property("mAP", {"own": own, "random": random, "share": spent})
    print(f"{method}, seed {seed}: own {own:.1f}, random {random:.1f}, first choice {spent:.2f}")
    assert own > random


def _assert_kept(networks: Path, variables: dict[str, Any], path: tuple[str, ...]) -> None:
    """The variables at `path` are still those of a saved model."""
    before, _ = load_model(networks)
    for kind, tree in before.items():
        kept, given = variables[kind], tree
        for name in path:
            kept, given = kept[name], given[name]
        jax.tree.map(np.testing.assert_array_equal, kept, given)
