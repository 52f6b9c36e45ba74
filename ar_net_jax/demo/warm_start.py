"""The demo's warm start: networks trained on videos that the demo never draws.

    python -m ar_net_jax.demo.warm_start WORKDIR    makes the shipped file anew, in WORKDIR

Its videos have another seed than the demo's, and the demo's own splits have no part in it. Every
row of the demo's table starts from it; `arnet demo --from-scratch` does without.
"""

import argparse
from pathlib import Path

from ar_net_jax.data import registry
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.demo.shipped import WARM_START
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.convert import convert
from ar_net_jax.training.loop import train

# Three times the demo's videos, so that what is learnt of the classes is not of single videos.
SPEC = EmbeddedSpec(seed=1, train=1200, validation=64, test=1)
EPOCHS = 24
STAGE = "warmup"


def warm_up_config() -> Config:
    """The demo's config with its warm-up alone, as long as it took."""
    return load_config(
        "demo",
        [
            f"--config.stage_order=('{STAGE}',)",
            f"--config.stages.{STAGE}.epochs={EPOCHS}",
            f"--config.stages.{STAGE}.select=last",
        ],
    )


def make_warm_start(workdir: Path) -> Path:
    """Draws the videos, trains on them, and writes `warm_start.safetensors`.

    Args:
        workdir: gets the videos, the run and the file; an interrupted call goes on.
    """
    registry.prepare("embedded", data_dir=workdir / "data", progress=True, spec=SPEC)
    splits = (
        registry.open_split("embedded", name, data_dir=workdir / "data")
        for name in ("train", "validation")
    )
    train(warm_up_config(), workdir / "run", *splits)
    output = workdir / WARM_START.name
    convert(workdir / "run", output)
    return output


def main() -> None:
    """Makes the file anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path, help="gets videos, run and file")
    print(make_warm_start(parser.parse_args().workdir))


if __name__ == "__main__":
    main()
