r"""Tokens of an answer: plain text, LaTeX and code-like notation in one form.

:func:`tokenize` removes formatting (``\left``, ``\text{...}``, ``\color{red}``, ``$``, spaces) and
joins the digits of a number whatever separates its thousands. The time is linear.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from autotts_gym.answers.characters import unify_characters
from autotts_gym.answers.word_sets import word_set

Kind = Literal["number", "word", "command", "sign"]


@dataclass(frozen=True, slots=True)
class Token:
    r"""A token.

    Attributes:
        kind: ``number`` (digits with at most one point), ``word`` (ASCII or other letters),
            ``command`` (with its backslash), or ``sign`` (one or two other characters).
        text: its characters.
        spaced: whether space stands before it.
        prose: whether it stands in ``\text{...}`` or a similar command.
    """

    kind: Kind
    text: str
    spaced: bool = False
    prose: bool = False


#: Commands without meaning.
_INVISIBLE: Final = word_set(
    r"""\left \right \middle \big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr \biggl \biggr \Biggl
    \Biggr \displaystyle \textstyle \scriptstyle \limits \nolimits \rm \bf \it \tt \sf \cal
    \large \Large \small \normalsize \mathstrut \strut \! \( \) \[ \] \, \; \: \quad \qquad
    \space \/ \thinspace \medspace \thickspace \enspace \hfill \centering \bfseries \itshape
    \null \par \noindent \unicode \>"""
) | {"\\ "}
#: Invisible commands that separate like a space.
_SPACES: Final = frozenset(
    (
        *(r"\,", r"\;", r"\:", r"\quad", r"\qquad", r"\space", "\\ ", "\\>", r"\thinspace"),
        *(r"\medspace", r"\thickspace", r"\enspace", r"\par"),
    )
)
#: Commands whose argument is prose or a unit.
_PROSE: Final = word_set(
    r"""\text \textbf \textit \textrm \textsf \texttt \textsc \textup \textnormal \mbox \hbox \emph
    \mathrm \operatorname \mathsf \mathtt \underline \textmd \textsl \unit"""
)
#: Commands that are replaced by their argument.
_WRAPPERS: Final = word_set(
    r"""\mathbf \mathit \bm \boldsymbol \boxed \fbox \mathnormal \ensuremath \mathord \mathop
    \mathbin \mathrel \mathopen \mathclose \mathpunct \mathinner \pmb \cancel \hspace
    \smash \num"""
)
#: Commands with an argument that is dropped.
_DROPPED: Final = frozenset(
    (r"\color", r"\textcolor", r"\colorbox", r"\hspace", r"\vspace", r"\label", r"\phantom")
)
_SPELLINGS: Final = {
    **dict.fromkeys((r"\dfrac", r"\tfrac", r"\cfrac", r"\nicefrac", r"\sfrac"), r"\frac"),
    **dict.fromkeys((r"\dbinom", r"\tbinom"), r"\binom"),
    **dict.fromkeys((r"\leq", r"\leqslant", r"\leqq"), r"\le"),
    **dict.fromkeys((r"\geq", r"\geqslant", r"\geqq"), r"\ge"),
    **dict.fromkeys((r"\neq", r"\not="), r"\ne"),
    **dict.fromkeys((r"\simeq", r"\cong", r"\thickapprox", r"\doteq"), r"\approx"),
    **dict.fromkeys((r"\varnothing", r"\O"), r"\emptyset"),
    **dict.fromkeys((r"\dots", r"\cdots", r"\dotsc", r"\dotsb", r"\vdots"), r"\ldots"),
    **dict.fromkeys((r"\ast", r"\cdot", r"\times", r"\bullet"), "*"),
    **dict.fromkeys((r"\lbrace",), r"\{"),
    **dict.fromkeys((r"\rbrace",), r"\}"),
    **dict.fromkeys((r"\lvert", r"\rvert", r"\vert", r"\mid"), "|"),
    **dict.fromkeys((r"\langle",), "("),
    **dict.fromkeys((r"\rangle",), ")"),
    **dict.fromkeys((r"\lbrack",), "["),
    **dict.fromkeys((r"\rbrack",), "]"),
    **dict.fromkeys((r"\smallsetminus", r"\backslash"), r"\setminus"),
    **dict.fromkeys((r"\varepsilon",), r"\epsilon"),
    **dict.fromkeys((r"\varphi",), r"\phi"),
    **dict.fromkeys((r"\vartheta",), r"\theta"),
    **dict.fromkeys((r"\gets", r"\rightarrow", r"\longrightarrow"), r"\to"),
    **dict.fromkeys((r"\implies", r"\Longrightarrow"), r"\Rightarrow"),
    **dict.fromkeys((r"\bar", r"\overbar"), r"\overline"),
    r"\%": "%",
    r"\&": "&",
    r"\#": "#",
    r"\_": "_",
    r"\lt": "<",
    r"\gt": ">",
    r"\colon": ":",
    r"\degree": r"\circ",
    r"\degrees": r"\circ",
    r"\div": "/",
    r"\slash": "/",
    r"\euro": "€",
    r"\pounds": "£",
    r"\yen": "¥",
    r"\lor": r"\or",
    r"\vee": r"\or",
    r"\land": r"\and",
    r"\wedge": r"\and",
    r"\arctan": r"\arctan",
    r"\mathds": r"\mathbb",
    r"\Bbb": r"\mathbb",
    r"\infin": r"\infty",
    r"\prime": "'",
    "**": "^",
    "<=": r"\le",
    ">=": r"\ge",
    "!=": r"\ne",
    "==": "=",
    "=<": r"\le",
}
_TOKEN: Final = re.compile(
    r"\\[A-Za-z]+|\\.|\s+|(?<![0-9.])0(?:[xX][0-9A-Fa-f]+|b[01]+)(?![0-9A-Za-z])"
    r"|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[^\W\d_]+|\*\*|<=|>=|==|=<|!=|.",
    re.DOTALL,
)
# Separators that only numbers have, before exactly three digits.
_THIN: Final = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,;: !]|\{\\[,;: !]\}|~|')+(?=[0-9]{3}(?![0-9]))")
_GROUPED: Final = re.compile(r"(?<![0-9.,_^])([0-9]{1,3})((?: [0-9]{3})+|(?:_[0-9]{3})+)(?![0-9_])")
_POINTS: Final = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:\.[0-9]{3}){2,}(?![0-9.])")
_COMMAS: Final = re.compile(
    r"(?<![0-9.,])(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3})(?![0-9]|,[0-9])"
)
_DOUBLED: Final = re.compile(r"\\{2,4}(?=[A-Za-z])")
_TEMPERATURE: Final = re.compile(
    r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?\s*(?:\\[;,: ])*\s*(?:\\(?:mathrm|text)\{\s*)?([CF])\b\}?"
)
# The delimiters of a formula are no brackets; \\[2pt] in a matrix is a line break.
_FORMULA: Final = re.compile(r"(?<!\\)\\[()\[\]]")
_NUMBER_SETS: Final = re.compile(r"\\mathbf\s*\{([RZNQC])\}")
_DELIMITER: Final = re.compile(r"(?<!\\)\$\$?")


def tokenize(answer: str) -> list[Token]:
    """The tokens of an answer, without formatting."""
    text = unify_characters(answer)
    if r"\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    text = text.replace(r"\!", "").replace("\x00", " ")
    text = _FORMULA.sub(" ", text)
    text = _TEMPERATURE.sub(r" \\text{deg\1}", text)
    text = _NUMBER_SETS.sub(r"\\mathbb{\1}", text)
    text = _mark_currency(text)
    text = _THIN.sub("", text).replace("{,}", ",")
    text = _GROUPED.sub(lambda m: m[1] + re.sub("[ _]", "", m[2]), text)
    text = _POINTS.sub(lambda m: m[0].replace(".", ""), text)
    text = _join_commas(text)
    return _remove_formatting(_TOKEN.findall(text))


def _mark_currency(text: str) -> str:
    r"""Write dollars as ``\$``, and remove the delimiters of formulas."""
    signs = list(_DELIMITER.finditer(text))
    if not signs:
        return text
    money = [bool(re.match(r"\s?-?\.?[0-9]", text[m.end() : m.end() + 4])) for m in signs]
    if all(money) or (len(signs) % 2 and money[0]):
        count = len(signs) if all(money) else 1
        pieces, at = [], 0
        for number, sign in enumerate(signs):
            pieces += [text[at : sign.start()], r"\$" if number < count else " "]
            at = sign.end()
        return "".join([*pieces, text[at:]])
    return _DELIMITER.sub(" ", text)


def _join_commas(text: str) -> str:
    """Remove the commas of thousands, outside of brackets, where commas separate elements."""
    if "," not in text:
        return text
    pieces, at, depth = [], 0, 0
    for match in re.finditer(r"[()\[\]]|\\[{}]|[0-9][0-9,.]*", text):
        found = match[0]
        if found[0].isdigit():
            if not depth and "," in found:
                pieces += [
                    text[at : match.start()],
                    _COMMAS.sub(lambda m: m[0].replace(",", ""), found),
                ]
                at = match.end()
        else:
            depth += 1 if found[-1] in "([{" else -1
    return "".join([*pieces, text[at:]])


def _remove_formatting(raw: list[str]) -> list[Token]:
    tokens: list[Token] = []
    removed: list[str] = []  # what each open brace belongs to
    pending = ""  # the command whose argument may follow
    spaced = False
    prose = dropping = 0
    for at, piece in enumerate(raw):
        if piece.isspace() or piece == "~" or piece in _SPACES:
            # A tilde before a number means "about".
            spaced = True
            continue
        if piece == "{":
            removed.append(pending or "{")
            if pending:
                prose += pending == "prose"
                dropping += pending == "dropped"
                spaced = spaced or pending == "prose"
            elif not dropping:
                tokens.append(Token("sign", "{", spaced))
            pending = ""
            continue
        if piece == "}":
            kind = removed.pop() if removed else "{"
            prose -= kind == "prose"
            dropping -= kind == "dropped"
            if kind == "{" and not dropping:
                tokens.append(Token("sign", "}", spaced))
            spaced = kind != "{" or spaced
            continue
        if piece in _PROSE:
            pending = "prose"
            continue
        if piece in _DROPPED:
            pending = "dropped"
            continue
        if piece in _WRAPPERS:
            pending = "wrapper"
            continue
        pending = ""
        if dropping:
            continue
        if piece in _INVISIBLE:
            if piece in (r"\left", r"\right") and raw[at + 1 : at + 2] == ["."]:
                raw[at + 1] = " "
            elif piece in (r"\left", r"\right") and raw[at + 1 : at + 2]:
                follower = raw[at + 1]
                if re.fullmatch(r"\.[0-9]+", follower):
                    raw[at + 1] = follower[1:]
            continue
        piece = _SPELLINGS.get(piece, piece)
        tokens.append(Token(_kind(piece), piece, spaced, prose > 0))
        spaced = False
    return tokens


def _kind(piece: str) -> Kind:
    if piece[0].isdigit() or (piece[0] == "." and len(piece) > 1):
        return "number"
    if piece[0] == "\\":
        return "command"
    return "word" if piece[0].isalpha() else "sign"


def join(tokens: Sequence[Token]) -> str:
    """One spelling of tokens: equal tokens give equal text, and spaces only keep words apart."""
    pieces: list[str] = []
    for token in tokens:
        last = pieces[-1][-1:] if pieces else ""
        first = token.text[0]
        letters = last.isalpha() and first.isalpha()
        if letters or (last.isalnum() and first.isalnum() and (token.spaced or last.isdigit())):
            pieces.append(" ")
        pieces.append(token.text)
    return "".join(pieces)
