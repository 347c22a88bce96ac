"""Which ops are legal at which stage, and what must hold between them.

``tw``: tensors, as imported. ``fused``: the same, with groups in `tw.fused`. ``prog``: a program over buffers with its
kernels beside it. `verify_ir` checks what holds everywhere, `verify_stage` that and the stage's own rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IndexType, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, SSAValue
from xdsl.traits import IsolatedFromAbove, NoTerminator
from xdsl.utils.exceptions import VerifyException

from . import calls, prog, tile, tw
from .errors import VerifyError
from .expr import IntExpr, free_symbols, symbol
from .text import file_lines
from .types import BufferType, DimsAttr, TensorType, dims_text

STAGES = ("tw", "fused", "prog")

OpClasses = tuple[type[Operation], ...]

_TW_OPS: OpClasses = tuple(op for op in tw.Tw.operations if op not in (tw.YieldOp, tw.FusedOp))
_PROG_OPS: OpClasses = tuple(prog.Prog.operations)

# What may stand in a module, in a function, in a fused region and in a kernel.
MODULE_OPS: dict[str, OpClasses] = {"tw": (FuncOp,), "fused": (FuncOp,), "prog": (FuncOp, tile.KernelOp)}
FUNCTION_OPS: dict[str, OpClasses] = {"tw": _TW_OPS, "fused": (*_TW_OPS, tw.FusedOp), "prog": _PROG_OPS}
REGION_OPS: OpClasses = (*(op for op in _TW_OPS if op not in (tw.ReturnOp, tw.AtenOp, tw.SeedOp)), tw.YieldOp)
KERNEL_OPS: OpClasses = tuple(op for op in tile.Tile.operations if op is not tile.KernelOp)
RETURNS: dict[str, type[Operation]] = {"tw": tw.ReturnOp, "fused": tw.ReturnOp, "prog": prog.ReturnOp}
# The kinds of results that are operands of the terminator; a program gives its ints as the attribute `result_sizes`.
RETURNED: dict[str, tuple[str, ...]] = {"tw": ("tensor", "int"), "fused": ("tensor", "int"), "prog": ("tensor",)}


def stage_of(module: ModuleOp) -> str:
    """The stage whose ops the module has, as far as its ops tell: the latest one of which there is any."""
    stage = "tw"
    for op in module.walk():
        if isinstance(op, (prog.ProgOp, tile.KernelOp)):
            return "prog"
        if isinstance(op, tw.FusedOp):
            stage = "fused"
    return stage


def functions(module: ModuleOp) -> Iterator[FuncOp]:
    """The functions of a module."""
    for op in module.ops:
        if isinstance(op, FuncOp):
            yield op


def kernels(module: ModuleOp) -> dict[str, tile.KernelOp]:
    """The kernels of a module by name."""
    return {op.sym_name.data: op for op in module.ops if isinstance(op, tile.KernelOp)}


def _error(op: Operation, message: str) -> VerifyError:
    lines = ", ".join(file_lines(op.location))
    error = VerifyError(f"{op.name}{f' ({lines})' if lines else ''}: {message}")
    error.op = op
    return error


def _require(condition: bool, op: Operation, message: str) -> None:
    if not condition:
        raise _error(op, message)


def verify_ir(module: ModuleOp) -> None:
    """Check what holds at every stage: each op's own rules, and that values are defined before they are used.

    Raises VerifyError with the op at fault.
    """
    for op in module.walk():
        for region in op.regions:
            _require(bool(region.blocks), op, "it has no body")
            for block in region.blocks:
                _require(bool(block.ops) or op.has_trait(NoTerminator), op, "its block is empty")
        try:
            op.verify(verify_nested_ops=False)
        except (VerifyException, ValueError) as error:
            # xDSL wraps what a rule says into a print of the whole module; the cause is the plain message.
            raise _error(op, str(error.__cause__ or error)) from None
    _verify_order(module, set())


def _verify_order(op: Operation, visible: set[SSAValue]) -> None:
    """Every operand is a result of an earlier op, or an argument, of a block around its user."""
    for region in op.regions:
        for block in region.blocks:
            inside = set(block.args) if op.has_trait(IsolatedFromAbove) else visible | set(block.args)
            for inner in block.ops:
                for number, operand in enumerate(inner.operands):
                    _require(operand in inside, inner, f"operand {number} is not defined before it")
                if inner.regions:
                    _verify_order(inner, inside)
                inside.update(inner.results)


def verify_stage(module: ModuleOp, stage: str) -> None:
    """Check a module against the rules of a stage. Raises VerifyError with the op at fault."""
    verify_ir(module)
    for op in module.ops:
        _require(isinstance(op, MODULE_OPS[stage]), op, f"not legal in a module at stage {stage!r}")
        if isinstance(op, FuncOp):
            _verify_function(op, stage, kernels(module))
        elif isinstance(op, tile.KernelOp):
            _verify_kernel(op)


def _verify_function(function: FuncOp, stage: str, known: Mapping[str, tile.KernelOp]) -> None:
    block = function.body.block
    bound = _verify_symbols(function)
    for op in block.ops:
        _require(isinstance(op, FUNCTION_OPS[stage]), op, f"not legal in a function at stage {stage!r}")
        _verify_bound(op, bound)
        for inner in op.body.block.ops if isinstance(op, tw.FusedOp) else ():
            _require(isinstance(inner, REGION_OPS), inner, "not legal in a tw.fused region")
            _verify_bound(inner, bound)
        if isinstance(op, (tw.AtenOp, prog.ExternOp)):
            _verify_call(op, bound)
        if isinstance(op, prog.LaunchOp):
            _verify_launch(op, known, bound)
    _verify_interface(function, stage, bound)


def _verify_symbols(function: FuncOp) -> set[str]:
    """The names that the function's `symbols` bind; each must lead to an argument that can give its value."""
    table = function.attributes.get("symbols", DictionaryAttr({}))
    _require(isinstance(table, DictionaryAttr), function, "symbols is not a dictionary")
    assert isinstance(table, DictionaryAttr)
    arguments = function.body.block.args
    for name, place in table.data.items():
        where = f"symbols: {name}"
        if not isinstance(place, DimsAttr) or not all(isinstance(i, int) for i in place.data):
            raise _error(function, f"{where} must be #tw.dims<[argument, dim, factor, offset]>, or less of that")
        path = place.ints()
        _require(len(path) in (1, 2, 4), function, f"{where} must be an argument, or an argument and a dim")
        _require(len(path) < 4 or path[2] > 0, function, f"{where}: the factor must be positive")
        _require(0 <= path[0] < len(arguments), function, f"{where}: there is no argument {path[0]}")
        type = arguments[path[0]].type
        if len(path) == 1:
            _require(isinstance(type, IndexType), function, f"{where}: argument {path[0]} is not an index")
        else:
            shape = type.shape if isinstance(type, (TensorType, BufferType)) else ()
            _require(0 <= path[1] < len(shape), function, f"{where}: argument {path[0]} has no dim {path[1]}")
            factor, offset = path[2:] or (1, 0)
            _require(
                shape[path[1]] == factor * symbol(name) + offset, function,
                f"{where}: dim {path[1]} of argument {path[0]} is {shape[path[1]]}",
            )
    bound = set(table.data)
    for argument in arguments:
        for expr in _type_expressions(argument.type):
            _require_names(function, expr, bound)
    return bound


