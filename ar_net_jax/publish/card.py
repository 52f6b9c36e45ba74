"""The card of a model on the hub, its README.md: made from the model, and what its run left."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from etils import epath

from ar_net_jax.config.model import CONVENTIONS
from ar_net_jax.evaluation.comparison import Row
from ar_net_jax.evaluation.evaluate import Figures
from ar_net_jax.experiment import Config
from ar_net_jax.reporting.costs import ModelCosts, model_costs
from ar_net_jax.reporting.tables import aligned_table
from ar_net_jax.runtime.versions import package_versions

CURVE = "curve.png"
"""The picture that a card shows where there is one."""

_PAPER = "https://arxiv.org/abs/2007.15796"
_TEMPLATE = """\
# {{ title }}

{{ method }}, trained to recognise {{ classes | length }} classes in videos, \
with `ar_net_jax`: JAX and Flax code for \
[AR-Net]({{ paper }}) and other methods that decide how much of a video to compute.

```python
import ar_net_jax

model = ar_net_jax.load("hf://{{ repository }}")
frames, times = ar_net_jax.read_video("clip.mp4", num_frames={{ frames }}, size={{ side }})
result = model(frames[None])
best = result.logits[0].argmax()
print(model.config.class_names[best], "at", float(result.gflops[0]), "GFLOPs")
```

or, from a terminal:

```bash
arnet predict --workdir=hf://{{ repository }} clip.mp4
```

## Results

{% if results %}
{{ results }}

GFLOPs per video are multiply-accumulates in 1e9, counted as the last column says.
{% else %}
This model was not evaluated before it was published.
{% endif %}
{% if curve %}

![mAP against GFLOPs per video]({{ curve }})
{% endif %}

## Cost

{{ choices }}

GFLOPs of a frame by what is decided about it. {{ parameters }} parameters in all.

## Data

{{ data }}

{% if classes %}
<details><summary>The {{ classes | length }} classes, in the order of the outputs</summary>

{{ fence }}
{{ classes | join("\n") }}
{{ fence }}

</details>
{% else %}
The classes have no names.
{% endif %}

## Training

{{ training }}

## Licence

The weights are published under `{{ license }}`. {{ start }} The code is under Apache-2.0.

## Versions

{{ versions }}
"""


@dataclass(frozen=True)
class Evaluated:
    """A row of an evaluation beside a model.

    Attributes:
        split: of the data set.
        row: what was found there.
    """

    split: str
    row: Row


def find_evaluations(folder: epath.Path) -> list[Evaluated]:
    """What `arnet evaluate` left beside a model, by split; files of another form are left out.

    Args:
        folder: of the run.
    """
    found: list[Evaluated] = []
    for path in sorted(folder.glob("evaluation_*.json")):
        try:
            values = json.loads(path.read_text())
            rows = [_row(result) for result in values["results"]]
        except (ValueError, KeyError, TypeError):
            continue
        found += [Evaluated(values.get("split", ""), row) for row in rows]
    return found


def _row(values: dict[str, Any]) -> Row:
    figures = {name: values[name] for name in Figures.__dataclass_fields__}
    return Row(values["method"], values["role"], Figures(**figures))


def make_card(
    config: Config,
    repository: str,
    license: str,
    *,
    record: Mapping[str, Any],
    evaluations: Sequence[Evaluated],
    curve: str = "",
) -> str:
    """The card as Markdown, with what the hub reads of it at its head.

    Args:
        config: of the model.
        repository: `owner/name`.
        license: of the weights, by the hub's name for it.
        record: what the run wrote down of its data, the content of `data.json`; may be empty.
        evaluations: what the model scores.
        curve: name of the picture in the repository; empty for none.
    """
    # It takes long to import, and only this job needs it.
    from huggingface_hub import EvalResult, ModelCardData

    method, costs = config.build_method(), model_costs(config)
    title = f"{method.title} on {config.data.name}"
    scores = [
        EvalResult(
            task_type="video-classification",
            dataset_type=config.data.name,
            dataset_name=config.data.name,
            dataset_split=one.split or None,
            metric_type=metric,
            metric_value=round(value, 2),
            metric_name=f"{name}, {one.row.method}",
        )
        for one in evaluations
        for metric, name, value in (
            ("mean_average_precision", "mAP", one.row.figures.mAP),
            ("accuracy", "top-1", one.row.figures.top1),
        )
    ]
    head = ModelCardData(
        license=license,
        library_name="ar_net_jax",
        pipeline_tag="video-classification",
        tags=["jax", "flax", "video-classification", "adaptive-computation", config.method],
        model_name=title,
        eval_results=scores or None,
    )
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    body = environment.from_string(_TEMPLATE).render(
        title=title,
        method=method.title,
        paper=_PAPER,
        repository=repository,
        frames=config.data.num_frames,
        side=method.image_size,
        results=_results(evaluations),
        curve=curve,
        choices=_choices(costs),
        parameters=f"{costs.parameters:,}",
        data=_data(config, record),
        classes=config.class_names,
        fence=_fence("\n".join(config.class_names)),
        training=_training(config),
        license=license,
        start=_start(config),
        versions=aligned_table(["Package", "Version"], [*package_versions().items()]),
    )
    return f"---\n{head.to_yaml()}\n---\n\n{body}\n"


def _results(evaluations: Sequence[Evaluated]) -> str:
    rows = [
        [
            one.row.method,
            one.split,
            f"{one.row.figures.mAP:.1f}",
            f"{one.row.figures.top1:.1f}",
            f"{one.row.figures.gflops_per_video:.3g}",
            f"{one.row.figures.num_frames}",
            one.row.figures.gflops_convention,
        ]
        for one in evaluations
    ]
    heads = ["Model", "Split", "mAP (%)", "Top-1 (%)", "GFLOPs/video", "Frames", "Counted"]
    return aligned_table(heads, rows) if rows else ""


def _choices(costs: ModelCosts) -> str:
    rows = [
        [choice.name, *(f"{choice.gflops[name]:.4g}" for name in CONVENTIONS)]
        for choice in costs.choices
    ]
    return aligned_table(["Choice", *(f"GFLOPs ({name})" for name in CONVENTIONS)], rows)


def _data(config: Config, record: Mapping[str, Any]) -> str:
    splits = record.get("splits", {})
    told = ", ".join(f"{known['videos']} of {name}" for name, known in splits.items())
    counted = f" The run saw {told}." if told else ""
    return (
        f"Data set `{config.data.name}`, {config.data.num_frames} frames of a video, spread "
        f"evenly over it, of {config.build_method().image_size} pixels.{counted}"
    )


def _training(config: Config) -> str:
    rows = [
        [name, str(config.stages[name].epochs), f"{config.stages[name].learning_rate:g}"]
        for name in config.stage_order
    ]
    table = aligned_table(["Stage", "Epochs", "Learning rate"], rows)
    return f"{table}\n\nBatches of {config.data.batch_size} videos, seed {config.seed}."


def _start(config: Config) -> str:
    """Where the weights come from; others' have a licence of their own."""
    sources = dict.fromkeys(config.pretrained.weights.values())
    if not sources:
        return "The training began with random weights, or with what its config does not name."
    told = ", ".join(f"`{source}`" for source in sources)
    return f"The training began with the weights {told}, whose own licence goes on to hold."


def _fence(text: str) -> str:
    """A fence that nothing within ends."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)
