"""Training steps as calls that can be timed: of each stage, and the same work in PyTorch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ar_net_jax.benchmarks.entries import fresh_variables
from ar_net_jax.benchmarks.torch_baseline import import_torch
from ar_net_jax.benchmarks.usage import impose_usage, read_usage
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.runtime.timing import Call, wait
from ar_net_jax.training.micro_batches import check_batch
from ar_net_jax.training.program import build_program
from ar_net_jax.training.state import TrainState, state_shardings


@dataclasses.dataclass(frozen=True)
class StepCall:
    """A training step that can be timed.

    Attributes:
        stage: that it belongs to; for PyTorch's the layout.
        form: `masked` or `routed`.
        forms: in how many forms the stage is timed.
        call: takes a step.
        by_torch: whether PyTorch runs it.
    """

    stage: str
    form: str
    forms: int
    call: Call
    by_torch: bool = False

    @property
    def title(self) -> str:
        """Of its row."""
        if self.by_torch:
            return f"torch, {self.stage}"
        return f"{self.stage}, {self.form}" if self.forms > 1 else self.stage


def stage_calls(
    config: Config, usage: str, seed: int = 0, stages: Sequence[str] = ()
) -> list[StepCall]:
    """A call that takes a training step, for every stage; compiled and warmed up.

    A stage whose decisions are settled comes in the masked and in the routed form, under an
    imposed usage.

    Args:
        config: the run; weights and frames are random.
        usage: as `arnet benchmark --usage`.
        seed: of frames and the order of actions.
        stages: names of those that are wanted; all by default.
    """
    mesh = devices.make_mesh()
    check_batch(config, mesh)
    planned = []
    for index, name in enumerate(config.stage_order):
        if stages and name not in stages:
            continue
        forms = config.build_method().training_forms(config.stages[name])
        batch = _batch(config, seed, usage if len(forms) > 1 else None)
        for form, stage in forms.items():
            changed = dataclasses.replace(config, stages={**config.stages, name: stage})
            planned.append((name, form, len(forms), changed, index, batch))
    return [
        StepCall(name, form, forms, _stage_call(changed, index, mesh, batch))
        for name, form, forms, changed, index, batch in planned
    ]


def _stage_call(config: Config, index: int, mesh: Mesh, batch: dict[str, np.ndarray]) -> Call:
    stage = config.stages[config.stage_order[index]]
    variables = devices.replicate(fresh_variables(config.build_method(), stage), mesh)
    program = build_program(config, index, variables["params"], mesh)
    state = TrainState.create(variables, program.optimizer)
    shard = config.optimizer.shard_state
    state = jax.device_put(state, state_shardings(state, mesh, shard_optimizer=shard))
    rows = devices.shard_rows(batch, mesh)

    def call(number: int) -> Any:
        nonlocal state
        state, metrics = program.step(state, rows)
        return state, metrics

    # The second call still touches memory for the first time.
    for number in range(2):
        wait(call(number))
    return call


def _batch(config: Config, seed: int, usage: str | None) -> dict[str, np.ndarray]:
    rng, method = np.random.default_rng(seed), config.build_method()
    videos, length, size = config.data.batch_size, config.data.num_frames, method.image_size
    batch = {
        "frames": rng.integers(0, 256, (videos, length, size, size, 3), np.uint8),
        "labels": rng.integers(0, method.config.num_classes, (videos, 1)).astype(np.int32),
        "example_id": np.arange(videos, dtype=np.int32),
        "epoch": np.zeros(videos, np.int32),
    }
    if usage is not None:
        choices = method.choices
        shares = read_usage(usage, method)
        batch["forced_actions"] = impose_usage(shares, choices, videos, length, seed)
    return batch


def torch_step_calls(config: Config) -> list[StepCall]:
    """PyTorch's forward and backward pass of a joint step's networks on as many frames.

    Torchvision's networks in training, each at its own resolution, with a plain sum as the loss:
    no resizing, no LSTM, no optimizer. Warmed up.

    Args:
        config: with backbones that torchvision has.

    Returns:
        A call for each of the layouts NCHW and channels-last, in eager mode.

    Raises:
        UserError: no torch or torchvision here, or no such network there.
    """
    torch, torchvision = import_torch()
    model = config.build_method().config
    networks = [n for n in config.build_method().networks().values() if n.backbone]
    names = [(network.backbone, network.resolution) for network in networks]
    unknown = {name for name, _ in names} - set(torchvision.models.list_models())
    if unknown:
        raise UserError(f"--against-torch: torchvision has no {', '.join(sorted(unknown))}")
    device = torch.device("cpu" if jax.default_backend() == "cpu" else "cuda")
    dtype = getattr(torch, model.dtype)
    count = config.data.batch_size * config.data.num_frames

    def make(layout: Any) -> Call:
        pairs = [
            (
                torchvision.models.get_model(name, num_classes=model.num_classes)
                .to(device, dtype, memory_format=layout)
                .train(),
                torch.randn(count, 3, size, size).to(device, dtype, memory_format=layout),
            )
            for name, size in names
        ]

        def call(number: int) -> None:
            for network, frames in pairs:
                network.zero_grad()
                network(frames).sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()

        call(0)
        return call

    layouts = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
    return [
        StepCall(name, "masked", 1, make(layout), by_torch=True) for name, layout in layouts.items()
    ]
