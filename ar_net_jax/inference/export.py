"""A model as one file that JAX runs without this package: its routed program, weights included.

exported = jax.export.deserialize(Path("model.stablehlo").read_bytes())
answer = jax.jit(exported.call)(frames)
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax import export, lax

from ar_net_jax import backbones
from ar_net_jax.data.classes import told_names
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.chunks import plan_chunks
from ar_net_jax.inference.step import Policy, Request, make_inference
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.storage import check_output, write_json, write_output
from ar_net_jax.runtime.versions import package_versions

Array = jax.Array
Program = Callable[[Any, Array], dict[str, Array]]

PLATFORMS = ("cpu", "cuda", "tpu")
# An artifact is a flatbuffer, which addresses 2 GiB; 64 MiB are left for the program.
_MOST_BYTES = 2**31 - 2**26


@dataclass(frozen=True)
class ExportOptions:
    """What is fixed in an artifact.

    Attributes:
        num_frames: T, frames of every video.
        batch: videos per call; None leaves it open.
        platforms: that it can be compiled for, some of `PLATFORMS`.
        policy: `argmax` takes the most likely action, `sample` draws it, the same way each call.
        seed: of sampled decisions and of the random policy.
        chunks: sizes of chunk for every backbone; the usual ones of each platform by default.

    Raises:
        UserError: an impossible value.
    """

    num_frames: int
    batch: int | None = None
    platforms: tuple[str, ...] = PLATFORMS
    policy: Policy = "argmax"
    seed: int = 0
    chunks: Chunks | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise UserError(f"num_frames: must be at least 1, got {self.num_frames}")
        if self.batch is not None and self.batch < 1:
            raise UserError(f"batch: must be symbolic or at least 1, got {self.batch}")
        unknown = [name for name in self.platforms if name not in PLATFORMS]
        if unknown or not self.platforms:
            raise UserError(
                f"platforms: '{','.join(unknown)}' must be one or several of {','.join(PLATFORMS)}"
            )


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
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    if size > _MOST_BYTES:
        raise UserError(
            f"the weights have {size / 2**30:.2f} GiB, and one artifact holds less than 2 GiB; "
            "`arnet convert --to model.safetensors` writes files of any size"
        )
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
        sizes = tuple(_chunks(config, options, platform).items())
        if sizes not in by_sizes:
            by_sizes[sizes] = _program(config, options, platform)
        programs[platform] = by_sizes[sizes]
    return programs


def _chunks(config: Config, options: ExportOptions, platform: str) -> dict[str, Chunks]:
    """The usual ones: an artifact is for devices that are not at hand, so no plan is taken."""
    networks, dtype = config.build_method().networks(), config.model.dtype
    return plan_chunks(networks, platform, options.chunks, dtype=dtype)


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


def describe_export(config: Config, options: ExportOptions) -> dict[str, Any]:
    """What a user of the artifact has to know, as JSON holds it."""
    model, method = config.model, config.build_method()
    networks, side = method.networks(), method.image_size
    batch, length = options.batch or "b", options.num_frames
    return {
        "format": "jax.export",
        "platforms": list(options.platforms),
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
        "chunks": {
            platform: {
                name: list(sizes) for name, sizes in _chunks(config, options, platform).items()
            }
            for platform in options.platforms
        },
    }


class ExportedFiles(NamedTuple):
    """What `export_to_files` wrote.

    Attributes:
        program: the file that `jax.export.deserialize` reads.
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
        output: a local path; earlier files are replaced, each in one move.
        config: of the model.
        variables: that fit it.
        options: what is to be fixed.

    Raises:
        UserError: as `check_targets` and `export_model`, or a file cannot be written.
    """
    files = check_targets(output)
    facts = {
        **describe_export(config, options),
        "classes": told_names(config),
        "versions": package_versions(),
        "config": config.to_dict(),
    }
    write_output(files.program, export_model(config, variables, options))
    write_json(files.description, facts)
    return files


def check_targets(output: epath.PathLike) -> ExportedFiles:
    """The files that an export to a path writes.

    Raises:
        UserError: a file cannot be put there.
    """
    program = Path(output)
    files = ExportedFiles(program, program.parent / f"{program.name}.json")
    for path in files:
        check_output("--output", path)
    return files
