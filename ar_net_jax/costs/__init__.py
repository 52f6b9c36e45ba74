"""What a model costs: multiply-accumulates counted from the traced program, GFLOPs by convention.

`counting` walks a jaxpr, `modules` gives the GFLOPs of single networks under the conventions
`macs` and `paper`, `network` describes a model's networks, `cost` multiplies calls by GFLOPs.
"""

from ar_net_jax.costs.cost import choice_gflops, total_gflops, usage_gflops
from ar_net_jax.costs.counting import Operation, count_macs, list_operations
from ar_net_jax.costs.modules import backbone_macs, frame_gflops, lstm_gflops
from ar_net_jax.costs.network import Network, Recurrence

__all__ = [
    "Network",
    "Operation",
    "Recurrence",
    "backbone_macs",
    "choice_gflops",
    "count_macs",
    "frame_gflops",
    "list_operations",
    "lstm_gflops",
    "total_gflops",
    "usage_gflops",
]
