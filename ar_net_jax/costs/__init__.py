"""What a model costs: multiply-accumulates counted from the traced program, GFLOPs by convention.

`counting` walks a jaxpr, `modules` gives the GFLOPs of single networks under the conventions
`macs` and `paper`, `tables` puts them together into the cost of a frame and of a video.
"""

from ar_net_jax.costs.counting import Operation, count_macs, list_operations
from ar_net_jax.costs.modules import backbone_macs, frame_gflops, lstm_gflops
from ar_net_jax.costs.tables import (
    CostTable,
    ar_net_cost_table,
    lstm_cost_table,
    multi_scale_cost_table,
    uniform_cost_table,
)

__all__ = [
    "CostTable",
    "Operation",
    "ar_net_cost_table",
    "backbone_macs",
    "count_macs",
    "frame_gflops",
    "list_operations",
    "lstm_cost_table",
    "lstm_gflops",
    "multi_scale_cost_table",
    "uniform_cost_table",
]
