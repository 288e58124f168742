"""Structure files (RTSTRUCT, DICOM SEG, label maps) -> masks on the image's grid."""
