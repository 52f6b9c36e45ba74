"""A trained model to the Hugging Face hub: its file, its config, and a card made from the run."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath

from ar_net_jax.errors import UserError, first_line
from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import find_model, load_config_and_variables
from ar_net_jax.publish.card import CURVE, find_evaluations, make_card
from ar_net_jax.reporting.curve import Point, gflops_label, plot_curve
from ar_net_jax.runtime.storage import write_json, write_whole
from ar_net_jax.weights.export import save_safetensors
from ar_net_jax.weights.files import SUFFIXES
from ar_net_jax.weights.hub import HUB, MODEL_FILE, parse_address

_RECORD = "data.json"


def push_model(
    workdir: epath.PathLike, address: str, license: str, *, private: bool = False
) -> str:
    """Writes a model to the hub, where `ar_net_jax.load(address)` reads it.

    Args:
        workdir: of a finished training, or a model's folder or file.
        address: `hf://owner/name`; the repository is made where there is none.
        license: of the weights, by the hub's name for it, such as `apache-2.0`.
        private: whether a repository that is made is seen by its owner alone.

    Returns:
        The address of its page.

    Raises:
        UserError: no model, an address that names none, no access, or no network.
    """
    # They take long to import, and only this job needs them.
    from huggingface_hub import HfApi, get_token

    repository = _writable(address)
    find_model(workdir)  # What is wrong here shows before anybody logs in.
    if get_token() is None:
        raise UserError(
            f"{address}: the hub does not know who you are; log in with `hf auth login`, or set "
            "HF_TOKEN to a token that may write (https://huggingface.co/settings/tokens)"
        )
    with tempfile.TemporaryDirectory() as folder:
        fill_repository(Path(folder), workdir, address, license)
        api = HfApi(library_name="ar_net_jax")
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Model of ar_net_jax"
            )
        except Exception as error:  # Of huggingface_hub, its HTTP library, or an OSError.
            raise UserError(f"{address}: cannot be written ({first_line(error)[:200]})") from error
    return str(done.repo_url)


def fill_repository(folder: Path, workdir: epath.PathLike, address: str, license: str) -> list[str]:
    """Writes what a model's repository holds: one safetensors file, JSON, a card and a picture.

    Args:
        folder: an existing one.
        workdir: as of `push_model`, like the following.
        address: that the card tells.
        license: of the weights.

    Returns:
        Names of the files.

    Raises:
        UserError: no model, an address that names none, or a file that cannot be written.
    """
    repository = _writable(address)
    config, variables = load_config_and_variables(workdir)
    config, beside = without_places(config), find_model(workdir).parent
    save_safetensors(folder / MODEL_FILE, config, variables)
    write_json(folder / "config.json", config.to_dict())
    evaluations, curve = find_evaluations(beside), ""
    points = [
        Point(one.row.method, one.row.role, figures.gflops_per_video, figures.mAP)
        for one in evaluations
        for figures in (one.row.figures,)
    ]
    # One point makes no curve.
    if len({point.cost for point in points}) > 1:
        curve = CURVE
        label = gflops_label(one.row.figures.gflops_convention for one in evaluations)
        plot_curve(folder / CURVE, points, label)
    card = make_card(
        config,
        repository,
        license,
        record=_record(beside),
        evaluations=evaluations,
        curve=curve,
    )
    write_whole(folder / "README.md", card)
    return sorted(path.name for path in folder.iterdir())


def without_places(config: Config) -> Config:
    """The config without names of folders, which are nobody else's concern."""
    weights = {
        part: Path(source).name if source.endswith(SUFFIXES) else source
        for part, source in config.pretrained.weights.items()
    }
    return dataclasses.replace(
        config,
        init_from="",
        data=dataclasses.replace(config.data, source_dir="", data_dir=""),
        pretrained=dataclasses.replace(config.pretrained, weights=weights, folder=""),
    )


def _writable(address: str) -> str:
    """The repository of an address to write to."""
    model = parse_address(address if address.startswith(HUB) else HUB + address)
    if model.revision is not None:
        raise UserError(f"{address}: a revision can be read, not written; leave it out")
    return model.repository


def _record(folder: epath.Path) -> Mapping[str, Any]:
    path = folder / _RECORD
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