def _type_expressions(type: Attribute) -> tuple[IntExpr, ...]:
    if isinstance(type, TensorType):
        return type.shape
    if isinstance(type, BufferType):
        return (*type.shape, *type.strides)
    return ()


def _attribute_expressions(attribute: Attribute) -> Iterator[IntExpr]:
    if isinstance(attribute, DimsAttr):
        yield from attribute.data
    elif isinstance(attribute, ArrayAttr):
        for part in attribute.data:
            yield from _attribute_expressions(part)


def _require_names(op: Operation, expr: IntExpr, bound: Iterable[str]) -> None:
    free = free_symbols(expr) - set(bound)
    _require(not free, op, f"{', '.join(sorted(free))} in {expr} is not among the function's symbols")


def _verify_bound(op: Operation, bound: set[str]) -> None:
    """Every name in the types of results and in the attributes is a symbol of the function."""
    for result in op.results:
        for expr in _type_expressions(result.type):
            _require_names(op, expr, bound)
    for attribute in op.properties.values():
        for expr in _attribute_expressions(attribute):
            _require_names(op, expr, bound)


def _verify_call(op: tw.AtenOp | prog.ExternOp, bound: set[str]) -> None:
    """The text of the arguments reads, names operands that exist, and sizes that are bound."""

    def operand(index: int) -> int:
        _require(0 <= index < len(op.args), op, f"the arguments name operand {index} of {len(op.args)}")
        return index

    try:
        calls.decode(op.arguments.data, operand, lambda size: _require_names(op, size, bound), lambda tag, name: name)
    except ValueError as error:
        raise _error(op, str(error)) from None


