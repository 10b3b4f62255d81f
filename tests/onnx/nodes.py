"""The node tests of the `onnx` package, by operator, and how a backend is held to them."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from striate.onnx import backend


@cache
def cases() -> dict[str, list[Any]]:
    """The cases by the operator that they test: the one of the first node of the model, or of the
    model that an `_expanded` case, in which it is spelled out by others, belongs to.
    """
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases compute infinities
        found = [case for case in load_model_tests(kind="node") if case.model is not None]
    of_name = {c.name: c.model.graph.node[0].op_type for c in found}
    by_operator: dict[str, list[Any]] = defaultdict(list)
    for case in found:
        whole = re.sub(r"_expanded(_ver\d+)?$", "", case.name)
        by_operator[of_name.get(whole, of_name[case.name])].append(case)
    return by_operator


def check(case: Any) -> None:
    """Run a case and compare as the runner of onnx does."""
    from onnx import TensorProto, numpy_helper

    def array(x: Any) -> Any:
        return numpy_helper.to_array(x) if isinstance(x, TensorProto) else np.asarray(x)

    sets = [[list(map(array, values)) for values in pair] for pair in case.data_sets]
    compare(case, backend.prepare(case.model), sets)


def check_folder(case: Any) -> None:
    """The same for a case that is a folder of files."""
    from onnx import TensorProto, load, numpy_helper

    def tensors(folder: Path, name: str) -> list[Any]:
        count = len(list(folder.glob(f"{name}_*.pb")))
        files = (folder / f"{name}_{k}.pb" for k in range(count))
        return [numpy_helper.to_array(TensorProto.FromString(f.read_bytes())) for f in files]

    folders = sorted(Path(case.model_dir).glob("test_data_set*"))
    sets = [[tensors(folder, name) for name in ("input", "output")] for folder in folders]
    assert sets
    compare(case, backend.prepare(load(Path(case.model_dir) / "model.onnx")), sets)


def compare(case: Any, rep: Any, sets: list[list[list[Any]]]) -> None:
    """The outputs for each pair of inputs and outputs, within the case's tolerances."""
    for inputs, outputs in sets:
        found = rep.run(inputs)
        assert len(found) == len(outputs)
        for got, expected in zip(found, outputs, strict=True):
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype), case.name
            if got.dtype.kind in "biu":
                np.testing.assert_array_equal(got, expected, case.name)
            else:
                wide = [v.astype(np.float64) for v in (got, expected)]
                np.testing.assert_allclose(*wide, case.rtol, case.atol, err_msg=case.name)
