"""Ops that are not ATen's: custom ones, control flow, user kernels, and tensors that are not dense."""

from __future__ import annotations

import pytest
import torch
from contracts import FALLS_BACK, check, compiled, same

X = torch.linspace(-2, 2, 24).view(4, 6)


@pytest.fixture(scope="module")
def library():
    """A namespace of custom ops: with a fake kernel, without one, with gradients, changing an argument."""

    @torch.library.custom_op("contract::scale", mutates_args=())
    def scale(x: torch.Tensor, factor: float) -> torch.Tensor:
        return torch.from_numpy(x.detach().numpy() * factor)

    @scale.register_fake
    def _(x, factor):
        return torch.empty_like(x)

    scale.register_autograd(lambda ctx, gradient: (gradient * ctx.factor, None),
                            setup_context=lambda ctx, inputs, output: setattr(ctx, "factor", inputs[1]))

    @torch.library.custom_op("contract::bare", mutates_args=())
    def bare(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    @torch.library.custom_op("contract::bump", mutates_args={"x"})
    def bump(x: torch.Tensor, by: float) -> None:
        x.numpy()[...] += by

    @bump.register_fake
    def _(x, by):
        return None

    @torch.library.custom_op("contract::split", mutates_args=())
    def split(x: torch.Tensor) -> list[torch.Tensor]:
        return [x[:1].clone(), x[1:].clone()]

    @split.register_fake
    def _(x):
        return [x.new_empty(1, x.shape[1]), x.new_empty(x.shape[0] - 1, x.shape[1])]

    return torch.ops.contract


def test_custom_ops_with_fake_kernels(library):
    check(lambda x: torch.sigmoid(library.scale(x * 2, 3.0)) + 1, X, expect=FALLS_BACK)
    check(lambda x: library.scale(x.sin(), 3.0).cos(), X.clone().requires_grad_(), expect=FALLS_BACK)
    check(lambda x: [p * 2 for p in library.split(x + 1)], X, expect=FALLS_BACK)


def test_custom_ops_without_fake_kernels_are_refused(library):
    """By torch, which says what to register; left out of the graph they run."""

    def call(x):
        return library.bare(x * 2) + 1

    with pytest.raises(RuntimeError, match="There was no fake impl registered"):
        compiled(call)(X)
    bare = torch.compiler.disable(library.bare)
    check(lambda x: bare(x * 2) + 1, X)


def test_custom_ops_that_change_an_argument(library):
    """`auto_functionalized_v2` in the graph."""

    def call(x):
        y = x * 2
        library.bump(y, 3.0)
        library.bump(x, 1.0)
        return y + x

    check(call, X, expect=FALLS_BACK)

    def rows(x):
        y = x * 2
        library.bump(y[1], 3.0)
        return y

    check(rows, X, expect=FALLS_BACK)


def test_cond():
    def call(x):
        return torch.cond(x.sum() > 1, lambda x: x.sin() * 2, lambda x: x.cos() + 1, (x,)) * 3

    for x in (X, X + 5):
        check(call, x, expect=FALLS_BACK)


def test_while_loop():
    from torch._higher_order_ops.while_loop import while_loop

    def call(x):
        count, y = while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 1.5), (torch.tensor(0), x))
        return y + count

    expected = X * 1.5**3 + 3
    same(compiled(call, fullgraph=True)(X), expected)


def test_scan():
    from torch._higher_order_ops.scan import scan

    def call(x):
        return scan(lambda carry, row: (carry * 0.5 + row, carry.sin()), torch.zeros(6), x)

    check(call, X, expect=FALLS_BACK)


def test_data_dependent_sizes():
    def call(x):
        return x[x > 0].exp(), x.nonzero()

    check(call, X, expect=None)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True, capture_scalar_outputs=True):
        torch._dynamo.reset()
        check(call, X, expect=FALLS_BACK, fullgraph=True)
        check(lambda x: torch.ones(int(x.sum().abs().item()) + 3) * 2, X, expect=FALLS_BACK, fullgraph=True)


def test_user_triton_kernels():
    """They need a GPU: on a CPU the graph breaks at the launch, and Triton says what is missing, as in eager."""
    triton = pytest.importorskip("triton")
    from triton import language as tl

    @triton.jit
    def double(x, y, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(y + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)

    def call(x):
        y = torch.empty_like(x)
        double[(1,)](x, y, x.numel(), BLOCK=32)
        return y + 1

    try:
        call(X)
    except Exception as error:
        with pytest.raises(Exception) as told:
            compiled(call)(X)
        assert str(error).splitlines()[0] in str(told.value)
    else:
        check(call, X, expect=None)


def test_sparse():
    sparse = torch.tensor([[0, 1.0, 0], [2.0, 0, 3.0]]).to_sparse()
    dense = torch.ones(3, 2)
    call = compiled(lambda s, d: torch.sparse.mm(s, d) * 2 + 1)
    same(call(sparse, dense), torch.sparse.mm(sparse, dense) * 2 + 1)


def test_jagged():
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3) * 2], layout=torch.jagged)
    result = compiled(lambda n: (n * 2 + 1).sin())(nested)
    assert result.layout == torch.jagged
    for actual, expected in zip(result.unbind(), (nested * 2 + 1).sin().unbind()):
        same(actual, expected)


class Wrapped(torch.Tensor):
    """A wrapper with `__torch_dispatch__`: two plain tensors whose sum it stands for."""

    @staticmethod
    def __new__(cls, a, b):
        return torch.Tensor._make_wrapper_subclass(cls, a.shape, dtype=a.dtype, strides=a.stride())

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __tensor_flatten__(self):
        return ["a", "b"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return Wrapped(inner["a"], inner["b"])

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        from torch.utils._python_dispatch import return_and_correct_aliasing

        def parts(side):
            return torch.utils._pytree.tree_map(lambda v: getattr(v, side) if isinstance(v, cls) else v, (args, kwargs))

        (args_a, kwargs_a), (args_b, kwargs_b) = parts("a"), parts("b")
        a, b = function(*args_a, **(kwargs_a or {})), function(*args_b, **(kwargs_b or {}))
        result = torch.utils._pytree.tree_map(lambda p, q: cls(p, q) if isinstance(p, torch.Tensor) else p, a, b)
        return return_and_correct_aliasing(function, args, kwargs or {}, result)


def test_wrapper_subclasses():
    def call(x):
        return (x * 2).sin().view(-1)

    result = compiled(call)(Wrapped(X, X + 1))
    assert isinstance(result, Wrapped)
    same(result.a, call(X))
    same(result.b, call(X + 1))
    mixed = compiled(lambda x, y: (x + 1, y * 2))(Wrapped(X, X + 1), X)
    assert isinstance(mixed[0], Wrapped) and type(mixed[1]) is torch.Tensor


def test_parameter_subclasses():
    class Marked(torch.nn.Parameter):
        mark = 3

    model = torch.nn.Linear(6, 2)
    model.weight = Marked(model.weight.detach())
    same(compiled(model)(X), model(X))
    compiled(model)(X).sum().backward()
    assert isinstance(model.weight, Marked) and model.weight.grad is not None


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_dtensor_on_one_process(one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    x = distribute_tensor(X, mesh, [Shard(0)])
    result = compiled(lambda x: (x * 2).sin() + 1)(x)
    assert isinstance(result, DTensor)
    same(result.to_local(), (X * 2).sin() + 1)
