"""The API's page in a real browser: signed in through the form, drawn without another host."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, expect

from tests.api.conftest import (  # noqa: F401 - fixtures
    Credentials,
    app,
    configuration,
    credentials,
    hashing,
    owner,
    server,
)


def test_the_docs_are_reached_by_signing_in_and_send_a_write_with_its_csrf_token(
    server: str,  # noqa: F811
    credentials: Credentials,  # noqa: F811
    browser: Browser,
    tmp_path: Path,
) -> None:
    hosts: set[str] = set()
    said: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.goto(f"{server}/docs")
    assert urlsplit(page.url).path == "/login"
    page.fill("input[name=username]", "planner")
    page.fill("input[name=password]", credentials["planner"]["password"])
    page.click("button[type=submit]")
    page.wait_for_url("**/docs")
    expect(page.locator("#swagger-ui .info .title")).to_contain_text("渝图 Yutu")
    operation = page.locator(".opblock-post").filter(has_text="/v1/plans/{plan}/assess")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("tr[data-param-name=plan] input").fill("communications-2024")
    operation.get_by_role("button", name="Execute").click()
    expect(
        operation.locator(".live-responses-table tbody .response-col_status").first
    ).to_contain_text("200")
    expect(page.locator(".top .user")).to_have_text("planner")
    expect(page.locator(".top button")).to_have_text("Sign out")
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=tmp_path / "docs.png")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{server}/docs?lang=zh")
    expect(page.locator("#swagger-ui .info .title")).to_be_visible()
    page.screenshot(path=tmp_path / "docs-phone.png")
    page.get_by_role("button", name="退出", exact=True).click()
    page.wait_for_url("**/login")
    page.goto(f"{server}/docs?lang=en")
    assert urlsplit(page.url).path == "/login", "the session is over"
    page.close()
    assert hosts - {""} == {urlsplit(server).netloc}
    assert [line for line in said if line.startswith("error")] == []
