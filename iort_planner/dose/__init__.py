"""Dose at points and on a grid; knows nothing of DICOM."""
