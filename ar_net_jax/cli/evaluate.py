"""Measures accuracy and computation of a trained model on a split.

Every video of the split counts exactly once; decisions are the most likely ones (argmax). Only the
chosen frames are computed (--routing=masked computes everything, with the same result). With
--cost-penalty a trained model computes less, or more, without retraining; several values give a
row each. The classes of the data are found among the model's by their names.

Prints how often each choice was made, the worst classes and the most frequent confusions, and
writes beside the model's folder
  evaluation_SPLIT.json           all figures, also class by class
  evaluation_SPLIT.html           a page to look at in a browser
  evaluation_SPLIT_videos.csv     every video: prediction, cost, how many frames got each choice
  evaluation_SPLIT_classes.csv    every class: average precision, accuracy, cost, choices
  evaluation_SPLIT_confusion.csv  which class is taken for which, where a video has one label
or beside the JSON file that --output names. Where settings are not those of the training, they are
part of the name, as in evaluation_test_num_frames=8.json, so that results of others stay. Of
several cost penalties all have a row, and the first has the rest.

Examples:
  arnet evaluate --workdir=run
  arnet evaluate --workdir=run --split=validation --config.data.num_frames=8
  arnet evaluate --workdir=run --config.data.source_dir=OTHER_VIDEOS
  arnet evaluate --workdir=run --cost-penalty=-2,-1,0,1,2
"""

import argparse
from collections.abc import Sequence

from ar_net_jax.cli.flags import (
    add_chunk_flags,
    add_classes_flag,
    add_method_flag,
    load_method,
    numbers,
)
from ar_net_jax.cli.processes import add_process_flags, joined
from ar_net_jax.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="DIR",
        help="of `arnet train`, a model's folder or file, or hf://OWNER/NAME",
    )
    parser.add_argument("--split", default="test", help="which split (default: %(default)s)")
    parser.add_argument(
        "--routing",
        choices=("routed", "masked"),
        default="routed",
        help="compute chosen frames only, or all backbones on all frames (default: %(default)s)",
    )
    parser.add_argument(
        "--cost-penalty",
        type=numbers(float),
        default=(0.0,),
        metavar="P[,P...]",
        help="logits taken from the costliest action, and from others in proportion to their "
        "cost; negative to compute more (default: 0)",
    )
    add_chunk_flags(parser)
    parser.add_argument("--output", metavar="FILE", help="where to write the figures as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    add_classes_flag(parser)
    add_method_flag(parser)
    add_process_flags(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.evaluation.run import evaluate_workdir
    from ar_net_jax.reporting.evaluation_files import (
        details_of,
        print_details,
        print_usage,
        write_evaluation,
    )
    from ar_net_jax.reporting.page.evaluated import write_evaluation_page
    from ar_net_jax.reporting.tables import print_table
    from ar_net_jax.runtime.distributed import is_first
    from ar_net_jax.runtime.storage import check_output, open_storage

    load_method(flags)
    check_output("--output", flags.output)
    if flags.output and flags.output.endswith(".html"):
        raise UserError(f"--output={flags.output}: figures are JSON; the page is written beside")
    with joined(flags):
        found = evaluate_workdir(
            flags.workdir,
            flags.split,
            overrides=overrides,
            classes=flags.classes,
            routing=flags.routing,
            cost_penalties=flags.cost_penalty,
            chunks=flags.chunks,
            plan=flags.plan,
            progress=not flags.quiet,
        )
        if not is_first():
            return
        print_table(found.rows)
        print_usage(found)
        details = details_of(found)
        print_details(details)
        if found.classes == "by_index":
            print("classes by index: class k of the data set was taken for output k of the model")
        output = open_storage(flags.output) if flags.output else found.path
        tables = write_evaluation(output, found, details)
        page = output.with_suffix(".html")
        write_evaluation_page(page, found)
        print(f"figures: {output}; beside it {', '.join(tables)}; to look at: {page}")
