"""Scalar functions of `tw.map` and `tile.map`: one row each.

A row gives the number of arguments, how the result's type follows, the cost in flops (one add is 1), whether the result
is exactly rounded (bit-equal on every target), and the reference in torch, as text evaluated with `torch` in scope and
arguments ``a, b, c``. Every printer has a table of texts for the same names; a test shows that they are complete.
Adding a function is adding a row here and one in each printer.
"""

from dataclasses import dataclass

FLOAT, INT, BOOL = "float", "int", "bool"


@dataclass(frozen=True)
class ScalarFunction:
    """`accepts`: kinds of operands; `result`: ``same`` (as the operands) or ``bool``; all operands share one type,
    except `where` (condition first) and `cast`."""

    name: str
    arity: int
    reference: str
    cost: int = 1
    exact: bool = True
    accepts: tuple[str, ...] = (FLOAT, INT)
    result: str = "same"


_F = (FLOAT,)
_IB = (INT, BOOL)
_ALL = (FLOAT, INT, BOOL)

SCALARS: dict[str, ScalarFunction] = {
    row.name: row
    for row in (
        # arithmetic
        ScalarFunction("add", 2, "a + b"),
        ScalarFunction("sub", 2, "a - b"),
        ScalarFunction("mul", 2, "a * b"),
        ScalarFunction("div", 2, "a / b", cost=4, accepts=_F),
        ScalarFunction("floor_div", 2, "torch.div(a, b, rounding_mode='floor')", cost=6),
        ScalarFunction("trunc_div", 2, "torch.div(a, b, rounding_mode='trunc')", cost=6),
        ScalarFunction("remainder", 2, "torch.remainder(a, b)", cost=8),
        ScalarFunction("fmod", 2, "torch.fmod(a, b)", cost=8),
        ScalarFunction("neg", 1, "-a"),
        ScalarFunction("abs", 1, "torch.abs(a)"),
        ScalarFunction("sign", 1, "torch.sign(a)", cost=2),
        ScalarFunction("maximum", 2, "torch.maximum(a, b)", accepts=_ALL),
        ScalarFunction("minimum", 2, "torch.minimum(a, b)", accepts=_ALL),
        ScalarFunction("fmax", 2, "torch.fmax(a, b)"),
        ScalarFunction("fmin", 2, "torch.fmin(a, b)"),
        ScalarFunction("reciprocal", 1, "torch.reciprocal(a)", cost=4, accepts=_F),
        ScalarFunction("sqrt", 1, "torch.sqrt(a)", cost=4, exact=False, accepts=_F),
        ScalarFunction("rsqrt", 1, "torch.rsqrt(a)", cost=8, exact=False, accepts=_F),
        ScalarFunction("pow", 2, "torch.pow(a, b)", cost=40, exact=False),
        ScalarFunction("copysign", 2, "torch.copysign(a, b)", accepts=_F),
        ScalarFunction("hypot", 2, "torch.hypot(a, b)", cost=40, exact=False, accepts=_F),
        ScalarFunction("nextafter", 2, "torch.nextafter(a, b)", cost=10, accepts=_F),
        ScalarFunction("frexp_mantissa", 1, "torch.frexp(a)[0]", cost=10, accepts=_F),
        ScalarFunction("frexp_exponent", 1, "torch.frexp(a)[1].to(a.dtype)", cost=10, accepts=_F),
        ScalarFunction("gcd", 2, "torch.gcd(a, b)", cost=100, accepts=(INT,)),
        # rounding
        ScalarFunction("floor", 1, "torch.floor(a)", accepts=_F),
        ScalarFunction("ceil", 1, "torch.ceil(a)", accepts=_F),
        ScalarFunction("trunc", 1, "torch.trunc(a)", accepts=_F),
        ScalarFunction("round", 1, "torch.round(a)", accepts=_F),
        # exponentials and their kin
        ScalarFunction("exp", 1, "torch.exp(a)", cost=12, exact=False, accepts=_F),
        ScalarFunction("exp2", 1, "torch.exp2(a)", cost=12, exact=False, accepts=_F),
        ScalarFunction("expm1", 1, "torch.expm1(a)", cost=20, exact=False, accepts=_F),
        ScalarFunction("log", 1, "torch.log(a)", cost=14, exact=False, accepts=_F),
        ScalarFunction("log2", 1, "torch.log2(a)", cost=14, exact=False, accepts=_F),
        ScalarFunction("log10", 1, "torch.log10(a)", cost=14, exact=False, accepts=_F),
        ScalarFunction("log1p", 1, "torch.log1p(a)", cost=20, exact=False, accepts=_F),
        ScalarFunction("sigmoid", 1, "torch.sigmoid(a)", cost=18, exact=False, accepts=_F),
        ScalarFunction("tanh", 1, "torch.tanh(a)", cost=20, exact=False, accepts=_F),
        ScalarFunction("erf", 1, "torch.erf(a)", cost=24, exact=False, accepts=_F),
        ScalarFunction("erfc", 1, "torch.erfc(a)", cost=40, exact=False, accepts=_F),
        ScalarFunction("lgamma", 1, "torch.lgamma(a)", cost=80, exact=False, accepts=_F),
        ScalarFunction("digamma", 1, "torch.digamma(a)", cost=100, exact=False, accepts=_F),
        ScalarFunction("zeta", 2, "torch.special.zeta(a, b)", cost=500, exact=False, accepts=_F),
        ScalarFunction("erfinv", 1, "torch.erfinv(a)", cost=200, exact=False, accepts=_F),
        ScalarFunction("erfcx", 1, "torch.special.erfcx(a)", cost=80, exact=False, accepts=_F),
        ScalarFunction("ndtri", 1, "torch.special.ndtri(a)", cost=200, exact=False, accepts=_F),
        ScalarFunction("i0", 1, "torch.i0(a)", cost=200, exact=False, accepts=_F),
        ScalarFunction("i0e", 1, "torch.special.i0e(a)", cost=200, exact=False, accepts=_F),
        ScalarFunction("i1", 1, "torch.special.i1(a)", cost=200, exact=False, accepts=_F),
        ScalarFunction("i1e", 1, "torch.special.i1e(a)", cost=200, exact=False, accepts=_F),
        *(ScalarFunction(name, 1, f"torch.special.{name}(a)", cost=200, exact=False, accepts=_F) for name in (
            "scaled_modified_bessel_k0", "scaled_modified_bessel_k1",
        )),
        *(ScalarFunction(name, 2, f"torch.special.{name}(a, b)", cost=200, exact=False, accepts=_F) for name in (
            "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v", "chebyshev_polynomial_w",
            "hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p",
        )),
        # trigonometry
        ScalarFunction("sin", 1, "torch.sin(a)", cost=20, exact=False, accepts=_F),
        ScalarFunction("cos", 1, "torch.cos(a)", cost=20, exact=False, accepts=_F),
        ScalarFunction("tan", 1, "torch.tan(a)", cost=40, exact=False, accepts=_F),
        ScalarFunction("asin", 1, "torch.asin(a)", cost=40, exact=False, accepts=_F),
        ScalarFunction("acos", 1, "torch.acos(a)", cost=40, exact=False, accepts=_F),
        ScalarFunction("atan", 1, "torch.atan(a)", cost=40, exact=False, accepts=_F),
        ScalarFunction("atan2", 2, "torch.atan2(a, b)", cost=50, exact=False, accepts=_F),
        ScalarFunction("sinh", 1, "torch.sinh(a)", cost=40, exact=False, accepts=_F),
        ScalarFunction("cosh", 1, "torch.cosh(a)", cost=40, exact=False, accepts=_F),
        ScalarFunction("asinh", 1, "torch.asinh(a)", cost=40, exact=False, accepts=_F),
        ScalarFunction("acosh", 1, "torch.acosh(a)", cost=40, exact=False, accepts=_F),
        ScalarFunction("atanh", 1, "torch.atanh(a)", cost=40, exact=False, accepts=_F),
        # comparison
        ScalarFunction("eq", 2, "a == b", accepts=_ALL, result="bool"),
        ScalarFunction("ne", 2, "a != b", accepts=_ALL, result="bool"),
        ScalarFunction("lt", 2, "a < b", accepts=_ALL, result="bool"),
        ScalarFunction("le", 2, "a <= b", accepts=_ALL, result="bool"),
        ScalarFunction("gt", 2, "a > b", accepts=_ALL, result="bool"),
        ScalarFunction("ge", 2, "a >= b", accepts=_ALL, result="bool"),
        ScalarFunction("isnan", 1, "torch.isnan(a)", accepts=_F, result="bool"),
        ScalarFunction("isinf", 1, "torch.isinf(a)", accepts=_F, result="bool"),
        # logic and bits; on bool `and`, `or`, `xor`, `not` are logical
        ScalarFunction("and", 2, "a & b", accepts=_IB),
        ScalarFunction("or", 2, "a | b", accepts=_IB),
        ScalarFunction("xor", 2, "a ^ b", accepts=_IB),
        ScalarFunction("not", 1, "~a", accepts=_IB),
        ScalarFunction("shl", 2, "a << b", accepts=(INT,)),
        ScalarFunction("shr", 2, "a >> b", accepts=(INT,)),
        # 64 random bits of a seed (a), a stream (b) and an offset in it (c): `ir/interpreter/philox.py`
        ScalarFunction("philox", 3, "philox(a, b, c)", cost=50, accepts=(INT,)),
        # selection and conversion
        ScalarFunction("where", 3, "torch.where(a, b, c)", accepts=_ALL),
        ScalarFunction("cast", 1, "a", accepts=_ALL, result="any"),
    )
}


