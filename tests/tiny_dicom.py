"""DICOM files in memory, whole and with what real ones have: windows, padding, other encodings."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def dicom(
    pixels: np.ndarray, *, encoded: bytes | None = None, syntax: str = ExplicitVRLittleEndian, **fields: Any
) -> bytes:
    """Return the file of `pixels`, (H, W) or (H, W, 3); encoded: their bytes in the transfer syntax `syntax`.

    fields: by keyword, in place of those that a digital chest film of 12 bits has; None leaves one out.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    depth = 8 * pixels.dtype.itemsize
    values = {
        "Modality": "DX", "BodyPartExamined": "CHEST", "Rows": pixels.shape[0], "Columns": pixels.shape[1],
        "BitsAllocated": depth, "BitsStored": min(depth, 12), "HighBit": min(depth, 12) - 1,
        "SamplesPerPixel": 1 if pixels.ndim == 2 else 3, "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PhotometricInterpretation": "MONOCHROME2" if pixels.ndim == 2 else "RGB",
    } | ({"PlanarConfiguration": 0} if pixels.ndim == 3 else {})  # fmt: skip
    for name, value in (values | fields).items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes() if encoded is None else encapsulate([encoded])
    dataset["PixelData"].VR = "OB" if encoded is not None or depth == 8 else "OW"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
