"""predict, inspect, bench and convert on networks by name and on weights files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import striate as st
from striate import data, models, weights
from striate.cli import main

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    st.save_weights(models.small(3, 3), path)
    return path


def test_predict_by_name(saved: Path, tmp_path: Path, capsys: Output) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\n")
    call = ["predict", "small", str(tmp_path / "x.png"), "--weights", str(saved), "--classes", "3"]
    call += ["--shape", "1,3,16,20", "--labels", str(tmp_path / "names.txt"), "--top", "3"]
    assert main([*call, "--mean", "0.5", "--std", "0.25", "0.25", "0.5"]) == 0
    found = dict(re.findall(r"(cat|dog|owl) ([0-9.]+)%", capsys.readouterr().out))
    net = models.small(3, 3)
    st.load_weights(net, saved)
    net.eval()
    x = data.read_image(tmp_path / "x.png", size=(16, 20)).astype(np.float32) / 255
    std = np.float32([0.25, 0.25, 0.5]).reshape(3, 1, 1)
    want = st.softmax(net(((x - 0.5) / std)[None])[0]).numpy()
    # printed with one digit behind the point
    assert [float(found[n]) for n in ("cat", "dog", "owl")] == pytest.approx(100 * want, abs=0.051)


def test_predict_saves_outputs(saved: Path, tmp_path: Path, capsys: Output) -> None:
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "x.png")
    call = ["predict", "small", str(tmp_path / "x.png"), "--weights", str(saved), "--classes", "3"]
    out = str(tmp_path / "y.npz")
    assert main([*call, "--shape", "1x3x8x8", "--out", out]) == 0
    assert weights.read(out)["x.0"].shape == (1, 3)
    assert "outputs in" in capsys.readouterr().out


def test_inspect(saved: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["inspect", "resnet20"]) == 0
    text = capsys.readouterr().out
    assert "multiply-adds 40,551,040 for 1x3x32x32" in text and "layer3.2.conv2" in text
    assert main(["inspect", str(saved)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^0\.weight +float32\[16, 3, 3, 3\]$", text, re.MULTILINE)
    assert re.search(r"\d+ arrays, [\d,]+ numbers", text)
    assert main(["train", "digits", "--epochs", "1", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "model.safetensors")]) == 0
    assert "for 1x1x8x8" in capsys.readouterr().out  # a network
    assert main(["inspect", str(tmp_path / "last.safetensors")]) == 0
    assert "arrays" in capsys.readouterr().out


def test_bench(capsys: Output) -> None:
    before = st.get_num_threads()
    call = ["bench", "small", "--shape", "2,1,16,16", "--seconds", "0.01", "--rows", "2"]
    try:
        assert main([*call, "--threads", "1"]) == 0
    finally:
        st.set_num_threads(before)
    text = capsys.readouterr().out
    assert "small, 2x1x16x16, float32, 1 thread\n" in text
    latency = float(re.findall(r"latency +([0-9.]+) ms", text)[0])
    throughput = float(re.findall(r"throughput +([0-9.]+) a second", text)[0])
    assert throughput == pytest.approx(2000 / latency, rel=0.01, abs=0.1)
    assert re.search(r"[0-9.]+ GFLOP/s of [\d,]+ multiply-adds, \d+% of the peak of", text)
    rows = re.findall(r"^ +\d+ +([0-9.]+) +([0-9.]+)% .*%.*$", text, re.MULTILINE)
    rest, share, others = re.findall(r"([0-9.]+) +([0-9.]+)% in (\d+) others", text)[0]
    whole, steps = re.findall(r"([0-9.]+) in (\d+) steps", text)[0]
    assert len(rows) == 2 and int(others) + 2 == int(steps)
    # printed with three digits and one digit behind the point
    milliseconds = sum(float(ms) for ms, _ in rows) + float(rest)
    assert milliseconds == pytest.approx(float(whole), abs=0.002)
    assert sum(float(s) for _, s in rows) + float(share) == pytest.approx(100, abs=0.151)


def test_convert(saved: Path, tmp_path: Path, capsys: Output) -> None:
    names = [str(saved)]
    for suffix in (".safetensors", ".npz", ".pt"):
        names.append(str(tmp_path / f"a{suffix}"))
        assert main(["convert", *names[-2:]]) == 0
        assert names[-1] in capsys.readouterr().out
    first, last = weights.read(names[0]), weights.read(names[-1])
    assert set(first) == set(last)
    for name, value in first.items():
        np.testing.assert_array_equal(last[name], value)
    assert main(["convert", names[0], names[1], "--rename", "0.=stem."]) == 0
    assert "stem.weight" in weights.read(names[1]) and "0.weight" not in weights.read(names[1])


MODEL = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3, 8, 8] x) => (float[N, 2] y) <float[2, 3, 1, 1] w = {1, 0, 0, 0, 0, 1}> {
  c = Conv (x, w)
  p = GlobalAveragePool (c)
  y = Flatten (p)
}"""


