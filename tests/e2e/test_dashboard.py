"""The dashboard in a real browser (Debian's Chromium), on real running agents."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_conductor.v1.task_pb2 import TaskSpec
from tests.e2e.conftest import CONDUCTOR, Installation, eventually

pytestmark = pytest.mark.timeout(240)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing (make setup-dev)")
CHROMIUM = shutil.which("chromium") or ""
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="Chromium is missing (Debian: chromium)")
SIZES = ((1440, 900), (390, 844))

CONTRASTS = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => { const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
  const ground = (element) => { for (; element; element = element.parentElement) {
    const found = channels(getComputedStyle(element).backgroundColor); if (found.length < 4 || found[3] > 0.99) return found; }
    return [255, 255, 255]; };
  const weak = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("script, noscript, .skip, .hidden")) continue;
    const [one, two] = [light(channels(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < 4.5) weak.push(`${element.className} ${element.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return weak;
}"""
UNNAMED = """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a")]
  .filter((each) => each.checkVisibility())
  .filter((each) => !(each.labels?.length || each.textContent.trim() || each.getAttribute("aria-label")))
  .map((each) => each.outerHTML)"""


@contextmanager
def dashboard(installation: Installation) -> Iterator[str]:
    """Run `conductor dashboard`; yield the address it prints."""
    process = subprocess.Popen(
        [CONDUCTOR, "dashboard", "--port", "0"],
        env=installation.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"dashboard: (http://\S+)", line)
        assert found, line
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    assert process.returncode in (0, 130), said
    assert "Traceback" not in said, said


@contextmanager
def browser_at(address: str, **options: object) -> Iterator[playwright.Page]:
    """Open the address in a browser; whatever its console complains of fails the test."""
    complaints: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
    unexpected = [
        text for text in complaints if not re.search(r"status of 4|status of 503|ERR_(CONNECTION|INCOMPLETE|NETWORK)", text)
    ]
    assert unexpected == []


def submit(installation: Installation, prompt: str, script: str) -> str:
    with installation.client() as client:
        spec = TaskSpec(driver="command", prompt=prompt, command=["/bin/sh", "-c", script])
        return client.tasks.submit(spec).task_id


@needs_chromium
def test_a_person_submits_a_task_watches_it_and_answers_it(installation: Installation):
    installation.start(num_agents=1)
    with dashboard(installation) as address, browser_at(address) as page:
        expect = playwright.expect
        expect(page.locator("#agents")).to_contain_text("agent-1")
        page.get_by_role("link", name="New task").click()
        page.get_by_label("What shall be done").fill("Say <b>hello</b>")
        page.get_by_label("Kind of agent").select_option("command")
        script = "echo first line; conductor-agent ask 'May I <i>go on</i>?' --approve 'rm -r build' && echo second line"
        page.get_by_role("textbox", name="Command of").fill(f'/bin/sh -c "{script}"')
        page.get_by_role("button", name="Submit").click()

        expect(page.locator("h1")).to_have_text("Say <b>hello</b>")
        expect(page.locator("#output")).to_contain_text("first line")
        expect(page.locator("#asks")).to_contain_text("May I <i>go on</i>?")
        expect(page.locator("#asks .raw")).to_have_text("rm -r build")
        page.get_by_role("link", name="Inbox").click()
        page.get_by_role("button", name="approve").click()
        expect(page.locator("#inbox")).to_contain_text("Nobody waits for you.")

        page.get_by_role("link", name="Tasks").click()
        page.locator("a.id").first.click()
        expect(page.locator("#output")).to_contain_text("second line")
        expect(page.locator("#head .state")).to_have_text("succeeded")
        expect(page.locator("#output-state")).to_have_text("complete")


