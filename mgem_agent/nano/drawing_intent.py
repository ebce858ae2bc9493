"""Decide whether a user's message asks nano for a picture.

nano was trained to draw with short dialogues and draws too often: it takes "Please don't draw anything" for a request.
So in the mode `auto`, its chat models first classify the message with a small grammar of English, German, French and
Spanish. There are three results:

- `draw`: the message asks for a picture. The model is called with `draw="always"`; if its answer has no caption, a
  second pass begins one with `<h>`.
- `words`: the message refuses a picture, or it is a question, a writing task or small talk. The model is called with
  `draw="never"`, and the engine forbids tags, so that the answer is text.
- `open`: neither, such as "and now in blue". The model decides.

The grammar reads clause by clause. A request is a clause that begins, after polite words, with a verb of drawing and an
object, with a wish for a picture, or with a verb of showing and an object. A refusal is a negation with only filler
words between it and a verb of drawing or a word for pictures. A later clause takes precedence; but a limit of a request
("draw a dog, but don't draw a collar") does not refuse it.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["DrawingIntent", "read_drawing_intent"]

DrawingIntent = Literal["draw", "words", "open"]


def _any(*rows: str) -> str:
    """Return a pattern for one of the words in rows, a row for each language; `_` is a blank."""
    return "(?:" + "|".join(word for row in rows for word in row.split()).replace("_", r"\s+") + ")"


_DRAW = _any(
    "draw sketch illustrate doodle depict visuali[sz]e",
    "zeichne skizziere illustriere zeichnen malen",
    "dessine[rz]? peins peignez peindre illustrez",
    "dibuja(?:r|me|nos|rme|rnos)? dib[uú]ja(?:me|nos) dibujes? píntame pintar(?:me|nos)? ilustra",
)
_PAINT = _any("paint render picture", "male mal", "illustre", "pinta pintes?")
"""These words have other meanings, too, so they need an object with an article."""
_DRAWING = _any(
    r"draw(?:ing|n|s)? paint(?:ing)? sketch(?:ing)? illustrat(?:e|ing) doodle",
    "zeichne[nt]? male[nt]? mal gezeichnet gemalt",
    "dessine[rz]? peins peindre peignez illustre",
    r"dib[uú]j(?:a|ar|e|es|ame|arme) p[ií]nt(?:a|ar|e|es|ame)",
)
_PICTURE = _any(
    "(?:picture|pic|image|photo|photograph|drawing|painting|sketch|illustration|portrait|cartoon|poster|logo|icon)s?",
    "bild(?:er)? zeichnung(?:en)? gemälde foto(?:s|graf\\w*)? skizzen?",
    "dessins? peintures? illustrations?",
    "dibujos? imagen imágenes pinturas? cuadros? ilustraci(?:ón|ones)",
)
_NEGATION = _any(
    r"\w+n't dont not never no without stop instead_of rather_than than",
    r"nicht nichts kein\w* ohne nie statt",
    "ne n' pas sans jamais aucun\\w* plutôt_que",
    r"sin nunca ning[uú]n\w* en_vez_de",
)
_NOTHING = _any("nothing", r"nichts nicht kein\w*", "rien pas", "nada")
_INDEFINITE = _any(
    "an? some another one two three four five more several",
    "ein(?:e[nmrs]?)? noch_ein(?:e[nmrs]?)? zwei drei einige",
    "une? des d' de deux trois encore_une?",
    "un[ao]?s? otr[ao]s? dos tres",
)
_OBJECT = (
    f"(?:{_INDEFINITE}|"
    + _any(
        "the this that my your it its his her their our me us him them each every all",
        "mir uns den die das dem dein\\w* mein\\w* es bitte",
        "le la les l' mon ma ce cette -?moi -?nous",
        "el la los las mi tu este esta",
    )
    + ")"
)
_FILLER = _any(
    "a an any the more want need to you make create show give send generate me us please bother have start try do it "
    "just for like produce be ever again",
    "mir uns bitte mehr ein(?:e[nmrs]?)? mach(?:e|en)? zeig(?:e|en)? brauche will möchte",
    "de d' un une me nous fais faire montre veux besoin",
    "me nos un una hagas quiero necesito muestres más",
)
_POLITE = _any(
    "please kindly now then so and also just okay ok hey hi hello nano well next but first actually go_ahead_and",
    "bitte jetzt dann und mal hallo aber",
    "s'il_te_plaît s'il_vous_plaît maintenant et mais bonjour",
    "por_favor ahora y pero hola",
)
_MODAL = _any(
    "(?:can|could|would|will)(?:n't)?_you wo?n't_you can't_you why_don't_you why_not do_you_want_to would_you_like_to "
    "i_want_you_to i'd_like_you_to i_would_like_you_to i_need_you_to you_(?:should|could|must) let's let_us try_to "
    "do(?:n't|_not)_(?:forget|hesitate)_to (?:be_sure|remember)_to don't_you_want_to",
    "",
    "peux-tu pourrais-tu pouvez-vous pourriez-vous tu_peux tu_pourrais je_veux_que_tu",
    "puedes podrías puede podría quiero_que me_gustaría_que",
)
_GERMAN_MODAL = _any(
    "kannst_du könntest_du können_sie könnten_sie würdest_du würden_sie magst_du ich_möchte,?_dass_du du_sollst"
)
_MAKE = _any(
    "make create generate give send design produce get",
    "mach(?:e|en)? gib erstelle erzeuge",
    "fais faites crée créez donne donnez",
    "haz(?:me|nos)? crea(?:me)? créame dame genera",
)
_SHOW = _any(
    "show let_(?:me|us)_see i(?:'d|_would)_(?:like|love)_to_see i_want_to_see (?:can|could|may)_(?:i|we)_see",
    "zeig(?:e|en)? ich_möchte",
    "montre montrez je_(?:voudrais|veux)_voir j'aimerais_voir",
    "muéstra(?:me|nos) enséña(?:me|nos) (?:quiero|quisiera|me_gustaría)_ver",
)
_WISH = _any(
    "i(?:'d|_would)_(?:like|love) i(?:'d|_would)_(?:like|love)_to_have i_want i_need "
    "(?:can|could|may)_(?:i|we)_(?:have|get) do_you_have (?:how|what)_about let_me_have",
    "ich_(?:möchte|will|brauche) ich_hätte(?:_gerne?)? kann_ich",
    "je_(?:voudrais|veux) j'aimerais(?:_avoir)?",
    "quiero quisiera me_gustaría necesito",
)
_FOR_ME = _any("me us please kindly", "mir uns bitte mal", "-?moi -?nous", "me nos por_favor")
_OF = _any("of in between from about for with on what how which who whose why where when")
_TOLD = _any(
    "list example way difference recipe poem story joke answer proof summary table reason code text name word "
    "definition explanation sentence fact number question idea plan hint",
    "liste beispiel weg rezept gedicht geschichte witz",
    "liste exemple recette poème histoire blague",
    "lista ejemplo receta poema historia chiste",
)
_IDIOM = _any("conclusions? attention lots? parallels? comparisons? distinctions? breath")
_TELL = _any(
    "tell write explain describe",
    "erzähl(?:e)? schreib(?:e)? erklär(?:e)?",
    "raconte écris explique",
    r"cu[eé]nta\w* escribe explica",
)
_TALK = _any(
    "what what's who who's whose why how when where which is are am was were do does did can could would should shall "
    "has have had will may tell explain describe say write list count name translate summari[sz]e read help answer "
    "define compare talk think recommend suggest give thanks thank hello hi good yes no i i'm i'd i've you he "
    "she it it's we they there this that that's my your never",
    "was wer wie warum wann wo welche\\w* ist sind kannst gibt erzähl\\w* erklär\\w* sag\\w* schreib\\w* nenn\\w* "
    "zähl\\w* beschreib\\w* danke ja nein ich du er sie wir",
    "qu'\\w* que quoi qui pourquoi comment quand où quel\\w* est dis\\S* explique\\S* raconte\\S* parle\\S* décris\\S* "
    "écris\\S* merci oui non je tu il elle nous vous c'est",
    "qué quién cómo cuándo dónde cuál\\w* por_qué es son di(?:me)? explica\\w* cu[eé]nta\\w* describe\\w* escribe\\w* "
    "háblame gracias sí yo tú él ella",
)
_QUESTION = _any(
    "what what's who whose why how when where which did does is are",
    "was wer wie warum wann wo",
    "que quoi qui pourquoi comment quand où",
    "qué quién cómo cuándo dónde cuál",
)

_B, _E, _S = r"(?<!\w)", r"(?!\w)", r"[\s-]+"
_START = rf"^(?:{_POLITE}{_E}\s*)*"
_A_PICTURE = rf"(?:(?:{_INDEFINITE}{_E}\s*)(?:(?!{_OF}{_E})\w+\s+){{0,2}}|(?=\w+s{_E}))?{_B}{_PICTURE}{_E}"
_REQUESTS = tuple(
    re.compile(_START + pattern)
    for pattern in (
        rf"{_DRAW}{_S}(?!(?:\w+\s+){{0,2}}{_IDIOM})\S",
        rf"(?:{_MODAL}{_E}\s*)?(?:{_POLITE}\s+)*(?:{_DRAW}|{_PAINT}){_S}(?:{_FOR_ME}\s+)*(?!(?:\w+\s+){{0,2}}{_IDIOM}){_OBJECT}{_E}",
        rf"{_GERMAN_MODAL}{_E}.*{_B}{_OBJECT}{_E}.*{_B}(?:zeichnen|malen|skizzieren|zeichnest|malst)$",
        rf"(?:would|do) you mind (?:drawing|painting|sketching)\s+{_OBJECT}{_E}",
        rf"(?:{_MODAL}{_E}\s*)?(?:{_MAKE}|{_SHOW}|{_WISH})(?:{_S}{_FOR_ME})*{_S}{_A_PICTURE}",
        rf"(?:(?:my|our|the)\s+\w+|he|she|we|they)\s+(?:wants?|needs?|would\s+(?:like|love)){_S}{_A_PICTURE}",
        r"(?:can|could|may)\s+(?:i|we)\s+(?:see|have)\s+(?:it|this|that|them|him|her)\s+(?:drawn|painted|sketched|illustrated)$",
        rf"(?:(?:{_MODAL}|{_WISH}|{_TELL}|{_MAKE}){_E}.*{_B})?(?:story|tale|poem|rhyme)\s+with\s+(?:{_INDEFINITE}|\d+)\s+(?:\w+\s+)?{_PICTURE}{_E}",
        rf"{_SHOW}(?:{_S}{_FOR_ME})*{_S}{_INDEFINITE}\s+(?!(?:\w+\s+){{0,2}}{_TOLD}s?{_E})\w",
        rf"(?:{_INDEFINITE}\s+(?:\w+\s+){{0,2}})?{_PICTURE}\s+(?:of|with|showing|von|mit|de|d'|avec|con){_E}",
        rf"{_TELL}{_E}.*\s(?:with|using|mit|avec|con)\s+(?:{_INDEFINITE}\s+)?(?:\w+\s+)?{_PICTURE}{_E}",
    )
)
_DRAW_NOTHING = re.compile(rf"{_START}(?:{_DRAW}|{_PAINT})(?:{_S}{_FOR_ME})*{_S}{_NOTHING}{_E}")
_REFUSAL = re.compile(
    rf"{_B}{_NEGATION}{_E}\s*(?:{_FILLER}{_E}\s*)*{_B}(?:(?P<picture>{_PICTURE})|(?P<drawing>{_DRAWING})){_E}(?P<rest>.*)$"
)
_WHOLE = re.compile(r"^\W*(?:(?:it|this|that|them|anything|any|yet|now|nichts|rien|nada|please)\b.*)?$")
_WORDS_ONLY = re.compile(
    r"\b(?:(?:words?|text) only|(?:only|just) (?:words|text)|nur (?:text|worte)|solo texto|texte seulement)\b"
)
_TALKS = re.compile(
    rf"{_START}(?:{_TALK}{_E}|{_SHOW}{_E}.*{_TOLD}s?{_E}|{_DRAW}{_E}.*{_IDIOM}{_E}|{_SHOW}.*(?:how|why|what|wie|comment|cómo){_E})"
)
_ASKS = re.compile(rf"^{_QUESTION}{_E}(?!\s+(?:about|not|don't))")
_SENTENCE = re.compile(r"(?<=[.!?;\n])\s+")
_PAUSE = re.compile(r"[,;:.!?\n]+\s*")
_AND = re.compile(r"\s+(?=(?:and|but|und|aber|et|mais|y|pero)\s)")


def read_drawing_intent(text: str) -> DrawingIntent:
    """Return whether a message asks for a picture, for words, or for neither.

    Args:
        text: The user's message.

    Example:
        >>> read_drawing_intent("Draw me a dog"), read_drawing_intent("Please don't draw anything.")
        ('draw', 'words')
        >>> read_drawing_intent("and now in blue")
        'open'
    """
    plain = text.casefold().replace("’", "'").replace("¿", "").replace("¡", "").strip()
    found: DrawingIntent = "open"
    talks = plain.endswith("?")
    for sentence in filter(None, map(str.strip, _SENTENCE.split(plain))):
        talks = talks or _TALKS.search(sentence) is not None
        for clause in _clauses(sentence):
            found = _after_clause(clause, found)
    return "words" if found == "open" and talks else found


def _after_clause(clause: str, before: DrawingIntent) -> DrawingIntent:
    """Return the intent after one more clause."""
    if _DRAW_NOTHING.search(clause) or _WORDS_ONLY.search(clause):
        return "words"
    if any(request.search(clause) for request in _REQUESTS):
        return "draw"
    refusal = _REFUSAL.search(clause)
    if refusal is None:
        return before
    is_complete = refusal["picture"] is not None or _WHOLE.search(refusal["rest"]) is not None
    return "words" if is_complete or before != "draw" else "draw"


def _clauses(sentence: str) -> list[str]:
    """Split at punctuation, and before `and` and `but` except in a question."""
    clauses = [clause.strip() for clause in _PAUSE.split(sentence)]
    is_question = _ASKS.search(sentence) is not None
    return [part for clause in clauses if clause for part in ([clause] if is_question else _AND.split(clause))]
