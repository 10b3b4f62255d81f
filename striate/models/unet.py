"""U-Net: Ronneberger et al. (MICCAI 2015); in three dimensions Cicek et al. (MICCAI 2016).

With padding and batch normalisation. Keys are those of PyTorch Hub's U-Net for segmentation
(`brain-segmentation-pytorch`), which ends in a sigmoid where this one returns logits.
"""

from __future__ import annotations

from collections.abc import Callable

from striate import nn
from striate.core.api import concat
from striate.core.array import Array
from striate.errors import ShapeError


class UNet(nn.Module):
    """Levels of two 3x3 convolutions, down by pooling and up again, with connections across.

    Args:
        ndim: spatial axes, 1 to 3.
        num_classes: channels of the logits.
        in_channels: C of x.
        init_features: channels of the first level; each level below has twice as many.
        depth: how often the size is halved.

    Raises:
        ShapeError: there is no such number of axes, or depth is below 1.
    """

    def __init__(
        self,
        ndim: int,
        num_classes: int = 1,
        in_channels: int = 3,
        init_features: int = 32,
        depth: int = 4,
    ) -> None:
        if ndim not in (1, 2, 3) or depth < 1:
            raise ShapeError(
                f"UNet: wants 1 to 3 axes and a depth of 1 or more, got ndim {ndim}, depth {depth}"
            )
        norm: type[nn.BatchNorm] = getattr(nn, f"BatchNorm{ndim}d")
        pool: Callable[[int], nn.Module] = getattr(nn, f"MaxPool{ndim}d")

        def level(c: int, k: int, name: str) -> nn.Sequential:
            layers: dict[str, nn.Module] = {}
            for i in (1, 2):
                layers[f"{name}conv{i}"] = nn.Conv(ndim, c, k, 3, padding=1, bias=False)
                layers[f"{name}norm{i}"] = norm(k)
                layers[f"{name}relu{i}"] = nn.ReLU()
                c = k
            return nn.Sequential(layers)

        self.depth = depth
        c, widths = in_channels, [init_features << i for i in range(depth + 1)]
        for i, k in enumerate(widths[:-1], start=1):
            setattr(self, f"encoder{i}", level(c, k, f"enc{i}"))
            setattr(self, f"pool{i}", pool(2))
            c = k
        self.bottleneck = level(c, widths[-1], "bottleneck")
        for i in range(depth, 0, -1):
            k = widths[i - 1]
            setattr(self, f"upconv{i}", nn.ConvTranspose(ndim, 2 * k, k, 2, 2))
            setattr(self, f"decoder{i}", level(2 * k, k, f"dec{i}"))
        self.conv = nn.Conv(ndim, init_features, num_classes, 1)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, *I] -> logits f32[N, classes, *I]

        Raises:
            ShapeError: a size does not divide by 2^depth.
        """
        if any(n % (1 << self.depth) for n in x.shape[2:]):
            raise ShapeError(
                f"UNet: every size of x must divide by {1 << self.depth} (depth {self.depth}), "
                f"got {x.type}; pad or crop it"
            )
        across = []
        for i in range(1, self.depth + 1):
            across.append(getattr(self, f"encoder{i}")(x))
            x = getattr(self, f"pool{i}")(across[-1])
        x = self.bottleneck(x)
        for i in range(self.depth, 0, -1):
            x = concat([getattr(self, f"upconv{i}")(x), across[i - 1]], axis=1)
            x = getattr(self, f"decoder{i}")(x)
        return self.conv(x)  # type: ignore[no-any-return]


def unet2d(
    num_classes: int = 1, in_channels: int = 3, *, init_features: int = 32, depth: int = 4
) -> UNet:
    """U-Net on images: 7.8 million parameters.

    >>> st.models.unet2d(2, 1, init_features=4)(st.ones((1, 1, 32, 48))).shape
    (1, 2, 32, 48)
    """
    return UNet(2, num_classes, in_channels, init_features, depth)


def unet3d(
    num_classes: int = 1, in_channels: int = 1, *, init_features: int = 16, depth: int = 3
) -> UNet:
    """U-Net on volumes: 1.4 million parameters."""
    return UNet(3, num_classes, in_channels, init_features, depth)