@dataclass(frozen=True)
class Reduction:
    """A combiner of `tw.reduce` and of `tile.for`.

    `reference` is torch text with `x` and `dims` in scope; it keeps the dims, with size 1.
    """

    name: str
    reference: str
    accepts: tuple[str, ...] = (FLOAT, INT)
    exact: bool = True
    result: str = "same"


REDUCTIONS: dict[str, Reduction] = {
    row.name: row
    for row in (
        Reduction("sum", "torch.sum(x, dims, keepdim=True, dtype=x.dtype)", exact=False),
        Reduction("prod", "prod_over(x, dims)", exact=False),
        Reduction("max", "torch.amax(x, dims, keepdim=True)", accepts=_ALL),
        Reduction("min", "torch.amin(x, dims, keepdim=True)", accepts=_ALL),
        # the largest that is not NaN, -inf where there is none
        Reduction(
            "fmax", "torch.amax(torch.where(torch.isnan(x), -float('inf'), x), dims, keepdim=True)", accepts=_F
        ),
        Reduction("any", "torch.any(x, dims, keepdim=True)", accepts=(BOOL,)),
        Reduction("all", "torch.all(x, dims, keepdim=True)", accepts=(BOOL,)),
        # first position of the extreme value, NaN counts as extreme; one dim only
        Reduction("argmax", "torch.argmax(x, dims[0], keepdim=True)", accepts=_ALL, result="i64"),
        Reduction("argmin", "torch.argmin(x, dims[0], keepdim=True)", accepts=_ALL, result="i64"),
    )
}

