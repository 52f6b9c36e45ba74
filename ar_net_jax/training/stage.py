"""One stage of training: steps, epochs, checkpoints, and a stop at any moment."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from ar_net_jax.checkpoints import Checkpoints
from ar_net_jax.data.pipeline import train_batches
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import Preempted, UserError
from ar_net_jax.experiment import Config
from ar_net_jax.methods import StageConfig
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.runtime.preemption import Interrupted, PreemptionNotice
from ar_net_jax.training import parts as stages
from ar_net_jax.training import steps
from ar_net_jax.training.log import Reporting, StageLog
from ar_net_jax.training.nan_guard import LossWatch, all_finite
from ar_net_jax.training.program import build_program
from ar_net_jax.training.state import Best, TrainState, state_shardings
from ar_net_jax.training.validation import Validation
from ar_net_jax.weights.pretrained import pretrained_variables

Tree = Any


@dataclasses.dataclass
class _Carried:
    """What a stage carries from step to step.

    Attributes:
        state: of the training.
        best: of the epochs evaluated so far.
        evaluated: False if the evaluation that is due at the step has yet to be made.
        watch: over the losses of the steps since the last report.
    """

    state: TrainState
    best: Best
    evaluated: bool = True
    watch: LossWatch = dataclasses.field(default_factory=LossWatch)


class StageRunner:
    """Runs one stage: builds its compiled steps once, then loops over batches and epochs."""

    def __init__(
        self,
        config: Config,
        name: str,
        index: int,
        workdir: epath.Path,
        splits: tuple[VideoSource, VideoSource],
        notice: PreemptionNotice,
        *,
        progress: bool,
        reporting: Reporting,
    ) -> None:
        """Prepares the stage `name`, the `index`-th of the run; `splits` train and validate it."""
        self.config, self.name, self.index, self.workdir = config, name, index, workdir
        self.stage: StageConfig = config.stages[name]
        self.train_split = splits[0]
        self.notice, self.progress, self.reporting = notice, progress, reporting
        self.mesh = devices.make_mesh()
        batch_size = config.data.batch_size
        devices.check_batch(config, self.mesh)
        if len(self.train_split) < batch_size:
            raise UserError(
                f"config.data.batch_size: {batch_size} is more than the "
                f"{len(self.train_split)} training videos"
            )
        self.method = config.build_method()
        self.seed = stages.stage_seed(config, index)
        self.steps_per_epoch = len(self.train_split) / batch_size
        self.epoch_ends = [
            round((epoch + 1) * self.steps_per_epoch) for epoch in range(self.stage.epochs)
        ]
        self.validation = Validation(config, self.stage, splits[1], self.mesh)

    def run(
        self, earlier: Tree | None, handed_on: Mapping[str, float]
    ) -> tuple[Tree, dict[str, Any]]:
        """Trains the stage.

        Args:
            earlier: variables to start from, as far as they match, or None.
            handed_on: by the stage before.

        Returns:
            The selected variables, and a record of the stage: score and epoch by part, the
            temperature of the epoch handed on, seconds.

        Raises:
            UserError: as `train`.
            Preempted: as `train`.
        """
        started = time.monotonic()
        with Checkpoints(self.workdir / "checkpoints" / self.name) as checkpoints:
            variables = self._initial(earlier, resuming=checkpoints.latest_step() is not None)
            step_fn, carried = self._prepare(variables, handed_on)
            self._train(step_fn, carried, checkpoints)
        best = carried.best
        if self.stage.select == "best":
            selected, epoch = best.variables, max(int(e) for e in best.epoch.values())
        else:
            selected, epoch = carried.state.variables, self.stage.epochs - 1
        record = {
            "scores": {part: float(score) for part, score in best.score.items()},
            "epochs": {part: int(epoch) for part, epoch in best.epoch.items()},
            **self.stage.following(handed_on).hand_on(epoch),
            "seconds": time.monotonic() - started,
        }
        return jax.device_get(selected), record

    def _prepare(
        self, variables: Tree, handed_on: Mapping[str, float]
    ) -> tuple[steps.TrainStep, _Carried]:
        """The compiled step, and the state before the first one."""
        params = variables["params"]
        program = build_program(
            self.config,
            self.index,
            params,
            self.mesh,
            steps_per_epoch=self.steps_per_epoch,
            handed_on=handed_on,
        )
        self.schedule = program.schedule
        state = TrainState.create(variables, program.optimizer)
        # All of it, the counters too: a leaf placed otherwise than the step returns it would have
        # the step compiled a second time.
        shard = self.config.optimizer.shard_state
        state = devices.lay_out(state, state_shardings(state, self.mesh, shard_optimizer=shard))
        best = Best.create(stages.selected_parts(self.method, self.stage, params), variables)
        return program.step, _Carried(state, devices.place(best, self.mesh))

    def _initial(self, earlier: Tree | None, *, resuming: bool) -> Tree:
        """The stage's first variables: earlier ones, then imported ones, and the rest drawn."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), self.index)

        def init(key: jax.Array) -> Tree:
            return self.method.initial_variables(key, self.stage)

        shapes = jax.eval_shape(init, key)
        variables, taken = stages.take_over(shapes, earlier)
        if earlier is not None and taken == 0:
            raise UserError(
                f"config.init_from: no variable of {self.config.init_from or 'the stage before'} "
                "matches this model in name and shape"
            )
        if taken < len(jax.tree.leaves(shapes)):
            # A checkpoint is about to replace them all, so a file may be gone by then.
            imported = None if resuming else pretrained_variables(self.config)
            variables, _ = stages.take_over(stages.take_over(shapes, imported)[0], earlier)
            variables = stages.draw_missing(variables, init, key)
        return devices.place(variables, self.mesh)

    def _batches(self, first_batch: int) -> devices.DevicePrefetch:
        data = self.config.data
        batches = train_batches(
            self.train_split,
            num_frames=data.num_frames,
            image_size=self.method.image_size,
            batch_size=data.batch_size,
            seed=self.seed,
            flip=data.flip,
            multi_scale=data.multi_scale,
            num_threads=data.num_threads,
            num_workers=data.num_workers,
            rows=devices.local_rows(data.batch_size, self.mesh),
            first_batch=first_batch,
        )
        return devices.DevicePrefetch(batches, lambda batch: devices.put_batch(batch, self.mesh))

    def _train(self, step_fn: steps.TrainStep, carried: _Carried, checkpoints: Checkpoints) -> None:
        """Takes the stage's steps, from the newest checkpoint on; `carried` moves along."""
        self._restore(carried, checkpoints)
        done, last = int(carried.state.step), self.epoch_ends[-1]
        with (
            StageLog(
                self.config,
                self.name,
                self.workdir / "history" / f"{self.index}_{self.name}",
                (done, last),
                progress=self.progress,
                reporting=self.reporting,
            ) as log,
            contextlib.closing(self._batches(done)) as batches,
        ):
            if not carried.evaluated:
                self._end_epoch(done, carried, log, checkpoints)
            for step in range(done + 1, last + 1):
                batch = log.next_batch(step, batches, carried.watch)
                carried.state, metrics = step_fn(carried.state, batch)
                carried.watch.add(step, metrics["loss"])
                log.step_done(step, batch, metrics["loss"])
                ends = step in self.epoch_ends
                if step % self.config.log_every == 0 or ends:
                    self._check_losses(carried.watch, checkpoints)
                    log.report(step, metrics, float(self.schedule(step - 1)))
                if ends:
                    self._end_epoch(step, carried, log, checkpoints)
                    log.resume(step)
                elif self._due(step):
                    self._save(step, carried, log, checkpoints)
                if step < last and self.notice.reached():
                    self._stop(step, carried, log, checkpoints)

    def _due(self, step: int) -> bool:
        every = self.config.checkpoint_every_steps
        return every > 0 and step % every == 0

    def _end_epoch(
        self, step: int, carried: _Carried, log: StageLog, checkpoints: Checkpoints
    ) -> None:
        """Evaluates and saves, where that is due."""
        number = self.epoch_ends.index(step) + 1
        last = step == self.epoch_ends[-1]
        score = None
        if last or number % self.config.evaluate_every == 0:
            score = self._evaluate(step, carried, log, checkpoints)
        if last or number % self.config.checkpoint_every == 0 or self._due(step):
            self._save(step, carried, log, checkpoints, score)

    def _evaluate(
        self, step: int, carried: _Carried, log: StageLog, checkpoints: Checkpoints
    ) -> float | None:
        """Evaluates, remembers the best; returns the mean score, None where it is not finite."""
        try:
            scores = self.validation.scores(carried.state.variables, self.notice.watch)
        except Interrupted:
            carried.evaluated = False
            self._stop(step, carried, log, checkpoints)
        best = carried.best.update(scores, self.epoch_ends.index(step), carried.state.variables)
        carried.best, carried.evaluated = devices.place(best, self.mesh), True
        log.write_scores(step, scores)
        score = sum(scores.values()) / len(scores)
        return score if math.isfinite(score) else None

    def _save(
        self,
        step: int,
        carried: _Carried,
        log: StageLog,
        checkpoints: Checkpoints,
        score: float | None = None,
    ) -> None:
        """Saves the step, unless its numbers are no longer finite."""
        self._check_losses(carried.watch, checkpoints)
        if not all_finite(carried.state):
            raise self._diverged(step, "parameters or statistics are", checkpoints)
        log.flush()
        meta = {"stage": self.name, "evaluated": carried.evaluated, "data": self._place(step)}
        tree = {"state": carried.state, "best": carried.best}
        checkpoints.save(step, tree, meta, score=score)

    def _place(self, step: int) -> dict[str, int]:
        """All that decides which examples come after a step, on however many processes."""
        return {
            "next_batch": step,
            "batch_size": self.config.data.batch_size,
            "num_examples": len(self.train_split),
            "seed": self.seed,
        }

    def _restore(self, carried: _Carried, checkpoints: Checkpoints) -> None:
        restored = checkpoints.restore_latest({"state": carried.state, "best": carried.best})
        if restored is None:
            return
        tree, meta = restored
        carried.state, carried.best = tree["state"], tree["best"]
        carried.evaluated = meta["evaluated"]
        if meta["data"] != self._place(int(carried.state.step)):
            raise UserError(
                f"the training videos are not those that {self.workdir} was trained on "
                f"({meta['data']['num_examples']} then, {len(self.train_split)} now); give it the "
                "same data, or choose another --workdir"
            )

    def _stop(self, step: int, carried: _Carried, log: StageLog, checkpoints: Checkpoints) -> None:
        self._save(step, carried, log, checkpoints)
        checkpoints.wait()
        raise Preempted(
            f"told to stop; stage '{self.name}' is saved at step {step} of {self.epoch_ends[-1]}, "
            "and the same command goes on from there"
        )

    def _check_losses(self, watch: LossWatch, checkpoints: Checkpoints) -> None:
        bad = watch.first_bad()
        if bad is not None:
            raise self._diverged(bad[0], f"the loss is {bad[1]}: it is", checkpoints)

    def _diverged(self, step: int, what: str, checkpoints: Checkpoints) -> UserError:
        checkpoints.wait()
        return UserError(
            f"stage '{self.name}', step {step}: {what} not finite, at learning rate "
            f"{float(self.schedule(step - 1)):.3g}; the last good checkpoint is kept "
            f"({checkpoints.describe_latest()}). A lower "
            f"config.stages.{self.name}.learning_rate in a new --workdir may help"
        )
