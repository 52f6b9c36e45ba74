"""The settings of an evaluation as part of a file's name, so that others' results stay."""

import hashlib
import json
import re
from collections.abc import Sequence

from ar_net_jax.config.differences import differences
from ar_net_jax.data.classes import Matching
from ar_net_jax.experiment import Config
from ar_net_jax.inference.step import Routing
from ar_net_jax.ops.routing import Chunks

# Fields that decide where data lies and how fast it is read, not what is found.
_NO_MATTER = (
    *("data.data_dir", "data.num_threads", "data.num_workers", "data.eval_batch_size"),
    *("data.max_bad_share", "data.max_missing_share"),
)
# A file's name may have 255 bytes, and gets an ending yet.
_LONGEST = 120


def file_stem(
    split: str,
    trained: Config,
    config: Config,
    *,
    routing: Routing = "routed",
    cost_penalties: Sequence[float] = (0.0,),
    chunks: Chunks | None = None,
    classes: Matching = "by_name",
) -> str:
    """The name of an evaluation's files, without an ending: another for every other result.

    Args:
        split: that is evaluated.
        trained: the config that the model carries.
        config: the one that it is evaluated under.
        routing: as of `evaluate_workdir`, like the following.
        cost_penalties: of the costly actions' logits.
        chunks: of the routed form.
        classes: how the data's classes were found among the model's.

    >>> file_stem("test", Config(), Config()), file_stem("test", Config(), Config(), chunks=(4, 2))
    ('evaluation_test', 'evaluation_test_chunks=4,2')
    """
    told = {
        path.rpartition(".")[2]: value
        for path, _, value in differences(trained.to_dict(), config.to_dict())
        if path not in _NO_MATTER
    }
    if tuple(cost_penalties) != (0.0,):
        told["penalty"] = ",".join(f"{penalty:g}" for penalty in cost_penalties)
    if routing != "routed":
        told["routing"] = routing
    if chunks is not None:
        told["chunks"] = ",".join(map(str, chunks))
    if classes != "by_name":
        told["classes"] = classes
    exact = "_".join(f"{name}={_text(value)}" for name, value in told.items())
    # Of a path its end; and no characters that a shell or a file system would take amiss.
    short = "_".join(f"{name}={_text(value).rpartition('/')[2]}" for name, value in told.items())
    plain = re.sub(r"[^\w.,=+-]+", "-", short)[:_LONGEST]
    if plain != exact:
        plain += "_" + hashlib.sha256(exact.encode()).hexdigest()[:8]
    return f"evaluation_{split}" + (f"_{plain}" if told else "")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
