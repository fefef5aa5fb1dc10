"""The command line: `optops --help`. One module a command; heavy libraries are imported where they are used."""

import typer

from optops.cli import check, demo, doctor, evaluate, garbage, init, optimize, rollback, run, schema, show, validate

EX_USAGE = 64

app = typer.Typer(
    name="optops",
    help="Make a TensorFlow model as fast as its hardware allows without making it worse, prove both, promote it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    run.run,
    show.show,
    evaluate.evaluate,
    validate.validate,
    check.check,
    init.init,
    schema.schema,
    doctor.doctor,
    optimize.optimize,
    rollback.rollback,
    garbage.gc,
    demo.demo_data,
    demo.demo,
    demo.ui,
):
    app.command()(command)


def main() -> None:
    """Runs the command line."""
    # 2 says that nothing was promoted, so a wrong command line ends with EX_USAGE of sysexits.h instead.
    usage_error = typer.BadParameter.__bases__[0]
    usage_error.exit_code = EX_USAGE  # type: ignore[attr-defined]
    app()
