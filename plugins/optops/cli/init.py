"""`optops init`: a complete, commented recipe to start from, and its DAG."""

import re
from pathlib import Path
from typing import Annotated

import typer

from optops.cli.console import CommandError, explained

DAG = '''"""The Airflow dag of recipes/{name}.yaml."""

from pathlib import Path

from optops.dag import recipe_dag

dag = recipe_dag(Path(__file__).parent / "recipes" / "{name}.yaml")
'''


@explained
def init(
    name: Annotated[str, typer.Argument(help="Name of the recipe, its DAG and its model.", show_default=False)],
    workload: Annotated[str, typer.Option(help="The kind of model.")] = "translation",
    folder: Annotated[Path, typer.Option(help="Airflow's DAGs folder.")] = Path("dags"),
) -> None:
    """Write a complete, commented recipe to start from, and the file that makes it a DAG."""
    from optops.cli.recipe_text import recipe_text
    from optops.workloads.base import load_workload

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,99}", name):
        raise CommandError(f"{name!r} can not be a recipe's name: a letter, then at most 99 letters, digits, `_.-`")
    try:
        load_workload(workload)
    except LookupError as error:
        raise CommandError(f"--workload: {error}") from None
    recipe, dag = folder / "recipes" / f"{name}.yaml", folder / f"{name}.py"
    for path in (recipe, dag):
        if path.exists():
            raise CommandError(f"{path} exists and is left as it is; choose another name or remove it")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(recipe_text(name, workload), encoding="utf-8")
    dag.write_text(DAG.format(name=name), encoding="utf-8")
    typer.echo(f"wrote {recipe} and {dag}\nnext: put your data into `data`, then `optops validate {recipe}`")
