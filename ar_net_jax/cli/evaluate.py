"""Measures accuracy and computation of a trained model on a split.

Every video of the split counts exactly once; decisions are the most likely ones (argmax). Only the
chosen frames are computed (--routing=masked computes everything, with the same result). With
--cost_penalty a trained model computes less, or more, without retraining; several values give a
row each.
Prints a table, and writes the figures to evaluation_<split>.json beside the model's folder, or
to the file given by --output.

Examples:
  arnet evaluate --workdir=run
  arnet evaluate --workdir=run --split=validation --config.data.num_frames=8
  arnet evaluate --workdir=run --cost_penalty=-2,-1,0,1,2
"""

import argparse
import json
from collections.abc import Sequence

from ar_net_jax.cli.flags import numbers
from ar_net_jax.cli.processes import add_process_flags, first_process_first, joined
from ar_net_jax.config.files import apply_overrides
from ar_net_jax.data.splits import open_split, prepare_data
from ar_net_jax.evaluation.evaluate import evaluate_model
from ar_net_jax.inference.model import check_variables, find_model, load_config_and_variables
from ar_net_jax.reporting.tables import package_versions, print_table
from ar_net_jax.runtime.compilation import keep_compiled_programs
from ar_net_jax.runtime.distributed import is_first
from ar_net_jax.runtime.storage import open_storage


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="of `arnet train`, or a model's folder"
    )
    parser.add_argument("--split", default="test", help="which split (default: %(default)s)")
    parser.add_argument(
        "--routing",
        choices=("routed", "masked"),
        default="routed",
        help="compute chosen frames only, or all backbones on all frames (default: %(default)s)",
    )
    parser.add_argument(
        "--cost_penalty",
        type=numbers(float),
        default=(0.0,),
        metavar="P[,P...]",
        help="logits taken from the costliest action, and from others in proportion to their "
        "cost; negative to compute more (default: 0)",
    )
    parser.add_argument(
        "--chunks",
        type=numbers(int),
        metavar="N[,N...]",
        help="frames that a backbone computes at once, descending (default: measured ones)",
    )
    parser.add_argument("--output", metavar="FILE", help="where to write the figures as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    add_process_flags(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    with joined(flags):
        _evaluate(flags, overrides)


def _evaluate(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    model_dir = find_model(flags.workdir)
    keep_compiled_programs(model_dir.parent / "compiled")
    trained, variables = load_config_and_variables(model_dir)
    config = apply_overrides(trained, overrides)
    check_variables(config, variables, model_dir)
    progress = not flags.quiet and is_first()
    data_dir = first_process_first(
        lambda: prepare_data(config.data, model_dir.parent, progress=progress), "prepare data"
    )
    split = open_split(config.data, data_dir, flags.split, config.model.num_classes)
    rows = []
    for penalty in flags.cost_penalty:
        found = evaluate_model(
            config,
            variables,
            split,
            routing=flags.routing,
            cost_penalty=penalty,
            chunks=flags.chunks,
        )
        named = config.model.approach + (f", penalty {penalty:g}" if penalty else "")
        rows.append({"approach": named, **found.row})
    if not is_first():
        return
    print_table(rows)
    default = model_dir.parent / f"evaluation_{flags.split}.json"
    output = open_storage(flags.output) if flags.output else default
    figures = {"results": rows, "split": flags.split, "versions": package_versions()}
    output.write_text(json.dumps({**figures, "config": config.to_dict()}, indent=2) + "\n")
    print(f"figures: {output}")
