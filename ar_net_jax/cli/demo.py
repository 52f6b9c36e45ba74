"""Makes a small data set of real video files, trains AR-Net and its baselines, compares them.

Everything runs on a CPU in minutes. The data set is drawn by program and written as H.264 files;
then AR-Net is trained as in the paper, once more with frames weighted by its policy and more of
them looked at, beside it Uniform and LSTM, and with --all some more: on the same videos for the
same number of epochs, one a core. All start from the same networks, which have learnt from other
videos. Choices are made on the validation split; the table shows the test split. Running the same
command again goes on where it stopped.

The work directory gets report.html, a page to look at in a browser, without network too;
table.md, results.json, curve.png (mAP against GFLOPs per video), decisions.png (what the policy
made of some videos) and the trained models, for `arnet evaluate`.
"""

import argparse
from collections.abc import Sequence

from ar_net_jax.runtime.quick_compilation import compile_quickly, compile_sooner


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--workdir", default="arnet_demo", metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of initialisation and order; the data set has its own (default: %(default)s)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also train AR-Net with its networks' own losses, Random policy, Multi-Scale, and "
        "each network by itself",
    )
    parser.add_argument(
        "--from-scratch",
        action="store_true",
        help="warm networks up on the demo's own videos, instead of starting from the networks "
        "that ship with the package, which have learnt from other videos",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few videos, one epoch a stage: the same path in a few minutes",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    if flags.quick:
        compile_quickly()
    else:
        compile_sooner()
    from ar_net_jax.demo.run import run_demo
    from ar_net_jax.runtime.run_lock import locked
    from ar_net_jax.runtime.storage import local_path

    workdir = local_path("--workdir", flags.workdir)
    with locked(workdir):
        run_demo(
            workdir,
            seed=flags.seed,
            everything=flags.all,
            from_scratch=flags.from_scratch,
            quick=flags.quick,
            overrides=overrides,
            progress=not flags.quiet,
        )
