"""Text, PDF and DOCX documents with the labels beside them."""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.look import look
from tunesmith.data.places import files_behind
from tunesmith.data.sources import Source, SourceSpec, read_source
from tunesmith.errors import UserError


def write_pdf(path: Path, *pages: str) -> None:
    """A PDF as its specification (ISO 32000) describes a minimal one: a line of text on each page."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, text in enumerate(pages):
        content = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET"
        page = f"/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents {5 + 2 * number} 0 R"
        objects.append(f"<</Type/Page/Parent 2 0 R{page}>>")
        objects.append(f"<</Length {len(content)}>>stream\n{content}\nendstream")
    out, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj{one}endobj\n".encode()
    xref = "".join(f"{place:010} 00000 n \n" for place in places)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{xref}".encode()
    trailer = f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{out.index(b'xref')}\n%%EOF"
    path.write_bytes(out + trailer.encode())


def write_docx(path: Path, *paragraphs: str) -> None:
    import docx

    document = docx.Document()
    for text in paragraphs:
        document.add_paragraph(text)
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    document.save(str(path))


def write_documents(folder: Path, number: int = 105) -> Path:
    """Text, PDF and DOCX in turn."""
    folder.mkdir()
    for n in range(number):
        text = f"This is document {n} about a {'loan' if n % 2 else 'card'}"
        if n % 15 == 1:
            write_pdf(folder / f"{n:03}.pdf", text, "second page")
        elif n % 15 == 2:
            write_docx(folder / f"{n:03}.docx", text)
        else:
            (folder / f"{n:03}.txt").write_text(text)
    return folder


def documents(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in (".txt", ".pdf", ".docx"))


def label_table(folder: Path) -> None:
    lines = [f"{file.name},{'ab'[n % 2]},{2000 + n}\n" for n, file in enumerate(documents(folder))]
    (folder / "labels.csv").write_text("file,kind,year\n" + "".join(lines))


def read(path: Path, **other: Any) -> Source:
    spec = SourceSpec(None, (str(path),), None, "text", "kind", None, None, None, None, **other)
    return read_source(spec, Path("unused"))


def test_all_kinds_of_documents_are_read_with_the_labels_of_a_table(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs")
    label_table(folder)
    found = read(folder, fields=("year", "file"))
    assert len(found.rows) == 105
    assert found.rows[0].source == "000.txt"
    assert found.rows[1].text == "This is document 1 about a loan\n\nsecond page"
    assert found.rows[2].text == "This is document 2 about a card\n\nleft\tright"
    assert (found.rows[1].target, found.rows[1].fields) == ("b", (("file", "001.pdf"), ("year", "2001")))
    assert "docs: read as 105 documents (docx, pdf, text), labels from labels.csv" in found.notes
    seen = look(folder)
    assert (seen.format, seen.input, seen.target) == ("documents", "text", "kind")


def test_a_json_object_of_the_same_name_labels_a_document(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs")
    for n, file in enumerate(documents(folder)):
        file.with_suffix(".json").write_text(json.dumps({"kind": "ab"[n % 2]}))
    found = read(folder)
    assert [row.target for row in found.rows[:3]] == ["a", "b", "a"]
    assert "labels from 105 JSON files of the same names" in found.notes[1]
    before = found.files[0].sha256
    (folder / "007.json").write_text('{"kind": "c"}')
    assert read(folder).files[0].sha256 != before
    assert folder / "007.json" in files_behind(str(folder / "*.txt"))


def test_every_document_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs")
    label_table(folder)
    lines = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join([lines[0], *lines[11:]]))
    (folder / "020.txt").write_text("  \n")
    (folder / "021.txt").write_bytes(b"a\0b")
    (folder / "016.pdf").write_bytes(b"%PDF-1.4 and no more")
    (folder / "017.docx").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError) as caught:
        read(folder)
    assert caught.value.what.startswith("000.txt: a document without a label; 14 of 105 rows")
    assert "009.txt, 016.pdf, 017.docx, 020.txt, 021.txt" in caught.value.what


def test_a_label_for_a_document_that_is_not_there_is_told(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs", 3)
    (folder / "labels.csv").write_text("file,kind\n000.txt,a\n0000.txt,b\n")
    with pytest.raises(UserError, match=r"labels\.csv:3: '0000\.txt': no such document beside it"):
        read(folder)
    (folder / "labels.csv").write_text("file,kind\n000.txt,a\n000.txt,b\n")
    with pytest.raises(UserError, match=r"labels\.csv:3: '000\.txt': labelled twice"):
        read(folder)
    (folder / "labels.csv").write_text("name,kind\n000.txt,a\n")
    with pytest.raises(UserError, match=r"no column 'file' \(found: name, kind\)"):
        read(folder)


def test_tables_and_documents_in_one_folder_are_not_guessed_at(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs", 3)
    (folder / "tickets.csv").write_text("text,kind\na,b\n")
    with pytest.raises(UserError, match=r"mixes tables \(tickets\.csv\) with documents \(000\.txt, "):
        read(folder)


def test_a_broken_side_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")
    (tmp_path / "a.json").write_text("{broken")
    with pytest.raises(UserError, match=r"a\.json: the label of a\.txt is not readable JSON"):
        read(tmp_path / "a.txt")


def test_without_the_extra_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pdf(tmp_path / "a.pdf", "text")
    write_docx(tmp_path / "b.docx", "text")
    monkeypatch.setitem(sys.modules, "pypdf", None)
    monkeypatch.setitem(sys.modules, "docx", None)
    for name in ("a.pdf", "b.docx"):
        with pytest.raises(UserError, match="is not installed") as caught:
            read(tmp_path / name)
        assert caught.value.fix == 'pip install "tunesmith[documents]"'


def test_a_docx_that_unpacks_too_far_is_refused(tmp_path: Path) -> None:
    write_docx(tmp_path / "a.docx", "text")
    with (
        zipfile.ZipFile(tmp_path / "a.docx", "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("word/media/big.bin", "w") as part,
    ):
        for _ in range(260):
            part.write(bytes(2**20))
    with pytest.raises(UserError, match="at most 256 MiB are read"):
        read(tmp_path / "a.docx")
