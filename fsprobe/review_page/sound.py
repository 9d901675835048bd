"""The audio file of a clip: one below the audio root, and nothing else."""

from pathlib import Path

from extract.errors import InputError
from extract.manifest import resolve_audio

# what browsers want to be told of a file; others are sent as bytes of an unknown kind
MEDIA_TYPES = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".mp4": "audio/mp4",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webm": "audio/webm",
}


def find_sound(audio_root: Path, path: str, follow_links: bool) -> tuple[Path, str]:
    """(the file, its media type). Raises InputError if it is not a plain file below the root.

    follow_links: a link below the root may lead out of it, as git-annex and caches have them.
    """
    file = resolve_audio(audio_root, path)
    real = file.resolve()
    if not follow_links and not real.is_relative_to(audio_root.resolve()):
        raise InputError(f"path {path!r} is a link out of the audio root; see --follow_links")
    if not real.is_file():
        raise InputError(f"path {path!r}: no such file below the audio root")
    return real, MEDIA_TYPES.get(file.suffix.lower(), "application/octet-stream")
