"""Schedules chosen by measurement. Nothing is here yet: kernels are made with the choices that lowering fixes.

This folder is for the search space of a kernel's knobs, the search, the measurements, a cost model, the records that
carry winners from machine to machine, and the lockfile. Until then ``autotune="off"`` is the one value of the option.
"""
