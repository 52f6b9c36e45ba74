"""A training batch that fits the videos and the machine, where a config leaves it open."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from ar_net_jax.costs.counting import Operation, list_operations
from ar_net_jax.experiment import Config
from ar_net_jax.modules.frame_runner import EVALUATION
from ar_net_jax.runtime import mesh as devices

# An epoch of fewer steps says little of where the loss goes, and each moves the model far.
_STEPS_PER_EPOCH = 8
# BatchNorm wants more than one video in training.
_LEAST = 2
# More videos of 16 frames a device make a step no faster for a video.
_MOST_PER_DEVICE = 16
# A training step holds for each video what convolutions and matrix products give, times this: what
# BatchNorm and activations make of it, and gradients. (3.4 by `arnet train --config=demo --dry-run`
# at two batches; ResNet-50 3.3, ResNet-18 4.2.) Of depthwise convolutions it holds so much more:
# EfficientNet-Lite0 needs 7.7 times what all of its operations give, a third of it depthwise.
_STEP_FACTOR, _DEPTHWISE_FACTOR = 3.5, 12
# The rest is for parameters, the program, the videos that are read, and other programs.
_SHARE_OF_MEMORY = 2 / 3


def settle_batch(config: Config, workdir: epath.PathLike | None, num_videos: int | None) -> Config:
    """The config with its batch and learning rates as they will be.

    Where `data.batch_size` is 0, it becomes what a run that is under way began with, and else
    `choose_batch`. Where `optimizer.rates_for_batch` is not 0, the learning rate of every stage is
    multiplied by the square root of `data.batch_size / rates_for_batch`: the noise of a step stays
    the same. In proportion, the few steps of a small set would hardly move the policy.

    Args:
        config: of the run.
        workdir: of the run; None where there is none.
        num_videos: to train on; None where that is not known yet, and the batch is left open in a
            new run.
    """
    size, power = config.data.batch_size, 0.5
    record = None if size or workdir is None else epath.Path(workdir) / "config.json"
    if record is not None and record.exists():
        values = json.loads(record.read_text())
        size = int(values["data"]["batch_size"])
        # Version 0.1.0 had rates in proportion to the batch.
        power = 0.5 if "rates_for_batch" in values["optimizer"] else 1.0
    if not size:
        if num_videos is None:
            return config
        size = choose_batch(config, num_videos)
    return _with_batch(config, size, power)


def for_a_full_batch(config: Config) -> Config:
    """As `settle_batch`, for a job without data: as many videos as the machine takes."""
    return settle_batch(config, None, _STEPS_PER_EPOCH * _MOST_PER_DEVICE * jax.device_count())


def choose_batch(config: Config, num_videos: int) -> int:
    """A power of two for each device: the largest that fits the videos and the devices' memory.

    An epoch is to have at least 8 steps, a device to hold no more than 16 videos and no more than
    two thirds of its memory can take.

    Args:
        config: of the run.
        num_videos: to train on.
    """
    mesh = devices.make_mesh()
    by_set = num_videos / _STEPS_PER_EPOCH / mesh.size
    by_memory = _SHARE_OF_MEMORY * devices.memory_limit(mesh) / step_bytes(config)
    most = min(by_set, by_memory, _MOST_PER_DEVICE)
    per_device = 2 ** math.floor(math.log2(most)) if most >= 1 else 1
    size = max(_LEAST, per_device * mesh.size)
    if jax.process_count() > 1:
        # They may differ in memory.
        size = int(multihost_utils.broadcast_one_to_all(np.int32(size)))
    return size


def step_bytes(config: Config) -> int:
    """About what a training step holds of each video, in bytes; nothing is computed."""
    method = config.build_method()
    side = method.image_size
    frames = jax.ShapeDtypeStruct((1, config.data.num_frames, side, side, 3), np.uint8)
    variables = method.variable_shapes()
    module = method.module()
    operations = list_operations(lambda v, x: module.apply(v, x, EVALUATION), variables, frames)
    results = sum(_kept(operation) for operation in operations)
    # On CPU, XLA computes bfloat16 as float32.
    on_cpu = jax.default_backend() == "cpu"
    width = 4 if on_cpu else jnp.dtype(config.model.dtype).itemsize
    return round(width * results)


def _kept(operation: Operation) -> float:
    """Numbers that training holds of a convolution or matrix product."""
    _, kernel = operation.operand_shapes
    depthwise = len(kernel) == 4 and kernel[2] == 1 and kernel[3] > 1
    factor = _STEP_FACTOR + _DEPTHWISE_FACTOR * depthwise
    return factor * operation.runs * math.prod(operation.output_shape)


def tell_batch(config: Config, before: Config, num_videos: int) -> str | None:
    """A line on what was settled; None where nothing was open.

    Args:
        config: from `settle_batch`.
        before: that it was given.
        num_videos: to train on.
    """
    if config.data.batch_size == before.data.batch_size and config.stages == before.stages:
        return None
    rates = ", ".join(
        f"{name} {config.stages[name].learning_rate:.3g}" for name in config.stage_order
    )
    told = (
        f"batches of {config.data.batch_size} videos, to fit the {num_videos} training videos and "
        f"this machine; learning rates to match: {rates}"
    )
    mesh = devices.make_mesh()
    limit, needed = devices.memory_limit(mesh), step_bytes(config) * config.data.batch_size
    if needed <= _SHARE_OF_MEMORY * limit * mesh.size:
        return told
    return (
        f"{told}\na step may need {needed / mesh.size / 2**30:.0f} GiB of the "
        f"{limit / 2**30:.0f} that there are; fewer frames (config.data.num_frames, now "
        f"{config.data.num_frames}) or a variant with one network (`uniform`) need less"
    )


def _with_batch(config: Config, size: int, power: float) -> Config:
    data = dataclasses.replace(config.data, batch_size=size)
    scale = (size / (config.optimizer.rates_for_batch or size)) ** power
    stages = {
        name: dataclasses.replace(stage, learning_rate=stage.learning_rate * scale)
        for name, stage in config.stages.items()
    }
    optimizer = dataclasses.replace(config.optimizer, rates_for_batch=0)
    return dataclasses.replace(config, data=data, stages=stages, optimizer=optimizer)