def _verify_interface(function: FuncOp, stage: str, bound: set[str]) -> None:
    """The terminator gives what the function's type and attributes promise."""
    last = function.body.block.last_op
    if not isinstance(last, RETURNS[stage]):
        raise _error(last or function, f"a function at stage {stage!r} ends in {RETURNS[stage].name}")
    given, promised = [o.type for o in last.operands], list(function.function_type.outputs.data)
    _require(len(given) == len(promised), last, f"gives {len(given)} results, the function's type has {len(promised)}")
    for number, (have, want) in enumerate(zip(given, promised)):
        _require(have == want, last, f"result {number} is {have}, the function's type says {want}")
    kinds = function.attributes.get("result_kinds")
    if isinstance(kinds, ArrayAttr):
        names = [kind.data if isinstance(kind, StringAttr) else str(kind) for kind in kinds.data]
        unknown = [name for name in names if name not in ("tensor", "int", "none")]
        _require(not unknown, function, f"result_kinds has {unknown}; known are tensor, int and none")
        returned = [name for name in names if name in RETURNED[stage]]
        _require(len(returned) == len(given), last, f"gives {len(given)} results, result_kinds has {len(returned)}")
        given = [type for type, name in zip(given, returned) if name == "tensor"]
        _verify_result_sizes(function, names.count("int") - returned.count("int"), bound)
    _verify_updates(function, given)
    _verify_layouts(function, "arg_strides", [argument.type for argument in function.body.block.args])
    _verify_layouts(function, "result_strides", given)
    owners = function.attributes.get("result_owners", DimsAttr([0] * len(given)))
    _require(
        isinstance(owners, DimsAttr) and all(type(owner) is int for owner in owners.data)
        and len(owners.data) == len(given),
        function, f"result_owners has no integer for each of {len(given)} tensors",
    )


def _verify_updates(function: FuncOp, given: list[Attribute]) -> None:
    """`arg_updates` names tensor arguments, each once, of the types of the last tensor results."""
    updates = function.attributes.get("arg_updates", DimsAttr([]))
    arguments = function.body.block.args
    if not isinstance(updates, DimsAttr) or not all(isinstance(i, int) for i in updates.data):
        raise _error(function, "arg_updates is a #tw.dims of argument numbers")
    positions = updates.ints()
    _require(len(set(positions)) == len(positions) <= len(given), function, "arg_updates does not fit the results")
    for position, type in zip(positions, given[len(given) - len(positions) :]):
        _require(0 <= position < len(arguments), function, f"arg_updates: there is no argument {position}")
        _require(arguments[position].type == type, function, f"arg_updates: {type} is not argument {position}'s type")


def _verify_result_sizes(function: FuncOp, count: int, bound: set[str]) -> None:
    """The ints that are not operands of the terminator are expressions of the attribute `result_sizes`."""
    sizes = list(_attribute_expressions(function.attributes.get("result_sizes", DimsAttr([]))))
    _require(len(sizes) == count, function, f"result_sizes has {len(sizes)} entries for {count} ints")
    for size in sizes:
        _require_names(function, size, bound)


def _verify_layouts(function: FuncOp, name: str, types: list[Attribute]) -> None:
    """The attribute `name` (where there is one) has an entry for each value, with a stride for each dim."""
    entries = function.attributes.get(name)
    if entries is None:
        return
    if not isinstance(entries, ArrayAttr) or not all(isinstance(entry, DimsAttr) for entry in entries.data):
        raise _error(function, f"{name} is a list of #tw.dims")
    _require(
        len(entries.data) == len(types), function, f"{name} has {len(entries.data)} entries for {len(types)} values"
    )
    for number, (type, entry) in enumerate(zip(types, entries.data)):
        rank = len(type.shape) if isinstance(type, (TensorType, BufferType)) else 0
        _require(len(entry.data) == rank, function, f"{name}[{number}] is {dims_text(entry.data)} for {type}")


def _verify_launch(op: prog.LaunchOp, known: Mapping[str, tile.KernelOp], bound: set[str]) -> None:
    name = op.kernel.string_value()
    _require(name in known, op, f"there is no kernel @{name}")
    kernel = known[name]
    _require(len(op.args) == len(kernel.args), op, f"@{name} takes {len(kernel.args)} pointers, got {len(op.args)}")
    for number, (have, want) in enumerate(zip(op.args, kernel.args)):
        given, wanted = prog.buffer_type(have).dtype, tile.value_dtype(want)
        _require(given == wanted, op, f"@{name} takes {wanted} as pointer {number}, got {given}")
    missing = set(kernel.size_names) - bound
    _require(not missing, op, f"@{name} takes {', '.join(sorted(missing))}, not among the function's symbols")


def _verify_kernel(kernel: tile.KernelOp) -> None:
    """A kernel has tile ops only, and writes to nothing but its listed outputs and its scratch."""
    outputs = kernel.outputs.ints()
    _require(
        all(0 <= i < len(kernel.args) for i in outputs), kernel, f"outputs {list(outputs)} are not all arguments"
    )
    for op in _inside(kernel.body.block):
        _require(isinstance(op, KERNEL_OPS), op, "not legal in a kernel")
        if isinstance(op, (tile.StoreOp, tile.UpdateOp)) and isinstance(op.ref, BlockArgument):
            _require(op.ref.index in outputs, op, f"writes pointer {op.ref.index}, which outputs does not list")


def _inside(block: Block) -> Iterator[Operation]:
    for op in block.ops:
        yield from op.walk()
