"""Plug-ins of one's own, each in a few lines: copy one and change it.

    cxrkit train --model examples.dropout_net:build --data ...

finds it from this repository's root, since the current folder is searched (after what is installed); so is a file of
your own, as `--model mynet:build`. What each kind is called with is in `cxrkit/base/contracts.py`. `examples/plugin` is
a package to install, which gives its plug-ins plain names through entry points (see `cxrkit/base/registry.py`).
"""
