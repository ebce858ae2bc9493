"""The routes of every server: health, models, pictures, and errors in OpenAI's form."""

from __future__ import annotations

from typing import Any

from PIL import Image

from mgem_agent.server.security import LOCAL_USER


async def test_health_and_models(open_service: Any, client_of: Any) -> None:
    async with client_of(open_service()) as client:
        health = (await client.get("/health")).json()
        assert (health["status"], health["running"], health["waiting"]) == ("ok", 0, 0)
        models = (await client.get("/v1/models")).json()["data"]
        assert [(each["id"], each["kind"]) for each in models] == [
            ("mgem", "agent"),
            ("scripted", "reasoner"),
            ("flat", "generator"),
        ]
        assert (await client.get("/v1/models/flat")).json()["architecture"]["output_modalities"] == ["image"]
        missing = await client.get("/v1/models/gpt-9")
        assert missing.status_code == 404
        assert missing.json()["error"]["message"].startswith("There is no model 'gpt-9'. Available: 'mgem', 'scripted'")


async def test_a_picture_by_its_id(open_service: Any, client_of: Any) -> None:
    service = open_service()
    stored = service.store(LOCAL_USER).put_picture(Image.new("RGB", (8, 6), "red"), origin="red")
    async with client_of(service) as client:
        answer = await client.get(service.picture_url(LOCAL_USER, stored.id))
        assert answer.content == service.store(LOCAL_USER).path(stored.id).read_bytes()
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"] == f'inline; filename="{stored.id}.png"'
        for bad in ("img-000000000000", "img-..", "x", "..%2f..%2fetc%2fpasswd"):
            assert (await client.get(f"/pictures/{bad}")).status_code == 404


async def test_an_unknown_path_has_an_error_of_the_same_form(open_service: Any, client_of: Any) -> None:
    async with client_of(open_service()) as client:
        answer = await client.get("/v2/nothing")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unknown_path"
        assert (await client.delete("/health")).status_code == 405
