"""Measures accuracy and computation of a trained model on a split.

Every video of the split counts exactly once; decisions are the most likely ones (argmax).
Prints a table, and writes the figures to evaluation_<split>.json beside the model's folder, or
to the file given by --output.

Examples:
  arnet evaluate --workdir=run
  arnet evaluate --workdir=run --split=validation --config.data.num_frames=8
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ar_net_jax.config_files import apply_overrides
from ar_net_jax.jobs.data import open_split, prepare_data
from ar_net_jax.jobs.report import package_versions, print_table
from ar_net_jax.jobs.scoring import evaluate_model
from ar_net_jax.model import check_variables, find_model, load_config_and_variables


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="of `arnet train`, or a model's folder"
    )
    parser.add_argument("--split", default="test", help="which split (default: %(default)s)")
    parser.add_argument("--output", metavar="FILE", help="where to write the figures as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    model_dir = find_model(flags.workdir)
    trained, variables = load_config_and_variables(model_dir)
    config = apply_overrides(trained, overrides)
    check_variables(config, variables, model_dir)
    data_dir = prepare_data(config.data, model_dir.parent, progress=not flags.quiet)
    split = open_split(config.data, data_dir, flags.split, config.model.num_classes)
    row = {"approach": config.model.approach, **evaluate_model(config, variables, split).row}
    print_table([row])
    default = model_dir.parent / f"evaluation_{flags.split}.json"
    output = Path(flags.output) if flags.output else default
    figures = {"results": [row], "split": flags.split, "versions": package_versions()}
    output.write_text(json.dumps({**figures, "config": config.to_dict()}, indent=2) + "\n")
    print(f"figures: {output}")
