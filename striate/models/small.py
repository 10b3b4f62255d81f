"""A small ConvNet for small images: three stages, batch norm, global mean."""

from __future__ import annotations

from striate import nn


def small(num_classes: int = 10, in_channels: int = 1, width: int = 16) -> nn.Sequential:
    """x: f32[N, C, H, W], H and W at least 4 -> logits f32[N, classes]"""
    layers: list[nn.Module] = []
    channels = in_channels
    for stage in range(3):
        if stage:
            layers.append(nn.MaxPool2d(2))
        layers += [
            nn.Conv2d(channels, width << stage, 3, padding=1, bias=False),
            nn.BatchNorm2d(width << stage),
            nn.ReLU(),
        ]
        channels = width << stage
    layers += [
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(4 * channels, num_classes),
    ]
    return nn.Sequential(*layers)
