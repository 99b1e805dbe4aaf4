"""The playground: its words and answers; tests of the page in a real browser are marked `browser`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes import cli, train
from mlm_recipes.recipes.demo import MASK, Playground, mask_words, masked_places, words_of

SHORT = {"max_steps": 3, "per_device_train_batch_size": 4, "max_length": 32, "general_corpus": "none"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, short_text):
    folder = tmp_path_factory.mktemp("demo") / "run"
    train("quickstart", corpus=str(short_text), output_dir=str(folder), **SHORT)
    return folder


@pytest.fixture(scope="module")
def playground(run):
    return Playground.open(run)


# Words


@given(st.text(alphabet="ab'-. \u2019\u4eba[]MASK_\n", max_size=30), st.data())
def test_masking_a_word_changes_only_that_word(sentence, data):
    words = words_of(sentence)
    assert mask_words(sentence, []) == sentence
    if words:
        place = data.draw(st.integers(0, len(words) - 1))
        masked = mask_words(sentence, [place])
        assert words_of(masked) == [*words[:place], MASK, *words[place + 1 :]]
        assert len(masked) == len(sentence) - len(words[place]) + len(MASK)
        assert set(masked_places(masked)) == {place, *masked_places(sentence)}


def test_a_character_is_a_word_in_scripts_without_spaces():
    assert mask_words("\u4eba\u4e4b\u521d", [1]) == f"\u4eba{MASK}\u521d"


# Answers


@pytest.mark.slow
def test_the_answers_equal_those_of_fill(playground, run):
    from mlm_recipes import fill

    page = playground.fill(f"The {MASK} of man.", [1])
    before, after = (re.findall(r"<td>([\d.]+%)</td>", part) for part in page.split("<h2>After"))
    assert [f"{p:.1%}" for _, p in fill(run, f"The {MASK} of man.", 5)[0][0]] == after
    assert [f"{p:.1%}" for _, p in fill("mini", f"The {MASK} of man.", 5)[0][0]] == before
    assert before != after


@pytest.mark.slow
def test_examples_are_the_held_out_prompts_with_their_answers(playground, run):
    entries = json.loads((run / "metrics.json").read_text("utf-8"))["before"]["fill_mask"]
    assert len(playground.examples) == len(entries) >= 5
    for (sentence, place), entry in zip(playground.examples, entries, strict=True):
        assert words_of(sentence)[place] == entry["answer"]
        assert mask_words(sentence, [place]) == entry["prompt"]


@pytest.mark.slow
def test_the_original_word_is_marked(playground):
    masked = playground.fill(f"The {MASK} of man.", [1])
    guess = re.search(r'<th scope="row">([a-z]+)</th>', masked).group(1)
    assert "\u2713" not in masked
    assert f'<tr class="answer"><th scope="row">{guess} \u2713</th>' in playground.fill(f"The {guess} of man.", [1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sentence", "says"),
    [
        ("The soul of man.", "No word is masked"),
        ("", "No word is masked"),
        (f"{MASK} " * 3000, "tokens. Accepted"),
    ],
)
def test_a_sentence_that_cannot_be_filled_is_an_error_message(playground, sentence, says):
    page = playground.fill(sentence, [])
    assert 'role="alert"' in page
    assert says in page


@pytest.mark.slow
def test_a_token_is_never_markup(playground, monkeypatch):
    monkeypatch.setattr("mlm_recipes.recipes.demo.fill_mask", lambda *given: [[[("<img src=x>", 0.5)]]])
    page = playground.fill(f"The {MASK}", [1])
    assert "&lt;img src=x&gt;" in page
    assert "<img" not in page


@pytest.mark.slow
def test_random_weights_equal_those_at_the_start_of_training(short_text, tmp_path):
    run = train("quickstart", model="mini-random", corpus=str(short_text), vocab_size=500, **SHORT).output_dir
    opened, entries = Playground.open(run), json.loads((run / "metrics.json").read_text("utf-8"))["before"]["fill_mask"]
    assert "random weights" in opened.about
    page = opened.fill(entries[0]["prompt"], []).split("<h2>After")[0]
    assert re.findall(r"<td>([\d.]+%)</td>", page)[:3] == [f"{p:.1%}" for _, p in entries[0]["top"][:3]]


@pytest.mark.slow
def test_a_run_with_added_words_is_compared_with_the_model_without_them(short_text, tmp_path):
    run = train("quickstart", corpus=str(short_text), add_tokens=["hegemonikon"], **SHORT).output_dir
    opened = Playground.open(run)
    (before, own), (after, extended) = opened.before, opened.after
    assert len(extended) == len(own) + 1 == before.config.vocab_size + 1 == after.config.vocab_size
    page = opened.fill(f"The {MASK} is content.", [1])
    assert len(re.findall(r"<td>[\d.]+%</td>", page)) == 10


# The command


@pytest.mark.slow
def test_without_gradio_the_error_says_what_to_install(run, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["demo", str(run)]) == 2
    assert "pip install 'mlm-recipes[demo]'" in capsys.readouterr().err


def test_a_folder_that_is_not_a_run_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert cli.main(["demo", str(tmp_path)]) == 2
    assert "has no metrics.json. Accepted: the folder of a finished run" in capsys.readouterr().err


# The page, in Chromium

browser = pytest.mark.browser

HOSTILE = "<img src=x onerror=document.title='hacked'> ${document.title='hacked'} {{7*7}} & \"quotes\""


@contextmanager
def served(run):
    """The playground as a user starts it, in a process that ends if it connects to another machine."""
    code = (
        "import os, sys\n"
        "def watch(event, given):\n"
        "    if event == 'socket.connect' and given[1][0] not in ('127.0.0.1', 'localhost', '::1'): os._exit(9)\n"
        "    if event == 'socket.getaddrinfo' and given[0] not in ('127.0.0.1', 'localhost'): os._exit(9)\n"
        "    if event == 'socket.bind' and isinstance(given[1], tuple) and given[1][0] != '127.0.0.1': os._exit(8)\n"
        "sys.addaudithook(watch)\n"
        "from mlm_recipes.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_HUB", "GRADIO"))}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "demo", str(run)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert process.poll() is None, process.returncode
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line
        yield address.group()
        assert process.poll() is None, "it connected to another machine"
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="module")
def address(run):
    pytest.importorskip("gradio", reason="gradio is not installed; `make test-browser` installs it")
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    for when in ("before", "after"):  # a text may contain anything
        metrics[when]["fill_mask"].append({"prompt": f"{HOSTILE} {MASK}", "answer": "<b>x</b>", "top": []})
    (run / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    with served(run) as address:
        yield address


@pytest.fixture(scope="module")
def driver():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, chromedriver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("chromium is not installed; on Debian and Ubuntu: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


class Page:
    """The page as a user sees it."""

    def __init__(self, driver, address, width=1280):
        self.driver = driver
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(address)
        self.until(lambda: len(self.all("#answers table")) == 2)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    @property
    def text(self):
        (box,) = self.all("#text textarea")
        return box

    @property
    def words(self):
        """The words that can be clicked, read at once, since the page redraws them after each change."""
        script = "return [...document.querySelectorAll('#words label')].map(label => label.innerText.trim())"
        return self.driver.execute_script(script)

    def click_word(self, word):
        self.all("#words label")[self.words.index(word)].click()

    @property
    def answers(self):
        return self.driver.execute_script("return document.querySelector('#answers').innerText")

    def until(self, holds):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if holds():
                return
            time.sleep(0.1)
        raise AssertionError(f"not within 30 s; the page says:\n{self.all('body')[0].text}")

    def type(self, sentence):
        from selenium.webdriver.common.keys import Keys

        self.text.send_keys(Keys.CONTROL, "a")
        self.text.send_keys(sentence)
        self.until(lambda: self.words == words_of(sentence))


@pytest.fixture
def page(driver, address):
    return Page(driver, address)


@browser
def test_the_page_opens_with_an_example(page, playground):
    sentence, place = playground.examples[0]
    assert page.text.get_property("value") == mask_words(sentence, [place])
    assert re.fullmatch(
        r"Before(\s+\S+( \u2713)?\s+[\d.]+%){5}\s+After(\s+\S+( \u2713)?\s+[\d.]+%){5}(\s+\u2713 the word.*)?",
        page.answers,
    ), page.answers
    left, right = (section.rect for section in page.all("#answers section"))
    assert left["y"] == right["y"]  # side by side
    bars = page.all("#answers .bar")
    assert len(bars) == 10
    assert max(bar.rect["width"] for bar in bars) > 100
    first, second = (bar.rect["width"] for bar in bars[:2])
    assert first >= second > 0


@browser
def test_a_typed_sentence_is_filled_in(page):
    page.type(f"The {MASK} of {MASK}.")
    page.all("#fill")[0].click()
    page.until(lambda: page.answers.count("mask 2") == 2)
    assert len(page.all("#answers table")) == 4


@browser
def test_a_word_is_masked_and_restored_by_mouse(page):
    page.type("The soul of man.")
    page.click_word("soul")
    page.until(lambda: page.text.get_property("value") == f"The {MASK} of man.")
    page.click_word("man")
    page.until(lambda: page.text.get_property("value") == f"The {MASK} of {MASK}.")
    page.until(lambda: page.answers.count("mask 2") == 2)
    page.click_word("soul")
    page.until(lambda: page.text.get_property("value") == f"The soul of {MASK}.")


@browser
def test_a_word_is_masked_by_keyboard(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page.type("The soul of man.")
    ActionChains(page.driver).send_keys(Keys.TAB, Keys.TAB, Keys.SPACE).perform()  # past "The", on "soul"
    page.until(lambda: page.text.get_property("value") == f"The {MASK} of man.")
    focused = page.driver.switch_to.active_element
    assert focused.find_element("xpath", "./ancestor::label").text == "soul"
    assert page.driver.execute_script("return getComputedStyle(arguments[0].closest('label')).outlineStyle", focused)
    ActionChains(page.driver).send_keys(Keys.SPACE).perform()
    page.until(lambda: page.text.get_property("value") == "The soul of man.")


@browser
def test_an_error_is_shown_on_the_page(page):
    page.type("The soul of man.")
    page.all("#fill")[0].click()
    page.until(lambda: "No word is masked. Type [MASK]" in page.answers)
    page.text.clear()
    page.text.click()
    page.driver.execute_cdp_cmd("Input.insertText", {"text": f"{MASK} " + "word " * 3000})  # as if pasted
    page.until(lambda: not page.words)  # too many to click
    page.all("#fill")[0].click()
    page.until(lambda: "tokens. Accepted: at most" in page.answers)


@browser
def test_text_is_never_markup(page, playground):
    page.all(".prompt")[-1].click()
    page.until(lambda: "onerror" in page.text.get_property("value"))
    page.until(lambda: len(page.all("#answers table")) == 2)
    page.type(f"{HOSTILE} {MASK}")
    page.all("#fill")[0].click()
    page.until(lambda: len(page.all("#answers table")) == 2)
    assert "hacked" not in page.driver.title
    assert not page.all("main img[src='x']")


@browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off(driver, address, width):
    page = Page(driver, address, width)
    assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
    for thing in page.all("#answers th, #answers td, #words label, .prompt, #text textarea"):
        assert thing.rect["x"] >= 0
        assert thing.rect["x"] + thing.rect["width"] <= width
    if "SCREENSHOTS" in os.environ:
        height = page.driver.execute_script("return document.documentElement.scrollHeight")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.driver.save_screenshot(str(Path(os.environ["SCREENSHOTS"]) / f"demo-{width}.png"))


@browser
def test_the_browser_contacts_no_other_machine(driver, address):
    page = Page(driver, address)
    driver.get_log("browser")  # messages of the previous page when it was closed
    page.all(".prompt")[1].click()
    page.until(lambda: page.text.get_property("value") == page.all(".prompt")[1].text)
    page.type(f"The {MASK} of man.")
    page.all("#fill")[0].click()
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
