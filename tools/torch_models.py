"""Models of torchvision and timm by `torch.compile(backend="striate")`, against float64.

    python tools/torch_models.py [--only REGEX] [--seconds N] [--out docs/torch_models.md]

Each model, with random weights and in training mode, does one step (forward, backward) by striate,
eagerly, and eagerly in float64. An error is the root mean square of the difference from float64,
relative to that of the reference; a gradient's to at least a hundredth of the model's largest.
It may be twice eager's, plus a tenth of the tolerance: 1e-3 for outputs and 1e-2 for gradients, the
bounds of PyTorch's own suite for compilers. A value within rounding of a kink, such as that of a
ReLU, may fall on its other side, by which a gradient jumps; so a model that is not within the
bounds is tried with up to three seeds, and one must be. Where none is, all three runs take the
branches that float64 took at each kink (`tools/torch_branches.py`), and the same bounds hold.

Results are kept in a JSON file beside the table, and models that are in it are not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import re
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from itertools import zip_longest
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_branches import Branches

import striate as st
from striate.config import settings
from striate.torch_backend import backend

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = {"output": 1e-3, "gradient": 1e-2}
SEEDS = 3

VISION = """
resnet18 mobilenet_v2 squeezenet1_1 shufflenet_v2_x0_5 mnasnet0_5 regnet_x_400mf regnet_y_400mf
efficientnet_b0 mobilenet_v3_small convnext_tiny densenet121 googlenet alexnet vgg11 vgg11_bn
resnext50_32x4d wide_resnet50_2 inception_v3 efficientnet_v2_s
segmentation/fcn_resnet50 segmentation/deeplabv3_mobilenet_v3_large
segmentation/lraspp_mobilenet_v3_large video/r3d_18 video/mc3_18 video/r2plus1d_18 video/s3d
segmentation/deeplabv3_resnet50 segmentation/fcn_resnet101 segmentation/deeplabv3_resnet101
resnet34 resnet50 mobilenet_v3_large mnasnet0_75 mnasnet1_0 mnasnet1_3 squeezenet1_0
shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 regnet_x_800mf regnet_y_800mf
regnet_x_1_6gf regnet_y_1_6gf vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn efficientnet_b1
efficientnet_b2 resnet101 resnet152 densenet169 densenet201 densenet161 convnext_small
regnet_x_3_2gf regnet_y_3_2gf regnet_x_8gf regnet_y_8gf efficientnet_b3 efficientnet_b4
efficientnet_v2_m resnext101_32x8d resnext101_64x4d wide_resnet101_2 convnext_base
regnet_x_16gf regnet_y_16gf regnet_x_32gf regnet_y_32gf efficientnet_b5 efficientnet_b6
efficientnet_b7 efficientnet_v2_l convnext_large
"""

# Larger where a model wants it, or else normalizes few values at its end, which magnifies rounding.
SIZES = {
    "visformer_tiny": 224, "efficientformer_l1": 224, "bat_resnext26ts": 256, "inception_v4": 160,
    "selecsls42": 128, "mobileone_s0": 128,
}  # fmt: skip

TIMM = """
resnet10t lcnet_050 mobilenetv3_small_050 mobilenetv2_050 tinynet_e repvgg_a0 regnetx_002
regnety_002 convnext_atto convnextv2_atto mobilenetv4_conv_small ghostnet_050 repghostnet_050
legacy_seresnet18 skresnet18 resnetv2_18 fasternet_t0 starnet_s1 poolformer_s12 mobileone_s0
hgnetv2_b0 efficientnet_lite0 mnasnet_050 mixnet_s rexnet_100 spnasnet_100 semnasnet_075
fbnetc_100 hardcorenas_a dla34 gernet_s ese_vovnet19b_dw selecsls42 hrnet_w18_small
nf_regnet_b0 edgenext_xx_small inception_next_atto mambaout_femto resnest14d ecaresnet26t
seresnext26t_32x4d gcresnext26ts bat_resnext26ts nf_resnet26 darknetaa53 cspresnet50
res2net50_14w_8s dpn48b resnext26ts tf_efficientnetv2_b0 efficientnetv2_rw_t fbnetv3_b
repvit_m0_9 shvit_s1 mobilevit_xxs efficientvit_b0 swiftformer_xs convformer_s18 visformer_tiny
eca_nfnet_l0 xception41 cs3darknet_s ghostnetv2_100 poolformerv2_s12 regnetz_005 hgnet_tiny
fastvit_t8 efficientformer_l1 focalnet_tiny_srf rdnet_tiny tresnet_m inception_v4 vgg11
densenet121
"""


def import_torchvision() -> Any:
    """torchvision, of which only the Python part is needed: its own operators need not be built."""
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    library = torch.library.Library("torchvision", "DEF")
    try:
        import torchvision
    except RuntimeError:
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torchvision
    LIBRARIES.append(library)
    return torchvision


LIBRARIES: list[Any] = []  # what they define lives as long as they do


def vision(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A model of torchvision and an input."""
    short = name.rpartition("/")[2]
    options: dict[str, Any] = {"weights": None}
    if "/" in name and not name.startswith("video"):
        options |= {"weights_backbone": None, "num_classes": 5}
    if short in ("inception_v3", "googlenet"):
        options |= {"init_weights": False, "aux_logits": False}
    models = import_torchvision().models
    net = models.get_model(short, **options)
    if short == "s3d":
        return net, torch.randn(1, 3, 13, 209, 209)  # the least that its last pool takes
    if name.startswith("video"):
        return net, torch.randn(2, 3, 4, 32, 32)
    size = {"inception_v3": 128, "alexnet": 96}.get(short, 64)
    return net, torch.randn(2, 3, size, size)


