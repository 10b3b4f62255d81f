"""LeNet-5: LeCun et al., "Gradient-based learning applied to document recognition" (1998).

With ReLU and max pooling, as it is commonly written today. Keys: conv1, conv2, fc1, fc2, fc3.
"""

from __future__ import annotations

from striate import nn
from striate.core.api import flatten
from striate.core.array import Array


class LeNet(nn.Module):
    """Two 5x5 convolutions, each before a pooling, and three linear layers.

    Args:
        num_classes: of the logits.
        in_channels: C of the images.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Array) -> Array:
        """x: f32[N, C, 28, 28] -> logits f32[N, classes]"""
        x = self.pool(self.relu(self.conv1(x)))  # [n, 6, 14, 14]
        x = self.pool(self.relu(self.conv2(x)))  # [n, 16, 5, 5]
        x = self.relu(self.fc1(flatten(x, 1)))
        return self.fc3(self.relu(self.fc2(x)))  # type: ignore[no-any-return]


def lenet(num_classes: int = 10, in_channels: int = 1) -> LeNet:
    """LeNet-5 for images of 28: 62 thousand parameters.

    >>> st.models.lenet()(st.ones((1, 1, 28, 28))).shape
    (1, 10)
    """
    return LeNet(num_classes, in_channels)
