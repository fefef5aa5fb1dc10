"""A browser on a real Airflow: the form, the run that it starts, approval, buttons, the DAG's page.

The stages are stand-ins; scheduler, API server and pages are Airflow's own.
"""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from optops.services.airflow import USER, Airflow, running_airflow
from optops.services.processes import choose_port

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

if CHROMIUM is None or DRIVER is None:
    pytest.skip("needs Chromium: apt-get install chromium chromium-driver", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="needs the package selenium")

By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
WebDriverWait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait

pytestmark = pytest.mark.slow

SECONDS = 120

RECIPE = """\
name: stand_in
description: Stages that do nothing.
workload: translation
data: {source_language: en, target_language: de, corpus: absent.tsv}
model: {width: 64}
prune: off
registry: {name: stand_in_model}
approval: {mode: required}
"""

DAG_FILE = """\
\"\"\"The Airflow dag of a stand-in.\"\"\"
from optops.dag import recipe_dag
dag = recipe_dag({recipe!r}, command={command!r})
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """An Airflow with one recipe; gives it and a client."""
    folder = tmp_path_factory.mktemp("airflow")
    dags = folder / "dags"
    dags.mkdir()
    recipe = folder / "stand_in.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    stand_in = Path(__file__).parents[1] / "integration" / "airflow" / "stand_in_stage.py"
    text = DAG_FILE.format(recipe=str(recipe), command=(sys.executable, str(stand_in)))
    (dags / "stand_in.py").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTOPS_HOME", str(folder / "home"))
        ours = Airflow(dags, choose_port(None, 18080))
        with running_airflow(ours, lambda line: None) as (client, _):
            wait(lambda: client.call("GET", "dags")["total_entries"], "the DAG")
            yield ours, client


@pytest.fixture(scope="module")
def browser(airflow):
    """Chromium, logged in."""
    ours, _ = airflow
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1600"):
        options.add_argument(argument)
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        chromium.get(f"{ours.url}/auth/login")
        see(chromium, "input[name=username]").send_keys(USER)
        see(chromium, "input[name=password]").send_keys(ours.password, Keys.ENTER)
        wait(lambda: "/auth/login" not in chromium.current_url, "the login")
        yield chromium
    finally:
        chromium.quit()


@pytest.fixture(scope="module")
def run(airflow, browser):
    """The id of a run that was started from the form, with another tolerance."""
    ours, client = airflow
    browser.get(f"{ours.url}/dags/stand_in")
    see(browser, "button[aria-label='Trigger Dag']").click()
    field = see(browser, "input[name='element_gate.tolerance']")
    assert field.get_attribute("value") == "0.02"
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("0.05", Keys.TAB)
    screenshot(browser, "form")
    headings = [button.text for button in browser.find_elements(By.CSS_SELECTOR, "[role=dialog] button")]
    assert {"Run Parameters", "Stages", "What is tried", "This run"} <= set(headings)
    names = {element.get_attribute("name") for element in browser.find_elements(By.CSS_SELECTOR, "[name^=element_]")}
    assert {"element_distill", "element_fuse.runtimes", "element_data_folder", "element_seed"} <= names
    click(browser, "//*[@role='dialog']//button[normalize-space()='Trigger']")
    wait(lambda: client.call("GET", "dags/stand_in/dagRuns")["total_entries"], "the run")
    return client.call("GET", "dags/stand_in/dagRuns")["dag_runs"][0]["dag_run_id"]


def wait(condition, what):
    deadline = time.monotonic() + SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what} did not come in {SECONDS} s"
        time.sleep(0.5)
    return answer


def see(browser, selector):
    return WebDriverWait(browser, SECONDS).until(
        lambda page: next((e for e in page.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()), None)
    )


def click(browser, path):
    def pressed(page):
        for element in page.find_elements(By.XPATH, path):
            if element.is_displayed() and element.is_enabled():
                element.click()
                return True
        return False

    WebDriverWait(browser, SECONDS).until(pressed)


def read(browser, text):
    try:
        WebDriverWait(browser, SECONDS).until(lambda page: text in page.find_element(By.TAG_NAME, "body").text)
    finally:
        screenshot(browser, text.replace(" ", "_"))


def screenshot(browser, name):
    """Keeps what the browser shows, if `OPTOPS_SCREENSHOTS` names a folder."""
    if folder := os.environ.get("OPTOPS_SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder, f"{name}.png")))


def state_of(client, run, task):
    return client.call("GET", f"dags/stand_in/dagRuns/{run}/taskInstances/{task}")["state"]


def test_the_form_starts_a_run_with_what_was_entered(airflow, run):
    _, client = airflow
    conf = client.call("GET", f"dags/stand_in/dagRuns/{run}")["conf"]
    assert conf["gate.tolerance"] == 0.05
    entry = f"dags/stand_in/dagRuns/{run}/taskInstances/open_run/xcomEntries/recipe?deserialize=true"
    wait(lambda: state_of(client, run, "open_run") == "success", "open_run")
    assert client.call("GET", entry)["value"]["overrides"] == {"gate.tolerance": 0.05}


def test_the_dags_page_shows_the_recipe(airflow, browser, run):
    ours, _ = airflow
    browser.get(f"{ours.url}/dags/stand_in")
    see(browser, "button[aria-label='Dag Docs']").click()
    read(browser, "teaches a faster student")
    assert "description: Stages that do nothing." in browser.find_element(By.TAG_NAME, "body").text


def test_a_task_has_a_button_to_its_mlflow_run(airflow, browser, run):
    ours, client = airflow
    wait(lambda: state_of(client, run, "train") == "success", "train")
    browser.get(f"{ours.url}/dags/stand_in/runs/{run}/tasks/train/details")
    read(browser, "MLflow run")
    links = {link.text: link.get_attribute("href") for link in browser.find_elements(By.TAG_NAME, "a")}
    assert links["MLflow run"] == "http://127.0.0.1:1/#/runs/train"


def test_a_person_sees_the_verdict_and_approves_the_promotion(airflow, browser, run):
    ours, client = airflow
    wait(lambda: state_of(client, run, "approve") == "awaiting_input", "approve")
    browser.get(f"{ours.url}/dags/stand_in/runs/{run}/tasks/approve/required_actions")
    read(browser, "The nominee is as good as the baseline.")
    read(browser, "Promote version 7 of stand_in_model?")
    click(browser, "//button[normalize-space()='Approve']")
    wait(lambda: state_of(client, run, "close_run") == "success", "close_run")
    assert state_of(client, run, "promote") == "success"
    browser.get(f"{ours.url}/dags/stand_in/runs/{run}")
    read(browser, "close_run")


def test_a_rejected_promotion_is_skipped_and_the_run_is_closed(airflow, run):
    _, client = airflow
    started = client.call("POST", "dags/stand_in/dagRuns", {"logical_date": None, "conf": {"prune": True}})
    run = started["dag_run_id"]
    wait(lambda: state_of(client, run, "approve") == "awaiting_input", "approve")
    time.sleep(10)  # Airflow takes an answer that comes before its scheduler saw the task wait for a lost worker
    answer = {"chosen_options": ["Reject"], "params_input": {}}
    client.call("PATCH", f"dags/stand_in/dagRuns/{run}/taskInstances/approve/-1/hitlDetails", answer)
    wait(lambda: state_of(client, run, "close_run") == "success", "close_run")
    assert state_of(client, run, "promote") == "skipped"