def image_model(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A model of timm and an input."""
    import_torchvision()
    import timm

    size = SIZES.get(name, 64)
    return timm.create_model(name, num_classes=10), torch.randn(2, 3, size, size)


def step(net: nn.Module, call: Callable[..., Any], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output, and the gradients by name, of one step."""
    torch.manual_seed(1)
    y = call(x)
    y = y["out"] if isinstance(y, dict) else y
    weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape)
    (y * weight.to(y.dtype)).sum().backward()
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    return {"": y.detach(), **gradients}


class Names(logging.Handler):
    """Collects the operators that ran in PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().removeprefix("PyTorch runs ")
        self.found |= {part.split()[0] for part in text.split("; ")}


def checked(make: Callable[[str], tuple[nn.Module, torch.Tensor]], name: str) -> dict[str, Any]:
    """One model's row: of the first seed that fits, or on the branches of float64."""
    rows = []
    for seed in range(SEEDS):
        rows.append(measured(make, name, seed))
        if fits(rows[-1]):
            return rows[-1]
    without = sum(row["without oneDNN"] for row in rows)
    return {**measured(make, name, 0, Branches()), "without oneDNN": without}


def measured(
    make: Callable[[str], tuple[nn.Module, torch.Tensor]],
    name: str,
    seed: int,
    branches: Branches | None = None,
) -> dict[str, Any]:
    """One model's row; with `branches`, of runs that all take those of float64."""
    torch._dynamo.reset()
    torch.manual_seed(seed)
    net, x = make(name)

    def run(net: nn.Module, x: torch.Tensor, call: Callable[..., Any]) -> dict[str, torch.Tensor]:
        with nullcontext() if branches is None else branches.run():
            return step(net, call, x)

    ours, other, wide = copy.deepcopy(net), copy.deepcopy(net), copy.deepcopy(net).double()
    exact = run(wide, x.double(), wide)
    eager = errors(run(net, x, net), exact)
    with torch.backends.mkldnn.flags(enabled=False):
        without = errors(step(other, other, x), exact) if branches is None else None
    names = Names()
    logger = logging.getLogger("striate.torch")
    logger.addHandler(names)
    logger.setLevel(logging.DEBUG)
    start = time.perf_counter()
    found = errors(run(ours, x, torch.compile(ours, backend=backend)), exact)
    seconds = time.perf_counter() - start
    logger.removeHandler(names)
    row: dict[str, Any] = {
        "seed": seed,
        "branches": "own" if branches is None else "float64",
        "parameters": sum(p.numel() for p in net.parameters()),
        "pytorch": sorted(names.found),
        "seconds": seconds,
        **nearest(found, eager),
    }
    if without is not None:
        row["without oneDNN"] = fits(nearest(without, eager))
    return row


