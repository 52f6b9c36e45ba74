"""The steps of the device suite, in order of importance."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ar_net_jax.benchmarks.entries import Entry
from ar_net_jax.benchmarks.programs import Programs
from ar_net_jax.benchmarks.suite.agreement import measure_agreement
from ar_net_jax.benchmarks.suite.peaks import peak_tflops
from ar_net_jax.benchmarks.suite.settings import SuiteSettings
from ar_net_jax.benchmarks.suite.speed import entries_of, time_entries, time_parts
from ar_net_jax.benchmarks.torch_baseline import torch_forward_calls
from ar_net_jax.benchmarks.training import benchmark_training
from ar_net_jax.benchmarks.tune import tune
from ar_net_jax.experiment import load_config
from ar_net_jax.inference.plan import Plan
from ar_net_jax.inference.plans import Plans

AGREEMENT, SPEED, PARTS, TORCH = "agreement", "speed", "parts", "torch"
TRAINING, CHUNKS = "training", "chunks"
"""Kinds of step. Those of a kind are taken to last alike."""

# Of the time that there is, for the chunks of one model.
_SWEEP_SHARE = 0.15
_MOST_VIDEOS = 32


@dataclasses.dataclass(frozen=True)
class Step:
    """One measurement.

    Attributes:
        kind: what it measures.
        title: which of them.
        run: takes the measurement; rows as JSON holds them.
    """

    kind: str
    title: str
    run: Callable[[], list[dict[str, Any]]]


class Suite:
    """The steps; what one of them has compiled serves the later ones."""

    def __init__(self, settings: SuiteSettings, budget: float) -> None:
        """Nothing is compiled yet.

        Args:
            settings: what is measured.
            budget: seconds that there are, of which the sweep over chunks takes a share.
        """
        self._settings, self._budget = settings, budget
        self._plan: Plan | None = None
        self._programs: dict[Plan | None, Programs] = {}
        self._entries: dict[tuple[str, str], list[Entry]] = {}

    def steps(self) -> Iterator[Step]:
        """In order of importance: see the module's name for it."""
        given = self._settings
        first, *others = given.dtypes
        yield Step(AGREEMENT, "with a CPU's logits", self._agreement)
        yield from (self._speed("", first, batch) for batch in given.batches)
        yield Step(CHUNKS, f"AR-Net, {first}", self._sweep)
        if self._plan is not None:
            yield from (self._speed("", first, batch, self._plan) for batch in given.batches[:2])
        if given.against_torch:
            yield Step(TORCH, f"{first}, batch {given.batches[0]}", self._torch)
        stages = load_config(given.spec(), given.overrides).stage_order
        # The joint stage, which trains everything, tells most.
        for stage in sorted(stages, key=lambda name: name != "joint"):
            yield self._training(stage)
        yield Step(PARTS, f"AR-Net, {first}, batch {given.batches[0]}", self._parts)
        for dtype in others:
            yield from (self._speed("", dtype, batch) for batch in given.batches)
        for dtype in given.dtypes:
            for batch in given.batches:
                yield from (self._speed(method, dtype, batch) for method in given.methods)

    def _speed(self, method: str, dtype: str, batch: int, plan: Plan | None = None) -> Step:
        def run() -> list[dict[str, Any]]:
            entries = self._entries_of(method, dtype)
            rows, _ = time_entries(entries, self._compiled(plan), batch, self._settings.rounds)
            chunks = "measured" if plan else "built in"
            return [{**dataclasses.asdict(row), "chunks": chunks} for row in rows]

        title = f"{method or 'AR-Net'}, {dtype}, batch {batch}"
        return Step(SPEED, f"{title}, measured chunks, {plan.form}" if plan else title, run)

    def _agreement(self) -> list[dict[str, Any]]:
        given = self._settings
        found = measure_agreement(given.spec(), given.dtypes, given.overrides)
        return [dataclasses.asdict(each) for each in found]

    def _parts(self) -> list[dict[str, Any]]:
        """Each of AR-Net's networks by itself, on the frames that the usages give it."""
        given = self._settings
        found = []
        for entry in self._entries_of("", given.dtypes[0]):
            if entry.reference is not None:
                timed = time_parts(entry, self._compiled(), given.batches[0], given.rounds)
                found += [
                    {"model": entry.title, "part": name, "latency": dataclasses.asdict(latency)}
                    for name, latency in timed.items()
                ]
        return found

    def _torch(self) -> list[dict[str, Any]]:
        given = self._settings
        batch = given.batches[0]
        uniform = next(e for e in self._entries_of("", given.dtypes[0]) if e.reference is None)
        calls = torch_forward_calls(uniform, batch, jax.default_backend())
        rows, others = time_entries([uniform], self._compiled(), batch, given.rounds, calls)
        own = rows[0].latency
        return [
            {
                "network": f"torchvision, {name}",
                "latency": dataclasses.asdict(latency),
                "uniform_latency": dataclasses.asdict(own),
                "uniform_to_torch": own.p50 / latency.p50,
            }
            for name, latency in others.items()
        ]

    def _training(self, stage: str) -> Step:
        title = f"{stage}, {self._settings.dtypes[0]}"
        return Step(TRAINING, title, lambda: self._training_rows(stage))

    def _training_rows(self, stage: str) -> list[dict[str, Any]]:
        given = self._settings
        dtype = given.dtypes[0]
        config = load_config(
            given.spec(),
            [
                *given.overrides,
                f"--config.model.dtype={dtype}",
                f"--config.data.batch_size={given.training_batch}",
            ],
        )
        peak = peak_tflops(jax.devices()[0].device_kind, dtype)
        found = benchmark_training(
            config,
            repetitions=given.rounds,
            stages=(stage,),
            pipeline=False,
            peak_tflops=peak * jax.device_count() if peak else None,
            progress=False,
        )
        return [
            {"dtype": dtype, "batch": given.training_batch, **dataclasses.asdict(row)}
            for row in found.steps
        ]

    def _sweep(self) -> list[dict[str, Any]]:
        """Times chunks of every size; what follows is the plan of later steps."""
        given = self._settings
        model = self._entries_of("", given.dtypes[0])[0]
        found = tune(
            model.config,
            model.variables,
            videos=min(given.batches[0], _MOST_VIDEOS),
            budget=_SWEEP_SHARE * self._budget,
            progress=False,
        )
        self._plan = found.plan
        return [
            {
                "network": network.name,
                "frames": size,
                "seconds": seconds,
                "in_loop": size in network.chunks,
                "form": found.plan.form,
            }
            for network in found.plan.networks
            for size, seconds in network.seconds
        ]

    def _compiled(self, plan: Plan | None = None) -> Programs:
        if plan not in self._programs:
            plans = Plans() if plan is None else Plans(plan)
            self._programs[plan] = Programs(None, None, plans)
        return self._programs[plan]

    def _entries_of(self, method: str, dtype: str) -> list[Entry]:
        if (method, dtype) not in self._entries:
            spec = self._settings.spec(method)
            self._entries[method, dtype] = entries_of(spec, dtype, self._settings.overrides)
        return self._entries[method, dtype]
