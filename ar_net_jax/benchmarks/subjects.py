"""What a benchmark measures: models from configs or checkpoints, and the Uniforms beside them."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ar_net_jax.benchmarks.usage import impose_usage, read_usage
from ar_net_jax.config.model import ModelConfig
from ar_net_jax.config.shipped import shipped_configs
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.data.nearby import find_data
from ar_net_jax.data.pipeline import eval_batches
from ar_net_jax.data.source import VideoExample, VideoSource
from ar_net_jax.data.splits import open_split
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, apply_overrides, load_config
from ar_net_jax.inference.model import check_variables, find_model, load_config_and_variables
from ar_net_jax.inference.step import Routing
from ar_net_jax.methods.registry import init_variables

TITLES = {
    "ar_net": "AR-Net",
    "uniform": "Uniform",
    "lstm": "LSTM",
    "random_policy": "Random policy",
    "multi_scale": "Multi-Scale",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """One row of the benchmark.

    Attributes:
        title: of the row.
        spec: where it comes from: a config's name or a checkpoint's folder.
        config: of the model.
        variables: trained or fresh.
        num_frames: per video.
        form: of routing; None for the faster one, where every frame is treated alike.
        usage: the imposed share of frames by action, float64 [A]; None where the model decides.
        split: videos to score it on; None where it is not trained or has no data.
        reference: the Uniform at all frames that it is held against; None for that one itself.
    """

    title: str
    spec: str
    config: Config
    variables: Any
    num_frames: int
    form: Routing | None
    usage: np.ndarray | None = None
    split: VideoSource | None = None
    reference: "Subject | None" = None

    @property
    def chooses(self) -> bool:
        """Whether what it computes depends on its decisions."""
        return self.config.model.approach in ("ar_net", "random_policy")

    def proposals(self, batch: int, seed: int) -> np.ndarray | None:
        """The imposed actions int32 [B, T] of a batch; None where none are imposed."""
        if self.usage is None:
            return None
        space = self.config.model.space
        return impose_usage(self.usage, space, batch, self.num_frames, seed)


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to measure: the name of its config, its trained variables' folder, or both."""

    spec: str | None
    checkpoint: str | None


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
    folders = checkpoints.split(",") if checkpoints else []
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
    return [Source(s, f or None) for s, f in zip(specs, folders or [None] * len(specs))]


def read_subjects(
    sources: Sequence[Source],
    overrides: Sequence[str],
    *,
    usages: Sequence[str] = (),
    num_frames: int | None = None,
    form: Routing = "routed",
    split: str = "test",
) -> list[Subject]:
    """The models that the flags name, each AR-Net once for each usage, and their Uniforms.

    Args:
        sources: from `split_names`.
        overrides: such as `--config.model.dtype=float32`.
        usages: see `read_usage`; none lets trained policies decide.
        num_frames: per video; each config's by default.
        form: of routing, of models that choose.
        split: that trained models are scored on.

    Raises:
        UserError: a bad config, checkpoint or usage, or an untrained policy without a usage.
    """
    found = []
    for source in sources:
        config, variables, data = _read(source, overrides, split)
        count = num_frames or config.data.num_frames
        approach = config.model.approach
        spec = source.spec or source.checkpoint
        subject = Subject(TITLES[approach], spec, config, variables, count, None, split=data)
        if approach != "ar_net":
            chosen = form if subject.chooses else None
            found.append(dataclasses.replace(subject, form=chosen))
            continue
        if not usages and data is None:
            raise UserError(
                f"{spec}: without videos, or untrained, its policy says nothing about its cost; "
                "give --usage (such as half), or a checkpoint and its config.data.data_dir"
            )
        for usage in usages or (None,):
            found.append(_imposed(subject, usage, form))
    return _with_references(_with_clear_titles(found))


def _read(
    source: Source, overrides: Sequence[str], split: str
) -> tuple[Config, Any, VideoSource | None]:
    """Config, variables, and the split where there is one for a trained model."""
    if source.checkpoint is None:
        config = load_config(source.spec, overrides)
        return config, fresh_variables(config.model), None
    config, variables = load_config_and_variables(source.checkpoint)
    if source.spec:
        config = load_config(source.spec, overrides)
    else:
        config = apply_overrides(config, overrides)
    folder = find_model(source.checkpoint)
    check_variables(config, variables, folder)
    return config, variables, _find_split(config, folder, split)


