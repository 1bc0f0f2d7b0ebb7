"""A browser without a window, driven over its DevTools protocol: pages at any width, in light and in dark.

async with Chromium(folder) as browser:
    await browser.open("http://127.0.0.1:9780/", width=360, dark=True)
    assert await browser.evaluate("document.title") == "mailmapd"
    await browser.picture(folder / "page.png")
"""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientSession, ClientWebSocketResponse

from support.process import ServerFailed, ServerProcess, program

WAIT_SECONDS = 60.0
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Chromium:
    """One browser with one page; `folder` holds its profile and its log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._process: ServerProcess
        self._session: ClientSession
        self._page: ClientWebSocketResponse | None = None

    async def __aenter__(self) -> Self:
        command = [program("chromium", "chromium"), *_OPTIONS]
        profile = self._folder / "profile"
        self._process = ServerProcess(
            [*command, f"--user-data-dir={profile}", "about:blank"], self._folder / "chromium.log"
        )
        self._session = ClientSession()
        try:
            port = await self._port(profile / "DevToolsActivePort")
            async with self._session.get(f"http://127.0.0.1:{port}/json/list") as response:
                [page] = [target for target in await response.json() if target["type"] == "page"]
            self._page = await self._session.ws_connect(
                page["webSocketDebuggerUrl"], max_msg_size=0
            )
            await self._command("Page.enable")
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._page is not None:
            await self._page.close()
        await self._session.close()
        await asyncio.to_thread(self._process.stop)

    async def _port(self, file: Path) -> int:
        """Return the port that the browser chose, which it writes into its profile when it listens."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and self._process.running():
            if file.exists() and (text := file.read_text()):  # noqa: ASYNC240 (a small local file)
                return int(text.split()[0])
            await asyncio.sleep(0.05)
        raise ServerFailed(f"chromium does not listen:\n{self._process.text()}")

    async def _command(self, method: str, **parameters: Any) -> dict[str, Any]:
        assert self._page is not None
        self._number += 1
        await self._page.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._page.receive_json(timeout=WAIT_SECONDS)
            if message.get("id") == self._number:
                if "error" in message:
                    raise ServerFailed(f"{method}: {message['error']['message']}")
                result: dict[str, Any] = message["result"]
                return result

    async def open(self, url: str, *, width: int, height: int = 800, dark: bool = False) -> None:
        """Show a page on a screen of this size and return when it is loaded."""
        await self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._command("Emulation.setEmulatedMedia", features=[scheme])
        await self._command("Page.navigate", url=url)
        deadline = time.monotonic() + WAIT_SECONDS
        loaded = "document.readyState == 'complete' && location.href != 'about:blank'"
        while not await self.evaluate(loaded):
            if time.monotonic() > deadline:
                raise ServerFailed(f"{url} is not loaded")
            await asyncio.sleep(0.05)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        result = await self._command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise ServerFailed(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def picture(self) -> bytes:
        """Return the whole page as a PNG file."""
        result = await self._command(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True
        )
        return base64.b64decode(result["data"])
