"""What a benchmark measures: models from configs or checkpoints, and the Uniforms beside them."""

import dataclasses
import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ar_net_jax.benchmarks.usage import impose_usage, read_usage
from ar_net_jax.config.shipped import shipped_configs
from ar_net_jax.data import registry
from ar_net_jax.data.classes import Matching, match_classes
from ar_net_jax.data.nearby import find_data
from ar_net_jax.data.pipeline import eval_batches
from ar_net_jax.data.source import VideoExample, VideoSource
from ar_net_jax.errors import UserError
from ar_net_jax.evaluation.comparison import Role, role_of
from ar_net_jax.experiment import Config, apply_overrides, load_config
from ar_net_jax.inference.model import check_variables, find_model, load_config_and_variables
from ar_net_jax.inference.step import Routing
from ar_net_jax.methods import Method
from ar_net_jax.methods.uniform import uniform_of
from ar_net_jax.recipes import uniform_beside

# Imposed on a policy that is untrained or has no videos: what it decides would say nothing.
_WITHOUT_DECISIONS = "half"


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One row of the benchmark.

    Attributes:
        spec: where it comes from: a config's name or a checkpoint's folder.
        config: of the model.
        variables: trained or fresh.
        num_frames: per video.
        form: of routing; None for the faster one, where every frame is treated alike.
        usage: the imposed share of frames by choice, float64 [A]; None where the model decides.
        usage_name: of the imposed usage, as it was given.
        split: videos to score it on; None where it is not trained or has no data.
        reference: the Uniform at all frames that it is held against; None for that one itself.
        cost_penalty: of the costly choices' logits.
        named_by_source: whether the title says where it comes from, to tell it from others.
    """

    spec: str
    config: Config
    variables: Any
    num_frames: int
    form: Routing | None = None
    usage: np.ndarray | None = None
    usage_name: str = ""
    split: VideoSource | None = None
    reference: "Entry | None" = None
    cost_penalty: float = 0.0
    named_by_source: bool = False

    @property
    def method(self) -> Method[Any, Any]:
        """The method under its configuration."""
        return self.config.build_method()

    @property
    def role(self) -> Role:
        """What it is in the comparison."""
        return role_of(self.method)

    @property
    def title(self) -> str:
        """Of the row."""
        title = self.method.title
        if self.role == "reference":
            title += f", {self.num_frames} frame{'' if self.num_frames == 1 else 's'}"
        if self.usage_name:
            title += f", {self.usage_name.replace(',', ' ')}"
        return f"{title} ({self.spec})" if self.named_by_source else title

    def forced_actions(self, batch: int, seed: int) -> np.ndarray | None:
        """The imposed actions int32 [B, T] of a batch; None where none are imposed."""
        if self.usage is None:
            return None
        return impose_usage(self.usage, self.method.choices, batch, self.num_frames, seed)


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to measure: the name of its config, its trained variables' folder, or both."""

    spec: str | None
    checkpoint: str | None

    @property
    def name(self) -> str:
        """Of the config, or else of the folder."""
        return self.spec or self.checkpoint or ""


def split_names(configs: str | None, checkpoints: str | None) -> list[Source]:
    """Reads `--configs` and `--checkpoints`.

    A config's variants are separated by commas too: `activitynet:efficientnet,released,demo` are
    two configs, since no variant bears a config's name.

    Args:
        configs: names separated by commas.
        checkpoints: folders separated by commas, one for each config, where there are configs;
            one left empty stands for fresh weights.

    Raises:
        UserError: neither, or not as many checkpoints as configs.
    """
    folders: list[str] = checkpoints.split(",") if checkpoints else []
    if not configs:
        if not all(folders) or not folders:
            raise UserError("give --configs, or --checkpoints, or one checkpoint for each config")
        return [Source(None, folder) for folder in folders]
    specs: list[str] = []
    for piece in configs.split(","):
        name = piece.partition(":")[0]
        new = name in shipped_configs() or "/" in name or name.endswith(".py")
        if specs and ":" in specs[-1] and not new:
            specs[-1] += f",{piece}"
        else:
            specs.append(piece)
    if folders and len(folders) != len(specs):
        raise UserError(
            f"--checkpoints: {len(folders)} given for {len(specs)} configs ({' '.join(specs)}); "
            "give one for each, an empty one for fresh weights"
        )
    return [Source(s, f or None) for s, f in zip(specs, folders or [""] * len(specs))]


