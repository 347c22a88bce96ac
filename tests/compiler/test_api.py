"""tilewright.compile: results as eager's, arguments checked by name, nesting, dynamic sizes, mutation."""

from __future__ import annotations

import pytest
import torch

import tilewright
from tilewright.ir.errors import ExportError, InputError, OptionValueError, UnknownOptionError


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x, scale=1.0, *, mask=None):
        y = self.norm(self.linear(x)) * scale
        if mask is not None:
            y = y.masked_fill(mask, -1.0)
        return {"y": torch.softmax(y, -1), "pair": (y, None, 3)}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Small().eval()


X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
MASK = X > 0


@pytest.fixture(scope="module")
def compiled(model):
    return tilewright.compile(model, (X, 2.0), {"mask": MASK})


def same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_nested_results_are_eagers(model, compiled):
    actual, expected = compiled(X, 2.0, mask=MASK), model(X, 2.0, mask=MASK)
    same(actual["y"], expected["y"])
    same(actual["pair"][0], expected["pair"][0])
    assert actual["pair"][1:] == (None, 3) and not actual["y"].requires_grad


def test_arguments_by_name_or_position(model, compiled):
    same(compiled(x=X, scale=2.0, mask=MASK)["y"], model(X, 2.0, mask=MASK)["y"])
    with pytest.raises(InputError, match="mask"):
        compiled(X, 2.0)
    with pytest.raises(InputError, match="masc"):
        compiled(X, 2.0, masc=MASK)


@pytest.mark.parametrize("change, message", [
    ({"x": X.double()}, r"'x' is float64\[4, 8\]; the model was compiled for float32\[4, 8\]"),
    ({"x": X[:3]}, r"'x' is of size \[3, 8\]"),
    ({"x": X[0]}, r"'x' is float32\[8\]"),
    ({"x": [1, 2]}, "nested"),
    ({"x": 3}, "'x' is of int"),
    ({"scale": 3.0}, "'scale' is 3.0; the model was compiled for 2.0"),
    ({"scale": 2}, "'scale' is 2;"),
    ({"mask": MASK.float()}, "'mask' is float32"),
    ({"x": X.to("meta")}, "'x' is on device meta"),
    ({"x": X.clone().requires_grad_()}, "'x' requires a gradient"),
])
def test_wrong_arguments_are_named(compiled, change, message):
    with pytest.raises(InputError, match=message):
        compiled(**{"x": X, "scale": 2.0, "mask": MASK, **change})


def test_other_strides_are_copied(model, compiled):
    strided = torch.empty(8, 4).t().copy_(X)
    assert strided.stride() != X.stride()
    assert torch.equal(compiled(strided, 2.0, mask=MASK)["y"], compiled(X, 2.0, mask=MASK)["y"])


def test_weights_are_the_models_own(model):
    made = tilewright.compile(model, (X,))
    before = made(X)["y"]
    with torch.no_grad():
        model.norm.weight.mul_(2.0)
    same(made(X)["y"], model(X)["y"])
    assert not torch.equal(made(X)["y"], before)
    with torch.no_grad():
        model.norm.weight.mul_(0.5)


def test_dynamic_sizes(model):
    rows = torch.export.Dim("rows", min=2, max=32)
    made = tilewright.compile(model, (X,), dynamic_shapes={"x": {0: rows}})
    for count in (2, 5, 32):
        x = torch.randn(count, 8)
        same(made(x)["y"], model(x)["y"])
    with pytest.raises(InputError, match="compiled for 2 to 32"):
        made(torch.randn(33, 8))


def test_sizes_that_must_agree():
    rows = torch.export.Dim("rows")
    made = tilewright.compile(lambda a, b: a + b, (X, X), dynamic_shapes={"a": {0: rows}, "b": {0: rows}})
    same(made(X[:3], X[:3]), 2 * X[:3])
    with pytest.raises(InputError, match=r"argument 'b' is of size \[2, 8\] where s\d+ = 3"):
        made(X[:3], X[:2])


def test_functions_and_programs_are_models(model):
    same(tilewright.compile(lambda a: torch.relu(a) + 1, (X,))(X), torch.relu(X) + 1)
    program = torch.export.export(model, (X,), strict=False)
    same(tilewright.compile(program)(X)["y"], model(X)["y"])


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(8))

    def forward(self, x):
        self.total.add_(x.sum(0))
        x.mul_(2.0)
        return x - self.total


def test_mutation_of_buffers_and_arguments():
    ours, eager = Counting(), Counting()
    made = tilewright.compile(ours, (X.clone(),))
    for _ in range(3):
        a, b = X.clone(), X.clone()
        same(made(a), eager(b))
        same(a, b)
        same(ours.total, eager.total)


def test_inputs_as_results_and_no_inputs():
    same(tilewright.compile(lambda a: (a, a.t(), a + 1), (X,))(X), (X, X.t(), X + 1))
    same(tilewright.compile(lambda: torch.arange(5) * 2, ())(), torch.arange(5) * 2)


def test_looking_inside(compiled, tmp_path):
    assert next(iter(compiled.compilation.stages)) == "import"
    assert "func.func @forward" in compiled.ir("import") and "tile.kernel" in compiled.ir("prog")
    with pytest.raises(OptionValueError, match="did you mean 'import'"):
        compiled.ir("imprt")
    kernel = compiled.kernels[0]
    told = compiled.explain(kernel.name)
    assert kernel.kind in told and kernel.source in told
    with pytest.raises(OptionValueError, match="kernels: "):
        compiled.explain("no_such_kernel")
    assert compiled.memory["weight_bytes"] >= sum(p.nbytes for p in (torch.empty(8, 8), torch.empty(8)))
    text = compiled.report(tmp_path / "report.html").read_text()
    assert kernel.name in text and "func.func @forward" in text and "http" not in text


def test_stats_are_plain_data(compiled):
    import json

    stats = json.loads(json.dumps(compiled.stats))
    assert {"kernels", "fallbacks", "passes", "peak_bytes", "compile_seconds"} <= stats.keys()
    assert {"name", "kind", "lines", "schedule", "bytes", "flops", "predicted_s"} <= stats["kernels"][0].keys()
    assert {"name", "seconds", "ops_before", "ops_after"} <= stats["passes"][0].keys()
    assert any(line.startswith("test_api.py") for row in stats["kernels"] for line in row["lines"])
    assert "export" in stats["compile_seconds"]


def test_options_are_checked():
    with pytest.raises(UnknownOptionError, match="verify"):
        tilewright.compile(lambda a: a, (X,), verfy="ir")
    with pytest.raises(OptionValueError, match="not available"):
        tilewright.compile(lambda a: a, (X,), target="sm_90")


def test_what_cannot_be_exported_is_an_error_of_ours():
    with pytest.raises(ExportError, match="as one graph"):
        tilewright.compile(lambda a: a * 2 if a.sum() > 0 else a, (X,))
    with pytest.raises(ExportError, match="not int"):
        tilewright.compile(3, ())


def test_without_a_compiler_the_model_still_runs(model, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    made = tilewright.compile(model, (X,))
    assert torch.equal(made(X)["y"], model(X)["y"])
    assert "runs in ATen as a whole" in caplog.text and "compiler" in caplog.text
    assert made.kernels == [] and all("compiler" in row["reason"] for row in made.fallbacks)
    with pytest.raises(tilewright.TilewrightError, match="one program, and the model runs in ATen"):
        made.save(tmp_path / "x.tw")
    with pytest.raises(tilewright.TilewrightError, match="compiler"):
        tilewright.compile(model, (X,), fallback="error")
