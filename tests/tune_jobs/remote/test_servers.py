"""Error texts of pyarrow's clients: one sample of each kind, as the clients of Amazon and Google write them."""

import pytest

from tune_jobs.location import Location
from tune_jobs.remote.servers import reason_in

S3 = Location.parse("s3://bucket/prefix")
GS = Location.parse("gs://bucket/prefix")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "When listing objects under key 'x' in bucket 'bucket': AWS Error NO_SUCH_BUCKET during ListObjectsV2 "
            "operation: The specified bucket does not exist",
            "there is no such bucket",
        ),
        (
            "When getting information for key 'x' in bucket 'bucket': AWS Error ACCESS_DENIED during HeadObject "
            "operation: No response body.",
            "access is denied",
        ),
        (
            "When uploading key 'x' in bucket 'bucket': AWS Error UNKNOWN (HTTP status 403) during PutObject "
            "operation: Unable to parse ExceptionName: ExpiredToken Message: The provided token has expired.",
            "access is denied",
        ),
        (
            "When uploading key 'x' in bucket 'bucket': AWS Error SLOW_DOWN during PutObject operation: Please reduce "
            "your request rate.",
            "it asks for fewer requests",
        ),
        (
            "When uploading key 'x' in bucket 'bucket': AWS Error NETWORK_CONNECTION during PutObject operation: "
            "curlCode: 7, Couldn't connect to server",
            "it cannot be reached at Amazon, since AWS_ENDPOINT_URL is not set",
        ),
        (
            "When uploading key 'x' in bucket 'bucket': AWS Error UNKNOWN (HTTP status 502) during PutObject "
            "operation: Unable to parse ExceptionName:  Message: ",
            "the server fails",
        ),
    ],
)
def test_texts_of_amazons_client(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert reason_in(text, S3).startswith(reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("google::cloud::Status(UNAUTHENTICATED: Permanent error InsertObjectMedia)", "access is denied"),
        ("google::cloud::Status(UNAVAILABLE: Retry policy exhausted in GetObjectMetadata)", "it cannot be reached"),
        ("google::cloud::Status(RESOURCE_EXHAUSTED: too many requests)", "it asks for fewer requests"),
    ],
)  # fmt: skip
def test_texts_of_googles_client(text: str, reason: str) -> None:
    assert reason_in(text, GS).startswith(reason)


def test_other_texts_are_returned_in_one_line() -> None:
    assert reason_in("a text\n that nobody  knows", S3) == "a text that nobody knows"
