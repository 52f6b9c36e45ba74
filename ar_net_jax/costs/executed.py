"""What a call really computed: the frames that every network ran, filling of chunks included."""

import numpy as np

from ar_net_jax.config.config import Convention, ModelConfig
from ar_net_jax.costs.parts import LSTM, model_parts


def executed_gflops(
    model: ModelConfig, computed: np.ndarray, lstm_steps: int, convention: Convention | None = None
) -> float:
    """GFLOPs of the work that was done, needed or not.

    Args:
        model: the model's config.
        computed: int [K] or [K + 1], `Answer.computed` summed over devices and batches: frames by
            backbone, then by the policy's extractor where there is one.
        lstm_steps: frames that passed through the LSTM, covered ones and padding included.
        convention: `macs` or `paper`; the model's own by default.
    """
    convention = convention or model.gflops_convention
    parts = model_parts(model)
    networks = [part for part in parts if part.name != LSTM]
    steps = sum(part.gflops[convention] for part in parts if part.name == LSTM)
    # A policy that neither decides nor predicts is no part of a model, though it may be run.
    frames = zip(np.asarray(computed).tolist(), networks, strict=False)
    return sum(count * part.gflops[convention] for count, part in frames) + steps * lstm_steps