@pytest.fixture
def onnx_file(tmp_path: Path) -> str:
    parser = pytest.importorskip("onnx.parser")
    path = tmp_path / "model.onnx"
    path.write_bytes(parser.parse_model(MODEL).SerializeToString())
    return str(path)


def test_onnx(onnx_file: str, tmp_path: Path, capsys: Output) -> None:
    assert main(["inspect", onnx_file]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^c +Conv +1x2x8x8 +6 +384 +1x1 +512 B$", text, re.MULTILINE)
    assert main(["inspect", onnx_file, "--shape", "5,3,8,8"]) == 0
    assert "1,920 for 5x3x8x8" in capsys.readouterr().out
    Image.new("RGB", (8, 8), (51, 0, 204)).save(tmp_path / "x.png")  # 0.2 and 0.8 of 255
    call = ["predict", onnx_file, str(tmp_path / "x.png"), "--mean", "0", "--std", "1"]
    assert main([*call, "--out", str(tmp_path / "y.npz")]) == 0
    scores = weights.read(tmp_path / "y.npz")["x.0"][0]
    np.testing.assert_allclose(scores, [0.2, 0.8], rtol=64 * np.finfo(np.float32).eps)
    assert "1 80.0%  0 20.0%" in capsys.readouterr().out  # they are probabilities already
    assert main(["bench", onnx_file, "--seconds", "0.01", "--rows", "9"]) == 0
    text = capsys.readouterr().out
    assert "of 384 multiply-adds" in text
    assert re.search(r"^ +\d+ .*  c\b.*  \w", text, re.MULTILINE)  # the node, its kernel


def test_onnx_with_free_sizes(tmp_path: Path, capsys: Output) -> None:
    parser = pytest.importorskip("onnx.parser")
    path = tmp_path / "model.onnx"
    free = MODEL.replace("[N, 3, 8, 8]", "[N, 3, H, W]")
    path.write_bytes(parser.parse_model(free).SerializeToString())
    assert main(["inspect", str(path)]) == 1
    assert "its size is free; say it with --shape" in capsys.readouterr().err
    assert main(["inspect", str(path), "--shape", "1,3,8,8"]) == 0
    path.write_bytes(b"nothing")
    assert main(["inspect", str(path)]) == 1
    assert "no ONNX model" in capsys.readouterr().err


DETECTOR = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 1, 4, 5] image) => (float[m, 4] found, float[1, 4, 5] scaled)
<int64[1] most = {9}, float[1] overlap = {0.5}, float[1] least = {0.5}, int64[3] boxes3 = {1, 5, 4},
 int64[3] scores3 = {1, 1, 5}, float four = {4}, int64 column = {2}, int64[2] rows = {5, 4}>
{
  boxes = Reshape (image, boxes3)
  sums = ReduceSum <keepdims = 0> (boxes, axis)
  axis = Constant <value_ints = [2]> ()
  scores = Reshape (sums, one)
  one = Constant <value_ints = [1, 1, 5]> ()
  kept = NonMaxSuppression (boxes, scores, most, overlap, least)
  numbers = Gather <axis = 1> (kept, column)
  flat = Reshape (image, rows)
  found = Gather (flat, numbers)
  moved = Mul (image, four)
  size = Constant <value_ints = [1, 4, 5]> ()
  scaled = Reshape (moved, size)
}"""


def test_a_model_that_needs_values(tmp_path: Path, capsys: Output) -> None:
    parser = pytest.importorskip("onnx.parser")
    path = tmp_path / "detector.onnx"
    path.write_bytes(parser.parse_model(DETECTOR).SerializeToString())
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^kept +NonMaxSuppression +\? +0 +\? +\? +\?$", text, re.MULTILINE)
    assert re.search(r"^found +Gather +\?", text, re.MULTILINE)
    assert re.search(r"^scaled +Reshape +1x4x5 ", text, re.MULTILINE)  # behind it, not from it
    assert "without 3 layers (?) that depend on values" in text
    assert main(["bench", str(path), "--seconds", "0.01"]) == 0
    text = capsys.readouterr().out
    assert "without those of nodes" in text
    assert re.search(r"^ +\d+ .*  kept  by itself$", text, re.MULTILINE)
    Image.new("L", (5, 4), 255).save(tmp_path / "x.png")
    assert main(["predict", str(path), str(tmp_path / "x.png"), "--mean", "0", "--std", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("output 0: float32[5, 4], 1 to 1")  # points overlap with none
    with pytest.raises(SystemExit):
        main(["bench", str(path), "--shape", ""])
    assert main(["convert", str(path), str(tmp_path / "again.onnx")]) == 1
    assert "must be known" in capsys.readouterr().err


def test_predict_takes_folders_and_channels_last(tmp_path: Path, capsys: Output) -> None:
    """A model that gives the mean colour, from images as they are (uint8)."""
    parser = pytest.importorskip("onnx.parser")
    model = parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
      g (uint8[N, H, W, 3] x) => (float[N, 3] y)
      { f = Cast <to = 1> (x) y = ReduceMean <axes = [1, 2], keepdims = 0> (f) }""")
    path = tmp_path / "colour.onnx"
    path.write_bytes(model.SerializeToString())
    for name, size in (("a/x.png", (5, 3)), ("b/x.PNG", (2, 7)), ("b/.y.png", (1, 1))):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (10, 20, size[0])).save(tmp_path / "photos" / name, format="PNG")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    call = ["predict", str(path), str(tmp_path / "photos"), "--out", str(tmp_path / "y.npz")]
    assert main(call) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "a" in lines[0] and ": 1 " in lines[0]
    found = weights.read(tmp_path / "y.npz")
    assert [found[k].tolist() for k in found] == [[[10, 20, 5]], [[10, 20, 2]]]
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(path), str(tmp_path / "empty")]) == 1
    assert "no image" in capsys.readouterr().err
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    call = ["predict", str(path), str(tmp_path / "photos"), "--labels", str(tmp_path / "latin.txt")]
    assert main(call) == 1
    assert "no text in UTF-8" in capsys.readouterr().err


