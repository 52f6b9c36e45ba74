"""The interface between a method and everything else: what is particular to a method, in one place.

A method is a class that derives from `Method`, in a file of its own. Nothing outside `methods/`
knows a method's name: training, evaluation, costs, weights, benchmarks and reports ask the method.
"""

import abc
import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Generic

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from typing_extensions import TypeVar

from ar_net_jax.config.model import NOMINAL_CLASSES, Convention, ModelConfig
from ar_net_jax.config.schema import require
from ar_net_jax.costs.cost import choice_gflops
from ar_net_jax.costs.network import Network
from ar_net_jax.errors import UserError
from ar_net_jax.losses import Accuracy, Loss, Separate
from ar_net_jax.methods.released import ReleasedForm
from ar_net_jax.methods.stages import Moment, Objective, StageConfig
from ar_net_jax.methods.timed_parts import TimedPart, network_part
from ar_net_jax.methods.traits import Traits
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.actions import Choices, in_random_order

Array = jax.Array
Tree = Any
Batch = Mapping[str, Array]
C = TypeVar("C", bound=ModelConfig)
S = TypeVar("S", bound=StageConfig, default=StageConfig)

FROZEN = "frozen"
"""The part of a stage whose parameters are not trained."""
MODEL = "model"
"""The part that holds every trained parameter of a joint stage."""


