"""The loop over the steps and epochs of one stage; it can be stopped and resumed at any step."""

import dataclasses
import math
from collections.abc import Iterator
from typing import NoReturn, Self

import jax
from jax.sharding import Mesh

from ar_net_jax.checkpoints import Checkpoints
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.runtime.preemption import Interrupted, PreemptionHandler
from ar_net_jax.training.log import StageLog
from ar_net_jax.training.nan_guard import NaNGuard, all_finite
from ar_net_jax.training.program import StageProgram
from ar_net_jax.training.state import Best, TrainState
from ar_net_jax.training.validation import Validation

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which steps of a stage end an epoch, and which are followed by a report or a checkpoint.

    Steps count from 1, epochs from 0.

    Attributes:
        epoch_ends: the last step of each epoch, ascending.
        log_every: steps between two reports.
        evaluate_every: epochs between two evaluations.
        checkpoint_every: epochs between two checkpoints.
        checkpoint_every_steps: steps between two checkpoints within an epoch; 0 for none.
    """

    epoch_ends: tuple[int, ...]
    log_every: int
    evaluate_every: int
    checkpoint_every: int
    checkpoint_every_steps: int

    @classmethod
    def create(cls, config: Config, epochs: int, steps_per_epoch: float) -> Self:
        """The plan of a stage of `epochs`, each of which ends on the nearest whole step."""
        return cls(
            tuple(round((epoch + 1) * steps_per_epoch) for epoch in range(epochs)),
            config.log_every,
            config.evaluate_every,
            config.checkpoint_every,
            config.checkpoint_every_steps,
        )

    @property
    def last_step(self) -> int:
        """The last step of the stage."""
        return self.epoch_ends[-1]

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends with this step."""
        return step in self.epoch_ends

    def epoch(self, step: int) -> int:
        """The epoch that ends with this step."""
        return self.epoch_ends.index(step)

    def reports(self, step: int) -> bool:
        """Whether the losses up to this step are fetched and shown."""
        return step % self.log_every == 0 or self.ends_epoch(step)

    def evaluates(self, step: int) -> bool:
        """Whether the variables after this step are evaluated."""
        return self._ends_one_of(step, self.evaluate_every)

    def saves(self, step: int) -> bool:
        """Whether this step is saved."""
        every = self.checkpoint_every_steps
        return self._ends_one_of(step, self.checkpoint_every) or (every > 0 and step % every == 0)

    def _ends_one_of(self, step: int, every: int) -> bool:
        """Whether the step ends the stage, or an epoch whose number `every` divides."""
        if not self.ends_epoch(step):
            return False
        return step == self.last_step or (self.epoch(step) + 1) % every == 0


