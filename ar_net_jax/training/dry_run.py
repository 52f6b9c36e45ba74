"""Compiles the training step of every stage, for the devices at hand or for described ones.

Neither data nor weights are needed.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ar_net_jax.costs.counting import count_macs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.described import expected_loops
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.topology import ChipCheck, Slice, compile_described, describe_devices
from ar_net_jax.training.micro_batches import check_batch
from ar_net_jax.training.program import build_program
from ar_net_jax.training.state import TrainState, state_shardings

Tree = Any

_MAX_LABELS = 3
# The batch that the step works on, and those of `DevicePrefetch` behind it.
_BATCHES = 3


@dataclasses.dataclass(frozen=True)
class StageCheck:
    """What compiling a stage's step showed; bytes are those on one device.

    Attributes:
        name: of the stage.
        state: of what stays from step to step.
        batches: of the batches on the device at once.
        step: of temporary values, and of the program.
        limit: what the device has.
        flops: of a step, on all devices.
        xla_flops: XLA's own count for one device, which counts the body of a loop once.
        seconds: that compiling took.
    """

    name: str
    state: int
    batches: int
    step: int
    limit: int
    flops: int
    xla_flops: float
    seconds: float

    @property
    def needed(self) -> int:
        """Bytes that a device needs in all."""
        return self.state + self.batches + self.step

    @property
    def fits(self) -> bool:
        """Whether the device has them."""
        return self.needed <= self.limit


@dataclasses.dataclass(frozen=True)
class DescribedStage:
    """What compiling a stage's step for described chips showed.

    Attributes:
        name: of the stage.
        kept: bytes on a chip of what is there beside the step: the copy of the best epoch, and
            batches on their way.
        chip: what the step needs of each chip.
    """

    name: str
    kept: int
    chip: ChipCheck

    @property
    def needed(self) -> int:
        """Bytes that a chip needs in all."""
        return self.kept + self.chip.needed

    @property
    def limit(self) -> float:
        """Bytes that it has."""
        return self.chip.limit

    @property
    def fits(self) -> bool:
        """Whether the chip has them."""
        return self.needed <= self.limit


@dataclasses.dataclass(frozen=True)
class _Step:
    """A stage's step before it is compiled, and what it takes."""

    function: Any  # Jitted, which the type of a step does not tell.
    variables: Tree
    state: Tree
    batch: Tree

    def lower(self) -> jax.stages.Lowered:
        lowered: jax.stages.Lowered = self.function.lower(self.state, self.batch)
        return lowered


def dry_run(config: Config) -> list[StageCheck]:
    """Compiles every stage's step ahead of time for this machine's devices.

    Args:
        config: the run: its batch, settled, its precision and stages.

    Raises:
        UserError: the batch cannot be split over the devices.
    """
    mesh = devices.make_mesh()
    check_batch(config, mesh)
    return [_check_stage(config, index, mesh) for index in range(len(config.stage_order))]


def describe_stage(config: Config, index: int, wanted: Slice) -> DescribedStage:
    """Compiles a stage's step for chips that are not at hand.

    Loops over chosen frames count at every choice as often as any other.

    Args:
        config: the run.
        index: the stage's place in `config.stage_order`.
        wanted: the chips.

    Raises:
        UserError: the batch cannot be split over them, or needs more memory than they have; and as
            `describe_devices`.
    """
    mesh, method = describe_devices(wanted), config.build_method()
    check_batch(config, mesh)
    step = _make_step(config, index, mesh)
    rows = config.data.batch_size // config.optimizer.micro_batches // mesh.size
    even = np.full(len(method.choices), 1 / len(method.choices))
    trips_of = expected_loops(method, even, rows, config.data.num_frames)
    kept = _bytes_on_device(step.variables) + (_BATCHES - 1) * _bytes_on_device(step.batch)
    name = config.stage_order[index]
    program = compile_described(step.lower(), what=f"stage '{name}'", remedy=_remedy(config))
    return DescribedStage(name, kept, program.check(wanted.chip, trips_of))


def _make_step(config: Config, index: int, mesh: Mesh) -> _Step:
    stage = config.stages[config.stage_order[index]]
    variables = jax.eval_shape(
        lambda key: config.build_method().initial_variables(key, stage), jax.random.key(0)
    )
    program = build_program(config, index, variables["params"], mesh)
    state = jax.eval_shape(lambda v: TrainState.create(v, program.optimizer), variables)
    shardings = state_shardings(state, mesh, shard_optimizer=config.optimizer.shard_state)
    state = jax.tree.map(_laid_out, state, shardings)
    batch = {name: _laid_out(x, devices.sharded(mesh)) for name, x in _batch(config).items()}
    return _Step(program.step, variables, state, batch)


def _check_stage(config: Config, index: int, mesh: Mesh) -> StageCheck:
    step = _make_step(config, index, mesh)
    started = time.monotonic()
    compiled: Any = step.lower().compile()
    seconds = time.monotonic() - started
    memory = compiled.memory_analysis()
    result = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return StageCheck(
        config.stage_order[index],
        state=_bytes_on_device(step.state) + _bytes_on_device(step.variables),
        batches=_BATCHES * _bytes_on_device(step.batch),
        step=memory.temp_size_in_bytes + result + memory.generated_code_size_in_bytes,
        limit=devices.memory_limit(mesh),
        flops=2 * count_macs(step.function, step.state, step.batch),
        xla_flops=compiled.cost_analysis().get("flops", float("nan")),
        seconds=seconds,
    )


def _batch(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
    rows, size = config.data.batch_size, config.build_method().image_size
    shapes = {
        "frames": ((rows, config.data.num_frames, size, size, 3), jnp.uint8),
        "labels": ((rows, _MAX_LABELS), jnp.int32),
        "example_id": ((rows,), jnp.int32),
        "epoch": ((rows,), jnp.int32),
        "mask": ((rows,), jnp.bool_),
    }
    return {name: jax.ShapeDtypeStruct(*shapes[name]) for name in devices.DEVICE_FIELDS}


def _laid_out(x: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _bytes_on_device(tree: Tree) -> int:
    """What one device holds of arrays; those without a sharding are whole on each."""

    def size(x: jax.ShapeDtypeStruct) -> int:
        sharding = getattr(x, "sharding", None)
        shape = x.shape if sharding is None else sharding.shard_shape(x.shape)
        return jnp.dtype(x.dtype).itemsize * math.prod(shape)

    return sum(size(x) for x in jax.tree.leaves(tree))


def require_fit(config: Config, checks: Sequence[StageCheck | DescribedStage]) -> None:
    """Raises UserError, with what to change, if a stage needs more memory than a device has.

    Args:
        config: the run.
        checks: from `dry_run` or `describe_stage`.
    """
    too_large = [check for check in checks if not check.fits]
    if too_large:
        worst = max(too_large, key=lambda check: check.needed)
        raise UserError(
            f"stage '{worst.name}' needs {worst.needed / 2**30:.1f} GiB on a device that has "
            f"{worst.limit / 2**30:.1f}; {_remedy(config)}"
        )


def _remedy(config: Config) -> str:
    """What needs less memory."""
    return (
        f"raise config.optimizer.micro_batches (now {config.optimizer.micro_batches}), set "
        "config.model.remat=True or config.optimizer.shard_state=True, or use more devices"
    )
