"""Plug-ins of one's own, each in a few lines: copy one and change it.

    cxrkit train --model examples.dropout_net:build --data ...

finds it from this repository's root, and from anywhere else once its package is installed or PYTHONPATH names its
folder. What each kind is called with is in `cxrkit/base/contracts.py`; an installed package can give a plug-in a plain
name through an entry point (see `cxrkit/base/registry.py`).
"""
