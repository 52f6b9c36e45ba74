"""One run at a time in a work directory.

Two trainings in one directory would delete each other's checkpoints. The lock is the operating
system's (`flock`): it ends with the process that holds it, however that ends, also on a folder that
several hosts share. What the file says is for people: which process on which host.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from ar_net_jax.errors import UserError
from ar_net_jax.runtime.distributed import is_first
from ar_net_jax.runtime.storage import is_remote

LOCK = "run.lock"
# Of file systems that know no locks.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def locked(workdir: epath.PathLike, *, tell: bool = True) -> Iterator[None]:
    """Keeps other runs out of a work directory, which is made if need be.

    Of the processes of a job the first one holds it. There are no locks in buckets, nor on file
    systems without them.

    Args:
        workdir: of the run.
        tell: whether to say that a process which held it has ended without letting go.

    Raises:
        UserError: another process runs there; the message says which.
        OSError: the directory cannot be written.
    """
    if is_remote(workdir) or not is_first():
        yield
        return
    path = Path(workdir) / LOCK
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _take(path)
    try:
        left = _read(descriptor)
        if left and tell:
            print(f"{workdir}: {left} has ended without letting go; taken over", flush=True)
        _write(descriptor)
        yield
    finally:
        # While it is locked, so that nobody finds it unlocked and full.
        path.unlink(missing_ok=True)
        # Closing would not do where a fork of this process lives on.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # Empty: the run was refused before it began.


def _take(path: Path) -> int:
    """A descriptor of the file, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return descriptor
            holder = _read(descriptor) or "another process"
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise UserError(
                f"{path.parent}: in use by {holder}; wait for its end, stop it, or choose another "
                "--workdir"
            ) from None
        # Whoever held it before may just have removed the file.
        if _is_file(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> str:
    """Who holds the lock, or held it, in words; empty where the file does not say."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return (
            f"process {holder['process']} on {holder['host']}, begun {holder['begun']} "
            f"({holder['command']})"
        )
    except (ValueError, KeyError, TypeError):
        return ""


def _write(descriptor: int) -> None:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    holder = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "begun": datetime.datetime.now().isoformat(" ", "seconds"),
        "command": command if len(command) <= 200 else f"{command[:197]}...",
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)
