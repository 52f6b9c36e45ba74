"""Files of ImageNet weights: local, an installed package's, or from the Hugging Face hub."""

import json
import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ar_net_jax.errors import UserError, first_line
from ar_net_jax.weights.files import SUFFIXES
from ar_net_jax.weights.packages import PREFIX, locate_package_weights

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# torchvision, timm and efficientnet_pytorch end a file's name with its checksum.
_CHECKSUM = re.compile(r"-[0-9a-f]{8}\.pth$")
_HUB_FILE = "model.safetensors"
_HUB_CARD = "config.json"


class Weights(NamedTuple):
    """A file of weights, and what is known of where they come from.

    Attributes:
        path: of the file.
        name: of the model as its authors call it, such as `tf_efficientnet_b3.ns_jft_in1k`, or
            the file's own.
        card: what timm tells of the model in the `config.json` beside it; may be empty.
    """

    path: Path
    name: str
    card: Mapping[str, Any]


def locate(source: str, folder: str = "") -> Weights:
    """Finds the file that a source names, and downloads it if need be.

    Args:
        source: a file; the name of a model on the Hugging Face hub such as
            `timm/resnet50.tv_in1k`; or `package:NAME` for weights that an installed package
            carries, see `packages.PACKAGES`.
        folder: where files lie, and where hub names are looked up instead of on the network.

    Raises:
        UserError: there is no such file or package, or the hub cannot be reached or has no such
            model; the message says where to get it, and where to put a file.
    """
    if source.startswith(PREFIX):
        path = locate_package_weights(source)
        return Weights(path, path.name, {})
    if source.endswith(SUFFIXES):
        return _local_file(Path(folder).expanduser() / Path(source).expanduser())
    # Not asked for on the hub, which may take half a minute where there is no network.
    foreign = Path(source).exists() or mimetypes.guess_type(source)[0] is not None
    if foreign or not _HUB_NAME.fullmatch(source):
        raise UserError(
            f"{source!r} is neither a {' or '.join(SUFFIXES)} file, nor a name on the Hugging Face "
            f"hub such as timm/resnet50.tv_in1k, nor {PREFIX}NAME for an installed package's"
        )
    if not folder:
        return _from_hub(source)
    name = source.split("/")[1]
    flat = Path(folder).expanduser() / f"{name}.safetensors"
    nested = flat.with_name(name) / _HUB_FILE
    for path in (flat, nested):
        if path.is_file():
            return Weights(path, name, _card(path))
    raise UserError(f"{flat}: no such file (nor {nested}); get it from {_hub_url(source)}")


def _local_file(path: Path) -> Weights:
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_where_to_get(path.name)}")
    return Weights(path, path.parent.name if path.name == _HUB_FILE else path.name, _card(path))


def _where_to_get(name: str) -> str:
    if not _CHECKSUM.search(name):
        return "give a file that exists, or a name on the hub such as timm/resnet50.tv_in1k"
    if name.startswith("efficientnet-b"):
        releases = "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0"
        return f"efficientnet_pytorch's is at {releases}/{name}"
    return f"torchvision's is at https://download.pytorch.org/models/{name}"


def _from_hub(source: str) -> Weights:
    # Imported here: it takes long to import, and few runs need it.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        path = Path(hf_hub_download(source, _HUB_FILE))
        hf_hub_download(source, _HUB_CARD)
    except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        name = source.split("/")[1]
        raise UserError(
            f"{source} cannot be had from the Hugging Face hub ({first_line(error)[:160]}); get "
            f"{_hub_url(source)} by other means, save it as FOLDER/{name}.safetensors, and give "
            "--config.pretrained.folder=FOLDER"
        ) from None
    return Weights(path, source.split("/")[1], _card(path))


def _hub_url(source: str) -> str:
    return f"https://huggingface.co/{source}/resolve/main/{_HUB_FILE}"


def _card(path: Path) -> Mapping[str, Any]:
    """The card of a model in a folder of its own, as the hub keeps it."""
    card = path.with_name(_HUB_CARD)
    if path.name != _HUB_FILE or not card.is_file():
        return {}
    try:
        content = json.loads(card.read_text())
    except ValueError:
        raise UserError(f"{card}: damaged; get it once more, or remove it") from None
    return content if isinstance(content, Mapping) else {}
