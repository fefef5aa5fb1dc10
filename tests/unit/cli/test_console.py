"""What commands write where there is no terminal."""

from io import StringIO

from rich.console import Console

from optops.cli.console import show_markdown


def test_markdown_is_written_as_it_is_whatever_rich_takes_for_markup():
    written = StringIO()
    text = "| model | error [mm] |\nfuse dropped int8: no kernel on [/device:CPU:0] " + "and so on " * 20
    show_markdown(Console(file=written, width=40), text)
    assert written.getvalue() == text + "\n"
