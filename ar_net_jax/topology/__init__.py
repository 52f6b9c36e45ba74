"""Accelerators that are not at hand: their peaks, and what a program compiled for them needs.

`chips` is the table of chips, `describe` gives a mesh of them to compile for. `hlo` reads the text
of a compiled program, `trips` finds how often its loops run, `traffic` counts its operations, bytes
and collectives, `roofline` holds those against a chip's peaks; `compiled` does all of it.
"""

from ar_net_jax.topology.chips import CHIPS, Chip, Slice, parse_slice
from ar_net_jax.topology.compiled import ChipCheck, CompiledProgram, compile_described
from ar_net_jax.topology.describe import describe_devices, prepare_environment
from ar_net_jax.topology.roofline import Roofline
from ar_net_jax.topology.traffic import LoopCost, Program, TripsOf, Work, count_work

__all__ = [
    "CHIPS",
    "Chip",
    "ChipCheck",
    "CompiledProgram",
    "LoopCost",
    "Program",
    "Roofline",
    "Slice",
    "TripsOf",
    "Work",
    "compile_described",
    "count_work",
    "describe_devices",
    "parse_slice",
    "prepare_environment",
]
