"""One process of a job in the tests of several processes: joins, trains, evaluates a model.

Takes one argument, a JSON object; see `test_distributed.py`.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp


def _read_as_float64(config_class: Any) -> None:
    """Configs that are read, also from the work directory, ask for a precision that none offers."""
    read = config_class.from_dict

    def from_dict(values: dict[str, Any]) -> Any:
        config = read({**values, "model": {**values["model"], "dtype": "float32"}})
        object.__setattr__(config.model, "dtype", "float64")
        return config

    config_class.from_dict = from_dict


def main() -> None:
    spec = json.loads(sys.argv[1])
    if spec["float64"]:
        jax.config.update("jax_enable_x64", True)
        # The package asks for float32 by this name; here it gets twice the digits.
        jnp.float32 = jnp.float64
    from ar_net_jax.data import registry
    from ar_net_jax.evaluation.evaluate import evaluate_model
    from ar_net_jax.experiment import Config
    from ar_net_jax.inference.model import load_config_and_variables
    from ar_net_jax.runtime.distributed import find_job, is_first, join, text_of_first
    from ar_net_jax.training.log import Reporting
    from ar_net_jax.training.loop import train

    job = find_job(spec["coordinator"], spec["num_processes"], spec["process_id"])
    if job is not None:
        join(job, timeout=120)
    assert jax.device_count() == spec["devices"]
    assert text_of_first("é" * (3 + jax.process_index())) == "ééé"
    assert text_of_first("" if is_first() else "of another") == ""
    if spec["float64"]:
        _read_as_float64(Config)
    config = Config.from_dict(spec["config"])
    splits = [
        registry.open_split("embedded", split, data_dir=spec["data_dir"])
        for split in ("train", "validation")
    ]
    workdir = Path(spec["workdir"])
    train(config, workdir, *splits, progress=False, reporting=Reporting(examples=True))
    if spec["model"]:
        evaluation = evaluate_model(*load_config_and_variables(spec["model"]), splits[1])
        if is_first():
            (workdir / "evaluation.json").write_text(
                json.dumps(dataclasses.asdict(evaluation.figures))
            )


if __name__ == "__main__":
    main()
