"""Upsampler: submit, status, result, callback, credits, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import pyvips
from sandbox_running import Receiver, Sandbox, wait_for


def picture_url(receiver: Receiver) -> str:
    """Return the address of a picture of 600 x 400 pixels."""
    return f"{receiver.url}/espresso.jpg"


def test_a_job_ends_in_a_png_a_jpeg_and_a_callback(sandbox: Sandbox, receiver: Receiver) -> None:
    answer = sandbox.submit(picture_url(receiver), 4, f"{receiver.url}/callback/secret")
    assert answer.status_code == 200
    submitted = answer.json()
    assert (submitted["status"], submitted["creditCost"]) == ("IN_QUEUE", 1)
    job = sandbox.finished(submitted["id"])
    assert job["status"] == "SUCCESS"
    png = sandbox.http.get(job["imageUrl"])
    jpeg = sandbox.http.get(job["compressedImageUrl"])
    sizes = [pyvips.Image.new_from_buffer(each.content, "") for each in (png, jpeg)]
    assert [(image.width, image.height) for image in sizes] == [(2400, 1600)] * 2
    assert (png.headers["Content-Type"], jpeg.headers["Content-Type"]) == (
        "image/png",
        "image/jpeg",
    )
    wait_for(lambda: receiver.posts)
    assert receiver.posts[0][0] == "/callback/secret"
    assert json.loads(receiver.posts[0][2]) == job


def test_a_result_can_be_resumed_and_its_address_ends_after_three_hours(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    job = sandbox.finished(sandbox.submit(picture_url(receiver)).json()["id"])
    whole = sandbox.http.get(job["imageUrl"])
    head = sandbox.http.get(job["imageUrl"], headers={"Range": "bytes=0-99"})
    rest = sandbox.http.get(job["imageUrl"], headers={"Range": "bytes=100-"})
    assert (head.status_code, rest.status_code) == (206, 206)
    assert head.content + rest.content == whole.content
    assert (
        rest.headers["Content-Range"] == f"bytes 100-{len(whole.content) - 1}/{len(whole.content)}"
    )
    last = sandbox.http.get(job["imageUrl"], headers={"Range": "bytes=-10"})
    assert last.content == whole.content[-10:]
    beyond = sandbox.http.get(job["imageUrl"], headers={"Range": "bytes=999999999-"})
    assert beyond.status_code == 416
    changed = {"Range": "bytes=100-", "If-Range": '"another"'}
    assert sandbox.http.get(job["imageUrl"], headers=changed).status_code == 200
    assert sandbox.http.head(job["imageUrl"]).headers["Content-Length"] == str(len(whole.content))
    sandbox.control("clock", {"advance_seconds": 3 * 3600 + 1})
    assert sandbox.http.get(job["imageUrl"]).status_code == 403
    fresh = sandbox.upsampler("GET", f"status/{job['id']}").json()
    assert fresh["imageUrl"] != job["imageUrl"]
    assert sandbox.http.get(fresh["imageUrl"]).content == whole.content


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"upscaleFactor": 0.5}, 400, "between 1 and 16"),
        ({"upscaleFactor": "4"}, 400, "wrong type"),
        ({"upscaleFactor": True}, 400, "wrong type"),
        ({"upscaleFactor": 16}, 400, "exceeds the limit"),
        ({"inputImageType": "painting"}, 400, "inputImageType"),
        ({"colour": 1}, 400, "unknown input field colour"),
        ({"imageUrl": "ftp://127.0.0.1/x"}, 400, "not a URL"),
        ({"imageUrl": "http://127.0.0.1:9/x"}, 400, "could not be fetched"),
        ({"imageUrl": "text"}, 400, "unsupported"),
    ],
)
def test_what_cannot_be_upscaled_is_refused(
    sandbox: Sandbox, receiver: Receiver, changes: dict[str, Any], status: int, said: str
) -> None:
    given = {"imageUrl": picture_url(receiver), "inputImageType": "realism", "upscaleFactor": 4}
    given |= changes
    if given["imageUrl"] == "text":
        given["imageUrl"] = f"{receiver.url}/text"
    answer = sandbox.upsampler("POST", "precise-upscale", {"input": given})
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert not list((sandbox.folder / "upsampler-results").glob("*.source"))


def test_the_wrong_key_an_unknown_field_and_an_unknown_job_are_refused(sandbox: Sandbox) -> None:
    url = f"{sandbox.upsampler_url}/status/none"
    assert sandbox.http.get(url, headers={"Authorization": "Bearer x"}).status_code == 401
    assert sandbox.upsampler("GET", "status/none").status_code == 404
    answer = sandbox.upsampler("POST", "precise-upscale", {"image_url": "x"})
    assert "unknown field" in answer.json()["error"]


def test_credits_are_taken_given_back_on_failure_and_can_run_out(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.control("credits", {"credits": 3})
    sandbox.fault("upsampler", "job", "fail", params={"error": "The model crashed."})
    failed = sandbox.finished(sandbox.submit(picture_url(receiver), 7).json()["id"])
    assert failed["error"] == "The model crashed. Your credits have been refunded."
    assert sandbox.control("state")["credits"] == 3
    assert sandbox.submit(picture_url(receiver), 7).json()["creditCost"] == 3
    refused = sandbox.submit(picture_url(receiver), 2)
    assert (refused.status_code, refused.json()) == (402, {"error": "Insufficient credits"})
    sandbox.control("credits", {"credits": 1_000_000})


def test_a_job_can_hang_cost_double_or_have_the_wrong_size(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    url = picture_url(receiver)
    sandbox.fault("upsampler", "job", "never_finish")
    hanging = sandbox.submit(url).json()["id"]
    sandbox.fault("upsampler", "job", "charge_times", params={"factor": 2})
    assert sandbox.submit(url).json()["creditCost"] == 2
    sandbox.fault("upsampler", "job", "wrong_size", params={"width": 3, "height": 2})
    small = sandbox.finished(sandbox.submit(url).json()["id"])
    image = pyvips.Image.new_from_buffer(sandbox.http.get(small["imageUrl"]).content, "")
    assert (image.width, image.height) == (3, 2)
    assert sandbox.upsampler("GET", f"status/{hanging}").json()["status"] == "IN_PROGRESS"


def test_a_callback_that_is_refused_comes_again(sandbox: Sandbox, receiver: Receiver) -> None:
    receiver.answers[:] = [500]
    sandbox.submit(picture_url(receiver), 2, f"{receiver.url}/callback")
    wait_for(lambda: len(receiver.posts) == 2)
    assert receiver.posts[0][2] == receiver.posts[1][2]


def test_more_than_ninety_posts_a_minute_are_slowed_down(
    own_sandbox: Callable[..., Sandbox],
) -> None:
    limited = own_sandbox("--quick-upscale").start()
    statuses = [limited.upsampler("POST", "precise-upscale", {}).status_code for _ in range(90)]
    assert set(statuses) == {400}
    slowed = limited.upsampler("POST", "precise-upscale", {})
    assert slowed.status_code == 429
    assert 1 <= int(slowed.headers["Retry-After"]) <= 61
    limited.control("clock", {"advance_seconds": 62})
    assert limited.upsampler("POST", "precise-upscale", {}).status_code == 400


def test_the_embedded_upscaler_makes_the_picture_in_earnest(
    own_sandbox: Callable[..., Sandbox], receiver: Receiver
) -> None:
    earnest = own_sandbox().start()
    job = earnest.finished(earnest.submit(f"{receiver.url}/small", 4).json()["id"])
    assert job["status"] == "SUCCESS"
    image = pyvips.Image.new_from_buffer(earnest.http.get(job["imageUrl"]).content, "")
    assert (image.width, image.height) == (480, 320)
    assert not list((earnest.folder / "upsampler-results").glob("*.source"))


def test_results_are_deleted_after_a_day(sandbox: Sandbox, receiver: Receiver) -> None:
    job = sandbox.finished(sandbox.submit(picture_url(receiver)).json()["id"])
    file = sandbox.folder / "upsampler-results" / f"{job['id']}.png"
    assert file.exists()
    sandbox.control("clock", {"advance_seconds": 25 * 3600})
    wait_for(lambda: not file.exists())
    assert sandbox.http.get(job["imageUrl"]).status_code == 403
