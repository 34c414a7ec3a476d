"""Defects of the product that this one follows, those that are about HTTP; see `tests/reliability`."""

from __future__ import annotations

from tests.relay.conftest import Relay


def test_p11_the_link_is_told_only_to_the_holder_of_a_long_secret_and_kept_by_nobody(
    relay: Relay,
) -> None:
    order = relay.world.complete(relay.world.buy())
    answer = relay.get(f"/smi/v1/job-status/{order.id}")
    assert len(order.id) * 4 >= 128
    assert "download_url" in answer.json()["data"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert relay.get(f"/smi/v1/job-status/{order.number}").status_code == 404


def test_p12_no_nonce_is_needed_and_a_stale_one_does_no_harm(relay: Relay) -> None:
    number = relay.world.add_image()
    prices = relay.post(
        "/smi/v1/calculate-all-prices",
        json={"attachment_id": number},
        headers={"X-WP-Nonce": "stale"},
    )
    assert prices.status_code == 200
    assert relay.checkout(number).status_code == 200


def test_p15_a_download_can_be_asked_about_resumed_and_is_written_down(relay: Relay) -> None:
    order = relay.world.complete(relay.world.buy())
    link = f"/smi/v1/download/{relay.world.shop.token('download', order.id, order.generation)}"
    head = relay.request("HEAD", link)
    part = relay.get(link, headers={"Range": "bytes=0-3"})
    assert head.status_code == 200
    assert int(head.headers["Content-Length"]) == order.file_bytes
    assert part.status_code == 206
    assert len(part.content) == 4
    assert order.number in head.headers["Content-Disposition"]
