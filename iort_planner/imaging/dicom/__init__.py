"""DICOM files and archives of them -> series of slices with their pixels."""
