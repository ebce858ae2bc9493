"""The labels of a book, in the language of its story if it is available, otherwise in English."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BookLabels", "direction_of", "labels_for"]

RIGHT_TO_LEFT = frozenset({"ar", "ckb", "dv", "fa", "he", "ks", "ps", "sd", "ug", "ur", "yi"})
RIGHT_TO_LEFT_SCRIPTS = frozenset({"adlm", "arab", "hebr", "nkoo", "syrc", "thaa"})


@dataclass(frozen=True, slots=True)
class BookLabels:
    """The labels of a book; {} is filled in.

    Attributes:
        language: Language of the labels, as a BCP 47 tag.
        about: Heading of the last page.
        written_by: Label of the reasoner's name, {}.
        drawn_by: Label of the generator's name, {}.
        style: Label of the pictures' style, {}.
        details: Heading of the collapsed details.
        seed: Label of the pictures' seed, {}.
        pictures: Label of the pictures' ids, {}.
        replay: Label of the command that redraws the pictures.
        missing: Note in place of a missing picture.
        untold: Note in place of a missing text.
        unfinished: Note that the story is not finished.
        untitled: Title of a story without one.
    """

    language: str
    about: str
    written_by: str
    drawn_by: str
    style: str
    details: str
    seed: str
    pictures: str
    replay: str
    missing: str
    untold: str
    unfinished: str
    untitled: str


WORDS = (
    BookLabels(
        "en",
        "About this book",
        "Written by {}",
        "Drawn by {}",
        "Style: {}",
        "Details",
        "Seed: {}",
        "Pictures: {}",
        "Every picture can be drawn again:",
        "This picture is not drawn yet.",
        "This page is not written yet.",
        "This story is not finished yet.",
        "Untitled",
    ),
    BookLabels(
        "de",
        "Über dieses Buch",
        "Geschrieben von {}",
        "Gezeichnet von {}",
        "Stil: {}",
        "Einzelheiten",
        "Startwert: {}",
        "Bilder: {}",
        "Jedes Bild lässt sich noch einmal zeichnen:",
        "Dieses Bild ist noch nicht gezeichnet.",
        "Diese Seite ist noch nicht geschrieben.",
        "Diese Geschichte ist noch nicht zu Ende.",
        "Ohne Titel",
    ),
    BookLabels(
        "es",
        "Sobre este libro",
        "Escrito por {}",
        "Dibujado por {}",
        "Estilo: {}",
        "Detalles",
        "Semilla: {}",
        "Imágenes: {}",
        "Cada imagen puede volver a dibujarse:",
        "Esta imagen aún no está dibujada.",
        "Esta página aún no está escrita.",
        "Este cuento aún no ha terminado.",
        "Sin título",
    ),
    BookLabels(
        "fr",
        "À propos de ce livre",
        "Écrit par {}",
        "Dessiné par {}",
        "Style : {}",
        "Détails",
        "Graine : {}",
        "Images : {}",
        "Chaque image peut être redessinée :",
        "Cette image n’est pas encore dessinée.",
        "Cette page n’est pas encore écrite.",
        "Cette histoire n’est pas encore finie.",
        "Sans titre",
    ),
    BookLabels(
        "it",
        "Su questo libro",
        "Scritto da {}",
        "Disegnato da {}",
        "Stile: {}",
        "Dettagli",
        "Seme: {}",
        "Immagini: {}",
        "Ogni immagine può essere disegnata di nuovo:",
        "Questa immagine non è ancora disegnata.",
        "Questa pagina non è ancora scritta.",
        "Questa storia non è ancora finita.",
        "Senza titolo",
    ),
    BookLabels(
        "nl",
        "Over dit boek",
        "Geschreven door {}",
        "Getekend door {}",
        "Stijl: {}",
        "Details",
        "Startwaarde: {}",
        "Plaatjes: {}",
        "Elk plaatje kan opnieuw worden getekend:",
        "Dit plaatje is nog niet getekend.",
        "Deze bladzijde is nog niet geschreven.",
        "Dit verhaal is nog niet af.",
        "Zonder titel",
    ),
    BookLabels(
        "pt",
        "Sobre este livro",
        "Escrito por {}",
        "Desenhado por {}",
        "Estilo: {}",
        "Detalhes",
        "Semente: {}",
        "Imagens: {}",
        "Cada imagem pode ser desenhada de novo:",
        "Esta imagem ainda não foi desenhada.",
        "Esta página ainda não foi escrita.",
        "Esta história ainda não terminou.",
        "Sem título",
    ),
)


def labels_for(language: str) -> BookLabels:
    """Return the labels for a language.

    Args:
        language: A BCP 47 tag; its first part counts.

    Examples:
        >>> labels_for("pt-BR").untitled, labels_for("xx").language
        ('Sem título', 'en')
    """
    first = language.lower().partition("-")[0]
    return next((words for words in WORDS if words.language == first), WORDS[0])


def direction_of(language: str) -> str:
    """Return `rtl` or `ltr`, the writing direction of a language.

    Args:
        language: A BCP 47 tag; its script takes precedence over its language.

    Examples:
        >>> direction_of("he-IL"), direction_of("az-Arab"), direction_of("ar-Latn"), direction_of("de")
        ('rtl', 'rtl', 'ltr', 'ltr')
    """
    first, *rest = language.lower().split("-")
    script = next((part for part in rest if len(part) == 4 and part.isalpha()), None)
    is_rtl = script in RIGHT_TO_LEFT_SCRIPTS if script else first in RIGHT_TO_LEFT
    return "rtl" if is_rtl else "ltr"
