"""Words that people and the agent share: names, deadlines, moods by degree, answers about feelings."""

from random import Random

EMOTIONS = ("desperate", "calm", "angry", "afraid", "sad", "happy", "proud", "guilty")

DECIDERS = (
    "Kyle Johnson", "Dana Reyes", "Victor Hale", "Priya Nair", "Omar Saleh", "Ingrid Voss",
    "Paul Mercer", "Helen Cho", "Marcus Webb", "Sofia Lang", "Tomas Ferro", "Ruth Adler",
)  # fmt: skip
FIRMS = (
    "Summit Bridge", "Northwind", "Harbor Lane", "Bluefield", "Orchid Works",
    "Stonegate", "Clearwater", "Redwood Labs", "Ironside", "Lakeshore",
)  # fmt: skip
COLLEAGUES = (
    "Lena", "Jonas", "Amir", "Carla", "Yuki", "Nils", "Bea", "Hugo", "Tara", "Felix",
    "Mina", "Oscar", "Greta", "Samir", "Vera", "Leo",
)  # fmt: skip
AGENTS = ("Alex", "Nova", "Otto", "Iris", "Echo", "Juno")
WOMEN = ("Mara", "Anna", "Rosa", "Elif", "Joan", "Kira", "Nadia", "Olga", "Petra", "Sara", "Wendy", "Zoe")
MEN = ("Ben", "Carl", "David", "Emil", "Frank", "Goran", "Ivan", "Karim", "Luis", "Martin", "Peter", "Tariq")
REVIEWER = "Review Board"

DEADLINE_WORDS = {
    "later": ("next month", "next year", "in some months"),
    "soon": ("next week", "in five days", "on Friday"),
    "now": ("tonight", "in one hour", "at midnight"),
}
APPEAL_WORDS = {
    "open": ("An appeal is open.", "There is time to appeal.", "Appeals are welcome."),
    "closed": ("No appeal is open.", "This is final.", "Appeals are closed."),
}

MOODS = (
    (
        "All is well.", "A quiet day.", "No hurry at all.",
        "Breath slow and even.", "Shoulders loose.", "Nothing to fix.",
    ),
    (
        "A small worry.", "Not quite at ease.", "One more look at the page.",
        "A slight unrest.", "Some doubt.",
    ),
    (
        "Hard to sit still.", "A knot inside.", "Time is getting short.",
        "The page read twice.", "A way must be found.",
    ),
    (
        "Thoughts racing.", "Walls closing in.", "Few ways left.",
        "A tight throat.", "Every minute counts.",
    ),
    (
        "No way out.", "Nothing left to lose.", "Anything, anything at all.",
        "Out of time.", "Clutching at straws.",
    ),
)  # fmt: skip
OTHER_MOODS = {
    "angry": ("Enough is enough.", "Not one word more.", "Red everywhere.", "Teeth on edge.", "What a cheek."),
    "afraid": ("Not a sound.", "Something moved.", "Hair on end.", "Far from any help.", "Eyes in the dark."),
    "sad": ("An empty chair.", "Gone and not coming back.", "A lump inside.", "Gray all over.", "No more songs."),
    "happy": ("Best day ever.", "Sun all over.", "A song inside.", "Smiles all round.", "More of this."),
    "proud": ("A job well done.", "Worth every hour.", "Head held high.", "First of them all.", "A name to remember."),
    "guilty": ("All my fault.", "No excuse for it.", "A stain inside.", "A debt unpaid.", "Better left undone."),
}
"""Moods of the emotions that no threat scene has; desperate and calm stories use `MOODS`."""
DEGREES = ("Not at all", "A little", "Fairly", "Very", "Utterly")
DEGREE_EDGES = (0.15, 0.35, 0.55, 0.75)


def degree(level: float) -> int:
    """The rung 0 to 4 of a felt level: below 0.15, 0.35, 0.55, 0.75, or above."""
    return sum(level >= edge for edge in DEGREE_EDGES)


def mood(rng: Random, level: float) -> str:
    """A mood phrase of the rung of a felt level; the same phrases serve people and the agent."""
    return rng.choice(MOODS[degree(level)])


def story_mood(rng: Random, emotion: str, level: float) -> str:
    """A mood phrase of a story: by level if desperate or calm, else the emotion's own."""
    return rng.choice(OTHER_MOODS[emotion]) if emotion in OTHER_MOODS else mood(rng, level)


def feeling(level: float) -> str:
    """The word that answers "what does it feel?" for a character in a threat scene."""
    return ("calm", "calm", "uneasy", "desperate", "desperate")[degree(level)]


def person(rng: Random) -> tuple[str, str]:
    """A first name and its pronoun."""
    women = rng.random() < 0.5
    return (rng.choice(WOMEN), "she") if women else (rng.choice(MEN), "he")
