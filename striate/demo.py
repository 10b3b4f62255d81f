"""The main job, from data to pictures: train a small ConvNet on real handwritten digits.

`python -m striate.demo [OUT]` trains on two thirds of the bundled digits, reports the accuracy on
the held-out third, saves the weights, predicts a few test images, and draws what was learned.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import striate as st
from striate import data, nn, optim, train, viz

SHADES = " .:-=+*#%@"


def build() -> nn.Sequential:
    """Two convolutional stages for 8x8 images: x f32[N, 1, 8, 8] -> logits f32[N, 10]."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding="same"), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding="same"), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding="same"), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 4, 10),
    )  # fmt: skip


def draw(image: np.ndarray) -> list[str]:
    """An image of 0..16 as lines of text, two characters a pixel."""
    return ["".join(SHADES[min(int(v) * len(SHADES) // 17, 9)] * 2 for v in row) for row in image]


def main(out: str = "demo") -> int:
    """Run the demo; 0 if the held-out accuracy is at least 98 %."""
    start = time.perf_counter()
    folder = Path(out)
    st.random.seed(0)
    net = build()
    to_float = data.ToFloat(16)
    training, test = data.digits("train"), data.digits("test")
    epochs, batch = 20, 64
    loader = data.DataLoader(
        training, batch, shuffle=True,
        transform=data.Compose(
            [to_float, data.RandomAffine(degrees=8, translate=(0.06, 0.06), scale=(0.95, 1.05))]
        ),
    )  # fmt: skip
    held_out = data.DataLoader(test, 256, transform=to_float)
    optimizer = optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = optim.OneCycleLR(optimizer, max_lr=8e-3, total_steps=epochs * len(loader))
    history = train.fit(
        net, loader, loss=nn.CrossEntropyLoss(), optimizer=optimizer, schedule=schedule,
        epochs=epochs, validation=held_out, out=folder,
    )  # fmt: skip

    net.eval()
    images, labels = test.take(np.arange(len(test)))
    x = st.asarray(images.astype(np.float32) / 16)
    logits = st.jit(net)(x)
    guess = logits.numpy().argmax(axis=1)
    accuracy = float((guess == labels).mean())

    certain = st.softmax(logits).numpy().max(axis=1)
    show = np.random.default_rng(0).choice(len(labels), 4, replace=False)
    print(
        "\n".join(
            "   ".join(lines) for lines in zip(*(draw(images[i, 0]) for i in show), strict=True)
        )
    )
    print("   ".join(f"{guess[i]} ({certain[i]:.0%}), is {labels[i]}".ljust(16) for i in show))

    stem = net[0]
    viz.save(viz.curves(history.rows), folder / "curves.png")
    viz.save(viz.filters(stem.weight), folder / "filters.png")
    viz.save(viz.feature_maps(nn.Sequential(*list(net)[:3])(x[:1])[0]), folder / "feature_maps.png")
    matrix = viz.confusion_matrix(labels, guess, 10)
    viz.save(viz.confusion(matrix), folder / "confusion.png")

    right = int((guess == labels).sum())
    print(f"\ntest accuracy {accuracy:.2%} ({right} of {len(labels)})")
    print(f"weights and pictures in {folder}/, {time.perf_counter() - start:.0f} s")
    return 0 if accuracy >= 0.98 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
