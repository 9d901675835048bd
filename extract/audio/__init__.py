"""From an audio file to samples."""

from extract.audio.decoding import decode

__all__ = ["decode"]
