"""Whole graphs through the importer: arguments, symbols, results, constants, names, locations, what stays in ATen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch.fx.experimental.proxy_tensor import make_fx

from tilewright.importer import Imported, import_graph
from tilewright.importer.locations import argument_hint, name_hint
from tilewright.importer.table import RULES
from tilewright.ir import interpreter, tw
from tilewright.ir.errors import UnsupportedGraphError
from tilewright.ir.text import file_lines, parse_ir, print_ir

aten = torch.ops.aten


def imported(function: Callable[..., Any], *args: Any, mode: str = "fake") -> Imported:
    """The function traced on these arguments; sizes are symbols with mode "symbolic"."""
    return import_graph(make_fx(function, tracing_mode=mode, _allow_non_fake_inputs=True)(*args))


def check(function: Callable[..., Any], *args: Any, others: list[tuple[Any, ...]] | None = None) -> Imported:
    """Import with symbolic sizes; run with the same and with other arguments."""
    result = imported(function, *args, mode="symbolic")
    result.module.verify()
    text = print_ir(result.module)
    assert print_ir(parse_ir(text)) == text
    for inputs in [args, *(others or [])]:
        got = interpreter.run(result.module, [*inputs, *result.constants])
        want = function(*inputs)
        for g, w in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
            if isinstance(w, torch.Tensor):
                torch.testing.assert_close(g, w, msg=lambda m: f"{m}\n{text}")
            else:
                assert g == w
    return result


def fallbacks(result: Imported) -> dict[str, str]:
    return {op.target.data: op.reason.data for op in result.module.walk() if isinstance(op, tw.AtenOp)}


def function_attributes(result: Imported) -> dict[str, str]:
    [function] = result.module.ops
    return {name: str(value) for name, value in function.attributes.items()}


def capture(model: Callable[..., Any], *args: Any, dynamic: bool | None = None, **kwargs: Any) -> list[Imported]:
    """What the importer makes of the graphs that AOTAutograd hands to a backend."""
    found: list[Imported] = []

    def compiler(graph_module: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        result = import_graph(graph_module)
        result.module.verify()
        found.append(result)

        def run(arguments: list[Any]) -> Any:
            got = interpreter.run(result.module, [*arguments, *result.constants])
            arguments.clear()
            return got

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    torch._dynamo.reset()
    compiled = torch.compile(model, backend=aot_autograd(fw_compiler=compiler), dynamic=dynamic)
    with torch.no_grad():
        got, want = compiled(*args, **kwargs), model(*args, **kwargs)
    for g, w in zip(torch.utils._pytree.tree_leaves(got), torch.utils._pytree.tree_leaves(want), strict=True):
        if isinstance(w, torch.Tensor):
            torch.testing.assert_close(g, w)
        else:
            assert g == w
    return found


def test_symbols_are_bound_to_dims() -> None:
    result = check(
        lambda x, y: torch.cat([x, x]) @ y, torch.randn(3, 4), torch.randn(4, 5),
        others=[(torch.randn(7, 2), torch.randn(2, 9))],
    )
    assert fallbacks(result) == {}
    [function] = result.module.ops
    assert sorted(str(d) for d in function.attributes["symbols"].data.values()) == [
        "#tw.dims<[0, 0]>", "#tw.dims<[0, 1]>", "#tw.dims<[1, 1]>",
    ]


def test_integer_arguments_are_bound_before_dims() -> None:
    [result] = capture(lambda x, n: (x.reshape(-1, n) + n, n * 2, None), torch.randn(6, 5), 10, dynamic=True)
    [function] = result.module.ops
    kinds = {str(a.type) for a in function.body.block.args}
    assert "index" in kinds
    assert any(len(d.data) == 1 for d in function.attributes["symbols"].data.values())


def test_sizes_are_results() -> None:
    result = check(
        lambda x: (x.shape[0] * 2 + 1, x + 1, x.shape[1]), torch.randn(3, 4), others=[(torch.randn(5, 6),)]
    )
    assert function_attributes(result)["result_kinds"] == '["int", "tensor", "int"]'
    assert function_attributes(result)["result_strides"].count("#tw.dims") == 1


def test_none_and_repeated_results() -> None:
    def function(x: torch.Tensor) -> tuple[Any, ...]:
        y = x * 2
        return y, None, y, x

    result = imported(function, torch.randn(3))
    x = torch.randn(3)
    got = interpreter.run(result.module, [x])
    assert got[1] is None
    torch.testing.assert_close([got[0], got[2], got[3]], [x * 2, x * 2, x])


def test_strides_of_arguments_and_results() -> None:
    result = imported(lambda x: (x.t(), x.contiguous()), torch.randn(3, 4).t())
    attributes = function_attributes(result)
    assert attributes["arg_strides"] == "[#tw.dims<[1, 4]>]"
    assert attributes["result_strides"] == "[#tw.dims<[4, 1]>, #tw.dims<[3, 1]>]"


SYMBOLIC_FUNCTIONS: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x[:, 1:] - x[:, :-1],
    lambda x: x[-2:] + x[:2],
    lambda x: x[:, : x.shape[1] // 2],
    lambda x: x[:, x.shape[1] // 2 :],
    lambda x: x.select(0, -1) + x[x.shape[0] - 2],
    lambda x: x + torch.arange(x.shape[1], dtype=torch.float32),
    lambda x: x * x.shape[0] + torch.full((x.shape[1],), x.shape[0]),
    lambda x: x.reshape(-1)[::3],
    lambda x: x.unsqueeze(0).expand(x.shape[0], -1, -1).reshape(-1, x.shape[1]),
    lambda x: x.flip([0]).repeat(2, 1),
    lambda x: torch.nn.functional.pad(x, (1, x.shape[0])),
    lambda x: x.var(1) + x.mean(1),
    lambda x: torch.tril(x) + torch.eye(x.shape[0], x.shape[1]),
    lambda x: torch.softmax(x, -1).sum(),
    lambda x: torch.split(x, 2, 1)[1],
    lambda x: x[torch.arange(x.shape[0] - 1, -1, -1)],
    lambda x: torch.nn.functional.layer_norm(x, (x.shape[1],)),
    lambda x: torch.stack(torch.unbind(x, 1)[:2]),
]


@pytest.mark.parametrize("function", SYMBOLIC_FUNCTIONS, ids=range(len(SYMBOLIC_FUNCTIONS)))
def test_symbolic_sizes(function: Callable[[torch.Tensor], Any]) -> None:
    assert fallbacks(check(function, torch.randn(6, 4))) == {}


def test_other_sizes_run_in_the_same_module() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        half = x.shape[1] // 2
        rotated = torch.cat([-x[:, half:], x[:, :half]], 1)
        return torch.softmax(rotated * torch.arange(x.shape[0]).unsqueeze(1), -1)

    check(function, torch.randn(6, 4), others=[(torch.randn(3, 8),), (torch.randn(9, 2),)])


def test_lifted_tensors_are_trailing_arguments() -> None:
    table = torch.randn(3, 4)
    result = imported(lambda x: x @ table + table.sum() * torch.tensor(2.5), torch.randn(2, 3))
    assert len(result.constants) == len(result.constant_names) == 1
    torch.testing.assert_close(result.constants[0], table)
    assert "#tw.scalar<2.5>" in print_ir(result.module)
    x = torch.randn(2, 3)
    torch.testing.assert_close(interpreter.run(result.module, [x, *result.constants])[0], x @ table + table.sum() * 2.5)


def test_a_module_s_parameters_are_trailing_arguments() -> None:
    linear = torch.nn.Linear(4, 5)
    result = imported(lambda x: linear(x), torch.randn(2, 4))
    assert [tuple(c.shape) for c in result.constants] == [(5, 4), (5,)]


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda x: torch.sort(x)[0], {"aten.sort.default": "sorting is not imported yet"}),
        (lambda x: torch.rand_like(x) + x, {"aten.rand_like.default": "draws from torch's generator"}),
        (lambda x: torch.kthvalue(x, 2)[0], {"aten.kthvalue.default": "not in the import table"}),
        (lambda x: torch.nn.functional.max_pool2d(x[None], 2), {}),
        (lambda x: torch.view_as_complex(x.reshape(-1, 2)).abs(),
         {"aten.view_as_complex.default": "complex dtype", "aten.abs.default": "complex dtype"}),
        (lambda x: x.to(torch.float8_e4m3fn).float(), {}),
        (lambda x: torch.zeros_like(x.to(torch.float8_e4m3fn)).float(),
         {"aten.zeros_like.default": "8-bit float dtype"}),
        (lambda x: x.long() // x.long().sum(), {}),
    ],
)
def test_reasons_of_calls_left_to_aten(function: Callable[..., Any], expected: dict[str, str]) -> None:
    x = torch.rand(4, 4) + 1
    result = imported(function, x)
    result.module.verify()
    assert fallbacks(result) == expected
    if "draws from torch's generator" not in expected.values():
        torch.testing.assert_close(interpreter.run(result.module, [x])[0], function(x))


def test_several_results_of_a_call_in_aten() -> None:
    x = torch.randn(3, 5)
    result = imported(lambda x: (torch.topk(x, 2)[1], torch.topk(x, 2)[0] + 1), x)
    indices, values = interpreter.run(result.module, [x])
    assert torch.equal(indices, torch.topk(x, 2)[1])
    assert torch.equal(values, torch.topk(x, 2)[0] + 1)


def test_arguments_of_a_call_in_aten_survive_as_text() -> None:
    x = torch.randn(3, 4)

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.logspace(0, x.shape[0], 5, dtype=torch.float64) + x.double().kthvalue(1, 0)[0].sum()

    result = check(function, x)
    assert set(fallbacks(result)) == {"aten.logspace.default", "aten.kthvalue.default"}


def mutating(x: torch.Tensor) -> torch.Tensor:
    return x.add_(1)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: torch.nonzero(x), "depends on the data"),
        (lambda x: x[x > 0], "depends on the data"),
        (lambda x: x.masked_select(x > 0) + 1, "depends on the data"),
        (mutating, "changes its operand"),
        (lambda x: x.to(torch.uint16), "no type in the IR"),
        (lambda x: x.t().as_strided((2, 2), (1, 1)), "memory layout"),
        (lambda x: torch._neg_view(x), "lazily negated"),
        (lambda x: x.to("meta"), "a tensor is on meta, not on cpu"),
    ],
)
def test_graphs_that_the_ir_cannot_express(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(UnsupportedGraphError, match=message):
        imported(function, torch.randn(3, 4), mode="symbolic")


def test_a_float_computed_from_sizes_is_unsupported() -> None:
    with pytest.raises(UnsupportedGraphError, match="computed from sizes"):
        imported(lambda x: x * x.shape[0] ** 0.5, torch.randn(3, 4), mode="symbolic")


def test_a_symbol_that_no_argument_gives_is_unsupported() -> None:
    graph_module = make_fx(lambda x: x + 1, tracing_mode="symbolic")(torch.randn(3, 4))
    shape = graph_module.graph.find_nodes(op="placeholder")[0].meta["val"].shape
    for node in graph_module.graph.nodes:
        if isinstance(value := node.meta.get("val"), torch.Tensor):
            node.meta["val"] = value.new_empty((shape[0] * shape[1], shape[1]))
    with pytest.raises(UnsupportedGraphError, match="size of no argument's dim"):
        import_graph(graph_module)


def test_a_rule_whose_result_does_not_fit_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, aten.exp.default, lambda call, x: call.build.cast(x, "f64"))
    result = imported(lambda x: x.exp(), torch.randn(3))
    [reason] = fallbacks(result).values()
    assert reason == "its import rule gives !tw.tensor<[3], f64>, not !tw.tensor<[3], f32>"
    assert not any(isinstance(op, tw.MapOp) for op in result.module.walk())


def test_a_rule_whose_ops_are_not_legal_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, aten.exp.default, lambda call, x: call.build.map("and", x, x))
    result = imported(lambda x: x.exp(), torch.randn(3), mode="symbolic")
    assert fallbacks(result) == {"aten.exp.default": "and does not take f32"}


def test_locations_name_the_model_s_lines() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.gelu(x)
        return y.sum()

    [result] = capture(model, torch.randn(3))
    line = model.__code__.co_firstlineno
    found = {op.name: file_lines(op.location) for op in result.module.walk() if op.results}
    assert found["tw.map"] == [f"test_importer_graphs.py:{line + 1}"]
    assert found["tw.reduce"] == [f"test_importer_graphs.py:{line + 2}"]


def test_names_come_from_the_graph() -> None:
    text = print_ir(imported(lambda left, right: torch.relu(left @ right), torch.randn(2, 3), torch.randn(3, 4)).module)
    assert "%left" in text and "%right" in text and "%relu = " in text


@pytest.mark.parametrize(
    "name, hint",
    [
        ("L_self_modules_encoder_modules_layer_modules_0_parameters_weight_", "encoder_layer_0_weight"),
        ("L_input_ids_", "input_ids"), ("arg0_1", "arg0"), ("x", "x"), ("self", "self"),
    ],
)
def test_argument_hints(name: str, hint: str) -> None:
    assert argument_hint(name) == hint


@pytest.mark.parametrize("name, hint", [("add_4", "add"), ("mul_1_2", "mul"), ("3x", "v3x"), ("a.b", "a_b")])
def test_name_hints(name: str, hint: str) -> None:
    assert name_hint(name) == hint


def tiny_models() -> dict[str, Callable[[], tuple[torch.nn.Module, dict[str, torch.Tensor]]]]:
    import transformers as t

    tokens = {"input_ids": torch.randint(0, 90, (2, 12))}
    common = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    return {
        "bert": lambda: (
            t.BertModel(t.BertConfig(vocab_size=90, **common)), {**tokens, "attention_mask": torch.ones(2, 12).long()}
        ),
        "gpt2": lambda: (
            t.GPT2LMHeadModel(t.GPT2Config(vocab_size=90, n_layer=2, n_embd=32, n_head=4, use_cache=False)), tokens
        ),
        "llama": lambda: (
            t.LlamaForCausalLM(t.LlamaConfig(vocab_size=90, num_key_value_heads=2, use_cache=False, **common)), tokens
        ),
        "vit": lambda: (
            t.ViTModel(t.ViTConfig(image_size=32, patch_size=8, **common)), {"pixel_values": torch.randn(2, 3, 32, 32)}
        ),
        "resnet": lambda: (
            t.ResNetModel(t.ResNetConfig(depths=[1, 1], hidden_sizes=[8, 16], embedding_size=8)),
            {"pixel_values": torch.randn(2, 3, 32, 32)},
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", ["bert", "llama", "resnet"])
def test_models(name: str, dynamic: bool | None) -> None:
    torch.manual_seed(0)
    model, inputs = tiny_models()[name]()
    [result] = capture(lambda **kwargs: model.eval()(**kwargs)[0], dynamic=dynamic, **inputs)
    assert fallbacks(result) == {}
