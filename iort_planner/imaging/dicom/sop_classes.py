"""SOP class UIDs (DICOM PS3.4 B.5) that this tool tells apart, and what each may hold."""

from __future__ import annotations

from typing import Literal, TypeAlias

DicomStructureKind: TypeAlias = Literal["rtstruct", "seg"]

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.2"
XRAY_3D_ANGIOGRAPHIC = "1.2.840.10008.5.1.4.1.1.13.1.1"
XRAY_3D_CRANIOFACIAL = "1.2.840.10008.5.1.4.1.1.13.1.2"
ENHANCED_XA = "1.2.840.10008.5.1.4.1.1.12.1.1"
XA = "1.2.840.10008.5.1.4.1.1.12.1"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"

# Those that may hold a volume of the patient. XA objects count when their frames say where they lie.
IMAGE_KINDS = {
    CT_IMAGE: "ct",
    ENHANCED_CT: "ct-enhanced",
    LEGACY_CONVERTED_ENHANCED_CT: "ct-enhanced",
    XRAY_3D_ANGIOGRAPHIC: "xa3d",
    XRAY_3D_CRANIOFACIAL: "xa3d",
    ENHANCED_XA: "other",
    XA: "other",
}
# Those that hold structures, not images.
STRUCTURE_KINDS: dict[str, DicomStructureKind] = {
    RT_STRUCTURE_SET: "rtstruct",
    SEGMENTATION: "seg",
    LABEL_MAP_SEGMENTATION: "seg",
}
