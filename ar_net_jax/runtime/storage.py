"""Where runs and models live: a local or shared folder, or a bucket of Google Cloud Storage.

A bucket has no folders that could be renamed and no files that could grow. But an object appears
there only once it is whole, so what must never be seen half-written is written to it directly.
"""

import functools
import os
from pathlib import Path

from etils import epath

from ar_net_jax.errors import UserError

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


def write_text(path: epath.Path, text: str) -> None:
    """Writes a file in one move: a kill leaves what was there before, or all of the new."""
    if is_remote(path):
        path.write_text(text)
        return
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


@functools.cache
def _open_bucket(directory: str, bucket: str) -> None:
    """Opens a bucket as orbax will, so that an error shows before any work is done."""
    try:
        import fsspec
        import gcsfs  # noqa: F401
        from google.cloud import storage
    except ImportError as error:
        raise UserError(
            f"{directory}: {error.name or error} is missing; pip install 'ar_net_jax[gcs]'"
        ) from error
    # Other processes, and tensorstore in this one, write to the same bucket without gcsfs, whose
    # cached listings would then be out of date.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    try:
        storage.Client().get_bucket(bucket)
    except Exception as error:  # Of google.auth, google.api_core, requests, or an OSError.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{directory}: the bucket cannot be opened ({reason[0]}); see that it exists, that "
            "GOOGLE_CLOUD_PROJECT names its project, and that `gcloud auth application-default "
            "login` or the machine's service account may read it (storage.buckets.get) and write "
            "its objects"
        ) from error
