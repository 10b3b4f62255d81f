"""Images from worse images: DnCNN takes noise away, ESPCN enlarges."""

from __future__ import annotations

from math import sqrt

from striate import nn
from striate.core.array import Array
from striate.errors import ShapeError
from striate.models.parts import initialize
from striate.nn import init


class DnCNN(nn.Module):
    """x minus what a chain of 3x3 convolutions takes for noise.

    Zhang et al., "Beyond a Gaussian denoiser" (2017). Keys are those of the authors' PyTorch code
    (KAIR): `model.{i}.*`; its published weights have the normalisation folded in
    (`batch_norm=False`).

    Args:
        in_channels: C of x.
        depth: convolutions.
        width: channels between them.
        batch_norm: whether all but the first and the last are normalised.

    Raises:
        ShapeError: fewer than two convolutions.
    """

    def __init__(
        self, in_channels: int = 1, depth: int = 17, width: int = 64, batch_norm: bool = True
    ) -> None:
        if depth < 2:
            raise ShapeError(f"DnCNN: wants a depth of 2 or more, got {depth}")
        with init.skip():
            layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU()]
            for _ in range(depth - 2):
                layers.append(nn.Conv2d(width, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width, eps=1e-4, momentum=0.9)] if batch_norm else []
                layers.append(nn.ReLU())
            layers.append(nn.Conv2d(width, in_channels, 3, padding=1))
            self.model = nn.Sequential(*layers)
        initialize(self, init.kaiming_normal_)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W], noisy -> the same, clean"""
        return x - self.model(x)  # type: ignore[no-any-return]


class ESPCN(nn.Module):
    """Convolutions on the small image, whose last channels become the pixels between.

    Shi et al., "Real-time single image super-resolution" (CVPR 2016), with the layers and keys
    (conv1 ... conv4) of PyTorch's tutorial on super-resolution.

    Args:
        upscale_factor: how much larger each side becomes.
        in_channels: C of x; the method takes the luminance alone.
    """

    def __init__(self, upscale_factor: int = 3, in_channels: int = 1) -> None:
        with init.skip():
            self.relu = nn.ReLU()
            self.conv1 = nn.Conv2d(in_channels, 64, 5, padding=2)
            self.conv2 = nn.Conv2d(64, 64, 3, padding=1)
            self.conv3 = nn.Conv2d(64, 32, 3, padding=1)
            self.conv4 = nn.Conv2d(32, in_channels * upscale_factor**2, 3, padding=1)
            self.pixel_shuffle = nn.PixelShuffle(upscale_factor)
        initialize(self)
        for layer in (self.conv1, self.conv2, self.conv3):
            init.orthogonal_(layer.weight, sqrt(2.0))
        init.orthogonal_(self.conv4.weight)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, H, W] -> f32[N, C, r*H, r*W]"""
        x = self.relu(self.conv2(self.relu(self.conv1(x))))
        return self.pixel_shuffle(self.conv4(self.relu(self.conv3(x))))  # type: ignore[no-any-return]


def dncnn(
    in_channels: int = 1, *, depth: int = 17, width: int = 64, batch_norm: bool = True
) -> DnCNN:
    """DnCNN: 0.56 million parameters.

    >>> st.models.dncnn(depth=3, width=8)(st.ones((1, 1, 16, 16))).shape
    (1, 1, 16, 16)
    """
    return DnCNN(in_channels, depth, width, batch_norm)


def espcn(upscale_factor: int = 3, in_channels: int = 1) -> ESPCN:
    """ESPCN: 61 thousand parameters.

    >>> st.models.espcn(2)(st.ones((1, 1, 10, 12))).shape
    (1, 1, 20, 24)
    """
    return ESPCN(upscale_factor, in_channels)
