"""National identity and tax numbers, checked by python-stdnum, where the words around them name one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

from tunesmith.data.audit.spans import Span

# A number of eleven digits is valid by chance in one case out of ten or so: a word for it must stand near.
CONTEXT_CHARACTERS = 60


@dataclass(frozen=True)
class NationalId:
    """One kind of number: its shape, the module of python-stdnum that checks it, and words that name it."""

    module: str
    shape: str
    words: str


_ANY = r"national id|identity (?:card )?(?:no|number)|id (?:card )?(?:no|number)"
_ANY += r"|tax (?:id|no|number)|personal number"
_IDS = (
    NationalId("us.ssn", r"\d{3}[ -]?\d{2}[ -]?\d{4}", r"ssn|social security"),
    NationalId("us.itin", r"9\d{2}[ -]?\d{2}[ -]?\d{4}", r"itin|taxpayer identification"),
    NationalId("gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", r"nhs"),
    NationalId("ca.sin", r"\d{3}[ -]?\d{3}[ -]?\d{3}", r"sin|social insurance"),
    NationalId("au.tfn", r"\d{3} ?\d{3} ?\d{2,3}", r"tfn|tax file"),
    NationalId("ie.pps", r"\d{7}[A-W][A-IW]?", r"pps|ppsn|personal public service"),
    NationalId(
        "de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", r"steuer-?id\w*|steuerliche identifik\w+|idnr|tax id"
    ),
    NationalId(
        "fr.nir",
        r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}",
        r"nir|insee|sécurité sociale|social security",
    ),
    NationalId("es.dni", r"\d{8}[ -]?[A-Z]", r"dni|nif|documento nacional"),
    NationalId("es.nie", r"[XYZ][ -]?\d{7}[ -]?[A-Z]", r"nie|extranjero"),
    NationalId(
        "it.codicefiscale",
        r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]",
        r"codice fiscale|c\.f\.|fiscal code|tax code",
    ),
    NationalId("nl.bsn", r"\d{4}[. ]?\d{2}[. ]?\d{3}", r"bsn|burgerservicenummer"),
    NationalId(
        "be.nn",
        r"\d{2}\.?\d{2}\.?\d{2}-?\d{3}\.?\d{2}",
        r"rijksregister\w*|registre national|national register",
    ),
    NationalId("pl.pesel", r"\d{11}", r"pesel"),
    NationalId("se.personnummer", r"(?:\d{2})?\d{6}[-+]?\d{4}", r"personnummer"),
    NationalId("no.fodselsnummer", r"\d{6} ?\d{5}", r"fødselsnummer|fodselsnummer|personnummer"),
    NationalId("dk.cpr", r"\d{6}-?\d{4}", r"cpr"),
    NationalId("fi.hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]", r"hetu|henkilötunnus"),
    NationalId("ch.ssn", r"756\.?\d{4}\.?\d{4}\.?\d{2}", r"ahv\w*|avs|social security"),
    NationalId("pt.cc", r"\d{8} ?\d ?[A-Z0-9]{2} ?\d", r"cartão de cidadão|cc"),
    NationalId("br.cpf", r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}", r"cpf"),
    NationalId("mx.curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d", r"curp"),
    NationalId("in_.aadhaar", r"\d{4}[ -]?\d{4}[ -]?\d{4}", r"aadhaar|aadhar|uidai"),
    NationalId("in_.pan", r"[A-Z]{5}\d{4}[A-Z]", r"pan|permanent account"),
    NationalId("cn.ric", r"\d{17}[0-9X]", r"身份证|resident identity|ric"),
    NationalId("kr.rrn", r"\d{6}-?\d{7}", r"주민등록번호|rrn|resident registration"),
    NationalId("za.idnr", r"\d{13}", r"id number|identity number"),
)
_WORDS = re.compile(rf"(?<!\w)(?:{_ANY}|{'|'.join(kind.words for kind in _IDS)})(?!\w)", re.I)
_CONTEXTS = [re.compile(rf"(?<!\w)(?:{_ANY}|{kind.words})(?!\w)", re.I) for kind in _IDS]
_SHAPES = [re.compile(rf"(?<![\w-])(?:{kind.shape})(?![\w-])") for kind in _IDS]
FEWEST_DIGITS = 6
_FEWER_DIGITS = re.compile(r"[A-Z]{5}\d{4}[A-Z]")  # India's PAN
_CHECKS: dict[str, Callable[[str], bool]] = {}


def national_id_spans(text: str, digits: int) -> Iterator[Span]:
    """Valid national numbers with a word that names such a number at most 60 characters before them.

    ``digits`` is how many the text has: with fewer than six it is searched for the one shape that has fewer.
    """
    if digits < FEWEST_DIGITS and _FEWER_DIGITS.search(text) is None:
        return
    if _WORDS.search(text) is None:
        return
    for kind, shape, context in zip(_IDS, _SHAPES, _CONTEXTS, strict=True):
        for match in shape.finditer(text):
            before = text[max(0, match.start() - CONTEXT_CHARACTERS) : match.start()]
            if context.search(before) and _is_valid(kind.module, match[0]):
                yield Span("NATIONAL_ID", match.start(), match.end(), match[0])


def _is_valid(module: str, number: str) -> bool:
    if module not in _CHECKS:
        _CHECKS[module] = import_module(f"stdnum.{module}").is_valid
    return bool(_CHECKS[module](number))
