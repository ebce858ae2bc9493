"""Who may send what: tokens, hosts, origins, sizes, and that one user sees nothing of another."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.server import picture_fetch
from mgem_agent.server.http_errors import InvalidRequestError
from mgem_agent.server.picture_fetch import fetch_picture
from mgem_agent.server.security import LOCAL_USER, Access, User, open_access
from mgem_agent.server_settings import ServerSettings
from mgem_agent.tools.servers.web_address import PublicAddresses

ALICE, BOB = User("alice", "alice"), User("bob", "bob")
TOKENS = {"alice-0123456789abcdef": ALICE, "bob-0123456789abcdef": BOB}


def access_of(**fields: Any) -> Access:
    return Access(**fields)


def ask(text: str = "Hello.") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def test_loopback_needs_no_token_and_any_other_address_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not open_access(ServerSettings()).needs_token
    for host in ("0.0.0.0", "192.168.1.2", "::", "example.com"):
        access = open_access(ServerSettings(host=host))
        assert access.needs_token and access.made_token is not None and len(access.made_token) > 30
    monkeypatch.setenv("MGEM_SERVER_TOKEN", "a-token-of-my-own-1")
    for host in ("127.0.0.1", "0.0.0.0"):
        access = open_access(ServerSettings(host=host))
        assert access.made_token is None and access.users == {"a-token-of-my-own-1": LOCAL_USER}
        assert "a-token" not in repr(access)


def test_a_token_that_is_easily_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_SERVER_TOKEN", "secret")
    with pytest.raises(InputError, match=r"^The token of MGEM_SERVER_TOKEN is not valid\. Use at least 16 ASCII"):
        open_access(ServerSettings())


def test_a_file_of_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    settings = ServerSettings(token_file=path)
    with pytest.raises(InputError, match="There is no token file"):
        open_access(settings)
    path.write_text('alice = "alice-0123456789abcdef"\nbob = "bob-0123456789abcdef"\n')
    assert open_access(settings).users == TOKENS
    for text, words in (
        ("alice = 1", "The token of 'alice' .* is not a string"),
        ("alice", "is not valid TOML"),
        ('"../x" = "0123456789abcdef"', "The user name '../x' is not valid"),
        ('a = "0123456789abcdef"\nb = "0123456789abcdef"', "'a' and 'b' .* have the same token"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            open_access(settings)


async def test_without_a_valid_token_nothing_is_answered(open_service: Any, client_of: Any) -> None:
    service = open_service(access=access_of(users=TOKENS))
    async with client_of(service) as client:
        for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
            assert (await client.get(path)).status_code == 401
        for header in ("Bearer nobody", "Bearer ", "Basic alice-0123456789abcdef", "Bearer alice-0123456789abcdeF"):
            answer = await client.post("/v1/chat/completions", json=ask(), headers={"Authorization": header})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/health")).status_code == 200
        headers = {"Authorization": "Bearer alice-0123456789abcdef"}
        assert (await client.post("/v1/chat/completions", json=ask(), headers=headers)).status_code == 200


async def test_one_user_sees_nothing_of_another(open_service: Any, client_of: Any) -> None:
    service = open_service(["<h> a red fox </h>"], access=access_of(users=TOKENS))
    async with client_of(service, token="alice-0123456789abcdef") as client:
        answer = (await client.post("/v1/chat/completions", json=ask("Draw."))).json()
        [picture] = answer["mgem"]["pictures"]
        url, own_path = picture["url"], f"/pictures/{picture['id']}"
        assert (await client.get(own_path)).status_code == 200
        bob = {"Authorization": "Bearer bob-0123456789abcdef"}
        assert (await client.get(own_path, headers=bob)).status_code == 404
        nobody = {"Authorization": ""}
        assert (await client.get(own_path, headers=nobody)).status_code == 401
        assert (await client.get(url, headers=nobody)).status_code == 200  # a browser shows it without a token
        for wrong in (f"{url}0", url.replace("key=", "key=0"), f"{own_path}?key="):
            assert (await client.get(wrong, headers=nobody)).status_code == 401
        told = {"role": "assistant", "content": f"![fox]({url})"}
        body = {"messages": [*ask()["messages"], told, *ask("Again.")["messages"]]}
        assert (await client.post("/v1/chat/completions", json=body, headers=bob)).status_code == 200
    assert [each.title for each in service.store(ALICE).list()] == ["a red fox"]
    assert service.store(LOCAL_USER).list() == []


def test_sessions_of_users_are_apart(open_service: Any) -> None:
    service = open_service(["Hello."])
    for user in (ALICE, BOB, LOCAL_USER):
        service.agent(user).invoke("Hello.", session="fox")
    service.agent(ALICE).invoke("Again.", session="fox")
    assert [each.num_turns for each in service.sessions(ALICE).list()] == [2]
    assert [each.num_turns for each in service.sessions(BOB).list()] == [1]
    assert [each.num_turns for each in service.sessions(LOCAL_USER).list()] == [1]
    service.sessions(BOB).delete("fox")
    assert service.sessions(BOB).list() == [] and len(service.sessions(ALICE).turns("fox")) == 2
    with service.sessions(ALICE).hold("fox"), service.sessions(BOB).hold("fox"):
        pass
    with pytest.raises(InputError, match="is not a valid user name"):
        service.sessions(User("eve", "../eve"))


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("127.0.0.1:8765", True), ("localhost:1", True), ("[::1]:8765", True), ("me.localhost", True),
        ("evil.example", False), ("127.0.0.1.evil.example", False), ("192.168.1.2", False), ("", False), ("[", False),
        ("allowed.example:8765", True),
    ],
)  # fmt: skip
async def test_the_host_name_is_checked(open_service: Any, client_of: Any, host: str, is_allowed: bool) -> None:
    service = open_service(access=access_of(hosts=frozenset({"allowed.example"})))
    async with client_of(service) as client:
        answer = await client.get("/v1/models", headers={"Host": host})
        assert answer.status_code == (200 if is_allowed else 403)
    off_loopback = access_of(only_loopback=False)
    off_loopback.check_host("192.168.1.2:8765")  # an address cannot be rebound


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (None, True), ("http://127.0.0.1:8765", True), ("https://chat.example", True),
        ("http://evil.example", False), ("http://127.0.0.1:3000", False), ("null", False), ("", False),
        ("file://127.0.0.1:8765", False),
    ],
)  # fmt: skip
async def test_the_origin_is_checked(open_service: Any, client_of: Any, origin: str | None, is_allowed: bool) -> None:
    access = access_of(origins=frozenset({"https://chat.example"}))
    async with client_of(open_service(access=access)) as client:
        headers = {} if origin is None else {"Origin": origin}
        answer = await client.post("/v1/chat/completions", json=ask(), headers=headers)
        assert answer.status_code == (200 if is_allowed else 403)
        if origin == "https://chat.example":
            assert answer.headers["access-control-allow-origin"] == origin
            headers |= {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
            assert (await client.options("/v1/chat/completions", headers=headers)).status_code == 200


async def test_a_large_body_is_refused_before_it_is_read(open_service: Any, client_of: Any) -> None:
    async def pieces(num: int) -> Any:
        nonlocal num_sent
        for _ in range(num):
            num_sent += 1
            yield b" " * 1000

    async with client_of(open_service(max_body_mb=0.01)) as client:
        for num, status in ((9, 400), (1000, 413)):
            num_sent = 0
            answer = await client.post("/v1/chat/completions", content=pieces(num))
            assert answer.status_code == status
            assert num_sent <= 12
        answer = await client.post("/v1/chat/completions", content=b" " * 20_000)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        assert "larger than 10,000 bytes" in answer.json()["error"]["message"]


def bomb(side: int = 29_000) -> str:
    """A tiny PNG that says it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


