"""What an installation can do here: devices, versions, codecs, and optional packages."""

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from ar_net_jax.errors import first_line
from ar_net_jax.runtime.versions import package_versions

_PACKAGE = "ar_net_jax"
# Those that video sites and cameras write, and a decoder for each in the order of preference.
_CODECS = {
    "H.264": ("h264",),
    "HEVC": ("hevc",),
    "AV1": ("libdav1d", "libaom-av1", "av1"),
    "VP9": ("vp9", "libvpx-vp9"),
    "VP8": ("vp8", "libvpx"),
    "MPEG-4": ("mpeg4",),
    "MPEG-2": ("mpeg2video",),
    "Motion JPEG": ("mjpeg",),
    "Theora": ("theora",),
    "ProRes": ("prores",),
}
# The kernel's own word on an accelerator, whether or not JAX was installed for it.
_NVIDIA, _TPU = Path("/proc/driver/nvidia/version"), ("accel0", "vfio/0")
# The oldest driver for Linux that CUDA 13 works with.
_CUDA13_DRIVER = 580


@dataclass(frozen=True)
class Devices:
    """What JAX computes on.

    Attributes:
        platform: as JAX names it; None where its backend does not start.
        kinds: of each device of this process.
        error: why the backend does not start; else empty.
        advice: how to make use of an accelerator that JAX does not see; else empty.
    """

    platform: str | None
    kinds: tuple[str, ...]
    error: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Extra:
    """Optional packages that one kind of work needs.

    Attributes:
        name: of the extra.
        missing: requirements that are not met, such as `gcsfs` or `torch>=2.6`.
    """

    name: str
    missing: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """The command that installs it; empty where nothing is missing."""
        return f"pip install '{_PACKAGE}[{self.name}]'" if self.missing else ""


@dataclass(frozen=True)
class Diagnosis:
    """What an installation can do.

    Attributes:
        devices: what JAX computes on.
        versions: of Python and packages.
        codecs: FFmpeg's decoder by the codec's usual name; None where there is none.
        codecs_error: why PyAV cannot be asked; else empty.
        extras: all of this package's; empty where it is not installed but run from a folder.
    """

    devices: Devices
    versions: dict[str, str]
    codecs: dict[str, str | None]
    codecs_error: str
    extras: tuple[Extra, ...]


def diagnose() -> Diagnosis:
    """Looks at everything; what is broken is told and not raised."""
    codecs, error = find_codecs()
    extras = tuple(find_extras())
    return Diagnosis(find_devices(), package_versions(), codecs, error, extras)


def find_devices() -> Devices:
    """What JAX computes on, or why it does not start."""
    try:
        import jax

        found = jax.local_devices()
    except Exception as error:  # Whatever a plugin or a driver raises.
        return Devices(None, (), _told(error), _advice(""))
    name: str = found[0].platform
    return Devices(name, tuple(device.device_kind for device in found), advice=_advice(name))


def _told(error: Exception) -> str:
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"


def _advice(found: str) -> str:
    """How to use an accelerator that the kernel knows and JAX does not, in one line."""
    if found not in ("", "cpu"):
        return ""
    driver = nvidia_driver()
    if driver is not None:
        extra = "cuda13" if driver >= _CUDA13_DRIVER else "cuda12"
        return f"there is an NVIDIA driver {driver}: pip install '{_PACKAGE}[{extra}]'"
    if any(Path("/dev", name).exists() for name in _TPU):
        return f"there is a TPU, or another device in its place: pip install '{_PACKAGE}[tpu]'"
    return ""


def nvidia_driver(report: Path = _NVIDIA) -> int | None:
    """The major version of NVIDIA's driver; None where there is none.

    Args:
        report: the driver's file about itself.
    """
    try:
        words = report.read_text().split()
    except OSError:
        return None
    versions = [word for word in words if word.count(".") and word.replace(".", "").isdigit()]
    return int(versions[0].partition(".")[0]) if versions else None


def find_codecs() -> tuple[dict[str, str | None], str]:
    """FFmpeg's decoder by codec, as `Diagnosis.codecs` and `Diagnosis.codecs_error` hold them."""
    try:
        from av.codec import codecs_available
    except Exception as error:  # A shared library that does not load raises what it likes.
        return {}, _told(error)
    return {
        name: next((one for one in decoders if one in codecs_available), None)
        for name, decoders in _CODECS.items()
    }, ""


def find_extras() -> Iterator[Extra]:
    """This package's extras, and what each of them lacks."""
    try:
        names = metadata.metadata(_PACKAGE).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return
    for name in sorted(names):
        yield Extra(name, tuple(dict.fromkeys(unmet(_PACKAGE, name))))


def unmet(package: str, extra: str) -> Iterator[str]:
    """What an extra of an installed package lacks, and the extras that it draws in.

    Args:
        package: its name.
        extra: of the package.

    Yields:
        Requirements without their markers.
    """
    for text in metadata.requires(package) or []:
        wanted = Requirement(text)
        # Without an extra it is no part of this one, but of the package itself.
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            continue
        if not wanted.marker.evaluate({"extra": extra}):
            continue
        if not _is_met(wanted):
            yield f"{wanted.name}{wanted.specifier}"
            continue
        for further in sorted(wanted.extras):
            yield from unmet(wanted.name, further)


def _is_met(wanted: Requirement) -> bool:
    try:
        found = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return False
    return wanted.specifier.contains(found, prereleases=True)


def describe_python() -> str:
    """Which Python this is, and on what."""
    return f"{platform.python_version()} ({sys.executable}) on {platform.platform()}"
