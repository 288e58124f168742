"""Volume to needle, spinal canal and distances; knows nothing of dose or DICOM."""
