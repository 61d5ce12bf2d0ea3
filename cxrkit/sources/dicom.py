"""One DICOM file -> gray levels as its own display settings show them, and what its header says.

Stored values go through the modality's rescale (or its table), then the VOI table or the first window, as the standard
has it (PS3.3, C.11.1 and C.11.2), to 0 to 255; MONOCHROME1 is turned over, and padding is black. NIH did the like:
"their intensity ranges are rescaled using the default window settings" (Wang et al. 2017, section 3).
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.sources import gray
from cxrkit.sources.pixels import DamagedImage

_XRAY = ("CR", "DX", "RG", "RF", "OT", "")  # modalities; OT: other, as digitised films have it
_CHEST = ("CHEST", "THORAX", "LUNG", "RIBS")
_NO_VIEW = re.compile(r"\b(LAT|LATERAL|LL|RL|LLD|RLD|PROFIL\w*|OBLIQUE|LAO|RAO|LPO|RPO)\b")
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True)
class Header:
    """What a file says of the patient and of the film; None: nothing."""

    age_years: int | None = None
    """Whole years."""

    sex: str | None = None
    """M or F."""

    view: str | None = None
    """AP or PA."""

    lateral: str = ""
    """The words that say it is no frontal film; "" where nothing says so."""

    spacing_mm: float | None = None
    """Millimetres from one pixel to the next, on the detector."""

    notes: tuple[str, ...] = ()
    """Where something was found that is not in its own field."""


Levels = tuple[NDArray[np.uint8], tuple[str, ...]]


def read(data: bytes) -> tuple[NDArray[np.uint8], Header, tuple[str, ...]]:
    """Return (H, W) gray levels, the header, and what was done that could change what is seen.

    Raises DamagedImage for what is no single film that can be decoded, UserError where pydicom is missing.
    """
    dataset = _opened(data, pixels=True)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DamagedImage(f"{frames:,} frames, expected one film")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not 32 <= min(rows, columns) <= max(rows, columns) <= gray.LARGEST_SIDE:
        raise DamagedImage(f"{columns:,} x {rows:,} pixels, expected 32 to {gray.LARGEST_SIDE:,} along each side")
    stored = _stored(dataset)
    if stored.shape[:2] != (rows, columns):
        raise DamagedImage(f"its pixels are {stored.shape}, its header says {rows} x {columns}")
    image_HW, notes = _in_colour(stored) if stored.ndim == 3 else _displayed(dataset, stored)
    return image_HW, _said(dataset), notes


def looks_like_one(data: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does."""
    return data[128:132] == b"DICM"