def read_entries(
    sources: Sequence[Source],
    overrides: Sequence[str],
    *,
    usages: Sequence[str] = (),
    num_frames: int | None = None,
    form: Routing = "routed",
    split: str = "test",
    classes: Matching = "by_name",
) -> list[Entry]:
    """The models that the flags name, those that decide once for each usage, and their Uniforms.

    Args:
        sources: from `split_names`.
        overrides: such as `--config.model.dtype=float32`.
        usages: see `read_usage`; none lets policies decide that are trained and have videos, and
            imposes `half` on others.
        num_frames: per video; each config's by default.
        form: of routing, of models that choose.
        split: that trained models are scored on.
        classes: how its classes are found among a model's; see `match_classes`.

    Raises:
        UserError: a bad config, checkpoint or usage.
    """
    found = []
    for source in sources:
        config, variables, data = _read(source, overrides, split, classes)
        count, traits = num_frames or config.data.num_frames, config.build_method().traits
        entry = Entry(
            source.name, config, variables, count, form if traits.adaptive else None, split=data
        )
        if not traits.steerable:
            found.append(entry)
            continue
        imposed = list(usages)
        if not usages and data is None:
            why = "it has no videos here" if source.checkpoint else "it is untrained"
            print(
                f"{source.name}: {why}, so its decisions are imposed, at half of Uniform's cost "
                "(--usage gives others)"
            )
            imposed = [_WITHOUT_DECISIONS]
        # What a model scores under decisions that are not its own means nothing.
        found += [_imposed(entry, usage) for usage in imposed] or [entry]
    return _with_references(found)


def _read(
    source: Source, overrides: Sequence[str], split: str, classes: Matching
) -> tuple[Config, Any, VideoSource | None]:
    """Config, variables, and the split where there is one for a trained model."""
    if source.checkpoint is None:
        config = load_config(source.name, overrides)
        return config, fresh_variables(config.build_method()), None
    config, variables = load_config_and_variables(source.checkpoint)
    if source.spec:
        config = load_config(source.spec, overrides)
    else:
        config = apply_overrides(config, overrides)
    folder = find_model(source.checkpoint)
    check_variables(config, variables, folder)
    return config, variables, _find_split(config, folder, split, classes)


def fresh_variables(method: Method[Any, Any], stage: Any = None) -> Any:
    """Variables for which speed is as of trained ones: kernels by He's rule, BatchNorms neutral.

    Drawn on the host, because compiling a model's own initialisation takes longer on a CPU than
    all that is to be measured.

    Args:
        method: of the model, under its configuration.
        stage: that is to be trained, which may need temporary classifiers; None for inference.
    """
    shapes = method.variable_shapes()
    if stage is not None:
        shapes = jax.eval_shape(lambda key: method.initial_variables(key, stage), jax.random.key(0))
    rng = np.random.default_rng(0)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(leaf.shape) < 2:
            return np.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        drawn: np.ndarray = scale * rng.standard_normal(leaf.shape, np.float32)
        return drawn.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _find_split(
    config: Config, model_dir: Path, split: str, classes: Matching
) -> VideoSource | None:
    """The split of its data set, where that is prepared near the model's folder."""
    folder = find_data(config.data, model_dir.parent)
    if folder is None:
        return None
    videos = registry.open_split(config.data.name, split, data_dir=folder)
    return match_classes(videos, config, f"data set '{config.data.name}' in {folder}", classes)


