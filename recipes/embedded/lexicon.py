"""Words of the recipe's English-German grammar. Knows words and their forms, not word order.

English is lower case. No two English words sound alike, so that a transcript never has to guess
between spellings.
"""

from typing import NamedTuple


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
gray = grau
brown = braun
silver = silbern
dark = dunkl
tiny = winzig
huge = riesig
thin = dünn
narrow = schmal
wet = nass
dry = trocken
soft = weich
hard = hart
sharp = scharf
modern = modern
ancient = uralt
ugly = hässlich
famous = berühmt
rare = selten
valuable = wertvoll
simple = einfach
smooth = glatt
rusty = rostig
fresh = frisch
striped = gestreift
funny = lustig
secret = geheim
magic = magisch
colorful = bunt
elegant = elegant
dangerous = gefährlich
comfortable = bequem
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

TEENS = _pairs("""
ten = zehn
eleven = elf
twelve = zwölf
thirteen = dreizehn
fourteen = vierzehn
fifteen = fünfzehn
sixteen = sechzehn
seventeen = siebzehn
eighteen = achtzehn
nineteen = neunzehn
""")

TENS = _pairs("""
twenty = zwanzig
thirty = dreißig
forty = vierzig
fifty = fünfzig
sixty = sechzig
seventy = siebzig
eighty = achtzig
ninety = neunzig
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
in the park = im Park
in the hotel = im Hotel
in the restaurant = im Restaurant
in the castle = im Schloss
in the theater = im Theater
at the cinema = im Kino
in the bakery = in der Bäckerei
in the pharmacy = in der Apotheke
in the bathroom = im Badezimmer
in the bedroom = im Schlafzimmer
in the hallway = im Flur
in the garage = in der Garage
on the balcony = auf dem Balkon
in the factory = in der Fabrik
in the desert = in der Wüste
in the mountains = in den Bergen
on the island = auf der Insel
at the lake = am See
at the harbor = am Hafen
in the tower = im Turm
in the tunnel = im Tunnel
in the prison = im Gefängnis
at the university = an der Universität
on the farm = auf dem Bauernhof
at the fountain = am Brunnen
in vienna = in Wien
in madrid = in Madrid
in hamburg = in Hamburg
in africa = in Afrika
in canada = in Kanada
in norway = in Norwegen
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
today = heute
last month = letzten Monat
this afternoon = heute Nachmittag
this evening = heute Abend
in february = im Februar
in june = im Juni
in july = im Juli
in september = im September
in november = im November
in spring = im Frühling
in summer = im Sommer
in winter = im Winter
in autumn = im Herbst
at noon = am Mittag
at midnight = um Mitternacht
at christmas = an Weihnachten
after breakfast = nach dem Frühstück
before sunrise = vor Sonnenaufgang
during the storm = während des Sturms
after the concert = nach dem Konzert
before the meeting = vor der Sitzung
recently = neulich
""")

JOINERS = _pairs("""
and = und
but = aber
""")
