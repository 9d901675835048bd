"""A page on this machine to hear clips and answer for their tags (needs the extra `review`).

  python -m fsprobe.review --manifest=manifest.csv --audio_root=music \\
      --store=musicnn=stores/musicnn --labels=labels.sqlite --tag=calm --tag=guitar

prints an address to open in a browser. Keys: y yes, n no, d don't know, u undo, s skip, p play, f
fit again. Judgements are in --labels, a row each, on the disk before the page goes on.

  python -m fsprobe.review --manifest=manifest.csv --labels=labels.sqlite --export=labelled.csv
  python -m fsprobe.review --manifest=manifest.csv --labels=labels.sqlite --import=export.json

--export writes the manifest with the judgements in tags and not_tags, for fsprobe.train. --import
takes a manifest (.csv), an export of Label Studio (.json) or an Audacity label track (.txt, named
after its audio file).
"""

import getpass
import os
import secrets
import socket
import stat
from pathlib import Path

from absl import flags

from extract.errors import InputError
from extract.manifest import Manifest, read_manifest, write_manifest
from extract.shell import run
from fsprobe import shell
from fsprobe.listening import exchange
from fsprobe.listening.judgements import Judgements, check_tag
from fsprobe.listening.pool import pool_of
from fsprobe.tagger import options
from fsprobe.tagger.file import read_tagger
from fsprobe.tagger.matching import match, parts_of, usual_embedding
from fsprobe.words.vectors import load_words

FLAGS = flags.FLAGS

flags.DEFINE_string("manifest", None, "manifest.csv: the clips, their files, what is known.")
flags.DEFINE_string("audio_root", None, "Folder of the manifest's paths; no other file is served.")
flags.DEFINE_multi_string("store", [], "NAME=DIR: the clips' features. Repeatable.")
flags.DEFINE_string("labels", None, "The judgements, an SQLite file; made if it is not there, but "
                    "for --export alone.")  # fmt: skip
flags.DEFINE_string("tagger", None, "A tagger whose scores come first, until heads are fitted.")
flags.DEFINE_string("words", None, "Word vectors of the manifest's tags, by extract.words: with "
                    "them clips are found by a text, as by fsprobe.search --query.")  # fmt: skip
flags.DEFINE_multi_string("tag", [], "A tag to ask about, beside those that are there. Repeatable.")
flags.DEFINE_string("by", None, "Who judges; default: the user's name.")
flags.DEFINE_string("export", None, "Write the manifest with the judgements here, and end.")
flags.DEFINE_multi_string("import", [], "Take judgements out of this file, and end. Repeatable.")
flags.DEFINE_string("host", "127.0.0.1", "The address to listen at. Others than this machine's own "
                    "let whoever knows the token in.")  # fmt: skip
flags.DEFINE_multi_string("allow_host", [], "NAME:PORT by which browsers may also call us.")
flags.DEFINE_integer("port", 8765, "0: any that is free.", lower_bound=0, upper_bound=65535)
flags.DEFINE_integer("seed", 0, "Of what is drawn at random.", lower_bound=0)
flags.DEFINE_bool("follow_links", False, "Also play files that a link below --audio_root leads to.")