def fresh_variables(model: ModelConfig) -> Any:
    """Variables for which speed is as of trained ones: kernels by He's rule, BatchNorms neutral.

    Drawn on the host, because compiling a model's own initialisation takes longer on a CPU than
    all that is to be measured.

    Args:
        model: its config.
    """
    rng = np.random.default_rng(0)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(leaf.shape) < 2:
            return np.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return (scale * rng.standard_normal(leaf.shape, np.float32)).astype(leaf.dtype)

    shapes = jax.eval_shape(functools.partial(init_variables, model), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def _find_split(config: Config, model_dir: Path, split: str) -> VideoSource | None:
    """The split of its data set, where that is prepared near the model's folder."""
    folder = find_data(config.data, model_dir.parent)
    if folder is None:
        return None
    return open_split(config.data, folder, split, config.model.num_classes)


def _imposed(subject: Subject, usage: str | None, form: Routing) -> Subject:
    if usage is None:
        return dataclasses.replace(subject, form=form)
    shares = read_usage(usage, subject.config.model.space)
    title = f"{subject.title}, {usage.replace(',', ' ')}"
    # What a model scores under decisions that are not its own means nothing.
    return dataclasses.replace(subject, title=title, form=form, usage=shares, split=None)


def _with_clear_titles(subjects: list[Subject]) -> list[Subject]:
    """Names the source where the approach alone would not tell two rows apart."""
    titles = [s.title for s in subjects]
    return [
        dataclasses.replace(s, title=f"{s.title} ({s.spec})") if titles.count(s.title) > 1 else s
        for s in subjects
    ]


def _with_references(subjects: list[Subject]) -> list[Subject]:
    """Gives every model the Uniform that it is held against; one may serve several."""
    references: dict[tuple, Subject] = {}
    for subject in subjects:
        if subject.config.model.approach == "uniform":
            references.setdefault(_uniform_key(subject), subject)
    given = list(references.values())
    for subject in subjects:
        if (key := _uniform_key(subject)) not in references:
            references[key] = _uniform_beside(subject)
    names = [_frames_title(reference.num_frames) for reference in references.values()]
    for key, reference in references.items():
        name = _frames_title(reference.num_frames)
        # Tells apart the Uniforms of several configs.
        title = name if names.count(name) == 1 else f"{name} ({reference.spec})"
        references[key] = dataclasses.replace(reference, title=title)
    others = [
        dataclasses.replace(subject, reference=references[_uniform_key(subject)])
        for subject in subjects
        if not any(subject is reference for reference in given)
    ]
    return [*others, *references.values()]


def _uniform_beside(subject: Subject) -> Subject:
    """The highest resolution's backbone on every frame, untrained."""
    model = subject.config.model
    uniform = dataclasses.replace(
        model,
        approach="uniform",
        resolutions=model.resolutions[:1],
        backbones=model.backbones[:1],
        skips=(),
    )
    config = dataclasses.replace(subject.config, model=uniform)
    variables = fresh_variables(uniform)
    return Subject(TITLES["uniform"], subject.spec, config, variables, subject.num_frames, None)


def _uniform_key(subject: Subject) -> tuple:
    """Tells Uniforms apart; what else their configs hold does not matter to them."""
    model = subject.config.model
    network = (model.backbones[0], model.resolutions[0], model.num_classes, model.dtype)
    return (*network, model.padding, model.norm, subject.num_frames)


def _frames_title(count: int) -> str:
    return f"{TITLES['uniform']}, {count} frame{'' if count == 1 else 's'}"


def equal_cost_counts(reference: Subject, gflops_per_video: float) -> list[int]:
    """How many frames Uniform can look at for a cost: rounded down (but at least 1) and up.

    Args:
        reference: Uniform at all frames.
        gflops_per_video: in the convention of its model.
    """
    per_frame = model_cost_table(reference.config.model).actions[0]
    affordable = gflops_per_video / per_frame
    return sorted({max(1, math.floor(affordable)), max(1, math.ceil(affordable))})


def with_frames(reference: Subject, count: int) -> Subject:
    """A Uniform at fewer frames."""
    suffix = reference.title.removeprefix(_frames_title(reference.num_frames))
    title = _frames_title(count) + suffix
    return dataclasses.replace(reference, title=title, num_frames=count, reference=reference)


def sample_videos(subject: Subject, batch: int, repetitions: int, seed: int) -> list[np.ndarray]:
    """Clips uint8 [B, T, S, S, 3]: those that a policy is to decide on, else noise.

    Args:
        subject: with a split where its own policy decides; then there are up to `repetitions`
            batches of it, else one of noise.
        batch: B.
        repetitions: at most as many batches.
        seed: of the noise.

    Raises:
        UserError: a split of fewer videos than a batch.
    """
    size, split = subject.config.model.image_size, subject.split
    if subject.config.model.approach != "ar_net" or split is None:
        shape = (batch, subject.num_frames, size, size, 3)
        return [np.random.default_rng(seed).integers(0, 256, shape, np.uint8)]
    if len(split) < batch:
        raise UserError(f"--batch={batch}: split '{split.split}' has only {len(split)} videos")
    batches = eval_batches(
        _EvenlyTaken(split, batch * min(len(split) // batch, repetitions)),
        num_frames=subject.num_frames,
        image_size=size,
        batch_size=batch,
        num_threads=subject.config.data.num_threads,
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
