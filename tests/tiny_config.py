"""A config of networks that compile in a moment, with the variants of the shipped ones."""

from pathlib import Path

TEXT = """
from ar_net_jax import recipes

def get_config(variants=""):
    config = recipes.base_config("embedded", 10)
    config.model.update(resolutions=(32, 20), backbones=("resnet8_tiny",), skips=(1, 2))
    config.model.update(dtype="float32", gflops_convention="macs")
    config.model.policy.update(backbone="resnet8_tiny", resolution=20, hidden_size=13)
    config.data.update(num_frames=8, eval_batch_size=8, num_threads=2)
    return recipes.apply_variants(config, variants, recipes.PAPER_VARIANTS)
"""


def write_tiny(folder: Path) -> str:
    """Writes the file; its path, to be given as a config's name."""
    path = folder / "tiny.py"
    path.write_text(TEXT)
    return str(path)
