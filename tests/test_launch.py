"""The launchers, with srun, scontrol, gcloud and Python replaced by scripts that say what they were
asked.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from extract.errors import InputError
from tests.support import musicnn_wheel

ROOT = Path(__file__).parents[1]


def launch(tmp_path: Path, script: str, *args: str, fake: dict[str, str]) -> tuple[int, list[str]]:
    for name, body in fake.items():
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho {name} "$@" $JAX_LOCAL_DEVICE_IDS >> {tmp_path}/log\n{body}\n'
        )
        (tmp_path / name).chmod(0o755)
    env = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_GPUS_ON_NODE": "4",
        "FSPROBE_PYTHON": "python3",
    }
    result = subprocess.run(
        ["bash", f"launch/{script}", *args], cwd=ROOT, env=env, capture_output=True, text=True
    )
    log = tmp_path / "log"
    return result.returncode, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (2, False)])
def test_slurm_requeues_what_ran_out_of_time(tmp_path, code, requeued):
    found, calls = launch(tmp_path, "slurm.sh", fake={"srun": f"exit {code}", "scontrol": ""})
    assert found == code
    assert "python3 -m fsprobe.sweep --flagfile=launch/slurm.cfg --distributed 0,1,2,3" in calls[0]
    assert calls[1:] == (["scontrol requeue 7 0,1,2,3"] if requeued else [])


def test_tpu_pod_starts_every_worker(tmp_path):
    found, calls = launch(tmp_path, "tpu_pod.sh", "pod", "us-x", "/mnt/a b", fake={"gcloud": ""})
    assert found == 0 and "tpu-vm ssh pod --zone=us-x --worker=all" in calls[0]
    assert (
        r"cd /mnt/a\ b && .venv/bin/python -m fsprobe.sweep --flagfile=launch/tpu_pod.cfg"
        in calls[0]
    )
    assert launch(tmp_path, "tpu_pod.sh", "pod", fake={})[0] == 2


@pytest.mark.parametrize("name", ["slurm", "tpu_pod"])
def test_flagfiles_parse_and_say_what_they_are(name):
    text = (ROOT / "launch" / f"{name}.cfg").read_text()
    assert all(f"# {word}" in text for word in ("Purpose:", "Command:", "Hardware:", "Time:"))
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "fsprobe.sweep",
            f"--flagfile=launch/{name}.cfg",
            "--manifest=none.csv",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and "none.csv" in result.stderr, (
        "flags are known; the data is not here"
    )


def test_ray_slurm_runs_the_flags_on_all_nodes(tmp_path):
    fake = {
        "srun": "exit 1",
        "ray": "",
        "scontrol": '[ "$1" = requeue ] || printf "host1\\nhost2\\n"',
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_JOB_NODELIST", "host[1-2]")
        patch.setenv("SLURM_NNODES", "2")
        patch.setenv("SLURM_CPUS_PER_TASK", "16")
        found, calls = launch(tmp_path, "ray_slurm.sh", "--store=a b", fake=fake)
    assert found == 1  # some clips failed
    assert calls[0] == "scontrol show hostnames host[1-2]"
    assert calls[1] == "ray get-auth-token --generate"
    assert calls[2] == (
        "srun ray symmetric-run --address=host1:20007 --min-nodes=2 --num-cpus=16 --num-gpus=4 -- "
        "python3 -m extract.run --engine=ray --ray_address=host1:20007 --store=a b"
    )
    assert len(calls) == 3


def test_ray_slurm_requeues_itself_before_its_limit(tmp_path):
    fake = {
        "ray": "",
        "srun": "kill -TERM $PPID; sleep 2",
        "scontrol": '[ "$1" = requeue ] || echo host1',
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_JOB_NODELIST", "host1")
        patch.setenv("SLURM_NNODES", "1")
        found, calls = launch(tmp_path, "ray_slurm.sh", fake=fake)
    assert found == 143
    assert calls[-1] == "scontrol requeue 7"


def test_ray_says_what_is_missing(tmp_path):
    fake = {"python3": "exit 1"}
    assert launch(tmp_path, "ray.sh", fake=fake)[0] == 2
    assert launch(tmp_path, "ray.sh", "host", fake={"python3": ""})[0] == 2
    found, calls = launch(tmp_path, "ray.sh", "host:1", "--num-cpus=2", fake={"python3": ""})
    assert found == 0
    assert calls[-1].endswith("start --address=host:1 --num-cpus=2")
    assert launch(tmp_path, "ray.sh", "--num-cpus=2", fake={})[1][-1].endswith(
        "start --head --include-dashboard=false --num-cpus=2"
    )


PYTHON = """#!/bin/bash
printf '%s\\n' "$*" >> "$(dirname "$0")/log"
case $2 in
  extract.run) exit "${RUN_CODE:-0}" ;;
  extract.verify) echo "store: 5 clips done and finite, 0 failed with a reason, ${PENDING:-0} pending; complete" ;;
