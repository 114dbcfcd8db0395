"""The report of a study: its tables and pictures in a folder, and the same tables within a document."""

from pathlib import Path

from pretraining.files import write_text
from reproduction.cells import Place
from reproduction.figures import draw, draw_neighbours
from reproduction.ledger import Ledger
from reproduction.plan import Study, StudyError
from reproduction.tables import sections

REPORT = "report.md"
END = "<!-- end -->"


def write_report(study: Study, ledger: Ledger, place: Place) -> str:
    """Write tables and pictures into the study's folder; return what a terminal shows."""
    tables = sections(study, ledger)
    place.folder.mkdir(parents=True, exist_ok=True)
    drawn = [*draw(study, ledger, place.folder), *draw_neighbours(study, ledger, place, place.folder)]
    text = "\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items())
    links = "".join(f"\n![{path.stem}]({path.name})\n" for path in drawn)
    write_text(place.folder / REPORT, f"# {study.name}\n\n{text}\n{links}")
    where = "\n".join(str(path) for path in (place.folder / REPORT, *drawn))
    return "\n\n".join([*(f"{name}\n{table}" for name, table in tables.items()), where])


def update_document(path: Path, study: Study, ledger: Ledger) -> None:
    """Make a study's tables within a Markdown file anew.

    Raises:
        StudyError: the file can't be read, or as `with_tables`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{path} can't be read: {error.strerror}") from error
    write_text(path, with_tables(text, study, ledger))


def with_tables(text: str, study: Study, ledger: Ledger) -> str:
    """A document with its tables made anew.

    A table stands between `<!-- STUDY: SECTION -->` and `<!-- end -->`, each on a line of its own.

    Raises:
        StudyError: a table is not closed, or the lines don't suffice for it.
    """
    tables, lines, found = sections(study, ledger), text.splitlines(), []
    number = 0
    while number < len(lines):
        line = lines[number]
        found.append(line)
        number += 1
        if line.startswith(start := f"<!-- {study.name}: ") and line.endswith(" -->"):
            section = line.removeprefix(start).removesuffix(" -->")
            if section not in tables:
                raise StudyError(f"{ledger.path} has no lines for the table {section!r} of {study.name}")
            if END not in lines[number:]:
                raise StudyError(f"the table {section!r} must end with {END}")
            number = lines.index(END, number) + 1
            found += [tables[section], END]
    return "\n".join(found) + "\n"
