"""Training steps as calls that can be timed: of each stage, and the same work in PyTorch."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ar_net_jax.benchmarks.torch_baseline import import_torch
from ar_net_jax.benchmarks.usage import impose_usage, read_usage
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.runtime.timing import Call
from ar_net_jax.training import parts as stages
from ar_net_jax.training.micro_batches import check_batch
from ar_net_jax.training.program import build_program
from ar_net_jax.training.state import TrainState, state_shardings


def stage_calls(config: Config, usage: str, seed: int = 0) -> dict[str, Call]:
    """A call that takes a training step, for every stage; compiled and warmed up.

    A stage under a frozen policy comes in the masked and in the routed form, under an imposed
    usage.

    Args:
        config: the run; weights and frames are random.
        usage: as `arnet benchmark --usage`.
        seed: of weights, frames and the order of actions.
    """
    mesh = devices.make_mesh()
    check_batch(config, mesh)
    planned = {}
    for index, name in enumerate(config.stage_order):
        stage = config.stages[name]
        frozen = config.model.approach == "ar_net" and stage.freeze_policy != "none"
        forms = ("masked", "routed") if frozen and stage.objective == "joint" else (stage.routing,)
        batch = _batch(config, seed, usage if len(forms) > 1 else None)
        for form in forms:
            changed = {**config.stages, name: dataclasses.replace(stage, routing=form)}
            title = f"{name}, {form}" if len(forms) > 1 else name
            planned[title] = (dataclasses.replace(config, stages=changed), index, batch)
    return {
        title: _stage_call(config, index, mesh, batch, seed)
        for title, (config, index, batch) in planned.items()
    }


def _stage_call(
    config: Config, index: int, mesh: Mesh, batch: dict[str, np.ndarray], seed: int
) -> Call:
    stage = config.stages[config.stage_order[index]]
    variables = jax.jit(
        lambda key: stages.initial_variables(config, stage, key),
        out_shardings=devices.replicated(mesh),
    )(jax.random.key(seed))
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
        jax.block_until_ready(call(number))
    return call


def _batch(config: Config, seed: int, usage: str | None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    videos, length, size = config.data.batch_size, config.data.num_frames, config.model.image_size
    batch = {
        "frames": rng.integers(0, 256, (videos, length, size, size, 3), np.uint8),
        "labels": rng.integers(0, config.model.num_classes, (videos, 1)).astype(np.int32),
        "example_id": np.arange(videos, dtype=np.int32),
        "epoch": np.zeros(videos, np.int32),
    }
    if usage is not None:
        space = config.model.space
        batch["proposals"] = impose_usage(read_usage(usage, space), space, videos, length, seed)
    return batch


def torch_step_calls(config: Config) -> dict[str, Call]:
    """PyTorch's forward and backward pass of a joint step's networks on as many frames.

    Torchvision's networks in training, each at its own resolution, with a plain sum as the loss:
    no resizing, no LSTM, no optimizer. Warmed up.

    Args:
        config: with backbones that torchvision has; the policy's extractor is one more.

    Returns:
        By name a call for the layouts NCHW and channels-last, in eager mode.

    Raises:
        UserError: no torch or torchvision here, or no such network there.
    """
    torch, torchvision = import_torch()
    model = config.model
    names = [*zip(model.backbones, model.resolutions)]
    if model.has_policy:
        names.append((model.policy.backbone, model.policy.resolution))
    unknown = {name for name, _ in names} - set(torchvision.models.list_models())
    if unknown:
        raise UserError(f"--against_torch: torchvision has no {', '.join(sorted(unknown))}")
    device = torch.device("cpu" if jax.default_backend() == "cpu" else "cuda")
    dtype = getattr(torch, model.dtype)
    count = config.data.batch_size * config.data.num_frames

    def make(layout: Any) -> Callable[[int], None]:
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

    return {
        "torch, NCHW": make(torch.contiguous_format),
        "torch, channels-last": make(torch.channels_last),
    }
