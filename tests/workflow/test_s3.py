"""docs/examples/s3 with a stand-in server: embeddings from a bucket, results to it."""

import io
import shutil

import numpy as np
import pytest
from conftest import ROOT, count_jobs

pytestmark = pytest.mark.slow

PUBLISH = ("publish", "-s", "docs/examples/s3/Snakefile")


@pytest.fixture
def client(monkeypatch):
    """Return a boto3 client of a server of its own, which has one bucket, `lab`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "S3_BUCKET": "lab",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "NO_PROXY": host,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="lab")
    yield client
    server.stop()


@pytest.fixture
def checkout(make_checkout):
    checkout = make_checkout()
    shutil.copytree(ROOT / "docs/examples/s3", checkout.folder / "docs/examples/s3")
    return checkout


def upload(client, seed=0):
    """Upload 500 embeddings with labels, as the example expects them.

    Returns:
        {key: content}.
    """
    rng = np.random.default_rng(seed)
    files = {}
    for split, count in (("train", 300), ("val", 100), ("test", 100)):
        rows = "".join(f"{split}{i},{i % 5}\n" for i in range(count))
        files[f"data/ours/{split}.csv"] = f"image_id,label\n{rows}".encode()
        array = io.BytesIO()
        np.save(array, rng.normal(size=(count, 16)).astype(np.float32))
        files[f"data/ours/our_model/{split}.npy"] = array.getvalue()
    for key, content in files.items():
        client.put_object(Bucket="lab", Key=key, Body=content)
    return files


def objects(client, prefix=""):
    """Return {key: content} of the bucket."""
    listing = client.list_objects_v2(Bucket="lab", Prefix=prefix)
    keys = [entry["Key"] for entry in listing.get("Contents", [])]
    return {
        key: client.get_object(Bucket="lab", Key=key)["Body"].read() for key in keys
    }


def test_embeddings_come_from_a_bucket_and_results_go_there(client, checkout):
    uploaded = upload(client)
    checkout.snakemake(*PUBLISH)
    assert {key: (checkout.folder / key).read_bytes() for key in uploaded} == uploaded
    published = objects(client, "results/from_s3/")
    assert {key: (checkout.folder / key).read_bytes() for key in published} == published
    names = {key.removeprefix("results/from_s3/") for key in published}
    assert names >= {
        "metrics.csv",
        "metrics.parquet",
        "claims.md",
        "tables/table1.md",
        "figures/fig5.png",
    }
    assert "report/index.html" in names
    assert not any(name.startswith(("saes/", "scores/")) for name in names)
    assert "Nothing to be done" in checkout.snakemake(*PUBLISH)
    # A newer object is fetched again, it alone.
    client.put_object(
        Bucket="lab",
        Key="data/ours/test.csv",
        Body=uploaded["data/ours/test.csv"].replace(b",4", b",3"),
    )
    planned = count_jobs(checkout.snakemake("-n", *PUBLISH), "publish")
    assert planned["fetch"] == planned["dataset"] == 1


def test_what_is_not_there_is_named(client, checkout, monkeypatch):
    upload(client)
    client.delete_object(Bucket="lab", Key="data/ours/our_model/val.npy")
    output = checkout.snakemake(*PUBLISH, ok=False)
    assert "Missing input files for rule fetch" in output
    assert "s3://lab/data/ours/our_model/val.npy" in output
    # The plugin by itself would make the bucket.
    monkeypatch.setenv("S3_BUCKET", "lap")
    assert "bucket lap cannot be used" in checkout.snakemake(*PUBLISH, ok=False)
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["lab"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "Could not connect to the endpoint" in checkout.snakemake(*PUBLISH, ok=False)
    assert not (checkout.folder / "data").exists()
