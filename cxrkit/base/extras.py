"""Libraries that only a part of the commands needs, and the extra that brings them."""

from __future__ import annotations

from cxrkit.base.errors import UserError

# Of the import name: what it is called, and the extra of pyproject.toml. Others are asked for where they are used.
_NEEDED = {
    "torch": ("PyTorch", "train"),
    "torchvision": ("torchvision", "train"),
    "sklearn": ("scikit-learn", "train"),
}


def not_installed(error: BaseException) -> UserError | None:
    """Return what to say of an import that failed because an extra is not installed; None for any other error."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in _NEEDED:
        return None
    library, extra = _NEEDED[error.name]
    return UserError(f"this needs {library}, which is not installed", remedy=f"pip install 'cxrkit[{extra}]'")