class Method(abc.ABC, Generic[C, S]):
    """A method under one configuration.

    A subclass sets `name`, `title` and `Config`, and defines `module` and `networks`; the rest has
    defaults that fit a method which treats every frame alike and trains as a whole.

    It derives from `Method[C]`, C its `Config`; or where it has a `Stage` of its own, from
    `Method[C, S]`, S its `Stage`.
    """

    name: ClassVar[str]
    """In configs, such as `ar_net`."""
    title: ClassVar[str]
    """In tables, such as `AR-Net`."""
    Config: ClassVar[type[ModelConfig]]
    """Frozen dataclass of its fields; `validate` refuses impossible values."""
    Stage: ClassVar[type[StageConfig]] = StageConfig
    """Frozen dataclass of a stage's fields."""
    traits: ClassVar[Traits] = Traits()
    separable: ClassVar[bool] = False
    """Whether its module has `classify_separately(frames, mode, names=)`, see `separate_parts`."""
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Modules at the root that have another name in other methods: the name there by that here. A
    model of theirs that a run starts from (`init_from`) fills them too."""
    released: ClassVar[ReleasedForm | None] = None
    """How the authors' checkpoints hold it; None where they have no such model."""
    provides: ClassVar[frozenset[str]] = frozenset()
    """What losses can act on: `decisions` that carry a gradient, `network_logits`, `outputs`."""

    def __init__(self, config: C) -> None:
        if not config.num_classes:
            # The data is to decide, and none is at hand.
            config = replace(config, num_classes=NOMINAL_CLASSES)
        self.config: C = config

    # What it is made of.

    @abc.abstractmethod
    def module(self) -> nn.Module:
        """The Flax module, a pure function of variables, frames, mode and mask.

        It is called as `module(frames, mode, frame_mask=)`: frames uint8 [B, T, S, S, 3], S the
        `image_size`; a `Mode`; and bool [B, T], False on padding, or None. It returns a
        `Prediction` whose `calls` and `executed` have the names of `networks()`.
        """

    @abc.abstractmethod
    def networks(self) -> dict[str, Network]:
        """The one list of what the model is made of, by name, such as `224px`.

        Costs, imported weights, parameter groups, benchmarks and reports are derived from it.
        """

    @property
    def choices(self) -> Choices:
        """What may be decided about a frame; by default that every network sees it."""
        networks = self.networks()
        return Choices((" + ".join(networks),), dict.fromkeys(networks, (1.0,)))

    @property
    def image_size(self) -> int:
        """Side in pixels of the frames that the model takes: its highest resolution."""
        return max(network.resolution for network in self.networks().values())

    def choice_gflops(self, convention: Convention | None = None, **kwargs: bool) -> np.ndarray:
        """GFLOPs of a frame spent in each choice, float64 [A]; see `costs.choice_gflops`."""
        convention = convention or self.config.gflops_convention
        return choice_gflops(self.networks(), self.choices, convention, **kwargs)

    def main_network(self) -> Network:
        """What Uniform beside the method is made of: its classifier of the highest resolution.

        Raises:
            UserError: the method has no network that takes frames.
        """
        networks = [network for network in self.networks().values() if network.backbone]
        classifiers = [network for network in networks if network.outputs]
        if not networks:
            raise UserError(f"method '{self.name}' has no network that takes frames")
        return max(classifiers or networks, key=lambda network: network.resolution)

    def backbone_modules(self) -> dict[str, Network]:
        """The networks that are backbones, by the name of their module: what weights are given for.

        Unlike a network's own name, such as `224px`, a module's can stand in a flag.
        """
        return {n.path[-1]: n for n in self.networks().values() if n.backbone}

    def head_names(self) -> frozenset[tuple[str, ...]]:
        """Paths of all Linear layers, which train at the head's learning rate."""
        networks = self.networks().values()
        return frozenset((*n.path, head) for n in networks for head in n.heads)

    def parameter_counts(self) -> dict[str, int]:
        """How many parameters each network holds, with its heads."""
        params = self.variable_shapes()["params"]
        return {name: _count(params, network) for name, network in self.networks().items()}

    # How it is configured and started.

    @classmethod
    def usual_losses(cls, objective: Objective) -> dict[str, Loss]:
        """What a stage minimises that names no losses of its own."""
        return {"separate": Separate()} if objective == "separate" else {"accuracy": Accuracy()}

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """The stages of its usual training, in order; a shipped config starts from these."""
        return {"train": cls.Stage(losses=cls.usual_losses("joint"))}

    def validate_stages(self, order: tuple[str, ...], stages: Mapping[str, S]) -> None:
        """Raises UserError, naming the field, if a stage does not go with the model."""
        for name in order:
            stage, path = stages[name], f"stages.{name}"
            require(
                stage.objective == "joint" or self.separable,
                f"{path}.objective",
                f"method '{self.name}' is one network, with nothing to train separately; use "
                "'joint'",
            )
            for key, loss in stage.losses.items():
                missing = [need for need in loss.needs if need not in self.provides]
                require(
                    not missing or (stage.objective == "separate"),
                    f"{path}.losses.{key}",
                    f"needs {', '.join(missing)}, which method '{self.name}' does not give; leave "
                    "it out",
                )

    def initial_variables(self, key: Array, stage: S | None = None) -> Tree:
        """Initial variables; wrap in `jax.jit` or `jax.eval_shape`.

        Args:
            key: typed PRNG key.
            stage: that is to be trained, which may need temporary classifiers.

        Returns:
            Trees by collection: `params`, and `batch_stats` where there are BatchNorms.
        """
        size = self.image_size
        frames = jnp.zeros((1, 1, size, size, 3), jnp.uint8)
        keys = jax.random.split(key, 1)
        names = () if stage is None else self.separate_parts(stage)

        def run(module: Any) -> None:
            module(frames, Mode(keys=keys))
            if names:
                module.classify_separately(frames, names=names)

        return dict(self.module().init(key, method=run))

    def variable_shapes(self) -> Tree:
        """The variables' shapes and types, found without computing anything."""
        return _variable_shapes(type(self), self.config)

    # How it is trained.

    def separate_parts(self, stage: S) -> tuple[str, ...]:
        """Modules at the root that a separate stage trains, each by itself; none in a joint one."""
        if stage.objective == "joint" or not self.separable:
            return ()
        return tuple(dict.fromkeys(network.path[0] for network in self.networks().values()))

    def part_of(self, stage: S, path: tuple[str, ...]) -> str:
        """Which part of the model a parameter is trained with.

        Each part has a gradient clip of its own, and in a separate stage its own best epoch.

        Args:
            stage: the stage.
            path: names from the root to the parameter, or to a module.

        Returns:
            The module's name in a separate stage, `MODEL` in a joint one, or `FROZEN`.
        """
        if stage.objective == "joint":
            return MODEL
        return path[0] if path[0] in self.separate_parts(stage) else FROZEN

    def rate_of(self, stage: S, path: tuple[str, ...]) -> float:
        """A factor of a parameter's learning rate, beside that of its group.

        Args:
            stage: the stage.
            path: names from the root to the parameter.
        """
        return 1.0

    def training_mode(self, stage: S, keys: Array, moment: Moment) -> Mode:
        """The mode of a training step.

        Args:
            stage: the stage.
            keys: one per video [B].
            moment: where in the stage the step stands.
        """
        return Mode(train=True, keys=keys)

    def training_scalars(self, stage: S, moment: Moment) -> dict[str, Array]:
        """What besides losses and usage is worth recording of a step: float32 scalars by name."""
        return {}

    def predict_in_training(
        self, stage: S, variables: Tree, batch: Batch, mode: Mode, mesh: Mesh | None
    ) -> tuple[Prediction, Tree]:
        """The forward pass of a joint stage.

        Args:
            stage: the stage.
            variables: parameters and statistics.
            batch: `frames` uint8 [B, T, S, S, 3] and what else the data pipeline gives.
            mode: from `training_mode`.
            mesh: the devices that videos are split over; None for one.

        Returns:
            The prediction, and the new BatchNorm statistics.
        """
        del stage, mesh
        prediction, updated = self.module().apply(
            variables, batch["frames"], mode, mutable=["batch_stats"]
        )
        return prediction, updated.get("batch_stats", {})

    def classify_separately(
        self, stage: S, variables: Tree, frames: Array, mode: Mode
    ) -> tuple[dict[str, Array], Tree]:
        """The forward pass of a separate stage: each network as a classifier by itself.

        Returns:
            logits float32 [B, C] by name of the module, and the new BatchNorm statistics.
        """
        names = self.separate_parts(stage)
        logits, updated = self.module().apply(
            variables,
            frames,
            mode,
            names=names,
            method="classify_separately",
            mutable=["batch_stats"] if mode.train else [],
        )
        return logits, updated.get("batch_stats", {})

    def usage_in_training(self, stage: S, variables: Tree, batch: Batch, mode: Mode) -> Array:
        """Usage of each choice in a batch, float32 [A], by as little work as it takes.

        Losses that are no mean over videos ask for it where a batch goes through in parts.
        """
        prediction, _ = self.predict_in_training(stage, variables, batch, mode, None)
        if prediction.decisions is None:
            raise ValueError(f"method '{self.name}' decides nothing, so there is no usage")
        return jnp.mean(prediction.decisions.one_hot, axis=(0, 1))

    # How it is told and timed.

    def tell(self, choice: int) -> str:
        """A choice as a person reads it, such as "168 px", "skips 4" or "not looked at"."""
        return self.choices.names[choice].replace("px", " px")

    def side_of(self, choice: int) -> int:
        """Side in pixels of a frame as the prediction sees it; 0 where a choice leaves it out."""
        choices, networks = self.choices, self.networks()
        if choices.leaves_out(choice):
            return 0
        called = {name for name, per in choices.calls.items() if per[choice] > 0}
        # Where nothing else is called, what decides also predicts.
        seeing = called - set(choices.overhead) or called
        return max(networks[name].resolution for name in seeing)

    def timed_parts(self) -> dict[str, TimedPart]:
        """What of the model can be run by itself, to see where its time goes, by name.

        By default every network that takes frames.
        """
        calls = self.choices.calls
        return {
            name: network_part(name, network, calls[name], self.config.resize)
            for name, network in self.networks().items()
            if network.backbone and name in calls
        }

    def training_forms(self, stage: S) -> dict[str, S]:
        """The forms of execution that a stage can be trained in, `masked` and perhaps `routed`.

        The masked form runs every network on every frame; the routed one, of a stage whose
        decisions learn nothing, runs what is chosen.
        """
        return {"masked": stage}

    def stream(self, variables: Tree, *, cost_penalty: float = 0.0) -> Any:
        """A video on its way, see `ar_net_jax.inference.streaming`.

        Args:
            variables: that fit the model, on the device.
            cost_penalty: of costly actions' logits, see `penalty_offset`.

        Raises:
            UserError: the method decides nothing frame by frame.
        """
        raise UserError(
            f"config.method: '{self.name}' does not take a video frame by frame; call the model on "
            "whole clips"
        )

    def control_actions(self, actions: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Decisions that spend as much at random: what a method has to beat, to be imposed on it.

        By default each video's decisions in a random order: as many frames, at other places, and a
        skip whole wherever it comes to stand. A method that decides how many, not which, mixes them
        otherwise.

        Args:
            actions: int32 [N, T], what the method decided on N videos; -1 on padding, at the end.
            generator: to draw from.

        Returns:
            int32 [N, T], with -1 where `actions` has it.
        """
        mixed = actions.copy()
        for row in mixed:
            row[row >= 0] = in_random_order(row[row >= 0], self.choices, generator)
        return mixed

    def penalty_offset(self, penalty: Array | float) -> Array | None:
        """Offsets on the decision head's logits that make costly choices less likely.

        Every choice's logit falls by `penalty` times its cost, deciding included, as a share of
        the costliest one's: the costliest loses `penalty`, a skip of many frames next to nothing.
        With no retraining it moves a model along its curve of accuracy against computation.

        Args:
            penalty: in units of logits; negative favours costly choices.

        Returns:
            float32 [A]; None where the method's decisions cannot be steered.
        """
        if not self.traits.steerable:
            return None
        costs = self.choice_gflops()
        return -jnp.asarray(costs / costs.max(), jnp.float32) * penalty


@functools.cache
def _variable_shapes(cls: type[Method[Any, Any]], config: ModelConfig) -> Tree:
    """Cached, because tracing a model takes a second and its shapes are asked for often."""
    key = jax.eval_shape(jax.random.key, 0)
    return jax.eval_shape(cls(config).initial_variables, key)


def _count(params: Tree, network: Network) -> int:
    for name in network.path:
        params = params[name]
    if network.children:
        params = {name: params[name] for name in network.children if name in params}
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
