"""fsprobe.search and fsprobe.suggest on a million clips × 400 dimensions, as commands:

  python -m tests.benchmarks.search --json=out.json

The store (1.6 GB) is made and deleted. Wall time of each command, start-up included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from extract.files import atomic_write
from fsprobe.tagger.file import write_tagger
from fsprobe.tagger.matching import Part
from tests.benchmarks.machine import describe, seconds
from tests.benchmarks.tagging import make_store, make_tagger


def command(module: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", module, *flags], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=400)
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fsprobe-search-") as folder:
        work = Path(folder)
        part = Part("generated", make_store(work / "store", args.clips, args.dims), "features")
        write_tagger(work / "t.safetensors", make_tagger(part, 20))
        store, tagger = f"--store=generated={work / 'store'}", f"--tagger={work / 't.safetensors'}"
        with (work / "m.csv").open("w") as file:
            file.write("clip_id,path,split,tags,not_tags\n")
            file.writelines(f"{clip},,,,\n" for clip in part.store.clip_ids)
        manifest = f"--manifest={work / 'm.csv'}"
        found = {
            "clips": args.clips,
            "dims": args.dims,
            "like_s": seconds(lambda: command("fsprobe.search", store, "--like=clip00000007")),
            "tag_s": seconds(lambda: command("fsprobe.search", store, tagger, "--tag=tag 3")),
            "suggest_20_tags_s": seconds(
                lambda: command("fsprobe.suggest", store, tagger, manifest, "--strategy=diverse")
            ),
            "machine": describe(),
        }
    text = json.dumps(found, indent=1)
    print(text)
    if args.json:
        with atomic_write(args.json) as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