INTEGER_DIVISIONS = frozenset({"floor_div", "trunc_div", "remainder", "fmod"})
"""Functions that report an integer divisor of zero."""

STEPS = frozenset({"floor", "ceil", "trunc", "round", "sign", *INTEGER_DIVISIONS, "nextafter"}) | frozenset(
    row.name for row in SCALARS.values() if row.result == "bool"
)
"""Functions that jump: the last digit of an operand may decide between results that are far apart."""


@dataclass(frozen=True)
class Scan:
    """A running combination, of `tw.scan` and `tile.scan`. `reference` is torch text with `x` and `dim` in scope."""

    name: str
    reference: str
    accepts: tuple[str, ...] = (FLOAT, INT)
    result: str = "same"


SCANS: dict[str, Scan] = {
    row.name: row
    for row in (
        Scan("sum", "torch.cumsum(x, dim, dtype=x.dtype)"),
        Scan("prod", "torch.cumprod(x, dim, dtype=x.dtype)"),
        Scan("logsumexp", "torch.logcumsumexp(x, dim)", accepts=_F),
        Scan("max", "torch.cummax(x, dim).values", accepts=_ALL),
        Scan("min", "torch.cummin(x, dim).values", accepts=_ALL),
        # the last position of the extreme value so far, NaN counts as extreme
        Scan("argmax", "torch.cummax(x, dim).indices", accepts=_ALL, result="i64"),
        Scan("argmin", "torch.cummin(x, dim).indices", accepts=_ALL, result="i64"),
    )
}


def kind_of(dtype_name: str) -> str:
    """`float`, `int` or `bool`: the operand kind a scalar function sees."""
    from .dtypes import DTYPES

    kind = DTYPES[dtype_name].kind
    return INT if kind in ("int", "uint") else kind