def main() -> None:
    for name in ("manifest", "labels"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is required; see --help")
    manifest = read_manifest(FLAGS.manifest)
    if FLAGS.export or FLAGS["import"].value:
        _exchange(manifest)
        return
    for name in ("store", "audio_root"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is required; see --help")
    if not Path(FLAGS.audio_root).is_dir():
        raise InputError(f"--audio_root={FLAGS.audio_root}: no such folder")
    _serve(manifest)


def _exchange(manifest: Manifest) -> None:
    imported = FLAGS["import"].value or ()
    if not imported and not Path(FLAGS.labels).is_file():
        raise InputError(f"--labels={FLAGS.labels}: no such file; nothing was judged in it")
    for path in (FLAGS.labels, *imported):
        name = "labels" if path == FLAGS.labels else "import"
        options.check_outputs({"export": FLAGS.export}, {name: path})
    judgements = Judgements(FLAGS.labels)
    for path in imported:
        entries, unknown = exchange.read_labels(Path(path), manifest)
        judgements.add(entries, f"import of {Path(path).name}"[:100])
        print(f"{path}: {len(entries)} judgements; {unknown} of clips that the manifest lacks")
    if FLAGS.export:
        current = judgements.current()
        judged = {clip for clip, _ in current}
        lacking = len(judged - set(manifest.clip_ids))
        write_manifest(FLAGS.export, exchange.merged(manifest, current))
        print(f"{FLAGS.export}: {len(current)} judgements on {len(judged)} clips")
        if lacking:
            print(f"{lacking} judged clips are not in {FLAGS.manifest}, and not written")
        clips = zip(manifest.clip_ids, manifest.splits, strict=True)
        if unused := sum(clip in judged and not split for clip, split in clips):
            print(f"{unused} judged clips have no split, without which fsprobe.train takes none")


def _serve(manifest: Manifest) -> None:
    try:
        import uvicorn

        from fsprobe.review_page.app import build
        from fsprobe.review_page.desk import Desk
    except ImportError as error:
        raise InputError(f"{error.name} is missing: pip install 'fsprobe[review]'") from None
    stores = options.open_stores(FLAGS.store)
    tagger = read_tagger(FLAGS.tagger) if FLAGS.tagger else None
    parts = match(tagger, stores) if tagger else parts_of(stores, usual_embedding(stores))
    for tag in FLAGS.tag:
        check_tag(tag)
    words = Path(FLAGS.words) if FLAGS.words else None
    if words:
        load_words(words)  # says what is wrong with it before anybody searches
    named = [
        tag for column in (manifest.tags, manifest.not_tags or ()) for t in column for tag in t
    ]
    tags = list(dict.fromkeys([*FLAGS.tag, *(tagger.tags if tagger else ()), *named]))
    desk = Desk(
        manifest,
        pool_of(manifest, parts),
        Judgements(FLAGS.labels),
        tags,
        FLAGS.by or _user(),
        FLAGS.seed,
        words,
    )
    if tagger:
        desk.use(tagger)
    token = _token(Path(f"{FLAGS.labels}.token"))
    listener = _listener(FLAGS.host, FLAGS.port)
    port = listener.getsockname()[1]
    name = f"[{FLAGS.host}]" if ":" in FLAGS.host else FLAGS.host
    own = (f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]", name))
    hosts = [*own, *FLAGS.allow_host]
    app = build(desk, Path(FLAGS.audio_root), token, hosts, FLAGS.follow_links)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    print(f"{len(desk.pool.clip_ids)} clips, {len(tags)} tags; Ctrl-C ends it. Open this address:")
    print(f"http://{name}:{port}/{token}/", flush=True)
    with shell.computing():
        uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    """Raises InputError where nobody can listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"--host={host} --port={port}: {error.strerror or error}; is another review running? "
            "--port=0 takes any that is free"
        ) from None


def _user() -> str:
    try:
        return getpass.getuser()[:100]
    except (OSError, KeyError):  # no name in the environment, none in passwd
        return "somebody"


def _token(path: Path) -> str:
    """The token of these labels, so that their address stays the same; readable by its owner
    alone.
    """
    try:
        with open(path, "x", opener=lambda name, mode: os.open(name, mode, 0o600)) as file:
            file.write(secrets.token_urlsafe(24))
    except FileExistsError:
        pass
    token = path.read_text("ascii", "replace").strip()
    if len(token) < 24 or not all(sign.isalnum() or sign in "-_" for sign in token):
        raise InputError(f"{path}: holds no token; delete it, and a new one is made")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"{path}: others may read it; chmod 600, or delete it for a new one")
    return token


if __name__ == "__main__":
    run(main)