async def test_a_decompression_bomb_is_refused(open_service: Any, client_of: Any) -> None:
    async with client_of(open_service()) as client:
        content = [{"type": "image_url", "image_url": {"url": bomb()}}]
        answer = await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")


async def test_every_response_forbids_guessing_its_type(open_service: Any, client_of: Any) -> None:
    async with client_of(open_service()) as client:
        for path in ("/health", "/nothing", "/v1/models", "/metrics"):
            answer = await client.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-request-id"].startswith("req-")


async def test_the_page_takes_its_token_from_the_address_once(open_service: Any, client_of: Any) -> None:
    async with client_of(open_service(access=access_of(users=TOKENS))) as client:
        answer = await client.get("http://127.0.0.1:8765//evil.example/?token=alice-0123456789abcdef&x=1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/evil.example/?x=1")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert (await client.get("/v1/models")).status_code == 200  # by the cookie
        client.cookies.clear()
        assert (await client.get("/?token=wrong-0123456789abcdef")).status_code == 401


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/a.png", "http://localhost:{port}/a.png", "http://[::1]:{port}/a.png",
        "http://10.0.0.1/a.png", "http://169.254.169.254/latest/meta-data", "http://[::ffff:10.0.0.1]/",
    ],
)  # fmt: skip
def test_private_addresses_are_never_fetched(open_service: Any, running: Any, url: str) -> None:
    with running(open_service()) as address:
        target = url.format(port=httpx.URL(address).port)
        with pytest.raises(InvalidRequestError, match="cannot be fetched: .*(private network|cannot be reached)"):
            fetch_picture(target, is_allowed=True, param="messages.0")


def test_public_addresses_are_fetched_if_that_is_allowed(
    open_service: Any, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    stored = service.store(LOCAL_USER).put_picture(Image.new("RGB", (8, 6), "red"), origin="red")
    with running(service) as address:
        url = service.picture_url(LOCAL_USER, stored.id).replace("http://127.0.0.1:8765", address)
        with pytest.raises(InvalidRequestError, match="mgem config set server.allow_urls true"):
            fetch_picture(url, is_allowed=False, param="messages.0")
        port = httpx.URL(address).port
        monkeypatch.setattr(picture_fetch, "NO_OWN_SERVER", PublicAddresses("127.0.0.1", port or 0))
        data = fetch_picture(url, is_allowed=True, param="messages.0")
        assert data == service.store(LOCAL_USER).path(stored.id).read_bytes()
    for wrong in ("file:///etc/passwd", "ftp://example.com/a.png", "img-0123", "/etc/passwd"):
        with pytest.raises(InvalidRequestError, match="is not the address of a picture"):
            fetch_picture(wrong, is_allowed=True, param="messages.0")
