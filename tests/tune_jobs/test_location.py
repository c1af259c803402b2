"""The place of a run is parsed without a network, and impossible places are errors."""

import pytest

from tune_jobs.location import Location, is_uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket", Location("s3", "bucket")),
        ("s3://bucket/", Location("s3", "bucket")),
        ("gs://my.bucket-1/a//b/", Location("gs", "my.bucket-1", "a/b")),
    ],
)
def test_valid_places(text: str, expected: Location) -> None:
    place = Location.parse(text)
    assert place == expected
    assert Location.parse(str(place)) == place


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://bucket/x", "valid: a folder, or s3://bucket/prefix"),
        ("S3://bucket/x", "valid: a folder, or s3://bucket/prefix"),
        ("s3://", "whose bucket is ''"),
        ("s3:///x", "whose bucket is ''"),
        ("s3://Bucket/x", "lower-case letters"),
        ("s3://a/x", "3 to 63"),
        ("s3://key:secret@bucket/x", "lower-case letters"),
        ("s3://bucket/a/../b", "without `.` and `..`"),
        ("s3://bucket/a?region=x", "without ?, #"),
        ("s3://bucket/a\0b", "without"),
    ],
)
def test_invalid_places(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="given") as caught:
        Location.parse(text)
    assert words in str(caught.value)


def test_names_below_and_above() -> None:
    run = Location.parse("s3://bucket/team") / "digits-1"
    assert str(run) == "s3://bucket/team/digits-1"
    assert (run.name, run.parent) == ("digits-1", Location.parse("s3://bucket/team"))
    assert Location.parse("s3://bucket") / "x" == Location("s3", "bucket", "x")
    assert Location.parse("s3://bucket/x").parent == Location("s3", "bucket")


def test_texts_that_mean_a_place_in_a_store() -> None:
    assert is_uri("s3://x")
    assert is_uri("http://x")
    assert not is_uri("runs")
    assert not is_uri("/a:b/c")
