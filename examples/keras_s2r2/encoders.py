"""The encoders as functional Keras models: torchvision's ResNets, layer by layer, and a small conv net.

They take pictures as they are, `[b, height, width, channels]` with pixels from 0 to 255, and normalise them
themselves. Keras' own ResNet50 is another network (strides in other places, biases), and there is no ResNet18.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import initializers, layers, ops
from numpy.typing import NDArray

from keras_s2r2.devices import device
from keras_s2r2.options import KerasOptions
from keras_s2r2.views import resized
from pretraining.crops import SMALL_IMAGE, statistics
from pretraining.runs import Encode

ENCODER_FILE = "encoder.keras"
SEEDS_APART = 10_000  # more than there are weights in a model
RESNETS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}

Block = Callable[["Layers", keras.KerasTensor, int, int, str], keras.KerasTensor]


def seeds_of(options: KerasOptions) -> Iterator[int]:
    """The seeds of a run's weights, one after the other; the encoder's come first, so all methods start alike."""
    return itertools.count(options.seed * SEEDS_APART)


class Layers:
    """Layers with PyTorch's padding and first weights.

    Args:
        dtype: the policy, such as mixed_bfloat16.
        seeds: of the weights.
    """

    def __init__(self, dtype: str, seeds: Iterator[int]) -> None:
        self.dtype, self.seeds = dtype, seeds

    def convolution(
        self,
        x: keras.KerasTensor,
        filters: int,
        size: int,
        stride: int,
        name: str,
        *,
        of_resnet: bool = True,
        relu: bool = True,
    ) -> keras.KerasTensor:
        """A convolution without bias, padded on all sides alike, a batch norm, and maybe a ReLU."""
        if size > 1:  # Keras' "same" pads even pictures on one side only where it strides
            x = layers.ZeroPadding2D(size // 2, data_format="channels_last", dtype=self.dtype)(x)
        x = layers.Conv2D(
            filters, size, strides=stride, use_bias=False, data_format="channels_last", name=f"{name}_conv",
            kernel_initializer=self._of_resnet() if of_resnet else self.uniform(), dtype=self.dtype,
        )(x)  # fmt: skip
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm", dtype=self.dtype)(x)
        return layers.ReLU(dtype=self.dtype)(x) if relu else x

    def uniform(self) -> initializers.Initializer:
        """Uniform within 1 / sqrt(inputs), PyTorch's default."""
        return initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=next(self.seeds))

    def uniform_bias(self, inputs: int) -> initializers.Initializer:
        bound = 1 / math.sqrt(inputs)
        return initializers.RandomUniform(-bound, bound, seed=next(self.seeds))

    def _of_resnet(self) -> initializers.Initializer:
        return initializers.VarianceScaling(2, "fan_out", "untruncated_normal", seed=next(self.seeds))


def build_encoder(
    name: str, image_size: int, channels: int, seeds: Iterator[int], dtype: str = "float32"
) -> keras.Model:
    """A freshly initialised encoder of that name, one of the options' `ENCODERS`, for pictures of any size.

    Args:
        image_size: side of a full view in pixels; below 64 a ResNet starts as those for small pictures do.
    """
    make, (means, deviations) = Layers(dtype, seeds), statistics(channels)
    pictures = keras.Input((None, None, channels), name="pictures")
    x = layers.Normalization(
        mean=[255 * mean for mean in means],
        variance=[(255 * deviation) ** 2 for deviation in deviations],
        name="normalise",
        dtype="float32",
    )(pictures)
    if name == "small":
        for number, (filters, stride) in enumerate(((32, 2), (64, 2), (128, 1)), 1):
            x = make.convolution(x, filters, 3, stride, f"block{number}", of_resnet=False)
    else:
        x = _resnet(make, x, name, image_size < SMALL_IMAGE)
    features = layers.GlobalAveragePooling2D(data_format="channels_last", name="features", dtype=dtype)(x)
    return keras.Model(pictures, features, name=name)


def _resnet(make: Layers, x: keras.KerasTensor, name: str, small: bool) -> keras.KerasTensor:
    if x.shape[3] == 1:  # grey pictures are seen three times
        x = layers.Concatenate()([x, x, x])
    x = make.convolution(x, 64, 3 if small else 7, 1 if small else 2, "stem")
    if not small:  # after a ReLU, zeros are as good as the padding of PyTorch's pooling
        x = layers.ZeroPadding2D(1, data_format="channels_last", dtype=make.dtype)(x)
        x = layers.MaxPooling2D(3, 2, data_format="channels_last", dtype=make.dtype)(x)
    block: Block = _bottleneck if name == "resnet50" else _basic_block
    for stage, depth in enumerate(RESNETS[name]):
        for place in range(depth):
            stride = 2 if stage and not place else 1
            x = block(make, x, 64 * 2**stage, stride, f"stage{stage + 1}_{place + 1}")
    return x


def _basic_block(make: Layers, x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    y = make.convolution(x, width, 3, stride, f"{name}a")
    y = make.convolution(y, width, 3, 1, f"{name}b", relu=False)
    return _joined(make, x, y, width, stride, name)


def _bottleneck(make: Layers, x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    y = make.convolution(x, width, 1, 1, f"{name}a")
    y = make.convolution(y, width, 3, stride, f"{name}b")
    y = make.convolution(y, 4 * width, 1, 1, f"{name}c", relu=False)
    return _joined(make, x, y, 4 * width, stride, name)


def _joined(
    make: Layers, x: keras.KerasTensor, y: keras.KerasTensor, width: int, stride: int, name: str
) -> keras.KerasTensor:
    if stride > 1 or x.shape[3] != width:
        x = make.convolution(x, width, 1, stride, f"{name}_shortcut", relu=False)
    return layers.ReLU(dtype=make.dtype)(layers.Add(dtype=make.dtype)([x, y]))


def projection_head(
    inputs: int, hidden: int, outputs: int, seeds: Iterator[int], dtype: str = "float32"
) -> keras.Model:
    """The head that the loss sees in place of the features, and that is thrown away after pretraining."""
    make = Layers(dtype, seeds)
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.Dense(hidden, use_bias=False, kernel_initializer=make.uniform(), dtype=dtype),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype),
            layers.ReLU(dtype=dtype),
            layers.Dense(
                outputs,
                kernel_initializer=make.uniform(),
                bias_initializer=make.uniform_bias(hidden),
                dtype=dtype,
            ),
        ],
        name="head",
    )


def initialise_seeded(options: KerasOptions, image_size: int, channels: int) -> keras.Model:
    """The encoder as the run with these options starts: the untrained one to compare with."""
    return build_encoder(options.encoder, image_size, channels, seeds_of(options))


def encode_with(encoder: keras.Model, image_size: int, device_name: str) -> Encode:
    """A function from uint8 pictures `[b, height, width, channels]` to float32 features `[b, d]`."""

    def encode(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        with device(device_name):
            images = resized(ops.cast(pictures, "float32"), (image_size, image_size))
            return np.asarray(encoder.predict_on_batch(images), np.float32)

    return encode
