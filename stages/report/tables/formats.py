"""A table in every format, as its files and the buttons of the page have it."""

from stages.report.provenance import COMMAND
from stages.report.tables import as_csv, as_html, latex, markdown
from stages.report.tables.table import Table

MADE_BY = f"Made by: {COMMAND}"
TITLES = {  # end of the file's name -> what its button on the page is called; HTML is taken from the page itself
    ".tex": "LaTeX",
    "-column.tex": "LaTeX, for one of two columns",
    ".md": "Markdown",
    ".csv": "CSV",
}


def label(table: Table, of: str) -> str:
    r"""What \ref names it by; of: its dataset, or all of them."""
    return f"tab:{of}-{table.key}"


def of(table: Table, label: str) -> dict[str, str]:
    r"""End of the file's name -> content. Both LaTeX files have the same \label, as a paper takes one of them."""
    comment = f"<!-- {MADE_BY} -->\n"
    return {
        ".tex": latex.to_latex(table, label, latex.PAGE, MADE_BY),
        "-column.tex": latex.to_latex(table, label, latex.COLUMN, MADE_BY),
        ".md": comment + markdown.to_markdown(table),
        ".csv": as_csv.to_csv(table),
        ".html": comment + as_html.to_html(table),
    }