def test_real_models(shared_data: Path, capsys: Output) -> None:
    pytest.importorskip("onnx")
    folder = shared_data / "onnx_ultraface"
    assert main(["inspect", str(folder / "version-RFB-320.onnx")]) == 0
    assert "multiply-adds 100,418,560 for 1x3x240x320" in capsys.readouterr().out
    face = str(shared_data / "onnx_ultraface" / "1.jpg")
    call = ["predict", str(folder / "version-RFB-320.onnx"), face]
    assert main([*call, "--mean", "0.498", "--std", "0.502"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "output 0: float32[1, 4420, 2]" in lines[0]
    assert float(lines[0].split(" to ")[1]) > 0.9  # a face


def test_to_onnx(saved: Path, tmp_path: Path, capsys: Output) -> None:
    pytest.importorskip("onnx")
    target = str(tmp_path / "small.onnx")
    call = ["convert", "small", target, "--weights", str(saved), "--classes", "3"]
    assert main([*call, "--shape", "1,3,8,8", "--dynamic-batch"]) == 0
    assert f"small for 1x3x8x8 in {target}" in capsys.readouterr().out
    net = models.small(3, 3)
    st.load_weights(net, saved)
    net.eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)
    want = net(x).numpy()
    # three convolutions of at most 288 products and a matrix product of 256, in float32
    bound = 4 * 2 * np.finfo(np.float32).eps * 289 * np.abs(want).max()
    np.testing.assert_allclose(st.onnx.load(target)(x).numpy(), want, rtol=0, atol=bound)


def test_weights_of_networks(saved: Path, tmp_path: Path, capsys: Output) -> None:
    """From a network by name into ONNX, and from there into the weights that it began with."""
    pytest.importorskip("onnx")
    model, last = str(tmp_path / "small.onnx"), str(tmp_path / "last.safetensors")
    options = ["--weights", str(saved), "--classes", "3", "--shape", "1,3,8,8"]
    assert main(["convert", "small", model, *options]) == 0
    assert main(["convert", model, last]) == 0
    assert capsys.readouterr().err == ""
    first, found = weights.read(saved), weights.read(last)
    assert weights.metadata(last) == {"format": "pt"}
    for name, value in found.items():
        np.testing.assert_array_equal(first[name], value)
    assert first.keys() - found.keys() == {k for k in first if k.endswith("num_batches_tracked")}
    doubled = str(tmp_path / "doubled.npz")
    weights.write(doubled, {k: 2 * v for k, v in found.items()})
    assert main(["convert", model, last, "--weights", doubled]) == 0
    np.testing.assert_array_equal(weights.read(last)["0.weight"], 2 * found["0.weight"])
    assert main(["convert", "small", str(tmp_path / "fresh.pt"), "--classes", "3"]) == 0
    assert "random weights" in capsys.readouterr().err


def test_a_reader_that_has_read_enough() -> None:
    """As `| head -1`; another exit would print what Python thinks of a closed pipe."""
    call = [sys.executable, "-m", "striate.cli", "inspect", "resnet50"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["inspect", "nothing"], "nor one of"),
        (["inspect", "nothing.pth"], "nothing.pth"),
        (["inspect", "small", "--shape", "3"], "a batch and channels"),
        (["inspect", "small", "--weights", __file__], "safetensors, npz or PyTorch"),
        (["bench", __file__], "nor one of"),
        (["convert", __file__, "x.npz"], "safetensors, npz or PyTorch"),
        (["inspect", "dncnn", "--classes", "3"], "gives an image, not classes"),
        (["convert", __file__, "x.npz", "--shape", "1,1,8,8"], "are for networks"),
        (["inspect", __file__, "--shape", "1,1,8,8"], "are for networks"),
        (["inspect", __file__], "safetensors, npz or PyTorch"),
        (["convert", "small", "x.npz", "--key", "a"], "--key is for PyTorch's files"),
        (["convert", "small", "x.npz", "--dynamic-batch"], "--dynamic-batch is for networks"),
        (["inspect", "small", "--shape", "1,1,8,8", "--shape", "1,1,8,8"], "1 inputs, got 2"),
        (["predict", "small", "x.png", "--labels", "no.txt", "--shape", "1,3,8,8"], "no.txt"),
        (["convert", "small", "x.onnx", "--key", "a"], "are for weights"),
        (["predict", "small", "x.png", "--mean", "1", "2"], "--mean and --std are 1 or 1 numbers"),
        (["predict", "small", "x.png", "--shape", "1,2,8,8"], "an image is (1, 1 or 3, H, W)"),
    ],
)
def test_errors(call: list[str], message: str, capsys: Output) -> None:
    assert main(call) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_labels_that_do_not_fit(saved: Path, tmp_path: Path, capsys: Output) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "names.txt").write_text("cat\n")
    call = ["predict", "small", str(tmp_path / "x.png"), "--shape", "1,3,8,8"]
    assert main([*call, "--labels", str(tmp_path / "names.txt")]) == 1
    assert "1 labels for 10 scores" in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [
        ["bench"],
        ["inspect", "small", "--shape", "1,a"],
        ["inspect", "small", "--shape", "1,-3"],
        ["inspect", "small", "--shape", f"1,{2**63}"],
        ["inspect", "small", "--classes", "0"],
        ["convert", "a", "b", "--rename", "x"],
        ["predict", "small"],
    ],
)
def test_wrong_calls(call: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(call)
    assert stop.value.code == 2
