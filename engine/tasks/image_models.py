"""Small image classifiers of our own, saved and loaded as any classifier of the library.

    cnn        two convolutions with GroupNorm and a hidden layer; learns under DP without public data
    gabor      fixed Gabor magnitudes and a linear layer: features that were never fitted leak nothing
    gabor-cnn  the same features, a small convolution with tanh, and a linear layer: learns best under DP
    resnet18   He et al. 2016, arXiv 1512.03385, as usual for 32 x 32 pictures (3 x 3 stem, no pooling), GroupNorm

There is no batch normalisation: its statistics mix people, which no theorem about single units allows.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

GROUPS = 8
ORIENTATIONS, SCALES = 8, (2.0, 3.5)  # of the Gabor filters: angles, wavelengths in pixels times 2
KERNEL = 9


class ImageConfig(PreTrainedConfig):
    """Which network, for pictures of which shape."""

    model_type = "expunge_image"

    def __init__(
        self,
        architecture: str = "cnn",
        channels: int = 1,
        size: int = 28,
        width: int = 16,
        **rest: Any,  # noqa: ANN401 - the library's own keys
    ) -> None:
        self.architecture = architecture
        self.num_channels = channels
        self.image_size = size
        self.width = width
        super().__init__(**rest)


class ImageModel(PreTrainedModel):
    """Logits of pictures, and the features that its last layer reads."""

    config_class = ImageConfig
    main_input_name = "pixel_values"

    def __init__(self, config: ImageConfig) -> None:
        super().__init__(config)
        body, features = BODIES[config.architecture](config)
        self.body = body
        self.classifier = nn.Linear(features, len(config.id2label or ()))
        self.post_init()  # type: ignore[no-untyped-call] # the library's

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own: each layer drew its weights when it was made."""

    def features(self, pixel_values: Tensor) -> Tensor:
        """What the classifier reads (rows x features)."""
        return cast("Tensor", self.body(pixel_values))

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:  # noqa: ANN401 - the library's signature
        """Logits (rows x classes)."""
        return ImageClassifierOutput(logits=self.classifier(self.features(pixel_values)))


def _cnn(config: ImageConfig) -> tuple[nn.Module, int]:
    width = config.width
    side = config.image_size // 4
    body = nn.Sequential(
        nn.Conv2d(config.num_channels, width, 5, padding=2),
        nn.GroupNorm(min(GROUPS, width), width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 5, padding=2),
        nn.GroupNorm(min(GROUPS, 2 * width), 2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * side * side, 4 * width),
        nn.ReLU(),
    )
    return body, 4 * width


def _gabor(config: ImageConfig) -> tuple[nn.Module, int]:
    """A linear model on features that are normalised within each picture, which is worth 3 points under DP on MNIST."""
    features = ORIENTATIONS * len(SCALES) * config.num_channels
    return nn.Sequential(*_magnitudes(config), nn.AvgPool2d(2), nn.Flatten()), features * (config.image_size // 4) ** 2


def _gabor_cnn(config: ImageConfig) -> tuple[nn.Module, int]:
    features = ORIENTATIONS * len(SCALES) * config.num_channels
    convolution = nn.Conv2d(features, config.width, 3, padding=1)
    body = nn.Sequential(*_magnitudes(config), convolution, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten())
    return body, config.width * (config.image_size // 4) ** 2


def _magnitudes(config: ImageConfig) -> tuple[nn.Module, ...]:
    features = ORIENTATIONS * len(SCALES) * config.num_channels
    normalised = nn.GroupNorm(1, features, affine=False)
    return GaborMagnitudes(config.num_channels), nn.AvgPool2d(2), normalised


def _resnet18(config: ImageConfig) -> tuple[nn.Module, int]:
    width = 4 * config.width
    widths = [width, 2 * width, 4 * width, 8 * width]
    blocks: list[nn.Module] = []
    before = width
    for stage, after in enumerate(widths):
        for block in range(2):
            blocks.append(Residual(before, after, stride=2 if stage and not block else 1))
            before = after
    stem = [nn.Conv2d(config.num_channels, width, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, width), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), before


BODIES = {"cnn": _cnn, "gabor": _gabor, "gabor-cnn": _gabor_cnn, "resnet18": _resnet18}


class GaborMagnitudes(nn.Module):
    """|x * g| for complex Gabor filters g at `ORIENTATIONS` angles and `SCALES` wavelengths; nothing is learned."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Rows x (channels * filters) x height x width, from rows x channels x height x width."""
        filters = gabor_filters().to(images).repeat(self.channels, 1, 1, 1)
        answer = functional.conv2d(images, filters, padding=KERNEL // 2, groups=self.channels)
        pairs = answer.unflatten(1, (-1, 2))
        return cast("Tensor", (pairs.square().sum(2) + 1e-12).sqrt())


def gabor_filters() -> Tensor:
    """2 * angles * scales filters (filters x 1 x KERNEL x KERNEL), real and imaginary in turn, each of unit L1 norm."""
    half = KERNEL // 2
    y, x = torch.meshgrid(torch.arange(-half, half + 1.0), torch.arange(-half, half + 1.0), indexing="ij")
    made = []
    for wavelength in SCALES:
        envelope = torch.exp(-(x**2 + y**2) / (2 * (0.5 * wavelength) ** 2))
        for k in range(ORIENTATIONS):
            angle = math.pi * k / ORIENTATIONS
            phase = math.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle))
            for wave in (torch.cos(phase), torch.sin(phase)):
                filter_ = envelope * wave
                filter_ = filter_ - envelope * (filter_.sum() / envelope.sum())  # blind to brightness
                made.append(filter_ / filter_.abs().sum())
    return torch.stack(made)[:, None]


class Residual(nn.Module):
    """Two 3 x 3 convolutions and a way around them."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(GROUPS, after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(GROUPS, after)
        plain = stride == 1 and before == after
        self.around: nn.Module = nn.Identity() if plain else nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rows x after x height / stride x width / stride."""
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.around(x))


def register() -> None:
    """Let the library find these networks by the name in `config.json`."""
    AutoConfig.register(ImageConfig.model_type, ImageConfig, exist_ok=True)
    AutoModelForImageClassification.register(ImageConfig, ImageModel, exist_ok=True)
