"""Checkpoints with orbax: the running state of a training, and finished models.

`Checkpoints` holds model, optimizer, and the place in data and randomness of one step together.
`save_model` and `load_model` write and read a finished model: its variables and its config.
"""

import contextlib
import json
import logging
import types
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ar_net_jax.errors import UserError, first_few, first_line
from ar_net_jax.runtime.storage import absolute, is_remote

PyTree = Any

_VARIABLES = "variables"
_CONFIG = "config.json"


class _Manager(ocp.CheckpointManager):  # type: ignore[misc]
    """Orbax's manager, except that it leaves JAX's preemption service alone.

    That service lets all processes stop at the same call by counting calls, and the training loop
    makes them; further calls by the manager's threads would make the counts differ.
    """

    def reached_preemption(self, step: int) -> bool:
        """Always False: the training loop asks."""
        return False


class Checkpoints:
    """The checkpoints of one training stage, written in the background by all processes together.

    The latest few are kept, and the one with the best score. A checkpoint becomes visible only
    once it is complete, so a run killed while writing resumes from the one before.
    """

    def __init__(self, directory: epath.PathLike, keep: int = 2):
        """Opens the folder; creates it if necessary.

        Args:
            directory: local or shared folder (or bucket) of this run's checkpoints.
            keep: how many of the latest checkpoints to keep, >= 1.
        """
        _quieten_orbax()
        self._directory = absolute(directory)
        policies = [
            preservation_policy.LatestN(keep),
            preservation_policy.BestN(
                get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
            ),
        ]
        self._manager = _Manager(
            self._directory,
            # Named here so that a new process can read the tree's shapes before restoring.
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                # Without it, orbax does not store the scores.
                best_fn=_score,
                preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
                cleanup_tmp_directories=True,
            ),
        )

    def save(
        self,
        step: int,
        state: PyTree,
        meta: Mapping[str, Any] | None = None,
        *,
        score: float | None = None,
    ) -> None:
        """Starts to save; the arrays may be donated once this returns.

        A step that is already saved is left as it is.

        Args:
            step: number of finished steps.
            state: pytree of jax arrays; typed PRNG keys are fine.
            meta: JSON values, such as the stage and the place in the data.
            score: of the model, higher is better, if it was evaluated at this step.

        Raises:
            UserError: this checkpoint or the one before could not be written.
        """
        if step in self._manager.all_steps():
            return
        items = {
            "state": ocp.args.StandardSave(state),
            "meta": ocp.args.JsonSave(dict(meta or {})),
        }
        metrics = None if score is None else {"score": score}
        with self._explained():
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)

    def restore_latest(self, template: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Restores the newest checkpoint.

        Args:
            template: pytree of arrays or `jax.ShapeDtypeStruct`s like the saved state; its
                shardings, where it has them, are those of the restored arrays.

        Returns:
            `(state, meta)`, or None if nothing was saved yet.

        Raises:
            UserError: the checkpoint belongs to another config.
        """
        step = self.latest_step()
        if step is None:
            return None
        saved = self._manager.item_metadata(step)["state"].tree
        try:
            check_fits(saved, template)
        except UserError as error:
            raise UserError(
                f"{self._directory}: {error}; or choose another --workdir for this config"
            ) from None
        items = {"state": ocp.args.StandardRestore(template), "meta": ocp.args.JsonRestore()}
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        return restored["state"], restored["meta"]

    def describe_latest(self) -> str:
        """The newest complete checkpoint, in words."""
        step = self.latest_step()
        return "no checkpoint yet" if step is None else f"step {step} in {self._directory}"

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        step: int | None = self._manager.latest_step()
        return step

    def wait(self) -> None:
        """Returns once every save that was started is on disk.

        Raises:
            UserError: one could not be written.
        """
        with self._explained():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes every save that was started, and ends orbax's threads.

        Raises:
            UserError: one could not be written.
        """
        with self._explained():
            self._manager.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns orbax's errors of writing into a UserError that says what to do."""
        try:
            yield
        except Exception as error:
            if not _is_of_the_disk(error):
                raise
            raise UserError(
                f"{self._directory}: a checkpoint could not be written ({_cause(error)}); the "
                f"last whole one is kept ({self.describe_latest()}). See that there is space, "
                "then run the same command to go on from it"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()


def save_model(
    directory: epath.PathLike, variables: PyTree, config_dict: Mapping[str, Any]
) -> None:
    """Writes a finished model, replacing an earlier one; in a local folder atomically.

    All processes of a job must call it; the first one writes.

    Args:
        directory: becomes `variables/` (an orbax tree) beside `config.json`.
        variables: Flax variables; arrays that this process can read in full.
        config_dict: the config as JSON values.

    Raises:
        UserError: it could not be written; an earlier model is kept, except in a bucket.
    """
    _quieten_orbax()
    directory = absolute(directory)
    if jax.process_index() == 0:
        with _replacing(directory) as fresh:
            arrays = jax.tree.map(np.asarray, variables)
            try:
                with _solo_checkpointer() as checkpointer:
                    checkpointer.save(fresh / _VARIABLES, arrays)
            except Exception as error:
                if not _is_of_the_disk(error):
                    raise
                raise UserError(
                    f"{directory}: the model could not be written ({_cause(error)}); see that "
                    "there is space, then run the same command again"
                ) from error
            # Last, because its presence marks the folder as complete.
            (fresh / _CONFIG).write_text(json.dumps(config_dict, indent=2) + "\n")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"save_model {directory}")


def holds_model(directory: epath.PathLike) -> bool:
    """Whether `save_model` has finished there."""
    directory = absolute(directory)
    _recover(directory)
    complete: bool = (directory / _CONFIG).exists()
    return complete


def load_model(directory: epath.PathLike) -> tuple[PyTree, dict[str, Any]]:
    """Reads what `save_model` wrote.

    Args:
        directory: folder with `variables/` and `config.json`.

    Returns:
        `(variables, config_dict)`; variables are nested dicts of numpy arrays.

    Raises:
        UserError: the folder holds no readable model.
    """
    _quieten_orbax()
    directory = absolute(directory)
    _recover(directory)
    for part in (_CONFIG, _VARIABLES):
        if not (directory / part).exists():
            raise UserError(
                f"{directory} is no model checkpoint: it has no {part}; give the folder that a "
                "finished training left (it holds config.json and variables/)"
            )
    try:
        config_dict = json.loads((directory / _CONFIG).read_text())
        with _solo_checkpointer() as checkpointer:
            variables = checkpointer.restore(directory / _VARIABLES)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(
            f"{directory} is damaged and cannot be read ({first_line(error)}); train or convert it "
            "again"
        ) from error
    return variables, config_dict


def check_fits(variables: PyTree, expected_shapes: PyTree) -> None:
    """Checks that a tree of arrays has exactly the keys and shapes that a config asks for.

    Args:
        variables: pytree whose leaves have a `shape`.
        expected_shapes: pytree of arrays or `jax.ShapeDtypeStruct`s.

    Raises:
        UserError: naming the first few missing, unexpected and differently shaped keys.

    >>> check_fits({"w": np.zeros(3)}, {"w": jax.ShapeDtypeStruct((3,), np.float32)})
    """
    found, expected = _shapes(variables), _shapes(expected_shapes)
    faults = {
        "missing": [f"{key} {expected[key]}" for key in expected if key not in found],
        "unexpected": [f"{key} {found[key]}" for key in found if key not in expected],
        "differently shaped": [
            f"{key} {found[key]}, expected {expected[key]}"
            for key in expected
            if key in found and found[key] != expected[key]
        ],
    }
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {first_few(keys)}" for kind, keys in faults.items() if keys)
        raise UserError(
            f"the checkpoint does not fit the config: {listed}. "
            "Use the config that it was trained with"
        )


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Path of each leaf -> its shape; a typed PRNG key counts as its raw data, as on disk."""
    shapes = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        dtype = getattr(leaf, "dtype", None)
        if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        shapes[jax.tree_util.keystr(path, simple=True, separator="/")] = tuple(leaf.shape)
    return shapes


def _score(metrics: Mapping[str, float]) -> float:
    return metrics["score"]


def _is_of_the_disk(error: Exception) -> bool:
    """Whether the operating system refused to write; orbax's C++ part says so in its messages."""
    return isinstance(error, OSError) or "os_error_code" in str(error)


def _cause(error: Exception) -> str:
    """The end of a message, which is the operating system's own."""
    return first_line(error).rsplit(": ", 1)[-1]


def _solo_checkpointer() -> ocp.StandardCheckpointer:
    """A checkpointer that does not wait for other processes."""
    me = jax.process_index()
    return ocp.StandardCheckpointer(
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"solo{me}"
        )
    )


