"""Audio and tags in, a manifest and memmap stores out. Never imports `fsprobe`."""
