"""Schedules chosen by measurement: the search space of a kernel's knobs, the search and its measurements, a cost model,
the records that carry winners from machine to machine, and the lockfile.

`tuner.tune` makes a `records.Record`, `store.Store` keeps it, `lookup.best` finds it. `compiler/tuning.py` asks.
"""