def size(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels. Raises DamagedImage for what is no DICOM file, UserError without pydicom."""
    dataset = _opened(data, pixels=False)
    return int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0)


def header(data: bytes) -> Header:
    """Return what the header says. Raises DamagedImage for what is no DICOM file, UserError without pydicom."""
    return _said(_opened(data, pixels=False))


def _opened(data: bytes, *, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError:
        raise UserError(
            "a DICOM file is read with pydicom, which is not installed", remedy="pip install 'cxrkit[dicom]'"
        ) from None
    # Values that break a rule of the standard are common, and no reason to warn: what is needed is checked here.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels, force=data[128:132] != b"DICM")
        there = "PixelData" in dataset if pixels else "Rows" in dataset
    except Exception as error:  # what it raises of damaged bytes has no common ancestor
        raise DamagedImage(f"not a readable DICOM file ({_line(error)})") from None
    if not there:
        what = dataset.get("SOPClassUID")
        kind = f" ({what.name})" if what is not None and hasattr(what, "name") else ""
        raise DamagedImage(f"a DICOM file without pixels{kind}")
    return dataset


def _stored(dataset: Any) -> NDArray[Any]:
    """Return the stored values, (H, W) or, in colour, (H, W, 3) as blue, green and red."""
    from pydicom.pixels.processing import apply_color_lut

    if "TransferSyntaxUID" not in dataset.file_meta:
        from pydicom.uid import ImplicitVRLittleEndian

        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # the standard's default
    try:
        values: NDArray[Any] = dataset.pixel_array  # planes are interleaved, and YBR is RGB already
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
    except Exception as error:
        syntax = getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "an unknown transfer syntax")
        if "missing dependencies" in str(error):
            raise DamagedImage(f"{syntax} needs a decoder that is not installed: pip install 'cxrkit[dicom]'") from None
        raise DamagedImage(f"its pixels cannot be decoded ({syntax}: {_line(error)})") from None
    if values.ndim == 3:
        return values[..., ::-1]
    bits = int(dataset.BitsStored)
    if values.dtype.kind == "u" and bits < 8 * values.dtype.itemsize:
        values = values & ((1 << bits) - 1)  # old files keep overlays in the bits above
    return values


def _in_colour(values: NDArray[Any]) -> Levels:
    image_HW, colour = gray.one_channel(values)
    levels_HW, depth = gray.eight_bits(image_HW)
    return levels_HW, (*colour, *depth)


def _displayed(dataset: Any, stored: NDArray[Any]) -> Levels:
    """Return what a viewer shows at first."""
    from pydicom.pixels.processing import apply_modality_lut

    padding = _padding(dataset, stored)
    try:
        values = np.asarray(apply_modality_lut(stored, dataset))
        levels, notes = _windowed(dataset, values, padding)
    except DamagedImage:
        raise
    except Exception as error:
        raise DamagedImage(f"its display settings make no sense ({_line(error)})") from None
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        levels = 255 - levels
    levels[padding] = 0
    return levels, notes


def _padding(dataset: Any, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where there is no film: PixelPaddingValue, up to PixelPaddingRangeLimit where there is one."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    ends = sorted((int(value), int(dataset.get("PixelPaddingRangeLimit", value))))
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _windowed(dataset: Any, values: NDArray[Any], padding: NDArray[np.bool_]) -> Levels:
    from pydicom.pixels.processing import apply_voi

    if dataset.get("VOILUTSequence"):
        table = np.asarray(apply_voi(np.rint(values).astype(np.int64), dataset, 0))
        top = (1 << int(table.max()).bit_length()) - 1  # what descriptors say of their bits is often wrong
        return gray.spread(table, 0, max(top, 255)), ()
    centres, widths = _numbers(dataset.get("WindowCenter")), _numbers(dataset.get("WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if centres and widths and widths[0] >= (1 if function == "LINEAR" else 1e-9):
        return window(values, centres[0], widths[0], function), ()
    seen = values[~padding] if not padding.all() else values
    low, high = float(seen.min()), float(seen.max())
    note = f"no window: levels {low:,.0f} to {high:,.0f} were spread over 0 to 255"
    return gray.spread(values, low, high), (note,)


def window(values: NDArray[Any], centre: float, width: float, function: str = "LINEAR") -> NDArray[np.uint8]:
    """Return gray levels of values seen through a window (PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    values = values.astype(np.float64)
    if function == "SIGMOID":
        return gray.spread(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))), 0, 1)
    if function == "LINEAR_EXACT":
        return gray.spread(values, centre - width / 2, centre + width / 2)
    if width <= 1:
        return np.where(values > centre - 0.5, 255, 0).astype(np.uint8)
    return gray.spread(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _said(dataset: Any) -> Header:
    notes = []
    modality, part = _text(dataset, "Modality"), _text(dataset, "BodyPartExamined")
    if modality not in _XRAY:
        notes.append(f"modality {modality}: no X-ray film")
    if part and not any(word in part for word in _CHEST):
        notes.append(f"body part {part}, not the chest")
    view, lateral, how = _view(_text(dataset, "ViewPosition"), _text(dataset, "SeriesDescription"))
    sex = _text(dataset, "PatientSex")
    spacing = _numbers(dataset.get("ImagerPixelSpacing")) or _numbers(dataset.get("PixelSpacing"))
    return Header(
        age_years=_age(dataset),
        sex=sex if sex in ("M", "F") else None,
        view=view,
        lateral=lateral,
        spacing_mm=spacing[0] if spacing else None,
        notes=(*notes, *how),
    )


def _view(position: str, description: str) -> tuple[str | None, str, tuple[str, ...]]:
    """Return the view, the words that say it is not frontal, and where it was found if not in its own field."""
    if position in ("AP", "PA"):
        return position, "", ()
    if position and _NO_VIEW.search(position):
        return None, f"ViewPosition {position}", ()
    if _NO_VIEW.search(description):
        return None, f"SeriesDescription {description!r}", ()
    named = set(re.findall(r"\b(AP|PA)\b", description))
    if len(named) == 1:
        return named.pop(), "", (f"view from SeriesDescription {description!r}",)
    return None, "", ()


def _age(dataset: Any) -> int | None:
    """Return whole years, from PatientAge ("045Y", "006M"), or else from the dates of birth and of the study."""
    found = re.fullmatch(r"(\d{1,3})([YMWD])", _text(dataset, "PatientAge"))
    if found:
        return int(int(found[1]) * _YEARS[found[2]] + 1e-9)
    try:
        born, studied = (
            datetime.strptime(_text(dataset, name), "%Y%m%d") for name in ("PatientBirthDate", "StudyDate")
        )
    except ValueError:
        return None
    years = studied.year - born.year - ((studied.month, studied.day) < (born.month, born.day))
    return years if 0 <= years <= 130 else None


def _text(dataset: Any, name: str) -> str:
    """Return a field as text in capitals; "" where there is none, or it cannot be read."""
    try:
        value = dataset.get(name)
        return "" if value is None else " ".join(str(value).upper().replace("_", " ").split())
    except Exception:  # pydicom reads a value when it is asked for, and finds it damaged then
        return ""


def _numbers(value: Any) -> list[float]:
    """Return a field's numbers; none where it has no value, or one that is no number."""
    if value is None or value == "":
        return []
    try:
        many = [float(item) for item in value] if hasattr(value, "__iter__") else [float(value)]
    except (TypeError, ValueError):
        return []
    return many if all(np.isfinite(many)) else []


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
