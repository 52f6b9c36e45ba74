"""ResNet (He et al. 2016) in torchvision's layout and, with underscores for dots, its names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.architectures import ResNetSpec
from ar_net_jax.backbones.layers import batch_norm, conv, global_average, run_block

Array = jax.Array


class ResidualBlock(nn.Module):
    """Two or three convolutions beside a shortcut, which is a projection where the shape changes.

    Attributes:
        kind: 'basic' (3x3, 3x3) or 'bottleneck' (1x1, 3x3, 1x1).
        width: channels of the inner convolutions.
        features: channels of the result.
        stride: of the first 3x3 convolution.
        dtype: of the computation.
    """

    kind: str
    width: int
    features: int
    stride: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features]."""
        layers = [(self.width, 3, self.stride), (self.features, 3, 1)]
        if self.kind == "bottleneck":
            layers = [(self.width, 1, 1), (self.width, 3, self.stride), (self.features, 1, 1)]
        y = x
        for i, (features, kernel, stride) in enumerate(layers, start=1):
            y = conv(features, kernel, stride=stride, dtype=self.dtype, name=f"conv{i}")(y)
            y = batch_norm(train=train, dtype=self.dtype, name=f"bn{i}")(y)
            if i < len(layers):
                y = nn.relu(y)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = conv(self.features, 1, stride=self.stride, dtype=self.dtype, name="downsample_0")(x)
            x = batch_norm(train=train, dtype=self.dtype, name="downsample_1")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A ResNet without its classifier.

    Attributes:
        spec: depths, widths, kind of block and stem.
        dtype: of the computation; parameters, statistics and result stay float32.
        remat: as in `run_block`.
    """

    spec: ResNetSpec
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Computes pooled features.

        Args:
            x: normalised frames [N, H, W, 3].
            train: normalise by the batch and update the running statistics.
            keys: unused, nothing here is random; the backbones share one signature.

        Returns:
            float32 [N, D].
        """
        del keys
        spec = self.spec
        kernel = 7 if spec.stem == "imagenet" else 3
        x = conv(spec.widths[0], kernel, stride=2, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(batch_norm(train=train, dtype=self.dtype, name="bn1")(x))
        if spec.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True), start=1):
            for i in range(depth):
                block = ResidualBlock(
                    kind=spec.block,
                    width=width,
                    features=width * spec.expansion,
                    stride=2 if stage > 1 and i == 0 else 1,
                    dtype=self.dtype,
                    name=f"layer{stage}_{i}",
                )
                x = run_block(block, x, remat=self.remat, train=train)
        return global_average(x)
