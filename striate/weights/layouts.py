"""Names that other libraries give to the weights of the networks of `st.models`.

The networks have torchvision's names. timm builds some of the same networks with others, and
torchvision's published files for DenseNet are older than its names. Each layout maps the names of a
file, whatever their order. It counts only if it names more of the network's weights than the file's
own names do, so that no other network is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np

from striate.data.files import Array as Values
from striate.nn import Module

Rules = tuple[tuple[str, str], ...]
Names = dict[str, str]


@dataclass(frozen=True)
class Layout:
    """How a library names weights.

    Attributes:
        names: the names of a file -> torchvision's, for those that it knows.
        eps: of the batch normalisation that the weights were made for, where it may be another.
    """

    names: Callable[[Iterable[str]], Names]
    eps: float | None = None


def _by_rules(rules: Rules, names: Iterable[str]) -> Names:
    """Each name by the first rule that fits its beginning."""
    found = {}
    for name in names:
        for pattern, new in rules:
            match = re.match(pattern, name)
            if match:
                found[name] = match.expand(new) + name[match.end() :]
                break
    return found


DENSENET: Rules = ((r"(.*\.denselayer\d+\.)(norm|conv)\.(\d)\.", r"\1\2\3."),)
VGG: Rules = (
    (r"features\.", "features."),
    (r"pre_logits\.fc1\.", "classifier.0."),
    (r"pre_logits\.fc2\.", "classifier.3."),
    (r"head\.fc\.", "classifier.6."),
)


def _regnet(names: Iterable[str]) -> Names:
    block = r"s(\d)\.b(\d+)\."
    parts = {"conv1": "f.a", "conv2": "f.b", "conv3": "f.c", "downsample": "proj"}
    out = {}
    for name in names:
        if match := re.match(block, name):
            stage, number = match[1], int(match[2]) - 1
            first, _, rest = name[match.end() :].partition(".")
            rest = _conv_and_norm(rest) if first in parts else rest
            part = parts.get(first, f"f.{first}")
            out[name] = f"trunk_output.block{stage}.block{stage}-{number}.{part}.{rest}"
        elif name.startswith("stem."):
            out[name] = f"stem.{_conv_and_norm(name.removeprefix('stem.'))}"
        elif name.startswith("head."):
            out[name] = name.removeprefix("head.")
    return out


def _conv_and_norm(rest: str) -> str:
    return re.sub(r"^bn\.", "1.", re.sub(r"^conv\.", "0.", rest))


def _convnext(names: Iterable[str]) -> Names:
    parts = {
        "gamma": "layer_scale", "conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3",
        "mlp.fc2": "block.5",
    }  # fmt: skip
    out = {}
    for name in names:
        if match := re.match(r"stages\.(\d)\.downsample\.", name):
            out[name] = f"features.{2 * int(match[1])}.{name[match.end() :]}"
        elif match := re.match(r"stages\.(\d)\.blocks\.(\d+)\.(gamma|mlp\.fc\d|\w+)", name):
            stage, number, part = 2 * int(match[1]) + 1, match[2], parts.get(match[3], match[3])
            out[name] = f"features.{stage}.{number}.{part}{name[match.end() :]}"
        elif name.startswith("stem."):
            out[name] = f"features.0.{name.removeprefix('stem.')}"
        elif name.startswith("head.norm."):
            out[name] = f"classifier.0.{name.removeprefix('head.norm.')}"
        elif name.startswith("head.fc."):
            out[name] = f"classifier.2.{name.removeprefix('head.fc.')}"
    return out


# ---- inverted residuals --------------------------------------------------------------------

_UNITS = ("conv", "conv_pw", "conv_dw", "se", "conv_pwl")  # in the order of a block


def _inverted(network: str, names: Iterable[str]) -> Names:
    """MobileNetV2, V3 and EfficientNet: `blocks.STAGE.NUMBER.UNIT...`.

    The place of a unit in torchvision's block is its place among those that the block has; a norm
    `bn1`, `bn2`, ... belongs to the first, second, ... convolution.
    """
    names = list(names)
    blocks: dict[tuple[int, int], list[str]] = {}
    for name in names:
        if match := re.match(r"blocks\.(\d+)\.(\d+)\.", name):
            blocks.setdefault((int(match[1]), int(match[2])), []).append(name)
    out: Names = {}
    for flat, (stage, number) in enumerate(sorted(blocks), start=1):
        place = f"{stage + 1}.{number}" if network == "efficientnet" else str(flat)
        begin = f"blocks.{stage}.{number}."
        inside = [name.removeprefix(begin) for name in blocks[stage, number]]
        for name, new in _unit_names(network, inside).items():
            out[begin + name] = f"features.{place}.{new}"
    stages = {stage for stage, _ in blocks}
    after = len(stages) + 1 if network == "efficientnet" else len(blocks) + 1
    ends = {"conv_stem": "features.0.0", "bn1": "features.0.1"}
    if network == "mobilenet_v3":
        ends |= {"conv_head": "classifier.0", "classifier": "classifier.3"}
    else:
        head = {"conv_head": f"features.{after}.0", "bn2": f"features.{after}.1"}
        ends |= head | {"classifier": "classifier.1"}
    for name in names:
        first, _, rest = name.partition(".")
        if first in ends:
            out[name] = f"{ends[first]}.{rest}"
    return out


def _unit_names(network: str, names: Iterable[str]) -> Names:
    """The names inside of a block."""
    names = list(names)
    had = {name.partition(".")[0] for name in names}
    units = [u for u in _UNITS if u in had]
    if "conv_pw" in had and "conv_pwl" not in had:  # not expanded: depthwise comes first
        units = [u for u in ("conv_dw", "se", "conv_pw") if u in had]
    convs = [u for u in units if u != "se"]
    excite = {"se.conv_reduce": "fc1", "se.conv_expand": "fc2"}
    out = {}
    for name in names:
        first, _, rest = name.partition(".")
        is_norm = re.fullmatch(r"bn\d", first)
        if is_norm and 0 < int(first[2:]) <= len(convs):
            unit = convs[int(first[2:]) - 1]
        elif first in units:
            unit = first
        else:
            continue
        k = units.index(unit)
        if unit == "se":
            part, _, rest = name.rpartition(".")
            if part in excite:
                out[name] = f"block.{k}.{excite[part]}.{rest}"
        elif unit == "conv":  # a block of one convolution
            out[name] = f"{1 if is_norm else 0}.{rest}"
        elif network == "mobilenet_v2":
            last = unit == units[-1]
            place = f"{k + 1 if is_norm else k}" if last else f"{k}.{1 if is_norm else 0}"
            out[name] = f"conv.{place}.{rest}"
        else:
            out[name] = f"block.{k}.{1 if is_norm else 0}.{rest}"
    return out


LAYOUTS: dict[str, Layout] = {
    "torchvision's files of DenseNet": Layout(partial(_by_rules, DENSENET)),
    "timm's VGG": Layout(partial(_by_rules, VGG)),
    "timm's RegNet": Layout(_regnet),
    "timm's ConvNeXt": Layout(_convnext),
    "timm's MobileNetV2": Layout(partial(_inverted, "mobilenet_v2"), 1e-5),
    "timm's MobileNetV3": Layout(partial(_inverted, "mobilenet_v3"), 1e-5),
    "timm's EfficientNet": Layout(partial(_inverted, "efficientnet"), 1e-5),
}


# ---- into a network ------------------------------------------------------------------------


def in_own_names(arrays: dict[str, Values], net: Module) -> dict[str, Values]:
    """The arrays under the names of the network, if a layout gives it more of them."""
    mine = {name: array.shape for name, array in net.state_dict().items()}
    best, most = None, len(mine.keys() & arrays.keys())
    for layout in LAYOUTS.values():
        names = {name: name for name in arrays} | layout.names(arrays)
        found = {*names.values()}
        if len(found) == len(names) and len(mine.keys() & found) > most:
            best, most = (layout, names), len(mine.keys() & found)
    if best is None:
        return arrays
    layout, names = best
    renamed = {names[name]: array for name, array in arrays.items()}
    shaped = {n: _reshaped(x, mine[n]) if n in mine else x for n, x in renamed.items()}
    return shaped if layout.eps is None else _with_eps(shaped, net, layout.eps)


def _reshaped(x: Values, shape: tuple[int, ...]) -> Values:
    """A dense layer that is a convolution over all of its image, and the like: rows stay rows."""
    rows_stay = x.ndim > 0 and len(shape) > 0 and x.shape[0] == shape[0]
    return x.reshape(shape) if rows_stay and prod(x.shape) == prod(shape) else x


def _with_eps(arrays: dict[str, Values], net: Module, eps: float) -> dict[str, Values]:
    """Variances that the network's own eps makes what another eps would have made of them."""
    out = dict(arrays)
    for path, module in net.named_modules():
        name = f"{path}.running_var"
        own = getattr(module, "eps", eps)
        if own != eps and name in out and out[name].dtype.kind in "fV":
            out[name] = out[name].astype(np.float64) + (eps - own)
    return out
