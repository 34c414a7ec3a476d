"""Who counts as a person, and that no click is lost."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from smi_desktop.services.clicks import count_click, is_bot
from smi_desktop.services.report import Grouping, choose_period, make_report
from smi_desktop.store import clicks
from smi_desktop.store.models import Click
from tests.world import World

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def test_fifty_who_click_at_once_are_fifty(world: World) -> None:
    together = threading.Barrier(50)
    failures: list[Exception] = []

    def work(number: int) -> None:
        together.wait()
        try:
            for agent in (FIREFOX, "Googlebot/2.1", FIREFOX):
                count_click(world.shop, number % 3 + 1, 7, agent)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    found = make_report(world.shop, choose_period(world.shop))
    assert found.total.clicks == 100
    assert {line.key: line.clicks for line in found.by[Grouping.IMAGE]} == {1: 34, 2: 34, 3: 32}
    with world.database.read() as session:
        assert clicks.count(session, bots=True) == 50


@pytest.mark.parametrize(
    "agent",
    [
        None, "", "   ", "-", "x",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        ("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; "
        "+http://www.bing.com/bingbot.htm) Chrome/116.0 Safari/537.36"),
        "Mozilla/5.0 (Linux; Android 6.0.1) AppleWebKit/537.36 Chrome/120 Mobile (compatible; GoogleOther)",
        "Mozilla/5.0 (compatible; Google-InspectionTool/1.0;)",
        "Mozilla/5.0 (compatible; YandexImages/3.0)", "Mozilla/5.0 (compatible; Yahoo! Slurp)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0)", "Mozilla/5.0 AppleWebKit; compatible; GPTBot/1.2",
        "Mozilla/5.0 AppleWebKit/537.36; compatible; ChatGPT-User/1.0; +https://openai.com/bot",
        "Mozilla/5.0 (compatible; ClaudeBot/1.0)", "Mozilla/5.0 (compatible; PerplexityBot/1.0)",
        "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (compatible; Bytespider)",
        "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Safari/605.1.15 (Applebot/0.1)",
        "meta-externalagent/1.1", "facebookexternalhit/1.1", "Twitterbot/1.0", "WhatsApp/2.23.20.0",
        "Slackbot-LinkExpanding 1.0", "TelegramBot (like TwitterBot)", "Discordbot/2.0",
        "Mozilla/5.0 (Windows NT 6.1) AppleWebKit/537.36 SkypeUriPreview Preview/0.5",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0 Safari/537.36",
        "Mozilla/5.0 (Linux) AppleWebKit/537.36 Chrome/109 Mobile Safari/537.36 Chrome-Lighthouse",
        "Mozilla/5.0 (Macintosh) AppleWebKit/538.1 PhantomJS/2.1.1 Safari/538.1",
        "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        "Mozilla/5.0 (X11; Linux x86_64; DatadogSynthetics)", "Pingdom.com_bot_version_1.4",
        "Mozilla/5.0 (compatible; archive.org_bot)", "ia_archiver", "W3C_Validator/1.3",
        "curl/8.5.0", "Wget/1.21", "python-requests/2.32", "Python-urllib/3.11", "aiohttp/3.9",
        "Go-http-client/2.0", "okhttp/4.12", "Java/17.0.1", "Apache-HttpClient/4.5", "libwww-perl/6.68",
        "node-fetch/1.0", "axios/1.6", "undici", "GuzzleHttp/7", "PostmanRuntime/7.36", "Ruby", "PHP/8.2",
        "Mozilla/5.0 zgrab/0.x", "Mozilla/5.0 (compatible; Nmap Scripting Engine)", "Expanse, a scanner",
    ],
)  # fmt: skip
def test_what_is_no_persons_browser_is_a_bot(agent: str | None) -> None:
    assert is_bot(agent)


@pytest.mark.parametrize(
    "agent",
    [
        FIREFOX,
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/19.0 Safari/605.1.15"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.6 Mobile/15E148 Safari/604.1"),
        ("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 "
        "Mobile Safari/537.36"),
        "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 Chrome/120.0 Mobile",
        ("Mozilla/5.0 (Linux; Android 14; SM-S918B; wv) AppleWebKit/537.36 Version/4.0 Chrome/141.0 Mobile "
        "Safari/537.36 Instagram 400.0.0.0.0 Android"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 "
        "[FBAN/FBIOS;FBAV/500.0.0.0;FBDV/iPhone14,7;FBMD/iPhone;FBSN/iOS]"),
        "Mozilla/5.0 (X11; Linux x86_64; rv:91.0) Gecko/20100101 Firefox/91.0 Thunderbird/91",
        "Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2; Trident/6.0)",
        "Opera/9.80 (Android; Opera Mini/60.0/191.0; U; en) Presto/2.12.423 Version/12.16",
        "Mozilla/5.0 (PlayStation; PlayStation 5/8.00) AppleWebKit/605.1.15 Safari/605.1.15",
    ],
)  # fmt: skip
def test_a_persons_browser_counts(agent: str) -> None:
    assert not is_bot(agent)


@pytest.mark.parametrize(
    "purpose", ["prefetch", "prefetch;prerender", "Preview", "prefetch;anonymous-client-ip"]
)
def test_what_a_browser_loads_ahead_is_no_click(world: World, purpose: str) -> None:
    assert is_bot(FIREFOX, purpose)
    count_click(world.shop, 1, None, FIREFOX, purpose)
    with world.database.read() as session:
        assert list(session.scalars(select(Click.bot))) == [True]


@pytest.mark.parametrize("purpose", [None, "", "navigate"])
def test_another_purpose_is_a_persons(purpose: str | None) -> None:
    assert not is_bot(FIREFOX, purpose)
