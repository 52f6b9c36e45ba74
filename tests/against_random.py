"""Trains the demo's methods, and holds their choices against random ones that cost as much."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.checkpoints import load_model, save_model
from ar_net_jax.config.data import EmbeddedConfig
from ar_net_jax.data.embedded.plan import SPLITS
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import prepare_data
from ar_net_jax.evaluation.metrics import mean_average_precision
from ar_net_jax.evaluation.split import split_batches
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.loop import train

Splits = dict[str, VideoSource]


def embedded_splits(folder: Path) -> Splits:
    """The embedded data set, with next to no videos to compare epochs on: the last one is taken."""
    data = replace(load_config("demo").data, embedded=EmbeddedConfig(validation=16))
    prepared = prepare_data(data, folder, progress=False)
    return {name: VideoSource(prepared, name) for name in SPLITS}


def train_stages(
    method: str, workdir: Path, splits: Splits, stages: tuple[str, ...], *overrides: str
) -> tuple[Config, dict[str, Any]]:
    """The demo's model of a method after some of its stages."""
    order = ",".join(repr(name) for name in stages)
    how = [f"--config.stage_order=({order},)", *overrides]
    how += [f"--config.stages.{name}.select=last" for name in stages]
    config = load_config(f"demo:{method}", how)
    train(config, workdir, splits["train"], splits["validation"], progress=False)
    return load_config_and_variables(workdir)


def trained_networks(
    method: str, folder: Path, splits: Splits, modules: tuple[str, ...], epochs: int
) -> Path:
    """A saved model that holds only `modules`, trained in the stage `warmup`."""
    how = f"--config.stages.warmup.epochs={epochs}"
    config, variables = train_stages(method, folder / "run", splits, ("warmup",), how)
    alone = {kind: {n: tree[n] for n in modules if n in tree} for kind, tree in variables.items()}
    save_model(folder / "networks", alone, config.to_dict())
    return folder / "networks"


def assert_kept(networks: Path, variables: dict[str, Any], path: tuple[str, ...]) -> None:
    """The variables at `path` are still those of a saved model."""
    before, _ = load_model(networks)
    for kind, tree in before.items():
        kept, given = variables[kind], tree
        for name in path:
            kept, given = kept[name], given[name]
        jax.tree.map(np.testing.assert_array_equal, kept, given)


def scores(config: Config, variables: Any, split: VideoSource, draws: int = 3) -> dict[str, float]:
    """Test mAP in percent of `chosen` frames and of as many `random` ones; number of `frames`."""
    method, mesh, data = config.build_method(), make_mesh(), config.data
    infer = make_inference(method, routing="masked")
    sizes = {"num_frames": data.num_frames, "image_size": method.image_size}
    batches = list(split_batches(split, data, mesh, **sizes))
    mask = np.concatenate([batch["mask"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches])[mask]

    def run(imposed: list[np.ndarray] | None = None) -> tuple[float, list[np.ndarray]]:
        logits, actions = [], []
        for i, batch in enumerate(batches):
            order = jnp.arange(len(batch["mask"]))
            keys = example_keys(config.seed, jnp.zeros_like(order), order)
            forced = None if imposed is None else jnp.asarray(imposed[i])
            request = Request(batch["frames"], keys, forced_actions=forced)
            result = infer(variables, request, jnp.float32(0.0))
            logits.append(result.logits)
            actions.append(np.asarray(result.actions))
        found = np.asarray(jax.nn.softmax(np.concatenate(logits)[mask]))
        return mean_average_precision(found, labels), actions

    chosen, actions = run()
    rng = np.random.default_rng(config.seed)
    random = [run([method.control_actions(a, rng) for a in actions])[0] for _ in range(draws)]
    frames = np.mean(np.concatenate(actions)[mask] == 0) * data.num_frames
    return {"chosen": chosen, "random": float(np.mean(random)), "frames": float(frames)}
