"""PyTorch's operator database (`op_db`) through the compiler: what runs natively, and that nothing is wrong.

A sample of an operator goes the way of a model: AOTAutograd makes ATen graphs of it (`tracing.py`), each is imported,
run by the interpreter, and, of some samples, compiled (`variants.py`). Results are compared with eager's
(`comparing.py`).

* `test_operators.py` runs a fixed slice of it.
* `make opdb` (``cd tests && python -m operators``) runs the whole in worker processes (`__main__.py`, `pool.py`), and
  leaves `benchmarks/results/operators.json`, of which `report.py` makes `docs/operators.md`.
"""
