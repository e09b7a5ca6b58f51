"""One's own remote: results go to an S3 server and come back from it in another clone, byte for byte."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Project

SERVER = """\
import sys, boto3
told, sys.stdout = sys.stdout, sys.stderr  # the server greets on standard output
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
address = "http://{}:{}".format(*server.get_host_and_port())
boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="results")
print(address, file=told, flush=True)
sys.stdin.read()
"""
KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 server on this machine that holds the empty bucket `results`."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        yield server.stdout.readline().strip()
        server.stdin.close()
        server.wait()


def add_remote(project: Project, address: str) -> None:
    project.must("dvc", "remote", "add", "--local", "-d", "mine", "s3://results/ours")
    project.must("dvc", "remote", "modify", "--local", "mine", "endpointurl", address)


def test_results_travel_through_an_s3_bucket(done: Project, tmp_path: Path, bucket: str) -> None:
    done.environment |= KEYS
    add_remote(done, bucket)
    done.must("dvc", "push")
    there = tmp_path / "elsewhere"
    done.git("clone", "--quiet", str(done.root), str(there))
    other = Project(there)
    other.environment |= KEYS
    assert not (there / "product.txt").exists()
    add_remote(other, bucket)
    other.must("dvc", "pull", "product.txt", "runs/two/table.csv")
    for name in ("product.txt", "runs/two/table.csv"):
        assert (there / name).read_bytes() == (done.root / name).read_bytes()


def test_an_unreachable_remote_leaves_everything_as_it_was(done: Project) -> None:
    done.environment |= KEYS | {"AWS_MAX_ATTEMPTS": "1"}
    add_remote(done, "http://127.0.0.1:9")  # the port that discards: nobody listens
    before = (done.root / "product.txt").read_bytes()
    assert done.run("dvc", "push").returncode != 0
    assert (done.root / "product.txt").read_bytes() == before
    assert "Nothing to do" in done.must("lib.stages", "repro")