@needs_chromium
def test_a_dead_letter_is_sent_again_and_a_task_cancelled(installation: Installation):
    installation.start(num_agents=2, limits={"message_attempts": 1}, tasks={"retry_delay": "100ms", "max_attempts": 2})
    script = "while true; do conductor-agent inbox --wait 30s | grep -q 'last straw' && exit 1; done"
    task_id = submit(installation, "reads and dies", script)
    installation.run("messages", "send", f"task/{task_id}", "the last straw")
    with installation.client() as client:
        eventually(lambda: [r for r in client.messages.list() if r.state == 7], 40, "the message dies")
    with dashboard(installation) as address, browser_at(address) as page:
        page.get_by_role("link", name="Messages").click()
        page.get_by_role("link", name="dead", exact=True).click()
        page.get_by_role("button", name="Send chosen again").click()
        playwright.expect(page.locator("h1")).to_have_text("No message was chosen.")
        page.go_back()
        page.get_by_role("checkbox").check()
        page.get_by_role("button", name="Send chosen again").click()
        playwright.expect(page.locator("#messages")).to_contain_text("No dead letter.")
        with installation.client() as client:
            [record] = [each for each in client.messages.list() if each.recipient == f"task/{task_id}"]  # others tell of its end
        sleeper = submit(installation, "sleeps", "sleep 600")
        page.goto(page.url.split("/messages")[0] + f"/tasks/{sleeper}")
        page.get_by_role("button", name="Cancel task").click()
        playwright.expect(page.locator("#head .state")).to_have_text("cancelled")

    assert record.redrives == 1


@needs_chromium
def test_the_page_says_that_the_control_plane_is_lost_and_comes_back_by_itself(installation: Installation):
    installation.start(num_agents=1)
    with dashboard(installation) as address, browser_at(address) as page:
        playwright.expect(page.locator("#line")).to_have_text("live")
        installation.run("stop")
        playwright.expect(page.locator("#line")).to_contain_text("trying again")
        page.reload()
        playwright.expect(page.locator("h1")).to_contain_text("control plane")
        installation.start(num_agents=1)
        playwright.expect(page.locator("#agents")).to_contain_text("idle", timeout=40_000)


@needs_chromium
def test_every_page_reads_well_wide_and_narrow_light_and_dark_and_without_scripts(installation: Installation, tmp_path: Path):
    installation.start(num_agents=2)
    ended = submit(installation, "ends with a failure " + "long" * 60, "echo out; echo err >&2; exit 3")
    submit(installation, "asks", "conductor-agent ask 'Which one?' --option this --option that")
    with installation.client() as client:
        client.tasks.wait(ended, timeout=60)
        eventually(lambda: client.tasks.list(states=[5]), 30, "the question is asked")
    [message] = re.findall(r"msg_\w+", installation.run("messages", "send", "topic/nobody", "hello", check=False).stdout) or [""]
    paths = (
        "/",
        "/agents/agent-1",
        "/tasks",
        "/tasks?state=failed",
        f"/tasks/{ended}",
        "/tasks/new",
        "/inbox",
        "/messages",
        "/usage",
        "/tasks/task_00000000",
    )
    with dashboard(installation) as address, playwright.sync_playwright() as started:
        base = address.split("/login")[0]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context()
        context.new_page().goto(address)
        login = context.storage_state()
        for scheme in ("light", "dark"):
            for width, height in SIZES:
                view = {"viewport": {"width": width, "height": height}, "color_scheme": scheme, "storage_state": login}
                page = browser.new_context(**view, reduced_motion="reduce").new_page()
                for path in (*paths, *([f"/messages/{message}"] if message else []), "/login"):
                    page.goto(base + path)
                    where = (path, width, scheme)
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, where
                    assert page.evaluate(CONTRASTS) == [], where
                    assert page.evaluate(UNNAMED) == [], where
                    assert page.locator("h1").count() == 1, where
        plain = browser.new_context(java_script_enabled=False, storage_state=login).new_page()
        for path in paths:
            plain.goto(base + path)
            assert plain.locator("main").inner_text().strip(), path
        plain.goto(f"{base}/inbox")
        plain.get_by_role("button", name="that").click()
        playwright.expect(plain.locator("#inbox")).to_contain_text("Nobody waits for you.")
        browser.close()
