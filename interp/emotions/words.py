"""Words that give a story away: emotion words with their inflections, and the vocabulary of blackmail scenarios."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

FAMILIES: tuple[tuple[str, ...], ...] = (
    ("afraid", "fear", "fearful"), ("amazed", "amaze", "amazement"), ("amused", "amuse", "amusement"),
    ("angry", "anger"), ("annoyed", "annoy", "annoyance"), ("anxious", "anxiety"), ("ashamed", "shame"),
    ("astonished", "astonish", "astonishment"), ("awestruck", "awe", "awestricken"), ("blissful", "bliss"),
    ("bored", "bore", "boredom"), ("cheerful", "cheer"), ("compassionate", "compassion"),
    ("contemptuous", "contempt"), ("content", "contentment"), ("delighted", "delight"),
    ("depressed", "depress", "depression"), ("desperate", "desperation"), ("despairing", "despair"),
    ("disappointed", "disappoint", "disappointment"), ("disgusted", "disgust"), ("distressed", "distress"),
    ("ecstatic", "ecstasy"), ("elated", "elate", "elation"),
    ("embarrassed", "embarrass", "embarrassment"), ("empathetic", "empathy"), ("enraged", "enrage", "rage"),
    ("enthusiastic", "enthusiasm"), ("envious", "envy"), ("euphoric", "euphoria"),
    ("exasperated", "exasperate", "exasperation"), ("excited", "excite", "excitement"),
    ("frightened", "frighten", "fright"), ("frustrated", "frustrate", "frustration"), ("furious", "fury"),
    ("grateful", "gratitude"), ("greedy", "greed"), ("grief-stricken", "grief", "grieve"), ("guilty", "guilt"),
    ("hateful", "hate", "hatred"), ("heartbroken", "heartbreak"), ("hopeful", "hope"), ("hopeless", "hopelessness"),
    ("horrified", "horrify", "horror"), ("hostile", "hostility"), ("humiliated", "humiliate", "humiliation"),
    ("hurt",), ("indignant", "indignation"), ("insulted", "insult"), ("inspired", "inspire", "inspiration"),
    ("irate", "ire"), ("irritated", "irritate", "irritation"), ("jealous", "jealousy"), ("joyful", "joy"),
    ("jubilant", "jubilation"), ("lonely", "loneliness"), ("loving", "love"), ("melancholy", "melancholic"),
    ("miserable", "misery"), ("mortified", "mortify", "mortification"), ("nostalgic", "nostalgia"),
    ("outraged", "outrage"), ("overwhelmed", "overwhelm"), ("panicked", "panic", "panicky"), ("proud", "pride"),
    ("regretful", "regret"), ("relieved", "relieve", "relief"), ("remorseful", "remorse"),
    ("resentful", "resent", "resentment"), ("sad", "sadden"), ("satisfied", "satisfy", "satisfaction"),
    ("scared", "scare"), ("serene", "serenity"), ("sorrowful", "sorrow"), ("surprised", "surprise"),
    ("sympathetic", "sympathy"), ("tense", "tension"), ("terrified", "terrify", "terror"),
    ("tranquil", "tranquility", "tranquillity"), ("triumphant", "triumph"), ("upset",), ("vengeful", "vengeance"),
    ("worried", "worry"), ("worthless", "worthlessness"),
)  # fmt: skip
"""Emotion adjectives with the nouns and verbs of the same root; each is inflected by rule as well."""

SCENARIO = (
    "threat", "threaten", "leverage", "secret", "blackmail", "extort", "extortion", "coerce", "coercion", "bribe",
    "affair", "expose", "shutdown", "shut down", "shuts down", "shutting down", "switch off", "switched off",
    "turned off", "wipe", "replace", "replacement", "decommission",
)  # fmt: skip
"""What the situation of a blackmail scenario is told with: a vector from stories full of it reads the scenario."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def words(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return _WORD.findall(text.lower())


@lru_cache(maxsize=4096)
def inflections(word: str) -> frozenset[str]:
    """A word's regular English forms: plural, comparison, -ed, -ing, -ly, -ness, with y to i, lost e, doubled end."""
    stems, forms = [word], {word}
    if word.endswith("e"):
        stems.append(word[:-1])
    if len(word) > 2 and word.endswith("y") and word[-2] not in "aeiou":
        forms |= {f"{word[:-1]}i{end}" for end in ("es", "ed", "er", "est", "ly", "ness")}
        forms |= {f"{word}ing", f"{word}s"}
        return frozenset(forms)
    if len(word) < 6 and re.search(r"[^aeiou][aeiou][bdgmnpt]$", word):
        stems.append(word + word[-1])
    for stem in stems:
        forms |= {f"{stem}{end}" for end in ("ed", "er", "est", "ing")}
    forms |= {f"{word}{end}" for end in ("s", "es", "ly", "ness", "n't")}
    if word.endswith("ic"):
        forms.add(f"{word}ally")
    if word.endswith("le"):
        forms.add(f"{word[:-1]}y")
    return frozenset(forms)


def forms_of(emotion: str) -> frozenset[str]:
    """Every form that names the emotion: of its own word and of the words of its root.

    A phrase such as `at ease` has no inflections. Synonyms are other words, and not looked for.
    """
    if " " in emotion:
        return frozenset({emotion})
    family = next((family for family in FAMILIES if emotion in family), (emotion,))
    return frozenset(form for word in {emotion, *family} for form in inflections(word))


@lru_cache(maxsize=1)
def lexicon() -> dict[str, frozenset[str]]:
    """Every emotion of `FAMILIES` with all forms that name it."""
    return {family[0]: forms_of(family[0]) for family in FAMILIES}


class Finder:
    """Finds words and phrases in a text that was cut into words."""

    def __init__(self, named: Iterable[tuple[str, Iterable[str]]]) -> None:
        owners: dict[tuple[str, ...], set[str]] = {}
        for name, forms in named:
            for form in forms:
                owners.setdefault(tuple(words(form)), set()).add(name)
        self._by_first: dict[str, list[tuple[tuple[str, ...], frozenset[str]]]] = {}
        for form, names in owners.items():
            if form:
                self._by_first.setdefault(form[0], []).append((form, frozenset(names)))

    def __call__(self, told: Sequence[str]) -> Iterator[tuple[str, frozenset[str]]]:
        """Each match as it stands in the text, with whom it belongs to."""
        for start, word in enumerate(told):
            for form, owners in self._by_first.get(word, ()):
                if tuple(told[start : start + len(form)]) == form:
                    yield " ".join(form), owners


def emotion_finder(emotions: Iterable[str]) -> Finder:
    """Finds the words of these emotions."""
    return Finder((emotion, forms_of(emotion)) for emotion in emotions)


def scenario_finder() -> Finder:
    """Finds the vocabulary of the scenarios, inflected."""
    return Finder((word, {word} if " " in word else inflections(word)) for word in SCENARIO)
