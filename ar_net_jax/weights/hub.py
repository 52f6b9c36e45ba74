"""Models on the Hugging Face hub: `hf://owner/name`, or `hf://owner/name@revision`.

Of a repository one file is read, `model.safetensors`, which holds arrays and the config as JSON. So
nothing that somebody else wrote is ever run.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ar_net_jax.errors import UserError, first_line

HUB = "hf://"
"""How the address of a model on the hub begins."""

MODEL_FILE = "model.safetensors"
"""The file of a repository that holds the model."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w./-]+")


@dataclass(frozen=True)
class HubModel:
    """A model on the hub.

    Attributes:
        repository: `owner/name`.
        revision: a branch, tag or commit; None for the newest.
    """

    repository: str
    revision: str | None = None


def is_on_hub(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the address of a model on the hub.

    >>> is_on_hub("hf://owner/name"), is_on_hub("runs/ar_net")
    (True, False)
    """
    return os.fspath(path).startswith(HUB)


def parse_address(address: str) -> HubModel:
    """The model that an address names.

    Args:
        address: `hf://owner/name` or `hf://owner/name@revision`.

    Raises:
        UserError: it names none.

    >>> parse_address("hf://owner/name@v1")
    HubModel(repository='owner/name', revision='v1')
    """
    repository, at, revision = address.removeprefix(HUB).partition("@")
    well_formed = _REPOSITORY.fullmatch(repository) and (not at or _REVISION.fullmatch(revision))
    if not address.startswith(HUB) or not well_formed:
        raise UserError(
            f"{address}: not the address of a model on the Hugging Face hub; give "
            f"{HUB}OWNER/NAME, or {HUB}OWNER/NAME@REVISION"
        )
    return HubModel(repository, revision or None)


def download(address: str) -> Path:
    """The model's file, from the hub or from what was downloaded before.

    Args:
        address: as of `parse_address`.

    Returns:
        Its path, in the hub's cache.

    Raises:
        UserError: there is no such model, it is not one of this package, it may not be read, or
            the hub cannot be reached.
    """
    # Imported here: it takes long to import, and few runs need it.
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    model = parse_address(address)
    page = f"https://huggingface.co/{model.repository}"
    try:
        return Path(hf_hub_download(model.repository, MODEL_FILE, revision=model.revision))
    except (hub.RepositoryNotFoundError, hub.GatedRepoError):
        reason = (
            "there is no such model, or it is not open to you; see its page, and where it is "
            "private log in with `hf auth login`, or set HF_TOKEN"
        )
    except hub.RevisionNotFoundError:
        reason = f"it has no revision '{model.revision}'"
    except hub.LocalEntryNotFoundError as error:
        reason = f"the hub cannot be reached, and it was not downloaded before ({_short(error)})"
    except hub.EntryNotFoundError:
        reason = f"it holds no {MODEL_FILE}, so it is no model of this package"
    except (hub.HfHubHTTPError, OSError, ValueError) as error:
        reason = _short(error)
    raise UserError(f"{address}: {reason} ({page})")


def _short(error: Exception) -> str:
    return first_line(error)[:160]
