"""The page of the API in a real browser: it renders from our own files and breaks no rule of the policy."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.browser
def test_the_docs_page_renders_under_the_policy(live_server: Any, make_user: Any, monkeypatch: Any) -> None:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed: the API page was not looked at")
    from django.test import Client
    from playwright.sync_api import sync_playwright

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # playwright's loop runs in this thread
    client = Client()
    client.force_login(make_user())
    cookie = next(iter(client.cookies.values()))
    said: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context()
        context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": live_server.url}])
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{live_server.url}/api/docs/")
        page.wait_for_selector(".opblock-tag-section")
        page.click(".opblock-tag[data-tag='arc']")
        page.wait_for_selector("text=/predict")
        page.click("#operations-arc-arc_predict .opblock-summary")
        page.wait_for_selector("text=X-Legal-Basis")
        tags = page.locator(".opblock-tag-section").count()
        page.screenshot(path=os.environ.get("API_DOCS_SHOT") or None, full_page=True)
        browser.close()
    assert tags == 8
    faults = [
        text for text in said if "Content Security Policy" in text or "Refused" in text or "Error" in text
    ]
    assert not faults, faults
    assert all(url.startswith((live_server.url, "data:", "blob:")) for url in asked), asked
