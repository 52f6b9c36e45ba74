"""The training loop: stage after stage, resumable at any moment by running it again.

A run lives in its work directory: `stages/<name>/` holds what a finished stage handed on,
`checkpoints/<name>/` the running state of the present one, `model/` the finished model.
"""

import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from ar_net_jax.checkpoints import Checkpoints, load_model, save_model
from ar_net_jax.config import Config, StageConfig
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.data.pipeline import eval_batches, train_batches
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import UserError
from ar_net_jax.models.registry import build_model
from ar_net_jax.schedules import learning_rate, temperature
from ar_net_jax.training import devices, stages, steps
from ar_net_jax.training.evaluation import predict_split, separate_scores
from ar_net_jax.training.optimizer import make_optimizer
from ar_net_jax.training.state import Best, TrainState
from ar_net_jax.training.writers import ScalarWriter

Tree = Any
_STAGE_RECORD = "stage.json"


def train(
    config: Config,
    workdir: str | Path,
    train_split: VideoSource,
    validation_split: VideoSource,
    *,
    progress: bool = True,
) -> Path:
    """Trains a model through all stages, or goes on where an earlier call stopped.

    Args:
        config: the run.
        workdir: its work directory, see the module's docstring.
        train_split: the training videos.
        validation_split: the videos on which epochs are compared.
        progress: whether to show progress bars.

    Returns:
        The directory of the finished model.

    Raises:
        UserError: the config asks for what the data or the work directory cannot give.
    """
    workdir = Path(workdir)
    model_dir = workdir / "model"
    _check_workdir(config, workdir)
    if model_dir.exists():
        return model_dir
    variables = load_model(config.init_from)[0] if config.init_from else None
    tau = 0.0
    for index, name in enumerate(config.stage_order):
        stage_dir = workdir / "stages" / name
        if not (stage_dir / _STAGE_RECORD).exists():
            runner = StageRunner(
                config, name, index, workdir, train_split, validation_split, progress=progress
            )
            variables, record = runner.run(variables, tau)
            save_model(stage_dir, variables, config.to_dict())
            _write_json(stage_dir / _STAGE_RECORD, record)
        variables = load_model(stage_dir)[0]
        tau = json.loads((stage_dir / _STAGE_RECORD).read_text())["tau"]
    save_model(model_dir, variables, config.to_dict())
    return model_dir


def _check_workdir(config: Config, workdir: Path) -> None:
    """Writes the config into a new work directory; refuses one that holds another run."""
    if not config.stage_order:
        raise UserError("config.stage_order: names no stage, so there is nothing to train")
    path = workdir / "config.json"
    if path.exists():
        before, now = json.loads(path.read_text()), config.to_dict()
        changed = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
        if changed:
            raise UserError(
                f"{workdir} holds a run with another config (different: {', '.join(changed)}); "
                "choose another --workdir, or remove that one to start over"
            )
        return
    workdir.mkdir(parents=True, exist_ok=True)
    _write_json(path, config.to_dict())


