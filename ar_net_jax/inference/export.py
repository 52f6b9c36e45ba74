"""A model as one file that others run without this package: StableHLO for JAX, or ONNX.

A StableHLO file holds the routed program, weights included; for ONNX see `export_onnx`.

exported = jax.export.deserialize(Path("model.stablehlo").read_bytes())
answer = jax.jit(exported.call)(frames)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax import export, lax

from ar_net_jax import backbones
from ar_net_jax.data.classes import told_names
from ar_net_jax.experiment import Config
from ar_net_jax.inference import export_onnx
from ar_net_jax.inference.export_options import ExportOptions, check_size, usual_chunks
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.storage import check_output, write_json, write_output
from ar_net_jax.runtime.versions import package_versions

Array = jax.Array
Program = Callable[[Any, Array], dict[str, Array]]


def export_model(config: Config, variables: Any, options: ExportOptions) -> bytes:
    """Serialises the routed form of a model, weights included.

    What is serialised maps frames uint8 [B, T, S, S, 3] to a dict of `logits` float32 [B, C],
    `actions` int32 [B, T] and `gflops` float32 [B]. `jax.export.deserialize` reads it back; where
    B is open, each B is compiled when it is first seen.

    Args:
        config: of the model.
        variables: that fit it.
        options: what is to be fixed.

    Raises:
        UserError: impossible chunks, or weights too large for one file.
    """
    weights = jax.tree.map(np.asarray, variables)
    check_size(weights)
    programs = _programs(config, options)

    def run(frames: Array) -> dict[str, Array]:
        return lax.platform_dependent(weights, frames, **programs)

    batch = options.batch or export.symbolic_shape("b")[0]
    side = config.build_method().image_size
    frames = jax.ShapeDtypeStruct((batch, options.num_frames, side, side, 3), jnp.uint8)
    exported = export.export(jax.jit(run), platforms=options.platforms)(frames)
    return bytes(exported.serialize())


def _programs(config: Config, options: ExportOptions) -> dict[str, Program]:
    """The program for each platform; platforms with the same sizes of chunk share one."""
    by_sizes: dict[tuple[tuple[str, Chunks], ...], Program] = {}
    programs = {}
    for platform in options.platforms:
        sizes = tuple(usual_chunks(config, options, platform).items())
        if sizes not in by_sizes:
            by_sizes[sizes] = _program(config, options, platform)
        programs[platform] = by_sizes[sizes]
    return programs


def _program(config: Config, options: ExportOptions, platform: str) -> Program:
    infer = make_inference(
        config.build_method(), policy=options.policy, chunks=options.chunks, platform=platform
    )

    def program(variables: Any, frames: Array) -> dict[str, Array]:
        order = jnp.arange(frames.shape[0])
        keys = example_keys(options.seed, jnp.zeros_like(order), order)
        answer = infer(variables, Request(frames, keys), jnp.float32(0.0))
        return {"logits": answer.logits, "actions": answer.actions, "gflops": answer.gflops}

    return program


def describe_export(config: Config, options: ExportOptions, suffix: str = "") -> dict[str, Any]:
    """What a user of the artifact has to know, as JSON holds it.

    Args:
        config: of the model.
        options: what is fixed.
        suffix: of the file, which tells the format.
    """
    model, method = config.model, config.build_method()
    networks, side = method.networks(), method.image_size
    batch, length = options.batch or "b", options.num_frames
    return {
        **_format_facts(config, options, suffix),
        "method": config.method,
        "num_classes": method.config.num_classes,
        "inputs": {
            "frames": {
                "dtype": "uint8",
                "shape": [batch, length, side, side, 3],
                "axes": "video, time, row, column, RGB",
            }
        },
        "outputs": {
            "logits": {"dtype": "float32", "shape": [batch, method.config.num_classes]},
            "actions": {"dtype": "int32", "shape": [batch, length]},
            "gflops": {"dtype": "float32", "shape": [batch]},
        },
        "actions": list(method.choices.names),
        "gflops_convention": model.gflops_convention,
        "normalisation": {
            "where": "inside; give RGB from 0 to 255",
            "resize": model.resize,
            "by_network": {
                name: backbones.get(network.backbone).normalisation._asdict()
                for name, network in networks.items()
                if network.backbone
            },
        },
        "dtype": model.dtype,
        "policy": options.policy,
        "seed": options.seed,
    }


def _format_facts(config: Config, options: ExportOptions, suffix: str) -> dict[str, Any]:
    platforms = options.platforms
    facts: dict[str, Any] = {"format": "jax.export", "platforms": list(platforms), "form": "routed"}
    if suffix == export_onnx.SUFFIX:
        form = export_onnx.form_of(options)
        platforms = (export_onnx.PLATFORM,) if form == "routed" else ()
        facts = {"format": "onnx", "opset": export_onnx.OPSET, "form": form}
    sizes = {platform: usual_chunks(config, options, platform) for platform in platforms}
    return facts | {
        "chunks": {
            platform: {name: list(chunks) for name, chunks in by_network.items()}
            for platform, by_network in sizes.items()
        }
    }


class ExportedFiles(NamedTuple):
    """What `export_to_files` wrote.

    Attributes:
        program: the file that `jax.export.deserialize` or an ONNX runtime reads.
        description: JSON, what a user of the program has to know.
    """

    program: Path
    description: Path


def export_to_files(
    output: epath.PathLike,
    config: Config,
    variables: Any,
    options: ExportOptions,
) -> ExportedFiles:
    """Writes a model's program, and beside it `OUTPUT.json`: see `describe_export`.

    Args:
        output: a local path, `*.onnx` for ONNX and any other for StableHLO; earlier files are
            replaced, each in one move.
        config: of the model.
        variables: that fit it.
        options: what is to be fixed.

    Raises:
        UserError: as `check_targets`, `export_model` and `export_onnx`, or a file cannot be
            written.
    """
    files = check_targets(output)
    facts = {
        **describe_export(config, options, files.program.suffix),
        "classes": told_names(config),
        "versions": package_versions(),
        "config": config.to_dict(),
    }
    onnx = files.program.suffix == export_onnx.SUFFIX
    write = export_onnx.export_onnx if onnx else export_model
    write_output(files.program, write(config, variables, options))
    write_json(files.description, facts)
    return files


def check_targets(output: epath.PathLike) -> ExportedFiles:
    """The files that an export to a path writes.

    Raises:
        UserError: a file cannot be put there, or what writes its format is not installed.
    """
    program = Path(output)
    files = ExportedFiles(program, program.parent / f"{program.name}.json")
    for path in files:
        check_output("--output", path)
    if program.suffix == export_onnx.SUFFIX:
        export_onnx.check_extra()
    return files