def errors(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> dict[str, float]:
    """The error of the output, named "", and of each gradient."""

    def rms(t: torch.Tensor) -> float:
        return t.double().square().mean().sqrt().item()

    least = max(rms(t) for n, t in exact.items() if n) / 100
    return {
        n: rms(found[n].double() - t) / max(rms(t), least if n else 1e-30) for n, t in exact.items()
    }


def nearest(found: dict[str, float], eager: dict[str, float]) -> dict[str, Any]:
    """The errors of the output and of the gradient that is the nearest to its bound, or beyond."""
    row: dict[str, Any] = {}
    for what, tolerance in TOLERANCE.items():
        of = [n for n in eager if bool(n) == (what == "gradient")]
        allowed = {n: 2 * eager[n] + tolerance / 10 for n in of}
        # a NaN is beyond all bounds
        n = max(allowed, key=lambda n: found[n] / allowed[n] if found[n] == found[n] else inf)
        row[what] = {"striate": found[n], "eager": eager[n], "allowed": allowed[n]}
    return row


def fits(row: dict[str, Any]) -> bool:
    return "error" not in row and all(row[w]["striate"] <= row[w]["allowed"] for w in TOLERANCE)


def table(results: dict[str, dict[str, Any]]) -> str:
    """The page with one row per model."""
    good = sum(map(fits, results.values()))
    same = [r for r in results.values() if fits(r) and r["branches"] == "float64"]
    assert __doc__ is not None
    lines = [
        '# Models of PyTorch by `torch.compile(backend="striate")`',
        "",
        f"{good} of the {len(results)} models that were run are as accurate as asked for, "
        f"{len(same)} of them on the branches of float64. "
        "`tools/torch_models.py` makes this page (it needs `torch`, `torchvision` and `timm`). "
        + " ".join(__doc__.split("\n\n")[2].split()),
        "",
        "Where branches differ, no program has one gradient: eager PyTorch without oneDNN, whose "
        "convolutions add in another order, was held against eager PyTorch with it by the same "
        f"bounds, and of the {SEEDS * len(same)} runs of the {len(same)} models it was within them "
        f"in {sum(r['without oneDNN'] for r in same)}.",
        "",
        f"PyTorch {version('torch').partition('+')[0]}, torchvision {version('torchvision')}, timm "
        f"{version('timm')}, striate {st.__version__}, at its default precision, "
        f"`{settings().precision}`. The gradient is the one nearest to its bound. Random draws "
        "always run in PyTorch and are not listed. Of torchvision, detection, optical flow, "
        "quantized models and transformers are left out, and `regnet_y_128gf` for its size "
        "(645 M parameters). Rows are kept from run to run until they are measured again, so they "
        "may be of different versions of striate.",
        "",
        "| model | parameters | output: striate, eager | gradient: striate, eager | in PyTorch | "
        "| seed | branches |",
        "|---|---:|---:|---:|---|---|---:|---|",
    ]
    for name, row in results.items():
        if "error" in row:
            lines.append(f"| {name} | | | | | {row['error']} | | |")
            continue
        pairs = [f"{row[w]['striate']:.1e}, {row[w]['eager']:.1e}" for w in TOLERANCE]
        names = [n for n in row["pytorch"] if not n.startswith(("empty", "bernoulli", "rand"))]
        verdict = "ok" if fits(row) else "not within"
        lines.append(
            f"| {name} | {row['parameters'] / 1e6:.1f} M | {pairs[0]} | {pairs[1]} | "
            f"{', '.join(f'`{n}`' for n in names)} | {verdict} | {row['seed'] + 1} | "
            f"{row['branches']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no model after")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "torch_models.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "torch_models.md")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    results = json.loads(args.results.read_text()) if args.results.exists() else {}
    pairs = zip_longest(
        ((f"torchvision/{n}", vision, n) for n in VISION.split()),
        ((f"timm/{n}", image_model, n) for n in TIMM.split()),
    )
    todo = [model for pair in pairs for model in pair if model is not None]
    stop = time.monotonic() + args.seconds
    for full, make, name in todo:
        if full in results or not re.search(args.only, full) or time.monotonic() > stop:
            continue
        try:
            results[full] = checked(make, name)
        except Exception as error:
            results[full] = {
                "error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
            }
        print(full, "ok" if fits(results[full]) else results[full], flush=True)
        ordered = dict(sorted(results.items(), key=lambda item: item[0].lower()))
        args.results.write_text(json.dumps(ordered, indent=1) + "\n")
        args.out.write_text(table(ordered))
    return 0 if all(map(fits, results.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
