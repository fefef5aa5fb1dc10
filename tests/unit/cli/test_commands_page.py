"""The page of commands names every command, and no command or option that there is not."""

import re
from pathlib import Path

from click import Command
from typer.main import get_command

from optops.cli import app

PAGE = (Path(__file__).parents[3] / "docs" / "commands.md").read_text(encoding="utf-8")
COMMANDS: dict[str, Command] = dict(get_command(app).commands)  # type: ignore[attr-defined]
CALL = re.compile(r"optops ([a-z][a-z-]*)")
OPTION = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)")


def options_of(command: str) -> set[str]:
    return {name for option in COMMANDS[command].params for name in (*option.opts, *option.secondary_opts)}


def table(heading: str) -> list[list[str]]:
    rows = PAGE.partition(heading)[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows if row.startswith("| ")]


def test_every_command_is_named_and_no_other() -> None:
    listed = [found[1] for row in table("# Commands")[1:] if (found := CALL.search(row[0]))]
    assert sorted(listed) == sorted(COMMANDS)
    assert set(CALL.findall(PAGE)) <= set(COMMANDS)


def test_every_option_is_listed_with_its_command_and_exists_there() -> None:
    listed: dict[str, set[str]] = {}
    command = ""
    for first, options, _ in table("## Options")[1:]:
        command = found[1] if (found := CALL.search(first)) else command
        listed.setdefault(command, set()).update(OPTION.findall(options))
    assert all(options <= options_of(name) for name, options in listed.items())
    # Of a switch one side is enough.
    for name, command_ in COMMANDS.items():
        for option in command_.params:
            names = {*option.opts, *option.secondary_opts}
            if option.param_type_name == "option":
                assert names & listed.get(name, set()), f"{name}: {names} is not on the page"


def test_the_examples_call_what_there_is() -> None:
    examples = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", "")
    for call in re.findall(r"\boptops [a-z][^|>\n]*", examples):
        (command,) = CALL.findall(call)
        assert set(OPTION.findall(call)) <= options_of(command), call
