"""The formats in which people hold RefCOCO, RefCOCO+ and RefCOCOg: a module for each, read through `release.read`."""
