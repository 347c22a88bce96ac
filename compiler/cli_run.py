"""`tilewright run m.tw`: run an artifact on given or random inputs."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilewright.ir.errors import ArtifactError, InputError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The artifact, inputs, outputs, how often."""
    parser.add_argument("artifact", metavar="m.tw", type=Path, help="an artifact of `tilewright compile`")
    parser.add_argument("--input", metavar="x.safetensors", type=Path,
                        help="tensors by the names of the model's arguments (default: random ones)")
    parser.add_argument("--output", metavar="y.safetensors", type=Path, help="where to write the results")
    parser.add_argument("--repeat", metavar="N", type=positive, default=10, help="calls to time (default: 10)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the random inputs (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def positive(text: str) -> int:
    """The type of an argument that is a count."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Load, run once, write the results, time the repeats, print."""
    # Workers that spin while they wait slow every call by an order of magnitude where something else runs as well.
    # OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    import torch.utils._pytree as pytree

    from .api import load

    if args.artifact.is_dir():
        _refuse_directory(args.artifact)
    started = time.perf_counter()
    model = load(args.artifact)
    load_seconds = time.perf_counter() - started
    given = _read(args.input) if args.input else None
    leaves = make_leaves(model.signature, given, seed=args.seed)
    call_args, call_kwargs = pytree.tree_unflatten(leaves, model.signature.in_spec)
    results = name_leaves(model(*call_args, **call_kwargs))
    if args.output:
        _write(args.output, results)
    samples = []
    for _ in range(args.repeat):
        started = time.perf_counter()
        model(*call_args, **call_kwargs)
        samples.append(time.perf_counter() - started)
    rows = [
        {"name": name, **(_describe(value) if isinstance(value, torch.Tensor) else {"value": value})}
        for name, value in results.items()
    ]
    if args.json:
        told = {"outputs": rows, "load_seconds": load_seconds, "seconds": samples,
                "median_seconds": statistics.median(samples)}
        print(json.dumps(told, indent=1, default=str))
    else:
        _print(rows, load_seconds, samples)
    return 0


def _refuse_directory(directory: Path) -> None:
    """Raises ArtifactError, which says what a directory of `tilewright compile` is good for."""
    try:
        target = json.loads((directory / "stats.json").read_text()).get("target", {}).get("name", "cpu")
    except (OSError, ValueError, AttributeError):
        target = "cpu"
    if target != "cpu":
        raise ArtifactError(
            f"{directory} holds kernels for {target}, to be read or launched by other programs: it has no host "
            "program, and nothing in it runs on this machine. Compile with --target cpu for what runs here"
        )
    raise ArtifactError(f"{directory} is a directory; run the .tw file in it")


def make_leaves(signature: Any, given: Mapping[str, Any] | None, *, seed: int = 0, size: int = 8) -> list[Any]:
    """One value per argument of the model: of `given`, by name, or random where `given` is None.

    Random floats are normal, integers 0 or 1 (safe as positions), symbolic sizes `size` or the nearest allowed one.
    Raises InputError for names that are missing or not the model's.
    """
    import torch

    from tilewright.ir.dtypes import DTYPES
    from tilewright.ir.expr import evaluate, parse

    names = [spec.name for spec in signature.inputs if spec.kind != "constant"]
    if given is not None:
        for name in given:
            if name not in names:
                known = f"{nearest(name, names)} (it has {', '.join(names)})"
                raise InputError(f"the model has no argument {name!r}{known}")
        missing = [name for name in names if name not in given]
        if missing:
            raise InputError(f"no tensor is given for {', '.join(missing)}")
    generator = torch.Generator().manual_seed(seed)
    sizes = {n: min(max(size, low), high if high is not None else size) for n, (low, high) in signature.ranges.items()}

    def random(spec: Any) -> Any:
        shape = [evaluate(parse(dim), sizes) if isinstance(dim, str) else dim for dim in spec.shape]
        if spec.kind == "int":
            return shape[0]
        row = DTYPES[spec.dtype]
        dtype = getattr(torch, row.torch_name)
        if row.kind in ("float", "complex"):
            kind = torch.complex64 if row.kind == "complex" else torch.float32
            return torch.randn(shape, generator=generator, dtype=kind).to(dtype)
        return torch.randint(0, 2, shape, generator=generator).to(dtype)

    def value(spec: Any) -> Any:
        if spec.kind == "constant":
            return spec.value
        if given is None:
            return random(spec)
        return int(given[spec.name]) if spec.kind == "int" else given[spec.name]

    return [value(spec) for spec in signature.inputs]


def name_leaves(result: Any) -> dict[str, Any]:
    """The leaves of a nested result by their paths: `last_hidden_state`, `0.logits`; a single one is `result`."""
    import torch.utils._pytree as pytree

    pairs, _ = pytree.tree_flatten_with_path(result)
    return {".".join(_key(key) for key in path) or "result": leaf for path, leaf in pairs}


def _key(key: Any) -> str:
    """The text of one step of a pytree path: a sequence's index, a mapping's key, or an attribute's name."""
    for attribute in ("idx", "key", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _read(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from None


def _write(path: Path, results: Mapping[str, Any]) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {name: value.contiguous().clone() for name, value in results.items() if isinstance(value, torch.Tensor)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def _describe(tensor: Any) -> dict[str, Any]:
    numbers = tensor.detach().double() if not tensor.is_complex() else tensor.detach().abs().double()
    known = {"mean": numbers.mean().item(), "std": numbers.std(correction=0).item()} if tensor.numel() else {}
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), **known}


def _print(rows: list[dict[str, Any]], load_seconds: float, samples: list[float]) -> None:
    from rich.console import Console
    from rich.table import Table

    from .report import duration

    table = Table("result", "dtype", "shape", "mean", "std")
    for row in rows:
        numbers = [f"{row[key]:.4g}" if key in row else "" for key in ("mean", "std")]
        table.add_row(row["name"], row.get("dtype", str(row.get("value"))), str(row.get("shape", "")), *numbers)
    console = Console()
    console.print(table)
    console.print(f"loaded in {duration(load_seconds)}; median of {len(samples)} calls "
                  f"{duration(statistics.median(samples))}", soft_wrap=True)
