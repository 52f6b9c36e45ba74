"""The splits of a configured data set, prepared if need be."""

from pathlib import Path
from typing import Any

from etils import epath

from ar_net_jax.config.data import DataConfig
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.storage import is_remote, local_path


def prepare_data(
    data: DataConfig,
    workdir: epath.Path,
    *,
    spec: EmbeddedSpec | None = None,
    progress: bool = True,
) -> Path:
    """Makes the data set ready.

    Args:
        data: the data's config.
        workdir: of the run; the data set goes below it where the config names no `data_dir`.
        spec: of the embedded data set, where that is asked for; the default one if None.
        progress: whether to show a progress bar.

    Returns:
        The directory to open splits from.

    Raises:
        UserError: an unknown data set, a missing, empty or mostly bad source, data in a bucket.
    """
    for name in ("data_dir", "source_dir"):
        local_path(f"config.data.{name}", getattr(data, name))
    if not data.data_dir and is_remote(workdir):
        raise UserError(
            f"config.data.data_dir: give a local directory; the data cannot be read from {workdir}"
        )
    data_dir = Path(data.data_dir) if data.data_dir else workdir / "data"
    options: dict[str, Any] = {"max_bad_share": data.max_bad_share}
    if spec is not None:
        options["spec"] = spec
    if data.frame_rate:
        if data.name != "video_folder":
            raise UserError(
                f"config.data.frame_rate: only for video files, but '{data.name}' is not a folder "
                "of them; set it to 0"
            )
        options["frame_rate"] = data.frame_rate
    source = data.source_dir or None
    registry.prepare(data.name, data_dir=data_dir, source_dir=source, progress=progress, **options)
    return data_dir


def open_split(data: DataConfig, data_dir: Path, split: str, num_classes: int) -> VideoSource:
    """Opens a split and checks that its labels fit the model.

    Raises:
        UserError: the data set has more classes than the model.
    """
    source = registry.open_split(data.name, split, data_dir=data_dir)
    if len(source.class_names) > num_classes:
        raise UserError(
            f"config.model.num_classes: {num_classes}, but {data.name} in {data_dir} has "
            f"{len(source.class_names)} classes; give --config.model.num_classes="
            f"{len(source.class_names)}"
        )
    return source
