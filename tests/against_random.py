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
    method: str,
    workdir: Path,
    splits: Splits,
    epochs: dict[str, int],
    seed: int,
    start: Path | None = None,
    overrides: tuple[str, ...] = (),
) -> tuple[Config, dict[str, Any]]:
    """The demo's model of a method after some of its stages, of so many epochs each."""
    order = ",".join(repr(name) for name in epochs)
    how = [f"--config.stage_order=({order},)", f"--config.seed={seed}", *overrides]
    for name, number in epochs.items():
        how += [f"--config.stages.{name}.epochs={number}", f"--config.stages.{name}.select=last"]
    # Nothing is chosen by it, and each takes as long as some steps.
    longest = max(epochs.values())
    how += [f"--config.{field}_every={longest}" for field in ("evaluate", "checkpoint")]
    if start is not None:
        how.append(f"--config.init_from={start}")
    config = load_config(f"demo:{method}", how)
    train(config, workdir, splits["train"], splits["validation"], progress=False)
    # A separate stage leaves the heads that it trained with, which the config's model has not.
    variables, values = load_model(workdir / "model")
    return Config.from_dict(values), variables


def save_modules(
    folder: Path, config: Config, variables: dict[str, Any], modules: tuple[str, ...]
) -> Path:
    """A saved model that holds only `modules` of a trained one."""
    alone = {kind: {n: tree[n] for n in modules if n in tree} for kind, tree in variables.items()}
    save_model(folder, alone, config.to_dict())
    return folder


class Judge:
    """A model on the test split, under its own decisions or imposed ones."""

    def __init__(self, config: Config, variables: Any, split: VideoSource) -> None:
        self.config, self.variables, self.method = config, variables, config.build_method()
        size = {"num_frames": config.data.num_frames, "image_size": self.method.image_size}
        self._batches = list(split_batches(split, config.data, make_mesh(), **size))
        self.mask = np.concatenate([batch["mask"] for batch in self._batches])
        labels = np.concatenate([batch["labels"] for batch in self._batches])
        self._labels = labels[self.mask]
        crops = self.method.traits.crops
        self._own = make_inference(self.method, routing="masked")
        self._random = make_inference(self.method, routing="masked", random_crops=crops)

    def own(self) -> tuple[float, np.ndarray]:
        """Test mAP in percent, and the actions int32 [N, T], padding rows included."""
        return self._run(self._own, None, seed=0)

    def at_random(self, actions: np.ndarray, draws: int = 5) -> float:
        """Mean test mAP in percent of random decisions that cost as much as `actions`."""
        rng, found = np.random.default_rng(self.config.seed), []
        for draw in range(draws):
            imposed = None
            if len(self.method.choices) > 1:
                imposed = actions.copy()
                imposed[self.mask] = self.method.control_actions(actions[self.mask], rng)
            found.append(self._run(self._random, imposed, seed=draw)[0])
        return float(np.mean(found))

    def _run(self, infer: Any, imposed: np.ndarray | None, seed: int) -> tuple[float, np.ndarray]:
        logits, taken, start = [], [], 0
        for batch in self._batches:
            order = jnp.arange(start, start + len(batch["mask"]))
            start += len(order)
            keys = example_keys(seed, jnp.zeros_like(order), order)
            forced = None if imposed is None else jnp.asarray(imposed[order])
            request = Request(batch["frames"], keys, forced_actions=forced)
            result = infer(self.variables, request, jnp.float32(0.0))
            logits.append(result.logits)
            taken.append(np.asarray(result.actions))
        scores = np.asarray(jax.nn.softmax(np.concatenate(logits)[self.mask]))
        return mean_average_precision(scores, self._labels), np.concatenate(taken)
