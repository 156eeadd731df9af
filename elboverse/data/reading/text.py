"""From the bytes of a text file to its lines: compression, encoding, comments, blank lines, what editors leave."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from elboverse.data.reading.findings import Finding
from elboverse.data.reading.limits import MAXIMUM_BYTES
from elboverse.errors import DataError

__all__ = ["COMMENT", "Text", "decompressed", "read_text"]

COMMENT: Final = ("#", "%", "//")
"""How a line of comment begins."""

_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_BLANK: Final = re.compile(r"(?m)^[ \t\r\f\v]*\n")
_COMMENT_LINE: Final = re.compile(r"(?m)^[ \t]*(?:#(?![\w/!?]+[!?]?[,;\t])|%|//).*\n?")
_DAMAGED: Final = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError)


@attrs.define
class Text:
    """The text of a file.

    Args:
        content: with line feeds between lines.
        findings: what was taken for what.
    """

    content: str
    findings: list[Finding]

    def rows(self, separator: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the line in the file, from 1, and the cells of each row that is neither blank nor comment."""
        stream = io.StringIO(self.content, newline="")
        if separator == " ":
            for number, line in enumerate(stream, 1):
                if line.strip() and not is_comment(line):
                    yield number, next(csv.reader([line.strip()], delimiter=" ", skipinitialspace=True))
            return
        numbers = [0]

        def lines() -> Iterator[str]:
            inside = False
            for number, line in enumerate(stream, 1):
                # An odd number of quotation marks opens or closes a cell that goes over several lines.
                if not inside and (not line.strip() or is_comment(line)):
                    continue
                inside ^= line.count('"') % 2 == 1
                numbers[0] = number
                yield line

        for cells in csv.reader(lines(), delimiter=separator, skipinitialspace=separator != "\t"):
            yield numbers[0], cells


def is_comment(line: str) -> bool:
    """Return whether a line is a comment: an error of a spreadsheet, such as ``#DIV/0!``, begins none."""
    return _COMMENT_LINE.match(line) is not None


def read_text(path: Path) -> Text:
    """Return the text of a file, whatever it is compressed with and encoded in.

    Raises:
        DataError: it is not text, or damaged.
    """
    findings: list[Finding] = []
    content = decompressed(path, findings)
    bom = next(((mark, name) for mark, name in _BOMS if content.startswith(mark)), None)
    encoding = bom[1] if bom else ""
    if not encoding and len(content) > 3 and 0 in content[:4]:
        encoding = "utf-16-le" if content[1] == 0 else "utf-16-be" if content[0] == 0 else ""
    if encoding.startswith("utf-16"):
        findings.append(Finding("encoding", "the text is encoded in UTF-16"))
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding:
            raise DataError(f"{path}: damaged: it is marked as {encoding}, but is not ({error.reason})") from error
        text = content.decode("cp1252", errors="replace")
        findings.append(
            Finding(
                "encoding", "the text is not UTF-8; it was read in the Western code page 1252, which changes names only"
            )
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\x1a\n")
    # Editors and interrupted copies leave zero bytes behind the last line.
    trimmed = text.rstrip("\0\x1a\n \t") if text.endswith("\0") else text
    if "\0" in trimmed:
        line = trimmed.count("\n", 0, trimmed.index("\0")) + 1
        raise DataError(f"{path}: line {line}: got a zero byte; expected text, so the file is damaged or no text")
    if trimmed is not text:
        findings.append(Finding("damage", f"{len(text) - len(trimmed)} zero bytes at the end of the file are left out"))
    return Text(trimmed + "\n", findings)


def decompressed(path: Path, findings: list[Finding]) -> bytes:
    """Return the bytes of a file, unpacked if it is a gzip, bzip2, xz or zip file of one member; told by its content.

    Raises:
        DataError: it is damaged, or unpacks to more than `MAXIMUM_BYTES`.
    """
    with path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        packed: gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile
        try:
            if head.startswith(b"PK\x03\x04"):
                return _unzipped(path, findings)
            if head.startswith(b"\x1f\x8b"):
                name = "gzip"
                packed = gzip.GzipFile(fileobj=file)
            elif head.startswith(b"BZh"):
                name = "bzip2"
                packed = bz2.BZ2File(file)
            elif head.startswith(b"\xfd7zXZ\0"):
                name = "xz"
                packed = lzma.LZMAFile(file)  # noqa: SIM115 - closed with the file
            else:
                return file.read()
            content: bytes = packed.read(MAXIMUM_BYTES + 1)
        except _DAMAGED as error:
            raise DataError(f"{path}: damaged: it cannot be unpacked: {error}") from error
    if len(content) > MAXIMUM_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAXIMUM_BYTES:,} bytes, which is the most that is read")
    findings.append(Finding("compression", f"the file is packed with {name}"))
    return content


def _unzipped(path: Path, findings: list[Finding]) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = [
            member
            for member in archive.infolist()
            if not member.is_dir() and "__MACOSX" not in member.filename and not member.filename.startswith(".")
        ]
        if len(members) != 1:
            raise DataError(
                f"{path}: got a zip of {len(members)} files; expected one table in it; unpack it, or name a folder of "
                "images as dataset image-folder"
            )
        if members[0].file_size > MAXIMUM_BYTES:
            raise DataError(f"{path}: unpacks to more than {MAXIMUM_BYTES:,} bytes, which is the most that is read")
        findings.append(Finding("compression", f"the table is {members[0].filename!r} inside a zip"))
        content = archive.read(members[0])
    if b"\0" in content[:512] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: got {members[0].filename!r} inside a zip, which is not text; unpack it first")
    return content


def without_comments(text: str) -> str:
    """Return a text without its blank lines and lines of comment."""
    text = _BLANK.sub("", text)
    return _COMMENT_LINE.sub("", text) if any(mark in text for mark in COMMENT) else text
