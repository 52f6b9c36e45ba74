"""A trained model from its directory, ready to be called on frames.

model = ar_net_jax.load("run")
frames, times = ar_net_jax.read_video("clip.mp4", num_frames=16, size=224)
result = model(frames[None])
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ar_net_jax import methods
from ar_net_jax.checkpoints import check_fits, load_model
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.plan import Plan
from ar_net_jax.inference.plans import AUTO, describe_plan, find_plan
from ar_net_jax.inference.step import Inference, Policy, Request, Result, Routing, make_inference
from ar_net_jax.methods import Method
from ar_net_jax.methods.stream import Stream
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.storage import open_storage
from ar_net_jax.weights.export import SAFETENSORS, load_safetensors
from ar_net_jax.weights.hub import download, is_on_hub

Array = jax.Array


class Model:
    """A callable model: config and variables, compiled on the first call for each shape."""

    def __init__(self, config: Config, variables: Any, *, plan: Plan | None = None) -> None:
        """Puts the variables on the default device.

        Args:
            config: the model's config.
            variables: `{"params": ..., "batch_stats": ...}` that fit it.
            plan: how the routed form runs; None for the usual sizes of chunk.
        """
        self.config = config
        self.method = config.build_method()
        self.plan = plan
        self.variables = jax.device_put(variables)
        self._compiled: dict[tuple[object, ...], Inference] = {}

    def __call__(
        self,
        frames: Array | np.ndarray,
        *,
        routing: Routing = "routed",
        policy: Policy = "argmax",
        seed: int = 0,
        num_frames: Array | np.ndarray | None = None,
        cost_penalty: float = 0.0,
        chunks: Chunks | None = None,
    ) -> Result:
        """Classifies videos.

        Args:
            frames: uint8 [B, T, S, S, 3], S = `method.image_size`; any B and T from 1 on.
            routing: `routed` computes chosen frames only, `masked` all backbones on all frames;
                the results agree up to float rounding.
            policy: `argmax` takes the most likely action of each frame, `sample` draws it.
            seed: of sampled decisions and of the random policy.
            num_frames: int [B], how many of the T frames each video has; the rest is padding,
                neither seen nor charged. None if all have T.
            cost_penalty: takes this much, in logits, from the costliest action and from others in
                proportion to their cost, to compute less; negative to compute more.
            chunks: sizes of chunk of the routed form, descending, in place of the plan's.

        Raises:
            ValueError: frames of a wrong shape or type, lengths that do not fit, or an unknown
                routing or policy.
        """
        self._check_frames(frames)
        _check_choice("routing", routing, ("routed", "masked"))
        _check_choice("policy", policy, ("argmax", "sample"))
        batch, length = frames.shape[:2]
        order = jnp.arange(batch)
        request = Request(
            frames=jnp.asarray(frames),
            keys=example_keys(seed, jnp.zeros_like(order), order),
            frame_mask=_mask_of(num_frames, batch, length),
        )
        how = (routing, policy, chunks)
        if how not in self._compiled:
            self._compiled[how] = make_inference(
                self.method, routing=routing, policy=policy, chunks=chunks, plan=self.plan
            )
        result = self._compiled[how](self.variables, request, jnp.float32(cost_penalty))
        executed = {name: count[0] for name, count in result.executed.items()}
        return dataclasses.replace(result, executed=executed)

    def describe_plan(self) -> dict[str, Any]:
        """How the routed form runs: `source`, `form` and `chunks` by network."""
        return describe_plan(self.method, self.plan)

    def stream(self, *, cost_penalty: float = 0.0) -> Stream:
        """A video that arrives frame by frame; compiled when this returns.

        Args:
            cost_penalty: as in a call.

        Raises:
            UserError: the method decides nothing frame by frame.
        """
        return self.method.stream(self.variables, cost_penalty=cost_penalty)

    def _check_frames(self, frames: Array | np.ndarray) -> None:
        size = self.method.image_size
        shape = tuple(np.shape(frames))
        right = len(shape) == 5 and shape[2:] == (size, size, 3) and min(shape) >= 1
        if not right or frames.dtype != np.uint8:
            raise ValueError(
                f"frames must be uint8 [B, T, {size}, {size}, 3] with B, T >= 1, got "
                f"{getattr(frames, 'dtype', type(frames).__name__)} {list(shape)}"
            )


def load(
    directory: epath.PathLike,
    *,
    method: type[Method[Any, Any]] | None = None,
    plan: str = AUTO,
) -> Model:
    """Loads a trained or converted model.

    Args:
        directory: a model's folder, the work directory of a finished training, a `.safetensors`
            file that `arnet convert` wrote, or `hf://owner/name`, a model on the Hugging Face hub.
        method: the class of the model's method, where that neither ships with the package nor is
            an installed one's.
        plan: `auto` takes the one that `arnet tune` measured on this kind of device, `none` none;
            else a file with one.

    Raises:
        UserError: no model there, one that does not fit its config, a method that is not known, or
            no such plan.
    """
    if method is not None:
        methods.register(method)
    config, variables = load_config_and_variables(directory)
    return Model(config, variables, plan=find_plan(config.build_method(), plan))


def find_model(directory: epath.PathLike) -> epath.Path:
    """The model: a file of `arnet convert`, a folder, or `model/` in a training's work directory.

    One on the Hugging Face hub, `hf://owner/name`, is downloaded.

    Raises:
        UserError: there is no finished model.
    """
    if is_on_hub(directory):
        return epath.Path(download(os.fspath(directory)))
    directory = open_storage(directory)
    if directory.suffix == SAFETENSORS and directory.is_file():
        return directory
    for candidate in (directory / "model", directory):
        if (candidate / "config.json").is_file() and (candidate / "variables").is_dir():
            return candidate
    raise UserError(
        f"{directory}: no finished model here; give the work directory of a finished "
        f"`arnet train`, its model folder, or a {SAFETENSORS} file of `arnet convert`"
    )


def load_config_and_variables(directory: epath.PathLike) -> tuple[Config, dict[str, Any]]:
    """Reads a model and checks that its variables are those its config asks for.

    Args:
        directory: as of `load`.

    Returns:
        The config, and `{"params": ..., "batch_stats": ...}` as host arrays.

    Raises:
        UserError: no model there, or one that does not fit its config.
    """
    model_dir = find_model(directory)
    if model_dir.suffix == SAFETENSORS:
        config, variables = load_safetensors(model_dir)
    else:
        variables, values = load_model(model_dir)
        config = Config.from_dict(values)
    check_variables(config, variables, model_dir)
    return config, variables


def load_variables(directory: epath.PathLike) -> dict[str, Any]:
    """The variables of a model that another is to start from, whatever its method.

    Args:
        directory: as of `load`, or what a stage of a training handed on.

    Returns:
        `{"params": ..., "batch_stats": ...}` as host arrays.

    Raises:
        UserError: no model there, or a damaged one.
    """
    found = find_model(directory)
    if found.suffix == SAFETENSORS:
        return load_safetensors(found)[1]
    return load_model(found)[0]


def check_variables(config: Config, variables: Any, directory: epath.PathLike) -> None:
    """Raises UserError, naming keys and shapes, if variables do not fit a config."""
    try:
        check_fits(variables, config.build_method().variable_shapes())
    except UserError as error:
        raise UserError(f"{directory}: {error}") from None


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _mask_of(num_frames: Array | np.ndarray | None, batch: int, length: int) -> Array | None:
    """Frame mask bool [B, T] of the videos' lengths."""
    if num_frames is None:
        return None
    lengths = np.asarray(num_frames)
    whole = np.issubdtype(lengths.dtype, np.integer) and lengths.shape == (batch,)
    if not whole or lengths.min() < 1 or lengths.max() > length:
        raise ValueError(
            f"num_frames must hold {batch} whole numbers from 1 to {length}, got {num_frames}"
        )
    return jnp.arange(length) < jnp.asarray(lengths)[:, None]
