"""Compiled programs of a benchmark, their inputs on the devices, and the parts of a model."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ar_net_jax.benchmarks.subjects import Subject
from ar_net_jax.config.model import ModelConfig
from ar_net_jax.inference.chunks import plan_chunks
from ar_net_jax.inference.step import Answer, Request, Routing, make_inference
from ar_net_jax.methods.registry import build_model
from ar_net_jax.modules.frame_runner import Mode, run_on_frames
from ar_net_jax.modules.multi_backbone import backbone_name
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.mesh import place, sharded
from ar_net_jax.runtime.timing import Call

Array = jax.Array

# The policy as it was trained.
_NO_PENALTY = 0.0


@dataclasses.dataclass(frozen=True)
class Program:
    """A model compiled for one shape of input.

    Attributes:
        call: runs it.
        compile_seconds: tracing included.
        memory_bytes: of arguments, results and temporaries on each device, as XLA plans it;
            None where the platform does not tell.
    """

    call: Callable[[Request], Answer]
    compile_seconds: float
    memory_bytes: int | None


class Programs:
    """Compiles each program once; decisions are data, so that all usages share one."""

    def __init__(self, chunks: Chunks | None, mesh: Mesh | None) -> None:
        """Nothing is compiled yet.

        Args:
            chunks: sizes of chunk of the routed form; measured ones by default.
            mesh: of several devices; None for one.
        """
        self.mesh = mesh
        self.parts = Parts(chunks)
        self._chunks = chunks
        self._compiled: dict[tuple, tuple[Callable, float, int | None]] = {}
        self._placed: dict[tuple[int, bool], tuple[Any, Any]] = {}

    def get(self, subject: Subject, form: Routing, request: Request, *, alone: bool) -> Program:
        """The program for inputs of the shape of `request`.

        Args:
            subject: its model.
            form: of routing.
            request: an input, on the devices on which the program is to run.
            alone: on one device, even where there are several.
        """
        mesh = None if alone else self.mesh
        variables = self.variables(subject, alone=alone)
        penalty = jnp.float32(_NO_PENALTY)
        if mesh is not None:
            penalty = place(penalty, mesh)
        imposed = request.proposals is not None
        key = (subject.config.model, form, request.frames.shape, imposed, mesh is None)
        if key not in self._compiled:
            infer = make_inference(
                subject.config.model, routing=form, chunks=self._chunks, mesh=mesh
            )
            started = time.perf_counter()
            compiled = infer.lower(variables, request, penalty).compile()
            seconds = time.perf_counter() - started
            self._compiled[key] = (compiled, seconds, _planned_bytes(compiled))
        compiled, seconds, planned = self._compiled[key]
        return Program(lambda request: compiled(variables, request, penalty), seconds, planned)

    def variables(self, subject: Subject, *, alone: bool) -> Any:
        """A subject's variables on the devices, put there once."""
        alone = alone or self.mesh is None
        key = (id(subject.variables), alone)
        if key not in self._placed:
            tree = subject.variables
            placed = jax.device_put(tree) if alone else place(tree, self.mesh)
            # The host's tree is kept as well, so that no other comes to have its id.
            self._placed[key] = (tree, placed)
        return self._placed[key][1]

    def request(
        self,
        subject: Subject,
        frames: np.ndarray,
        proposals: np.ndarray | None,
        number: int,
        *,
        alone: bool,
    ) -> Request:
        """An input on the devices.

        Args:
            subject: whose input.
            frames: uint8 [B, T, S, S, 3].
            proposals: int32 [B, T] or None.
            number: of the input; other numbers give the random policy other draws.
            alone: on one device.
        """
        order = jnp.arange(frames.shape[0])
        keys = example_keys(subject.config.seed, jnp.full_like(order, number), order)
        request = Request(frames=frames, keys=keys, proposals=proposals)
        where = None if alone or self.mesh is None else sharded(self.mesh)
        return jax.block_until_ready(jax.device_put(request, where))


def _planned_bytes(compiled: Any) -> int | None:
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    sizes = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return sizes - plan.alias_size_in_bytes


class Parts:
    """The parts of a model as programs of their own, on the frames that the whole gives them."""

    def __init__(self, chunks: Chunks | None) -> None:
        """Nothing is compiled yet; args as for `Programs`."""
        self._chunks = chunks
        self._jitted: dict[tuple, Callable] = {}

    def calls(
        self,
        subject: Subject,
        form: Routing,
        variables: Any,
        requests: Sequence[Request],
        actions: Sequence[np.ndarray],
    ) -> dict[str, Call]:
        """One call for each part, warmed up.

        Args:
            subject: of an approach with more than one network.
            form: of routing.
            variables: on one device.
            requests: inputs on that device, one for each round, in turn.
            actions: int32 [B, T], what was done with the frames of each of them.

        Returns:
            By the part's name a call that runs it on one of the inputs.
        """
        config = subject.config.model
        mode = Mode()
        if form == "routed":
            mode = Mode(chunks=plan_chunks(config, jax.default_backend(), self._chunks))

        def ready(name: str, method: Callable, inputs: Sequence[tuple]) -> Call:
            run = self._program(config, form, name, method)
            jax.block_until_ready(run(variables, *inputs[0]))
            return lambda number: run(variables, *inputs[number % len(inputs)])

        calls = {}
        if config.has_policy:
            features = functools.partial(_policy_features, mode=mode)
            calls["policy"] = ready("policy", features, [(r.frames,) for r in requests])
            seen = [(calls["policy"](i), r.proposals) for i, r in enumerate(requests)]
            calls["LSTM"] = ready("LSTM", _decide, seen)
        for index, resolution in enumerate(config.resolutions[: len(config.backbones)]):
            inputs = [
                (r.frames, jnp.asarray(taken == index if subject.chooses else taken >= 0))
                for r, taken in zip(requests, actions, strict=True)
            ]
            backbone = functools.partial(_classify, index=index, mode=mode)
            calls[f"{resolution}px"] = ready(f"{resolution}px", backbone, inputs)
        return calls

    def _program(self, config: ModelConfig, form: Routing, name: str, method: Callable) -> Callable:
        """The jitted part; decisions are data, so that all usages share one."""
        key = (config, form, name)
        if key not in self._jitted:
            model = build_model(config)
            self._jitted[key] = jax.jit(
                lambda variables, *args: model.apply(variables, *args, method=method)
            )
        return self._jitted[key]


def _policy_features(module: nn.Module, frames: Array, *, mode: Mode) -> Array:
    """The extractor on every frame, with the resize."""
    return module.policy_features(frames, mode)[0]


def _decide(module: nn.Module, features: Array, proposals: Array | None) -> Any:
    """The LSTM over time with the decisions."""
    return module.policy.decide(features, proposals=proposals)


def _classify(
    module: nn.Module, frames: Array, selected: Array, *, index: int, mode: Mode
) -> Array:
    """One backbone on its frames, with the resize and the routing."""
    config = module.config
    return run_on_frames(
        getattr(module, backbone_name(index)),
        frames,
        selected,
        mode,
        index=index,
        size=config.resolutions[index],
        resize=config.resize,
        method="features" if config.approach == "lstm" else "__call__",
    )[0]