def _imposed(entry: Entry, usage: str) -> Entry:
    shares = read_usage(usage, entry.method)
    return dataclasses.replace(entry, usage=shares, usage_name=usage, split=None)


def _with_references(entries: list[Entry]) -> list[Entry]:
    """Gives every model the Uniform that it is held against; one may serve several.

    Rows that would have the same title name their sources.
    """
    references: dict[Hashable, Entry] = {}
    for entry in entries:
        if entry.role == "reference":
            references.setdefault(_uniform_key(entry), entry)
    others = [e for e in entries if not any(e is given for given in references.values())]
    for entry in others:
        if _uniform_key(entry) not in references:
            references[_uniform_key(entry)] = _uniform_beside(entry)
    titles = [entry.title for entry in (*others, *references.values())]

    def named(entry: Entry) -> Entry:
        return dataclasses.replace(entry, named_by_source=titles.count(entry.title) > 1)

    references = {key: named(reference) for key, reference in references.items()}
    linked = [
        dataclasses.replace(named(entry), reference=references[_uniform_key(entry)])
        for entry in others
    ]
    return [*linked, *references.values()]


def _uniform_beside(entry: Entry) -> Entry:
    """The classifier of the highest resolution on every frame, untrained."""
    config = uniform_beside(entry.config)
    return Entry(entry.spec, config, fresh_variables(config.build_method()), entry.num_frames)


def _uniform_key(entry: Entry) -> Hashable:
    """Tells Uniforms apart by what decides their speed."""
    model = uniform_of(entry.method).config
    alike = dataclasses.replace(model, dropout=0.0, remat=False, gflops_convention="macs")
    return alike, entry.num_frames


def equal_cost_counts(reference: Entry, gflops_per_video: float) -> list[int]:
    """How many frames Uniform can look at for a cost: rounded down (but at least 1) and up.

    Args:
        reference: Uniform at all frames.
        gflops_per_video: in the convention of its model.
    """
    # Rounded, because sums in float32 may lie a little above a whole number of frames.
    affordable = round(gflops_per_video / float(reference.method.choice_gflops()[0]), 4)
    return sorted({max(1, math.floor(affordable)), max(1, math.ceil(affordable))})


def with_frames(reference: Entry, count: int) -> Entry:
    """A Uniform at fewer frames."""
    return dataclasses.replace(reference, num_frames=count, reference=reference)


def sample_videos(entry: Entry, batch: int, repetitions: int, seed: int) -> list[np.ndarray]:
    """Clips uint8 [B, T, S, S, 3]: those that a policy is to decide on, else noise.

    Args:
        entry: with a split where its own policy decides; then there are up to `repetitions`
            batches of it, else one of noise.
        batch: B.
        repetitions: at most as many batches.
        seed: of the noise.

    Raises:
        UserError: a split of fewer videos than a batch.
    """
    size, split = entry.method.image_size, entry.split
    if entry.role != "adaptive" or split is None:
        shape = (batch, entry.num_frames, size, size, 3)
        return [np.random.default_rng(seed).integers(0, 256, shape, np.uint8)]
    if len(split) < batch:
        raise UserError(f"--batch={batch}: split '{split.split}' has only {len(split)} videos")
    batches = eval_batches(
        _EvenlyTaken(split, batch * min(len(split) // batch, repetitions)),
        num_frames=entry.num_frames,
        image_size=size,
        batch_size=batch,
        num_threads=entry.config.data.num_threads,
    )
    return [found["frames"] for found in batches]


class _EvenlyTaken:
    """Some videos of a split, evenly over it, as a split of their own."""

    def __init__(self, source: VideoSource, count: int) -> None:
        self.split, self.max_labels = source.split, source.max_labels
        self._source, self._count = source, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> VideoExample:
        return self._source[index * len(self._source) // self._count]
