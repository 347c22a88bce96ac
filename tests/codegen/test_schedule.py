"""Schedules of CPU kernels: every value of every knob computes the same, and the defaults print as nothing does."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import CASES, GOLDEN, only_kernel, read_kernel, sizes_of

from tilewright.codegen.cpp import KNOBS, Schedule, print_file, print_kernel
from tilewright.codegen.native import load_kernels
from tilewright.ir.identity import family_hash, kernel_hash
from tilewright.ir.target import host_cpu

EXTREME = {knob: (row.low, *row.values, min(row.high, 1 << 16)) for knob, row in KNOBS.items()}


def scheduled(name, **knobs):
    kernel = read_kernel(name)
    kernel.set_schedule(knobs)
    return kernel


def test_default_values_print_what_no_schedule_prints():
    defaults = {knob: row.default for knob, row in KNOBS.items()}
    assert Schedule.make(defaults) == Schedule()
    for name in CASES:
        assert print_kernel(scheduled(name, **defaults)) == print_kernel(read_kernel(name))
        assert print_kernel(scheduled(name, num_warps=4)) == print_kernel(read_kernel(name))


@pytest.mark.parametrize(
    ("name", "knob", "value", "printed"),
    [
        ("row_sum", "LANES", 32, "[32];"), ("half", "SIMDLEN", 16, "#pragma omp parallel for simd simdlen(16)"),
        ("column_sum", "COLUMN_BLOCK", 128, "+= 128"), ("row_sum", "PARALLEL_WORK", 5, ">= 5)"),
    ],
)
def test_a_knob_is_in_the_text(name, knob, value, printed):
    assert printed not in print_kernel(read_kernel(name))
    assert printed in print_kernel(scheduled(name, **{knob: value}))


def test_all_knobs_at_once():
    check_against_torch({"LANES": 32, "SIMDLEN": 8, "COLUMN_BLOCK": 256, "ROW_BLOCK": 16, "PARALLEL_WORK": 0})


@pytest.mark.slow
@pytest.mark.parametrize("knob", KNOBS)
def test_every_value_computes_what_torch_does(knob):
    check_against_torch(*({knob: value} for value in EXTREME[knob]))


def check_against_torch(*schedules):
    texts = {}
    for name in CASES:
        for schedule in schedules:
            texts.setdefault(print_file([scheduled(name, **schedule)], host_cpu()), name)
    built = load_all(list(texts))
    for (text, name), function in zip(texts.items(), built):
        for shape in [(3, 0), (7, 131), (300, 1100)]:
            torch.manual_seed(0)
            inputs = CASES[name].inputs(*shape)
            expected = CASES[name].expected(*inputs)
            outputs = [torch.full_like(e, 77) for e in expected]
            sizes = sizes_of(name, inputs, *shape)
            assert function(*(t.data_ptr() for t in inputs + outputs), *sizes) == 0
            torch.testing.assert_close(outputs, expected, rtol=1e-2 if name == "half" else 2e-5, atol=2e-4, msg=text)


def load_all(texts):
    """The only kernel of each text. One file holds many, each under another name, since files build slowly."""
    renamed, names = [], []
    for number, text in enumerate(texts):
        head, _, body = text.partition('extern "C" int64_t ')
        comment = head.rpartition("// ")[2]
        name, _, rest = body.partition("(")
        names.append(f"{name}_{number}")
        renamed.append(f'// {comment}extern "C" int64_t {names[-1]}({rest}')
    includes = '#include "tilewright.h"\n#include "tilewright_special.h"\nusing namespace tw;\n'
    files = [includes + "\n".join(renamed[i : i + 12]) for i in range(0, len(renamed), 12)]
    functions = load_kernels(files, names, host_cpu())
    return [functions[name] for name in names]


def test_hashes_know_a_kernel_by_what_it_computes():
    kernel, other = read_kernel("softmax"), scheduled("softmax", LANES=32)
    other.properties["sym_name"] = type(other.sym_name)("another")
    assert kernel_hash(kernel) == kernel_hash(other)
    assert len({kernel_hash(read_kernel(name)) for name in CASES}) == len(CASES)


def test_hashes_do_not_know_the_names_of_sizes():
    text = (GOLDEN / "row_sum.mlir").read_text()
    assert kernel_hash(only_kernel(text)) == kernel_hash(only_kernel(text.replace("s0", "s77").replace("s1", "s20")))


def test_a_family_differs_in_numbers_only():
    text = (GOLDEN / "column_tile.mlir").read_text()
    kernel, wider = only_kernel(text), only_kernel(text.replace("128", "256"))
    assert kernel_hash(kernel) != kernel_hash(wider) and family_hash(kernel) == family_hash(wider)
    assert family_hash(kernel) != family_hash(only_kernel(text.replace("f32", "f64")))
