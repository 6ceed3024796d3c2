"""Import of completions that other programs sampled: files of many formats to trace stores.

A reader turns a file of one format into completions (:mod:`autotts_gym.imports.completions`), and
:mod:`autotts_gym.imports.rollout_import` makes a store of them: it counts their tokens, extracts
their final answers and classes them.
"""
