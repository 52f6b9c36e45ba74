"""Where plans are kept, and which one inference takes."""

import hashlib
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.errors import UserError
from ar_net_jax.inference.chunks import plan_chunks
from ar_net_jax.inference.plan import Plan, PlanError, PlanKey, check_plan, read_plan
from ar_net_jax.methods import Method
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.cache import cache_dir
from ar_net_jax.runtime.distributed import is_first, text_of_first
from ar_net_jax.runtime.storage import write_json

AUTO, NONE = "auto", "none"


def plan_path(key: PlanKey) -> Path:
    """The file in the user's cache that holds the plan for a device and a model."""
    slug = re.sub(r"[^a-z0-9]+", "-", key.device.lower()).strip("-")
    digest = hashlib.sha256(json.dumps(asdict(key)).encode()).hexdigest()[:12]
    return cache_dir() / "plans" / slug / f"{key.method}-{key.dtype}-{digest}.json"


def keep_plan(plan: Plan, path: Path | None = None) -> Path:
    """Writes a plan for later runs; returns where.

    Args:
        plan: what was measured.
        path: of the file; by default the one that `find_plan` looks for.

    Raises:
        UserError: it cannot be written.
    """
    if path is None:
        path = plan_path(plan.key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent}: cannot be made ({error.strerror})") from None
    write_json(path, plan.to_json())
    return path


def find_plan(method: Method[Any, Any], choice: str = AUTO) -> Plan | None:
    """The plan that inference is to take; all processes of a job must call this.

    A plan that is damaged or was measured for something else is ignored, and a line on standard
    error says so. Under several processes the first one's plan is everybody's.

    Args:
        method: of the model, under its configuration.
        choice: `auto` looks into the user's cache, `none` takes no plan; else a file.

    Raises:
        UserError: the file that was named is not there.
    """
    if choice == NONE:
        return None
    key = PlanKey.of(method)
    path = plan_path(key) if choice == AUTO else Path(choice)
    plan = None
    if is_first():
        if choice != AUTO and not path.is_file():
            raise UserError(f"--plan={choice}: no such file; `arnet tune --output` writes one")
        plan = _read(path, key)
    text = text_of_first("" if plan is None else json.dumps(plan.to_json()))
    return read_plan(text, str(path)) if text else None


def _read(path: Path, key: PlanKey) -> Plan | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        print(f"plan {path} is ignored: cannot be read ({error})", file=sys.stderr)
        return None
    try:
        plan = read_plan(text, str(path))
        check_plan(plan, key)
    except PlanError as error:
        print(f"plan {path} is ignored: {error}", file=sys.stderr)
        return None
    return plan


def describe_plan(
    method: Method[Any, Any],
    plan: Plan | None,
    chunks: Chunks | None = None,
    *,
    alone: bool = True,
) -> dict[str, Any]:
    """How the routed form runs, as results tell it.

    Args:
        method: of the model.
        plan: that is taken; None for the built-in sizes.
        chunks: sizes for every network, which go before a plan.
        alone: whether the batch is on one device; over several the loop is kept.

    Returns:
        `source`: the plan's file, `built in`, or `--chunks`; `form`; and `chunks` by network.
    """
    if chunks is not None:
        plan = None
    form = plan.form if plan is not None and alone else "loop"
    sizes = plan_chunks(
        method.networks(),
        jax.default_backend(),
        chunks,
        plan,
        form,
        dtype=method.config.dtype,
    )
    built_in = "built in" if chunks is None else "--chunks"
    return {
        "source": built_in if plan is None else plan.source,
        "form": form,
        "chunks": {name: list(of) for name, of in sizes.items()},
    }


class Plans:
    """The plans of several models, each looked up once."""

    def __init__(self, choice: str | Plan = NONE) -> None:
        """Nothing is looked up yet.

        Args:
            choice: as for `find_plan`; or a plan, which goes to the models that it was measured
                for.
        """
        self._choice = choice
        self._found: dict[tuple[str, ModelConfig], Plan | None] = {}

    def of(self, method: Method[Any, Any]) -> Plan | None:
        """A model's plan; raises as `find_plan`."""
        if isinstance(self._choice, Plan):
            return self._choice if self._choice.key == PlanKey.of(method) else None
        model = (method.name, method.config)
        if model not in self._found:
            self._found[model] = find_plan(method, self._choice)
        return self._found[model]