def _write_json(path: Path, value: Any) -> None:
    """Writes a file in one move: a kill must not leave half of it for the next call to read."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2))
    partial.replace(path)


class StageRunner:
    """Runs one stage: builds its compiled steps once, then loops over batches and epochs."""

    def __init__(
        self,
        config: Config,
        name: str,
        index: int,
        workdir: Path,
        train_split: VideoSource,
        validation_split: VideoSource,
        *,
        progress: bool = True,
    ) -> None:
        """Prepares the stage `name`, the `index`-th of the run."""
        self.config, self.name, self.index, self.workdir = config, name, index, workdir
        self.stage: StageConfig = config.stages[name]
        self.mesh = devices.make_mesh()
        data = config.data
        devices.check_divisible(data.batch_size, self.mesh, "data.batch_size")
        devices.check_divisible(data.eval_batch_size, self.mesh, "data.eval_batch_size")
        if len(train_split) < data.batch_size:
            raise UserError(
                f"config.data.batch_size: {data.batch_size} is more than the "
                f"{len(train_split)} training videos"
            )
        self.model = build_model(config.model)
        self.seed = stages.stage_seed(config, index)
        self.steps_per_epoch = len(train_split) / data.batch_size
        self.epoch_ends = [
            round((epoch + 1) * self.steps_per_epoch) for epoch in range(self.stage.epochs)
        ]
        self.validation_split, self.train_split = validation_split, train_split
        self.progress = progress
        self._make_evaluation()

    def run(self, earlier: Tree | None, earlier_tau: float) -> tuple[Tree, dict[str, Any]]:
        """Trains the stage.

        Args:
            earlier: variables to start from, as far as they match, or None.
            earlier_tau: temperature of the epoch that the stage before handed on.

        Returns:
            The selected variables, and a record of the stage: score and epoch by part, the
            temperature of the epoch handed on, seconds.
        """
        started = time.monotonic()
        variables = self._initial(earlier)
        optimizer = self._optimizer(variables["params"])
        tau_start = self.stage.tau_start or earlier_tau
        step_fn = steps.make_train_step(
            self.config,
            self.stage,
            self.model,
            optimizer,
            jnp.asarray(model_cost_table(self.config.model).actions, jnp.float32),
            seed=self.seed,
            tau_start=tau_start,
            steps_per_epoch=self.steps_per_epoch,
        )
        # All of it, the counters too: a leaf placed otherwise than the step returns it would have
        # the step compiled a second time.
        state = jax.device_put(
            TrainState.create(variables, optimizer), devices.replicated(self.mesh)
        )
        best = Best.create(stages.selected_parts(self.stage, variables["params"]), variables)
        with Checkpoints(self.workdir / "checkpoints" / self.name) as checkpoints:
            state, best = self._train(step_fn, state, best, checkpoints)
        if self.stage.select == "best":
            selected, epoch = best.variables, max(int(e) for e in best.epoch.values())
        else:
            selected, epoch = state.variables, self.stage.epochs - 1
        record = {
            "scores": {part: float(score) for part, score in best.score.items()},
            "epochs": {part: int(epoch) for part, epoch in best.epoch.items()},
            "tau": float(temperature(epoch, tau_start, self.stage.tau_decay)),
            "seconds": time.monotonic() - started,
        }
        return jax.device_get(selected), record

    def _train(
        self, step_fn: steps.TrainStep, state: TrainState, best: Best, checkpoints: Checkpoints
    ) -> tuple[TrainState, Best]:
        batches = devices.DevicePrefetch(
            self._train_batches(), lambda batch: devices.put_batch(batch, self.mesh)
        )
        restored = checkpoints.restore_latest({"state": state, "best": best}, batches)
        if restored is not None:
            state, best = restored[0]["state"], restored[0]["best"]
        done = int(state.step)
        history = self.workdir / "history" / f"{self.index}_{self.name}"
        bar = tqdm(
            total=self.epoch_ends[-1],
            initial=done,
            desc=self.name,
            unit="step",
            disable=not self.progress,
            dynamic_ncols=True,
        )
        with ScalarWriter(history, resume_step=done) as writer, bar:
            for step in range(done + 1, self.epoch_ends[-1] + 1):
                state, metrics = step_fn(state, next(batches))
                if step % self.config.log_every == 0 or step in self.epoch_ends:
                    self._log(step, metrics, writer, bar)
                bar.update()
                if step in self.epoch_ends:
                    best = self._end_epoch(step, state, best, batches, writer, checkpoints)
        return state, best

    def _end_epoch(
        self,
        step: int,
        state: TrainState,
        best: Best,
        batches: devices.DevicePrefetch,
        writer: ScalarWriter,
        checkpoints: Checkpoints,
    ) -> Best:
        epoch = self.epoch_ends.index(step)
        scores = self._evaluate(state.variables)
        best = best.update(scores, epoch, state.variables)
        writer.write(step, {f"validation_mAP/{k}": v for k, v in scores.items()}, stage=self.name)
        last = step == self.epoch_ends[-1]
        if last or (epoch + 1) % self.config.checkpoint_every == 0:
            checkpoints.save(step, {"state": state, "best": best}, batches, {"epoch": epoch})
        return best

    def _log(
        self, step: int, metrics: dict[str, jax.Array], writer: ScalarWriter, bar: tqdm
    ) -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        values["learning_rate"] = float(self.schedule(step - 1))
        if not math.isfinite(values["loss"]):
            raise UserError(
                f"stage '{self.name}', step {step}: the loss is {values['loss']} at learning rate "
                f"{values['learning_rate']:.3g}; the last checkpoint is kept, and a lower "
                f"config.stages.{self.name}.learning_rate in a new --workdir may help"
            )
        writer.write(step, values, stage=self.name)
        bar.set_postfix_str(f"loss {values['loss']:.3f}", refresh=False)

    def _initial(self, earlier: Tree | None) -> Tree:
        """The stage's first variables: earlier ones as far as they match, the rest drawn."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), self.index)

        def init(key: jax.Array) -> Tree:
            return stages.initial_variables(self.config, self.stage, key)

        shapes = jax.eval_shape(init, key)
        variables, taken = stages.take_over(shapes, earlier)
        if earlier is not None and taken == 0:
            raise UserError(
                f"config.init_from: no variable of {self.config.init_from or 'the stage before'} "
                "matches this model in name and shape"
            )
        if taken < len(jax.tree.leaves(shapes)):
            # Drawing takes seconds to compile, so it is left out where nothing is missing.
            fresh = jax.jit(init, out_shardings=devices.replicated(self.mesh))(key)
            variables, _ = stages.take_over(fresh, earlier)
        return jax.device_put(variables, devices.replicated(self.mesh))

    def _optimizer(self, params: Tree) -> Any:
        stage = self.stage
        self.schedule = learning_rate(
            stage.schedule,
            stage.learning_rate,
            self.steps_per_epoch,
            stage.epochs,
            decay_epochs=stage.decay_epochs,
            decay_factor=stage.decay_factor,
            warmup_epochs=stage.warmup_epochs,
        )
        return make_optimizer(
            self.config.optimizer, self.schedule, params, lambda p: stages.part_of(stage, p)
        )

    def _train_batches(self) -> Any:
        data = self.config.data
        return train_batches(
            self.train_split,
            num_frames=data.num_frames,
            image_size=self.config.model.image_size,
            batch_size=data.batch_size,
            seed=self.seed,
            flip=data.flip,
            multi_scale=data.multi_scale,
            num_threads=data.num_threads,
        )

    def _make_evaluation(self) -> None:
        data = self.config.data
        self.validation = eval_batches(
            self.validation_split,
            num_frames=data.num_frames,
            image_size=self.config.model.image_size,
            batch_size=data.eval_batch_size,
            num_threads=data.num_threads,
        )
        if self.stage.objective == "separate":
            with_policy = self.stage.train_policy_features
            self.predict = steps.make_separate_predict_step(self.model, with_policy)
        else:
            self.predict = steps.make_predict_step(self.model, self.config.seed)

    def _evaluate(self, variables: Tree) -> dict[str, float]:
        """Validation mAP in percent by part."""
        if self.stage.objective == "separate":
            return separate_scores(self.predict, variables, self.validation, self.mesh)
        size = len(self.validation_split)
        predictions, _ = predict_split(self.predict, variables, self.validation, size, self.mesh)
        return {stages.MODEL: predictions.metrics()["mAP"]}
