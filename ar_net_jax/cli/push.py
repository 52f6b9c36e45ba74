"""Publishes a trained model on the Hugging Face hub, with a card made from its run.

The repository gets model.safetensors (weights, and the config as JSON), config.json, and README.md,
the model's card: data, classes, what `arnet evaluate` found, the curve where it found several
points, cost, training, licence, versions. Names of folders on this machine are left out.
Others then use it by its address, in all jobs and in Python:

  arnet predict --workdir=hf://OWNER/NAME clip.mp4
  model = ar_net_jax.load("hf://OWNER/NAME")

Log in first with `hf auth login`, or set HF_TOKEN.

Examples:
  arnet evaluate --workdir=RUN --cost-penalty=-1,0,1
  arnet push RUN hf://OWNER/NAME --license=apache-2.0 --preview=card
  arnet push RUN hf://OWNER/NAME --license=apache-2.0
"""

import argparse
from collections.abc import Sequence

from ar_net_jax.cli.flags import add_method_flag, load_method, refuse_overrides


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "source", metavar="RUN", help="of `arnet train`, or a model's folder or .safetensors file"
    )
    parser.add_argument("address", metavar="hf://OWNER/NAME", help="where to")
    parser.add_argument(
        "--license",
        required=True,
        metavar="NAME",
        help="of the weights, by the hub's name, such as apache-2.0, mit, cc-by-4.0 or other; that "
        "of weights you began with, and of the videos, may bind you",
    )
    parser.add_argument(
        "--private", action="store_true", help="a new repository is seen by you alone"
    )
    parser.add_argument(
        "--preview",
        metavar="DIR",
        help="write what would be published into this new folder, and publish nothing",
    )
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.inference.model import find_model
    from ar_net_jax.publish.push import fill_repository, push_model
    from ar_net_jax.runtime.storage import local_path

    load_method(flags)
    refuse_overrides(overrides)
    if flags.preview:
        folder = local_path("--preview", flags.preview)
        find_model(flags.source)
        folder.mkdir(parents=True)
        names = fill_repository(folder, flags.source, flags.address, flags.license)
        print(f"would be published: {', '.join(names)} (in {folder})")
        return
    page = push_model(flags.source, flags.address, flags.license, private=flags.private)
    print(f"published: {page}")
