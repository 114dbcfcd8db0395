"""The networks in flax.nnx, layer for layer those of the PyTorch trainer: a small conv net, ResNets, the head.

Images are `[b, height, width, channels]`. `dtype` is what the layers compute in; parameters, and the sums of the
batch norms, are float32.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flax import nnx
from jax import Array, random

# PyTorch's default, uniform within 1 / √inputs; and what torchvision's ResNets start with.
DEFAULT_INIT = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
RESNET_INIT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")

Norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5)


def convolution(
    inputs: int,
    outputs: int,
    side: int,
    stride: int = 1,
    *,
    init: Any = RESNET_INIT,
    dtype: Any,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A convolution with PyTorch's padding, which is the same on both sides whatever the stride, and no bias."""
    reach = side // 2
    return nnx.Conv(
        inputs, outputs, (side, side), stride, padding=((reach, reach), (reach, reach)), use_bias=False,
        kernel_init=init, dtype=dtype, rngs=rngs,
    )  # fmt: skip


class SmallEncoder(nnx.Module):
    """A conv net of 93,000 parameters, for the CPU: `[b, s, s, channels]` to `[b, 128]`.

    It halves the picture twice before its widest layer, where the other order would take twice the time.
    """

    feature_size = 128

    def __init__(self, channels: int = 1, *, dtype: Any = None, rngs: nnx.Rngs) -> None:
        widths, strides = (channels, 32, 64, self.feature_size), (2, 2, 1)
        self.convolutions = nnx.List(
            convolution(inputs, outputs, 3, stride, init=DEFAULT_INIT, dtype=dtype, rngs=rngs)
            for inputs, outputs, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.norms = nnx.List(Norm(width, dtype=dtype, rngs=rngs) for width in widths[1:])

    def __call__(self, images: Array) -> Array:
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            images = nnx.relu(norm(convolve(images)))
        return images.mean(axis=(1, 2))


class BasicBlock(nnx.Module):
    """Two 3 × 3 convolutions and what they are added to."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        make, norm = partial(convolution, dtype=dtype, rngs=rngs), partial(Norm, dtype=dtype, rngs=rngs)
        self.convolutions = nnx.List([make(inputs, width, 3, stride), make(width, width, 3)])
        self.norms = nnx.List([norm(width), norm(width)])
        self.shortcut = Shortcut(inputs, width, stride, dtype=dtype, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        return _residual(self, images)


class Bottleneck(nnx.Module):
    """A 3 × 3 convolution between two 1 × 1, and what they are added to; the stride is the 3 × 3's."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        make, norm = partial(convolution, dtype=dtype, rngs=rngs), partial(Norm, dtype=dtype, rngs=rngs)
        outputs = width * self.expansion
        self.convolutions = nnx.List(
            [make(inputs, width, 1), make(width, width, 3, stride), make(width, outputs, 1)]
        )
        self.norms = nnx.List([norm(width), norm(width), norm(outputs)])
        self.shortcut = Shortcut(inputs, outputs, stride, dtype=dtype, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        return _residual(self, images)


def _residual(block: BasicBlock | Bottleneck, images: Array) -> Array:
    features, last = images, len(block.norms) - 1
    for place, (convolve, norm) in enumerate(zip(block.convolutions, block.norms, strict=True)):
        features = norm(convolve(features))
        if place < last:
            features = nnx.relu(features)
    return nnx.relu(features + block.shortcut(images))


class Shortcut(nnx.Module):
    """The way around a block: nothing is done where its output is as its input."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        same = stride == 1 and inputs == outputs
        self.convolution = None if same else convolution(inputs, outputs, 1, stride, dtype=dtype, rngs=rngs)
        self.norm = None if same else Norm(outputs, dtype=dtype, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        return images if self.convolution is None else self.norm(self.convolution(images))


class ResNet(nnx.Module):
    """torchvision's ResNet without its classifier: `[b, s, s, 3]` to `[b, features]`.

    Args:
        small_images: start with a 3 × 3 convolution and no pooling.
    """

    def __init__(
        self,
        block: Callable[..., nnx.Module],
        depths: Sequence[int],
        *,
        small_images: bool = False,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        side, stride = (3, 1) if small_images else (7, 2)
        self.small_images = small_images
        self.convolution = convolution(3, 64, side, stride, dtype=dtype, rngs=rngs)
        self.norm = Norm(64, dtype=dtype, rngs=rngs)
        blocks, inputs = [], 64
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            for place in range(depth):
                stride = 2 if stage > 0 and place == 0 else 1
                blocks.append(block(inputs, width, stride, dtype=dtype, rngs=rngs))
                inputs = width * block.expansion
        self.blocks = nnx.List(blocks)

    def __call__(self, images: Array) -> Array:
        features = nnx.relu(self.norm(self.convolution(images)))
        if not self.small_images:
            features = nnx.max_pool(features, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            features = block(features)
        return features.mean(axis=(1, 2))


ResNet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
ResNet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))


class ProjectionHead(nnx.Module):
    """The head that the loss sees in place of the features, and that is thrown away after pretraining."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, dtype: Any = None, rngs: nnx.Rngs) -> None:
        linear = partial(nnx.Linear, kernel_init=DEFAULT_INIT, dtype=dtype, rngs=rngs)

        def bias_init(key: Array, shape: Sequence[int], dtype: Any) -> Array:
            reach = hidden**-0.5
            return random.uniform(key, shape, dtype, -reach, reach)

        self.hidden = linear(inputs, hidden, use_bias=False)
        self.norm = Norm(hidden, dtype=dtype, rngs=rngs)
        self.output = linear(hidden, outputs, bias_init=bias_init)

    def __call__(self, features: Array) -> Array:
        return self.output(nnx.relu(self.norm(self.hidden(features))))
