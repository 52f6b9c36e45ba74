"""What accelerators can do at most, by the name that JAX gives them."""

from ar_net_jax.topology import CHIPS

# TFLOP/s of dense products in bfloat16 and, of float32 operands, in TF32: NVIDIA's data sheets of
# the H100 and H200 (SXM; half of the figures there, which are for sparse operands), A100, L4, L40S.
_GPUS = {
    "H200": (989.0, 494.0),
    "H100 PCIe": (756.0, 378.0),
    "H100 NVL": (835.0, 417.0),
    "H100": (989.0, 494.0),
    "A100": (312.0, 156.0),
    "L40S": (362.0, 183.0),
    "L4": (121.0, 60.0),
}
# As JAX names the chips of `topology.CHIPS`.
_TPUS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5p": "v5p",
    "TPU v5": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}


def peak_tflops(device_kind: str, dtype: str) -> float | None:
    """TFLOP/s of one device's matrix units; None where they are not known.

    Args:
        device_kind: as JAX tells it, such as `NVIDIA H100 80GB HBM3`.
        dtype: `bfloat16`, or `float32` at JAX's default precision.

    >>> peak_tflops("NVIDIA H100 80GB HBM3", "bfloat16")
    989.0
    """
    if device_kind in _TPUS:
        return CHIPS[_TPUS[device_kind]].flops / 1e12
    for name, (half, single) in _GPUS.items():
        if device_kind.startswith(f"NVIDIA {name}"):
            return half if dtype == "bfloat16" else single
    return None
