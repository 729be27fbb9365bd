"""Words of the recipe's English-German grammar. Knows words and their forms, not word order.

English is lower case. German nouns are capitalised. `Gender` is the grammatical gender of the
German noun: "m", "f" or "n".
"""

from typing import Literal, NamedTuple

Gender = Literal["m", "f", "n"]


class Role(NamedTuple):
    """A person: English noun, gender, German nominative and dative (both without article)."""

    en: str
    gender: Gender
    nominative: str
    dative: str


class Thing(NamedTuple):
    """A countable thing: English singular and plural, gender, German singular and plural."""

    en: str
    en_plural: str
    gender: Gender
    de: str
    de_plural: str


class Pair(NamedTuple):
    """An English word or phrase and its German counterpart."""

    en: str
    de: str


def words(text: str) -> tuple[str, ...]:
    """Split a list of words at its spaces."""
    return tuple(text.split())


def _pairs(text: str) -> tuple[Pair, ...]:
    lines = [line.strip().split("=") for line in text.strip().splitlines()]
    return tuple(Pair(en.strip(), de.strip()) for en, de in lines)


def _roles(text: str) -> tuple[Role, ...]:
    rows = [line.split() for line in text.strip().splitlines()]
    return tuple(Role(en, _gender(g), nom, dat) for en, g, nom, dat in rows)


def _things(text: str) -> tuple[Thing, ...]:
    rows = [line.split() for line in text.strip().splitlines()]
    return tuple(Thing(one, many, _gender(g), de, plural) for one, many, g, de, plural in rows)


def _gender(text: str) -> Gender:
    genders: dict[str, Gender] = {"m": "m", "f": "f", "n": "n"}
    return genders[text]


NAMES = words(
    "anna peter maria david laura thomas sophie martin julia oliver emma felix clara simon "
    "nina robert lisa victor helen max paula oscar ruth leon"
)

ROLES = _roles("""
teacher m Lehrer Lehrer
doctor f Ärztin Ärztin
farmer m Bauer Bauern
baker m Bäcker Bäcker
nurse f Krankenschwester Krankenschwester
student m Student Studenten
singer f Sängerin Sängerin
driver m Fahrer Fahrer
painter m Maler Maler
lawyer f Anwältin Anwältin
waiter m Kellner Kellner
captain m Kapitän Kapitän
child n Kind Kind
woman f Frau Frau
man m Mann Mann
girl n Mädchen Mädchen
boy m Junge Jungen
queen f Königin Königin
pilot m Pilot Piloten
dentist m Zahnarzt Zahnarzt
neighbor f Nachbarin Nachbarin
soldier m Soldat Soldaten
tourist m Tourist Touristen
butcher m Metzger Metzger
""")

TRANSITIVE = _pairs("""
bought = kaufte
sold = verkaufte
found = fand
lost = verlor
saw = sah
needed = brauchte
wanted = wollte
painted = malte
carried = trug
forgot = vergaß
cleaned = putzte
repaired = reparierte
counted = zählte
took = nahm
hid = versteckte
loved = liebte
stole = stahl
ordered = bestellte
opened = öffnete
washed = wusch
collected = sammelte
broke = zerbrach
borrowed = borgte
admired = bewunderte
""")

DITRANSITIVE = _pairs("""
gave = gab
sent = schickte
brought = brachte
showed = zeigte
promised = versprach
""")

INTRANSITIVE = _pairs("""
slept = schlief
waited = wartete
danced = tanzte
laughed = lachte
worked = arbeitete
cried = weinte
sang = sang
played = spielte
""")

# German adjectives are stems: every use in the grammar is attributive and takes an ending.
ADJECTIVES = _pairs("""
red = rot
green = grün
blue = blau
yellow = gelb
white = weiß
black = schwarz
small = klein
big = groß
old = alt
new = neu
heavy = schwer
cheap = billig
beautiful = schön
strange = seltsam
empty = leer
dirty = schmutzig
broken = kaputt
expensive = teur
round = rund
long = lang
warm = warm
pretty = hübsch
wooden = hölzern
golden = golden
""")

THINGS = _things("""
apple apples m Apfel Äpfel
book books n Buch Bücher
table tables m Tisch Tische
chair chairs m Stuhl Stühle
lamp lamps f Lampe Lampen
bottle bottles f Flasche Flaschen
bag bags f Tasche Taschen
key keys m Schlüssel Schlüssel
letter letters m Brief Briefe
picture pictures n Bild Bilder
window windows n Fenster Fenster
door doors f Tür Türen
car cars n Auto Autos
boat boats n Boot Boote
hat hats m Hut Hüte
shirt shirts n Hemd Hemden
clock clocks f Uhr Uhren
cup cups f Tasse Tassen
plate plates m Teller Teller
knife knives n Messer Messer
flower flowers f Blume Blumen
basket baskets m Korb Körbe
box boxes f Kiste Kisten
ring rings m Ring Ringe
phone phones n Telefon Telefone
guitar guitars f Gitarre Gitarren
bicycle bicycles n Fahrrad Fahrräder
umbrella umbrellas m Regenschirm Regenschirme
ticket tickets f Karte Karten
pencil pencils m Bleistift Bleistifte
blanket blankets f Decke Decken
mirror mirrors m Spiegel Spiegel
candle candles f Kerze Kerzen
horse horses n Pferd Pferde
dog dogs m Hund Hunde
cat cats f Katze Katzen
spoon spoons m Löffel Löffel
fork forks f Gabel Gabeln
carpet carpets m Teppich Teppiche
camera cameras f Kamera Kameras
newspaper newspapers f Zeitung Zeitungen
bird birds m Vogel Vögel
""")

NUMBERS = _pairs("""
two = zwei
three = drei
four = vier
five = fünf
six = sechs
seven = sieben
eight = acht
nine = neun
ten = zehn
eleven = elf
twelve = zwölf
twenty = zwanzig
thirty = dreißig
fifty = fünfzig
""")

DIGITS = _pairs("""
zero = null
one = eins
two = zwei
three = drei
four = vier
five = fünf
six = sechs
seven = sieben
eight = acht
nine = neun
""")

PLACES = _pairs("""
at the market = auf dem Markt
in the kitchen = in der Küche
in the garden = im Garten
at the station = am Bahnhof
in the library = in der Bibliothek
in the hospital = im Krankenhaus
near the river = am Fluss
on the bridge = auf der Brücke
in the forest = im Wald
at the beach = am Strand
in the office = im Büro
in the village = im Dorf
at the airport = am Flughafen
in the museum = im Museum
in the cellar = im Keller
behind the church = hinter der Kirche
under the tree = unter dem Baum
in paris = in Paris
in berlin = in Berlin
in london = in London
at school = in der Schule
""")

TIMES = _pairs("""
on monday = am Montag
on tuesday = am Dienstag
on wednesday = am Mittwoch
on thursday = am Donnerstag
on friday = am Freitag
on saturday = am Samstag
on sunday = am Sonntag
yesterday = gestern
last week = letzte Woche
last year = letztes Jahr
this morning = heute Morgen
at night = in der Nacht
in january = im Januar
in april = im April
in august = im August
in october = im Oktober
in december = im Dezember
before lunch = vor dem Mittagessen
after dinner = nach dem Abendessen
""")

JOINERS = _pairs("""
and = und
but = aber
""")