@dataclasses.dataclass(frozen=True)
class DataOrder:
    """What decides, with the step, which videos a batch holds, on however many processes.

    Attributes:
        batch_size: videos in a batch, over all processes.
        num_examples: videos in the training split.
        seed: of the order and the augmentation.
    """

    batch_size: int
    num_examples: int
    seed: int

    def after(self, step: int) -> dict[str, int]:
        """The place in the data after a step, as a checkpoint records it."""
        return {"next_batch": step, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage is made of; fixed before its first step.

    Attributes:
        name: key in `config.stages`.
        plan: of its steps.
        data: the order of its videos.
        program: the compiled step, and the learning rate by step.
        validation: scores variables by part.
        mesh: the devices.
    """

    name: str
    plan: Plan
    data: DataOrder
    program: StageProgram
    validation: Validation
    mesh: Mesh


@dataclasses.dataclass
class StageLoop:
    """Takes the steps of a stage one after the other.

    Attributes:
        stage: what it trains.
        batches: endless, on the devices, from the batch of the next step on.
        checkpoints: of the stage.
        log: its reports.
        preemption: asked after each step and each batch of an evaluation.
        state: after the last step taken.
        best: of the epochs evaluated so far.
        evaluated: False while an evaluation that is due after the last step is still to be made.
        guard: over the losses since the last report.
        compiled_evaluation: whether an evaluation has been made, so that the next compiles nothing.
    """

    stage: Stage
    batches: Iterator[Batch]
    checkpoints: Checkpoints
    log: StageLog
    preemption: PreemptionHandler
    state: TrainState
    best: Best
    evaluated: bool
    guard: NaNGuard = dataclasses.field(default_factory=NaNGuard)
    compiled_evaluation: bool = False

    def run(self) -> None:
        """Takes the steps that are left, and evaluates and saves where that is due.

        Raises:
            UserError: the loss or the parameters are no longer finite, or a checkpoint cannot be
                written.
            Preempted: the machine is to be given up; the last step is saved.
        """
        plan, done = self.stage.plan, int(self.state.step)
        if not self.evaluated:
            self._evaluate_and_save(done)
        for step in range(done + 1, plan.last_step + 1):
            batch = self.log.next_batch(step, self.batches, self.guard)
            self.state, metrics = self.stage.program.step(self.state, batch)
            self.guard.add(step, metrics["loss"])
            self.log.step_done(step, batch, metrics["loss"])
            if plan.reports(step):
                self._check_losses()
                self.log.report(step, metrics, self._learning_rate(step))
            self._evaluate_and_save(step)
            if plan.ends_epoch(step):
                self.log.resume(step)
            if step < plan.last_step and self.preemption.requested():
                self._stop(step)

    def _evaluate_and_save(self, step: int) -> None:
        """Does what the plan has after a step."""
        score = self._evaluate(step) if self.stage.plan.evaluates(step) else None
        if self.stage.plan.saves(step):
            self._save(step, score)

    def _evaluate(self, step: int) -> float | None:
        """Evaluates, keeps the best; returns the mean score, None where it is not finite."""
        validation, interruptible = self.stage.validation, self.preemption.interruptible
        if not self.compiled_evaluation:
            self.log.compiling("the evaluation")
            self.compiled_evaluation = True
        try:
            scores = validation.scores(self.state.variables, interruptible)
        except Interrupted:
            self.evaluated = False
            self._stop(step)
        best = self.best.update(scores, self.stage.plan.epoch(step), self.state.variables)
        self.best, self.evaluated = devices.replicate(best, self.stage.mesh), True
        self.log.write_scores(step, scores, validation.usage)
        score = sum(scores.values()) / len(scores)
        return score if math.isfinite(score) else None

    def _save(self, step: int, score: float | None = None) -> None:
        """Saves the step, unless its numbers are no longer finite."""
        self._check_losses()
        if not all_finite(self.state):
            self._diverged(step, "parameters or statistics are")
        self.log.flush()
        meta = {
            "stage": self.stage.name,
            "evaluated": self.evaluated,
            "data": self.stage.data.after(step),
        }
        tree = {"state": self.state, "best": self.best}
        self.checkpoints.save(step, tree, meta, score=score)

    def _stop(self, step: int) -> NoReturn:
        """Saves the step, and ends the run until the same command is given again."""
        self._save(step)
        self.checkpoints.wait()
        raise self.preemption.notice(
            f"stage '{self.stage.name}' is saved at step {step} of {self.stage.plan.last_step}"
        )

    def _check_losses(self) -> None:
        bad = self.guard.first_nonfinite()
        if bad is not None:
            self._diverged(bad[0], f"the loss is {bad[1]}: it is")

    def _diverged(self, step: int, what: str) -> NoReturn:
        """Ends the run: `what` is not finite after this step."""
        self.checkpoints.wait()
        name = self.stage.name
        raise UserError(
            f"stage '{name}', step {step}: {what} not finite, at learning rate "
            f"{self._learning_rate(step):.3g}; the last good checkpoint is kept "
            f"({self.checkpoints.describe_latest()}). A lower "
            f"config.stages.{name}.learning_rate in a new --workdir may help"
        )

    def _learning_rate(self, step: int) -> float:
        """The rate with which a step was taken; the schedule counts from 0."""
        return float(self.stage.program.schedule(step - 1))