esac
"""


def study(
    tmp_path: Path, script: str, *args: str, **environment: str
) -> tuple[int, str, list[str]]:
    """(exit code, stderr, commands) of a script in a copy of the checkout that is called from
    tmp_path, where data/ and `data/my songs` have what the studies want.
    """
    root, data = tmp_path / "checkout", tmp_path / "data"
    for name in ("catalogue", "my songs"):
        (data / name / "audio").mkdir(parents=True, exist_ok=True)
        (data / name / "tags.csv").write_text("clip,tags,track\n")
    (data / "mtat_posteriors").mkdir(exist_ok=True)
    shutil.copytree(ROOT / "launch", root / "launch", dirs_exist_ok=True)
    (root / "pyproject.toml").write_text("")
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    made = f"extract {root} {hashlib.sha256(b'').hexdigest()}  -"
    (root / ".venv" / "stamp").write_text(made)
    result = subprocess.run(
        ["bash", str(root / "launch" / script), *args],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    log = python.parent / "log"
    calls = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return result.returncode, result.stderr, calls


def test_in_ci_what_cannot_be_had_fails(tmp_path):
    (tmp_path / "launch").mkdir()
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    for name in ("test.sh", "parity.sh"):
        script = f'echo {name} "$CI" "$@" >> {tmp_path}/log\n'
        (tmp_path / "launch" / name).write_text(script)
    env = {key: value for key, value in os.environ.items() if key != "CI"}
    subprocess.run(["bash", str(tmp_path / ".ci" / "run")], env=env, check=True)
    assert (tmp_path / "log").read_text() == "test.sh true --all\nparity.sh true\n"


@pytest.mark.parametrize(
    ("name", "value"), [("CI", "true"), ("FSPROBE_PARITY", "required"), ("UNUSED", "")]
)
def test_without_the_wheel_a_test_fails_where_it_is_wanted(tmp_path, monkeypatch, name, value):
    def no_index(*_):
        raise InputError("pip cannot fetch it")

    monkeypatch.setattr(musicnn_wheel, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(musicnn_wheel, "download", no_index)
    for other in ("CI", "FSPROBE_PARITY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    outcomes = (pytest.skip.Exception, pytest.fail.Exception)
    with pytest.raises(outcomes, match="pip cannot fetch it") as outcome:  # a skip would skip this
        musicnn_wheel.wheel()
    assert outcome.type is outcomes[name != "UNUSED"]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("script", ["catalogue.sh", "baselines.sh"])
def test_out_is_relative_to_the_caller(tmp_path, script):
    data = "data/catalogue" if script == "catalogue.sh" else "data"
    for given, where in (("mine", f"{tmp_path}/mine/"), ("/else", "/else/"), ("", "results/")):
        code, err, calls = study(tmp_path, script, data, given)
        assert code == 0, err
        sweeps = [call for call in calls if call.startswith("-m fsprobe.sweep")]
        assert sweeps and all(f"--out={where}" in call for call in sweeps)


def test_catalogues_of_other_names_do_not_meet(tmp_path):
    code, err, calls = study(tmp_path, "catalogue.sh", "data/my songs", SEEDS="3", SPLITS="2")
    assert code == 0, err
    runs = [call for call in calls if call.startswith("-m extract.run")]
    assert len(runs) == 4 and all("--store=.cache/catalogue_my_songs/" in call for call in runs)
    assert all(f"--audio_root={tmp_path}/data/my songs/audio" in call for call in runs)
    sweeps = [call for call in calls if call.startswith("-m fsprobe.sweep")]
    assert len(sweeps) == 5 and all("--dataset=my songs --num_seeds=3" in call for call in sweeps)
    for name in ("catalogue", "multilevel"):
        flagfile = f".cache/catalogue_my_songs/{name}.cfg"
        assert any(f"--flagfile={flagfile}" in call for call in sweeps)
        flags = (tmp_path / "checkout" / flagfile).read_text().splitlines()
        stores = [line for line in flags if line.startswith(("--store", "--manifest"))]
        assert stores and all("=.cache/catalogue_my_songs/" in line for line in stores)
    _, _, calls = study(tmp_path, "catalogue.sh", "data/catalogue")
    assert any("--manifest=.cache/catalogue/split0.csv" in call for call in calls)
    sweeps = [call for call in calls if call.startswith("-m fsprobe.sweep")]
    assert [call.split("--num_seeds=")[1].split()[0] for call in sweeps] == ["50"] * 10 + ["20"]


@pytest.mark.parametrize(
    ("script", "data"), [("catalogue.sh", "data/catalogue"), ("baselines.sh", "data")]
)
def test_an_extraction_that_stopped_is_no_failed_clip(tmp_path, script, data):
    """Both end with 1: what is left to do tells them apart."""
    code, err, calls = study(tmp_path, script, data, RUN_CODE="1")
    assert code == 0, err
    runs = [i for i, call in enumerate(calls) if call.startswith("-m extract.run")]
    assert runs and all(calls[i + 1].startswith("-m extract.verify") for i in runs)
    code, err, calls = study(tmp_path, script, data, RUN_CODE="1", PENDING="30")
    assert code == 2 and "logmel is incomplete (extract.run ended with 1)" in err
    assert not any("fsprobe" in call for call in calls)
    assert study(tmp_path, script, data, RUN_CODE="2")[0] == 2
