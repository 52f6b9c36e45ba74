"""A model as one ONNX file, for ONNX Runtime and other programs that know no JAX.

With an open batch it holds the masked form, all networks on all frames; with a fixed one the routed
form, whose loops compute chosen frames only.
"""

from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from ar_net_jax.errors import UserError, first_line
from ar_net_jax.experiment import Config
from ar_net_jax.inference.export_options import (
    PLATFORMS,
    ExportOptions,
    check_size,
    usual_chunks,
)
from ar_net_jax.inference.plain_program import plain_program, primitives
from ar_net_jax.inference.step import Request, Routing, inference_function
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.extras import import_extra

Array = jax.Array

SUFFIX = ".onnx"
OUTPUTS = ("logits", "actions", "gflops")
OPSET = 21
"""Of the operators in a file."""
PLATFORM = "cpu"
"""Whose usual sizes of chunk are taken: ONNX Runtime's own kernels are for CPUs."""
# Of the largest logit, by which the finished file may differ from the model.
_TOLERANCE = 1e-3


def check_extra() -> None:
    """Raises a `UserError` where the packages that write and run ONNX files are missing."""
    for module in ("jax2onnx", "onnxruntime"):
        import_extra(module, f"writing a {SUFFIX} file", "onnx")


def form_of(options: ExportOptions) -> Routing:
    """The form that a file holds."""
    return "masked" if options.batch is None else "routed"


def export_onnx(config: Config, variables: Any, options: ExportOptions) -> bytes:
    """Converts a model to ONNX, weights included, and runs the result once against the model.

    What is returned maps `frames` uint8 [B, T, S, S, 3] to `logits` float32 [B, C], `actions` int32
    [B, T] and `gflops` float32 [B].

    Args:
        config: of the model.
        variables: that fit it.
        options: what is to be fixed; its platforms are left as they are by default.

    Raises:
        UserError: the extra `onnx` is missing, the model or an option cannot be had in ONNX, or
            the result differs from the model.
    """
    check_extra()
    _check_options(config, options)
    weights = jax.tree.map(np.asarray, variables)
    check_size(weights)
    run = _function(config, weights, options)
    program = _traced(run, config, options)
    if drawn := sorted(name for name in primitives(program) if name.startswith("random_")):
        raise UserError(
            f"method '{config.method}', policy '{options.policy}': decisions are drawn at random "
            f"({', '.join(drawn)}), and ONNX cannot draw what JAX draws; write a StableHLO file"
        )
    data = _convert(config, program, options)
    _check_result(data, run, config, program.in_avals[0].shape)
    return data


def _check_options(config: Config, options: ExportOptions) -> None:
    if options.platforms != PLATFORMS:
        raise UserError("platforms: an ONNX file runs wherever its runtime does; leave them out")
    if options.chunks is not None and options.batch is None:
        raise UserError(
            "chunks: an ONNX file with an open batch holds the masked form, which has none; "
            "give --batch=N as well"
        )
    if config.model.dtype != "float32":
        raise UserError(
            f"model.dtype: '{config.model.dtype}' is computed by no ONNX runtime on CPUs; first "
            "`arnet convert MODEL --to float32.safetensors --config.model.dtype=float32`"
        )


def _function(
    config: Config, weights: Any, options: ExportOptions
) -> Callable[[Array], tuple[Array, ...]]:
    """From frames to what the file gives."""
    chunks = usual_chunks(config, options, PLATFORM) if form_of(options) == "routed" else None
    infer = inference_function(config.build_method(), policy=options.policy, chunks=chunks)

    def run(frames: Array) -> tuple[Array, ...]:
        order = jnp.arange(frames.shape[0])
        keys = example_keys(options.seed, jnp.zeros_like(order), order)
        answer = infer(weights, Request(frames, keys), jnp.float32(0.0))
        return answer.logits, answer.actions, answer.gflops

    return run


def _traced(
    run: Callable[[Array], tuple[Array, ...]], config: Config, options: ExportOptions
) -> ClosedJaxpr:
    batch, side = options.batch or export.symbolic_shape("b")[0], config.build_method().image_size
    frames = jax.ShapeDtypeStruct((batch, options.num_frames, side, side, 3), jnp.uint8)
    try:
        return plain_program(run, frames)
    except (NotImplementedError, jax.errors.InconclusiveDimensionOperation) as error:
        raise _cannot(config, options, error) from error


def _convert(config: Config, program: ClosedJaxpr, options: ExportOptions) -> bytes:
    from jax2onnx import to_onnx

    (frames,) = program.in_avals
    given = jax.ShapeDtypeStruct(frames.shape, frames.dtype)
    try:
        model = to_onnx(
            jaxpr_as_fun(program),
            [given],
            model_name=config.method,
            opset=OPSET,
            input_names=["frames"],
            output_names=list(OUTPUTS),
        )
    except Exception as error:  # Its converters raise whatever comes.
        raise _cannot(config, options, error) from error
    return bytes(model.SerializeToString())


def _cannot(config: Config, options: ExportOptions, error: Exception) -> UserError:
    form, other = ("an open", "fix it by --batch=N")
    if options.batch is not None:
        form, other = ("a fixed", "leave --batch out")
    return UserError(
        f"method '{config.method}': jax2onnx {metadata.version('jax2onnx')} cannot convert it with "
        f"{form} batch ({first_line(error)}); {other}, or write a StableHLO file"
    )


def _check_result(
    data: bytes,
    run: Callable[[Array], tuple[Array, ...]],
    config: Config,
    shape: tuple[Any, ...],
) -> None:
    """Runs the file on two videos of noise, or on as many as it takes."""
    batch = shape[0] if isinstance(shape[0], int) else 2
    noise = np.random.default_rng(0).integers(0, 256, (batch, *shape[1:])).astype(np.uint8)
    logits, actions, _ = _answers(data, config, noise)
    expected, decided, _ = (np.asarray(value) for value in jax.jit(run)(jnp.asarray(noise)))
    difference = float(np.abs(logits - expected).max()) / max(1e-6, float(np.abs(expected).max()))
    if not difference <= _TOLERANCE or not np.array_equal(actions, decided):
        raise UserError(
            f"method '{config.method}': on videos of noise the converted file gives other actions "
            f"than the model, or other logits (by {difference:.1e} of the largest); write a "
            "StableHLO file"
        )


def _answers(data: bytes, config: Config, frames: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, quiet, providers=["CPUExecutionProvider"])
        return list(session.run(list(OUTPUTS), {"frames": frames}))
    except Exception as error:  # Its errors have no public base.
        raise UserError(
            f"method '{config.method}': ONNX Runtime {onnxruntime.__version__} cannot run what it "
            f"was converted to ({first_line(error)}); write a StableHLO file"
        ) from error
