"""Compares methods on equal terms: trains what is missing, scores and times all, writes tables.

A study names the methods: table1 to table6 and figure3 are the paper's, field has all methods with
one head, equal backbones and epochs. Stages that methods share are trained once; on a CPU the
trainings run side by side, one a core. Running the same command again goes on where it stopped, and
studies with the same work directory share the runs that are alike. A row that fails is told, and
leaves the others alone.

DIR/STUDY gets report.html, a page to look at in a browser; study.json, tables.md, tables.csv,
tables.tex, curve_gflops.png, curve_ms.png, and decisions/ROW.png for every method that decides
something.

Examples:
  arnet compare --list
  arnet compare field --workdir=DIR --quick
  arnet compare table4 --workdir=DIR --seeds=0,1,2
  arnet compare table2 --data=activitynet --rows=scsampler,ar_net --config.data.source_dir=VIDEOS
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ar_net_jax.cli.flags import add_method_flag, load_method, numbers
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.quick_compilation import compile_quickly

if TYPE_CHECKING:
    from ar_net_jax.compare.plan import Choice


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument("study", nargs="?", metavar="STUDY", help="which, see --list")
    parser.add_argument(
        "--workdir", default="arnet_compare", metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="tell what the studies train, and how long their last run in DIR took",
    )
    parser.add_argument(
        "--rows",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="ROW[,ROW...]",
        help="only these, and the reference that they are held against",
    )
    parser.add_argument(
        "--seeds", type=numbers(int), default=(0,), metavar="N[,N...]", help="default: 0"
    )
    parser.add_argument(
        "--data",
        default="embedded",
        help="a data set, or a config whose variants the rows are (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few videos, one epoch a stage, in DIR/quick: the path, not the result",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    if flags.quick:
        # A quick run is mostly compilation.
        compile_quickly()
    from ar_net_jax.compare.plan import Choice
    from ar_net_jax.compare.run import run_study
    from ar_net_jax.compare.studies import STUDIES
    from ar_net_jax.compare.tables import study_tables
    from ar_net_jax.reporting.tables import aligned_table
    from ar_net_jax.runtime.storage import local_path

    load_method(flags)
    if flags.study not in {*STUDIES, *((None,) if flags.list else ())}:
        given = "name one" if flags.study is None else f"no study '{flags.study}'"
        raise UserError(f"STUDY: {given}; there are {', '.join(STUDIES)} (see --list)")

    def choice(name: str) -> Choice:
        return Choice(
            STUDIES[name],
            local_path("--workdir", flags.workdir),
            data=flags.data,
            rows=flags.rows,
            seeds=flags.seeds,
            overrides=tuple(overrides),
            quick=flags.quick,
        )

    if flags.list:
        for name in [flags.study] if flags.study else STUDIES:
            _tell(choice(name))
        return
    asked = choice(flags.study)
    result = run_study(asked, progress=not flags.quiet)
    for table in study_tables(result)[:3]:
        print(f"\n{table.title}\n{aligned_table(table.columns, table.cells)}")
    for name, reason in result.failures.items():
        print(f"left out, or failed: {name}: {reason}")
    print(f"{result.durations['total']:.0f} s in all; results: {asked.report_dir}")


def _tell(choice: "Choice") -> None:
    """What a study trains, and how long it took."""
    from ar_net_jax.compare.plan import make_plan
    from ar_net_jax.compare.run import last_durations

    took = last_durations(choice)
    told = "not run here yet" if took is None else f"its last call took {took['total']:.0f} s"
    print(f"{choice.study.name}: {choice.study.summary} ({told})")
    plan = make_plan(choice)
    for run in plan.runs:
        if run.seed == choice.seeds[0]:
            stages = ", ".join(
                f"{name} {run.config.stages[name].epochs} epochs" for name in run.config.stage_order
            )
            start = f", from {run.row.start}'s first stage" if run.row.start else ""
            match = f"; searched for {run.row.match}'s cost" if run.row.match else ""
            print(f"  {run.row.name}: {stages}{start}{match}")
    for name, reason in plan.left_out.items():
        print(f"  {name}: left out, {reason}")
