"""The examples of docs/weights.md do what the page says: Python and commands, in order."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.cli import main

PAGE = Path(__file__).resolve().parent.parent / "docs" / "weights.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"```(python|console)\n(.*?)```", re.DOTALL)


def commands(text: str) -> list[tuple[list[str], str]]:
    """(words, output) of each line that begins with `$ striate`."""
    found = [part.partition("\n") for part in text.split("$ striate ")[1:]]
    return [(shlex.split(line), output) for line, _, output in found]


def test_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save("photo.png")
    Image.fromarray(pixels[:, :, 0]).save("digit.png")
    scope: dict[str, Any] = {}
    checker = doctest.OutputChecker()
    done = 0
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "python":
            test = doctest.DocTestParser().get_doctest(text, scope, "weights.md", str(PAGE), 0)
            runner = doctest.DocTestRunner(checker, optionflags=FLAGS)
            runner.run(test, clear_globs=False)
            assert runner.summarize().failed == 0, capsys.readouterr().out
            scope = test.globs
            done += len(test.examples)
        else:
            for words, want in commands(text):
                capsys.readouterr()
                assert main(words) == 0, (words, capsys.readouterr().err)
                got = capsys.readouterr().out
                assert checker.check_output(want, got, FLAGS), f"{words}:\n{got}"
                done += 1
    assert done > 10
