"""What tests of a replay buffer are made of, for this project's and for yours.

`model` is a slow, obvious model of the table and its observer, and the check
that a buffer behaves like it. `strategies` makes data specs, steps and whole
programs of operations with Hypothesis (`pip install hypothesis`).
"""
