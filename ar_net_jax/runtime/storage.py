"""Where runs and models live: a local or shared folder, or a bucket of Google Cloud Storage.

A bucket has no folders that could be renamed and no files that could grow. But an object appears
there only once it is whole, so what must never be seen half-written is written to it directly.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etils import epath

from ar_net_jax.errors import UserError, first_line
from ar_net_jax.runtime.extras import import_extra

_BUCKETS = "gs://"


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is one in a bucket.

    >>> is_remote("gs://bucket/run"), is_remote("/shared/run")
    (True, False)
    """
    return "://" in os.fspath(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The absolute path; a path in a bucket already is.

    >>> absolute("gs://bucket/run")
    PosixGPath('gs://bucket/run')
    """
    path = epath.Path(path)
    # `resolve` would look for a folder named `gs:` in the present directory.
    return path if is_remote(path) else path.resolve()


def open_storage(directory: epath.PathLike) -> epath.Path:
    """The path of a run or a model, after checking that it can be reached.

    Args:
        directory: a local one, which need not exist, or `gs://BUCKET/...`.

    Raises:
        UserError: the storage is of another kind, a package is missing, or the bucket cannot be
            opened.
    """
    text = os.fspath(directory)
    if not is_remote(text):
        return epath.Path(text)
    scheme, _, rest = text.partition("://")
    if f"{scheme}://" != _BUCKETS:
        raise UserError(
            f"{text}: checkpoints cannot be kept in {scheme}:// storage; give a local or shared "
            f"directory, or {_BUCKETS}BUCKET/..."
        )
    bucket, _, name = rest.partition("/")
    if not bucket or not name.strip("/"):
        raise UserError(f"{text}: names no directory in a bucket; give {_BUCKETS}BUCKET/RUN")
    _open_bucket(text, bucket)
    return epath.Path(text)


def local_path(flag: str, path: epath.PathLike) -> Path:
    """The path given by a flag, for what can only be local.

    Raises:
        UserError: it is in a bucket.
    """
    if is_remote(path):
        raise UserError(f"{flag}: {os.fspath(path)} is in a bucket; give a local path")
    return Path(path)


def write_whole(path: epath.PathLike, content: str | bytes | Callable[[Path], object]) -> None:
    """Writes a file in one move: a kill leaves what was there before, or all of the new.

    Args:
        path: of the file; an earlier one is replaced.
        content: UTF-8 text, bytes, or a function that writes the file whose path it is given; that
            one lies beside `path`, so `path` must be local.

    Raises:
        OSError: it cannot be written; what was there before is left.
    """
    path = epath.Path(path)
    if is_remote(path):
        _fill(path, content)
        return
    fresh = path.with_name(f".{path.name}.new")
    try:
        _fill(fresh, content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def write_output(path: epath.PathLike, content: str | bytes | Callable[[Path], object]) -> None:
    """As `write_whole`, for a file whose place the user has chosen.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UserError(f"{os.fspath(path)}: cannot be written ({reason})") from None


def check_output(flag: str, path: epath.PathLike | None) -> None:
    """Tries, before the work, whether a file could be written where a flag says.

    Args:
        flag: for the message.
        path: of the file, which is left as it is; None where the flag is not given.

    Raises:
        UserError: it is a folder, lies in none, or cannot be written.
    """
    if path is None or is_remote(path):
        return
    file = Path(path)
    reason = ""
    if file.is_dir():
        reason = "is a folder; give a file"
    elif not file.parent.is_dir():
        reason = f"there is no folder {file.parent}; make it first"
    elif not os.access(file if file.exists() else file.parent, os.W_OK):
        reason = "cannot be written (permission denied, or a read-only disk)"
    if reason:
        raise UserError(f"{flag}={os.fspath(path)}: {reason}")


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes a value as indented JSON, as `write_output` does."""
    write_output(path, json.dumps(value, indent=2) + "\n")


def _fill(path: epath.Path, content: str | bytes | Callable[[Path], object]) -> None:
    if callable(content):
        content(Path(path))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)


@functools.cache
def _open_bucket(directory: str, bucket: str) -> None:
    """Opens a bucket as orbax will, so that an error shows before any work is done."""
    fsspec, _, storage = (
        import_extra(name, directory, "gcs") for name in ("fsspec", "gcsfs", "google.cloud.storage")
    )
    # Other processes, and tensorstore in this one, write to the same bucket without gcsfs, whose
    # cached listings would then be out of date.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    try:
        storage.Client().get_bucket(bucket)
    except Exception as error:  # Of google.auth, google.api_core, requests, or an OSError.
        raise UserError(
            f"{directory}: the bucket cannot be opened ({first_line(error)}); see that it exists, "
            "that GOOGLE_CLOUD_PROJECT names its project, and that `gcloud auth "
            "application-default login` or the machine's service account may read it "
            "(storage.buckets.get) and write its objects"
        ) from error
