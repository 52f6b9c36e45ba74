"""Where the networks lie that ship with the package; `demo.warm_start` tells what they are."""

from pathlib import Path

WARM_START = Path(__file__).with_name("warm_start.safetensors")