def _beside(directory: epath.Path, suffix: str) -> epath.Path:
    return directory.parent / f".{directory.name}.{suffix}"


def _remove(directory: epath.Path) -> None:
    if directory.exists():
        directory.rmtree()


@contextlib.contextmanager
def _replacing(directory: epath.Path) -> Iterator[epath.Path]:
    """Yields the folder to write a model to, and then moves it in the place of an earlier one."""
    if is_remote(directory):
        # A rename would move object after object, so the earlier model is removed first; and of
        # that first the file which marks it as complete.
        if (directory / _CONFIG).exists():
            (directory / _CONFIG).unlink()
        _remove(directory)
        yield directory
        return
    _recover(directory)
    fresh, old = _beside(directory, "new"), _beside(directory, "old")
    _remove(fresh)
    fresh.mkdir(parents=True)
    yield fresh
    _remove(old)
    if directory.exists():
        directory.rename(old)
    fresh.rename(directory)
    _remove(old)


def _recover(directory: epath.Path) -> None:
    """Finishes the replacement of a local model that was killed between its two renames."""
    if is_remote(directory):
        return
    fresh = _beside(directory, "new")
    if not directory.exists() and (fresh / _CONFIG).exists():
        # Another process of the job may do it first.
        with contextlib.suppress(FileNotFoundError):
            fresh.rename(directory)


def _quieten_orbax() -> None:
    """Drops those log records of orbax that would only disturb the progress bar.

    These are all below an error, and the errors of its threads, which it also raises.
    """
    logger = logging.getLogger("absl")
    if _is_wanted not in logger.filters:
        logger.addFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    lone_error = record.levelno >= logging.ERROR and not record.exc_info
    return lone_error or "orbax" not in record.pathname
