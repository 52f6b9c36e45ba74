"""A page of made-up results, whose names hold markup; for the tests of pages."""

from pathlib import Path

import numpy as np

from ar_net_jax.evaluation.comparison import Role, Row
from ar_net_jax.evaluation.evaluate import Figures, Speed
from ar_net_jax.evaluation.per_class import confusion_matrix, figures_by_class
from ar_net_jax.reporting.decisions import DecidedVideo
from ar_net_jax.reporting.page.blocks import Page, Section, Tiles
from ar_net_jax.reporting.page.comparison import origin, results_curve, results_table
from ar_net_jax.reporting.page.evaluated import model_sections
from ar_net_jax.reporting.page.strips import strip_of
from ar_net_jax.reporting.page.view import ModelView, usage_table

MARKUP = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
"""What an unescaped page would run; without quotes of both kinds it would not be a name."""

FORMULA = "$$x$$ \\(y\\)"
"""What Bokeh would take for TeX."""

CHANCE = {"mAP": 30.0, "top1": 25.0}
CLASSES = (MARKUP, FORMULA, "{{ 7 * 7 }}", "plain & \"quoted\" 'name'")
CHOICES = ("24px", "skip 1")


def made_up_row(method: str, role: Role, mean_ap: float, gflops: float) -> Row:
    """A row with a speed."""
    usage = {"24px": 0.75, "skip 1": 0.25} if role == "adaptive" else None
    figures = Figures(
        mean_ap, mean_ap, mean_ap - 5, 99, gflops / 4, gflops, "macs", usage, gflops,
        "routed", 0, 4, 40,
    )  # fmt: skip
    return Row(method, role, figures, Speed(1 / gflops, 8))


ROWS = [
    made_up_row(MARKUP, "adaptive", 71.0, 0.025),
    made_up_row("Uniform, 4 frames", "reference", 70.0, 0.05),
    made_up_row("Uniform, 2 frames", "reference", 60.0, 0.02),
    made_up_row("LSTM", "other", 65.5, 0.06),
]


def made_up_view(seed: int = 0) -> ModelView:
    """A view of a model that scores at random."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.random((40, 4)), rng.integers(0, 4, (40, 1))
    actions = rng.integers(0, 2, (40, 4))
    classes = figures_by_class(CLASSES, scores, labels, rng.random(40), actions, CHOICES)
    counts = confusion_matrix(scores, labels)
    video = DecidedVideo(
        frames=rng.integers(0, 256, (4, 24, 24, 3), np.uint8),
        sides=[24, 0, 24, 12],
        captions=["24px", "skip 1", "24px", "12px"],
        full_side=24,
        labels=[MARKUP],
        prediction=MARKUP,
        gflops=0.02,
        gflops_convention="macs",
        name=f"{MARKUP}.mp4",
        probability=0.8,
        times=[0.1, 0.2, 0.3, 0.4],
    )
    rows = tuple(tuple(row) for row in counts.tolist())
    return ModelView((strip_of(video),), 40, tuple(classes), CLASSES, rows)


def made_up_page(workdir: Path | None = None) -> Page:
    """A page with a block of every kind.

    Args:
        workdir: with a history of a training, see `write_history`.
    """
    usage = usage_table([row.method for row in ROWS], [row.figures.usage for row in ROWS])
    results = [results_table(ROWS, CHANCE), results_curve(ROWS, CHANCE)]
    return Page(
        f"Title {MARKUP}",
        MARKUP,
        [
            Section("Results", [*results, *([usage] if usage else [])], MARKUP),
            *model_sections(made_up_view(), "macs", workdir),
            origin({"jax": MARKUP}, config=MARKUP),
        ],
        remark=MARKUP,
        tiles=Tiles([(MARKUP, MARKUP)]),
    )


def write_history(workdir: Path) -> None:
    """Two stages of a training."""
    for number, stage in enumerate(("warmup", "joint")):
        folder = workdir / "history" / f"{number}_{stage}"
        folder.mkdir(parents=True)
        lines = [
            f'{{"step": {step}, "stage": "{stage}", "loss": {3 - step / 100}, '
            f'"usage/24px": {0.5 + step / 1000}}}\n'
            for step in (20, 40, 60)
        ]
        lines.append(f'{{"step": 60, "stage": "{stage}", "validation_mAP/model": 50.5}}\n')
        (folder / "metrics.jsonl").write_text("".join(lines))
