"""Evaluators: scores and truth in, metrics out (contracts.Evaluator). No torch here.

An evaluator itself touches no file: what must hold before predictions are scored is in `gates`, who reads and writes in
`scoring`. Registered ones are in cxrkit/base/registry.py; `package.module:function` works as well.
"""
