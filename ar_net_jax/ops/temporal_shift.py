"""The temporal shift of TSM (Lin et al. 2019): frames trade channels with their neighbours in time.

It lets a network of two-dimensional convolutions see movement, and costs no multiplication.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def temporal_shift(
    x: Array, num_frames: int, shift_div: int, frame_mask: Array | None = None
) -> Array:
    """Gives each frame some channels of the frame after it, and as many of the one before.

    Of C channels the first C // shift_div come from the frame after, the next C // shift_div from
    the frame before, and the rest stay. Beyond the ends of a video there are zeros.

    Args:
        x: [N, H, W, C], the T frames of one video after those of another.
        num_frames: T; divides N.
        shift_div: at least 2.
        frame_mask: bool [N], False on padding at the end of a video, which counts as beyond its
            end; None where there is none.

    Returns:
        Of the shape and dtype of `x`.
    """
    share = x.shape[-1] // shift_div
    if not share:  # Of fewer channels than that none are given away.
        return x
    moved = x[..., : 2 * share]
    if frame_mask is not None:
        moved = jnp.where(frame_mask[:, None, None, None], moved, 0)
    moved = moved.reshape(-1, num_frames, *moved.shape[1:])
    nothing = jnp.zeros_like(moved[:, :1, ..., :share])
    after = jnp.concatenate([moved[:, 1:, ..., :share], nothing], axis=1)
    before = jnp.concatenate([nothing, moved[:, :-1, ..., share:]], axis=1)
    shifted = jnp.concatenate([after, before], axis=-1).reshape(*x.shape[:-1], 2 * share)
    return jnp.concatenate([shifted, x[..., 2 * share :]], axis=-1)
