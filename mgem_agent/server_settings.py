"""The settings of `mgem serve`: the table `server` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mgem_agent.user_files import user_path

__all__ = ["ServerSettings"]


class ServerSettings(BaseModel):
    """Settings of the HTTP server. Tokens are not settings: they come from `MGEM_SERVER_TOKEN` or `token_file`.

    Attributes:
        host: Address to listen on. Any address but the loopback address requires a token.
        port: Port to listen on; 0 for any free port.
        public_url: Address under which clients reach the server, for the links to pictures; None for the address that
            the client has used.
        token_file: TOML file of tokens by user name; each user has their own sessions and pictures.
        allowed_hosts: Further host names under which the server is reached.
        allowed_origins: Web pages of other servers that may send requests, such as `http://localhost:3000`.
        allow_urls: Whether pictures in requests may be web addresses; private addresses are never fetched.
        model_aliases: Further names of models, for clients with fixed names: `{"gpt-image-1": "nano"}`.
        max_body_mb: Maximum size of a request in megabytes.
        max_pictures_in: Maximum number of pictures in a request.
        images_as: How drawn pictures are given in `message.images` of chat completions: `data`, as OpenRouter does,
            `url`, or `none` for clients that would show them twice. The text always has their address.
        workers: Maximum number of requests that run at once; the others wait.
        queue: Maximum number of requests that wait; further ones are refused with status 429.
        max_batch: Maximum number of pictures of all clients that are drawn in one batch.
        gather_s: Seconds that an idle generator waits for further pictures of running requests.
        reasoner_slots: Maximum number of answers that a reasoner on this machine writes at once.
        drain_s: Seconds that running requests have to finish when the server is stopped.
        log: Format of the log: `text`, `json` with one object per line, or `none` for warnings only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8765, ge=0, le=65535)
    public_url: str | None = Field(default=None, pattern=r"^https?://[^\s?#]+$")
    token_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    allow_urls: bool = False
    model_aliases: dict[str, str] = {}
    max_body_mb: float = Field(default=64, gt=0)
    max_pictures_in: int = Field(default=16, ge=1)
    images_as: Literal["data", "url", "none"] = "data"
    workers: int = Field(default=16, ge=1)
    queue: int = Field(default=64, ge=0)
    max_batch: int = Field(default=8, ge=1)
    gather_s: float = Field(default=0.02, ge=0, le=10)
    reasoner_slots: int = Field(default=2, ge=1)
    drain_s: float = Field(default=30, ge=0)
    log: Literal["text", "json", "none"] = "text"

    @field_validator("token_file")
    @classmethod
    def _at_home(cls, value: Path | None) -> Path | None:
        return user_path(value) if value is not None else None
