"""The networks that the demo starts from: of other videos, and such as its rows can take over."""

import dataclasses
from pathlib import Path

import jax
import pytest

from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.demo.plan import SEPARATE, SHOWN, Plan
from ar_net_jax.demo.warm_start import SPEC, WARM_START, warm_up_config
from ar_net_jax.inference.model import load_variables


def test_its_videos_are_not_the_demos() -> None:
    assert SPEC.seed != EmbeddedSpec().seed


def test_it_is_small() -> None:
    assert WARM_START.stat().st_size < 2**21


def test_it_holds_every_network_that_is_warmed_up() -> None:
    config = warm_up_config()
    # The data says how many classes there are.
    model = dataclasses.replace(config.model, num_classes=EmbeddedSpec().num_classes)
    method = dataclasses.replace(config, model=model).build_method()
    shapes = jax.eval_shape(lambda: method.initial_variables(jax.random.key(0)))
    held = load_variables(WARM_START)
    for kind, tree in shapes.items():
        for name, part in tree.items():
            found = jax.tree.map(lambda x: x.shape, held[kind][name])
            assert found == jax.tree.map(lambda x: x.shape, part), name


@pytest.mark.parametrize("from_scratch", [False, True])
def test_every_row_starts_from_one_place_and_trains_as_long(
    tmp_path: Path, from_scratch: bool
) -> None:
    plan = Plan(tmp_path, everything=True, from_scratch=from_scratch)
    configs = plan.configs([])
    epochs = {
        name: sum(config.stages[stage].epochs for stage in config.stage_order)
        for name, config in configs.items()
    }
    starts = {name: config.init_from for name, config in configs.items()}
    if from_scratch:
        # The first one's warm-up is everyone's.
        epochs[SHOWN.name] -= configs[SHOWN.name].stages["warmup"].epochs
        assert starts.pop(SHOWN.name) == ""
    assert set(starts.values()) == {str(plan.start)}
    assert len(set(epochs.values())) == 1
    paper = configs[SHOWN.name].stages["joint"].losses
    assert set(configs[SEPARATE.name].stages["joint"].losses) - set(paper) == {"separate"}
