"""Nouns of the recipe's English-German grammar: names, roles and things, with their forms.

English is lower case. German nouns are capitalised. `Gender` is the grammatical gender of the
German noun: "m", "f" or "n". No weak noun is a thing: its accusative would need a form of its own.
"""

from typing import Literal, NamedTuple

from .lexicon import words

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
    "nina robert lisa victor helen max paula oscar ruth leon alice bruno carmen daniel diana "
    "edgar esther frida george gloria henry hugo irene jacob jasmin jonas kevin lucas magda "
    "marcus miriam monica olga patrick rebecca samuel sandra susan"
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
gardener m Gärtner Gärtner
hunter m Jäger Jäger
king m König König
princess f Prinzessin Prinzessin
policeman m Polizist Polizisten
engineer f Ingenieurin Ingenieurin
actress f Schauspielerin Schauspielerin
writer f Schriftstellerin Schriftstellerin
journalist m Journalist Journalisten
scientist f Wissenschaftlerin Wissenschaftlerin
musician m Musiker Musiker
mechanic m Mechaniker Mechaniker
carpenter m Tischler Tischler
fisherman m Fischer Fischer
sailor m Matrose Matrosen
judge f Richterin Richterin
guest m Gast Gast
customer m Kunde Kunden
uncle m Onkel Onkel
mother f Mutter Mutter
brother m Bruder Bruder
sister f Schwester Schwester
grandfather m Großvater Großvater
friend m Freund Freund
thief m Dieb Dieb
witch f Hexe Hexe
clown m Clown Clown
barber m Friseur Friseur
president m Präsident Präsidenten
monk m Mönch Mönch
poet m Dichter Dichter
dancer f Tänzerin Tänzerin
cousin f Cousine Cousine
photographer m Fotograf Fotografen
secretary f Sekretärin Sekretärin
shepherd m Hirte Hirten
inventor m Erfinder Erfinder
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
lemon lemons f Zitrone Zitronen
banana bananas f Banane Bananen
tomato tomatoes f Tomate Tomaten
potato potatoes f Kartoffel Kartoffeln
carrot carrots f Karotte Karotten
egg eggs n Ei Eier
cake cakes m Kuchen Kuchen
strawberry strawberries f Erdbeere Erdbeeren
mushroom mushrooms m Pilz Pilze
onion onions f Zwiebel Zwiebeln
cookie cookies m Keks Kekse
sausage sausages f Wurst Würste
cow cows f Kuh Kühe
chicken chickens n Huhn Hühner
rabbit rabbits n Kaninchen Kaninchen
tiger tigers m Tiger Tiger
frog frogs m Frosch Frösche
spider spiders f Spinne Spinnen
snake snakes f Schlange Schlangen
turtle turtles f Schildkröte Schildkröten
mouse mice f Maus Mäuse
jacket jackets f Jacke Jacken
dress dresses n Kleid Kleider
sweater sweaters m Pullover Pullover
glove gloves m Handschuh Handschuhe
shoe shoes m Schuh Schuhe
scarf scarves m Schal Schals
necklace necklaces f Halskette Halsketten
coin coins f Münze Münzen
wallet wallets m Geldbeutel Geldbeutel
computer computers m Computer Computer
radio radios n Radio Radios
television televisions m Fernseher Fernseher
violin violins f Geige Geigen
piano pianos n Klavier Klaviere
drum drums f Trommel Trommeln
trumpet trumpets f Trompete Trompeten
bell bells f Glocke Glocken
hammer hammers m Hammer Hämmer
needle needles f Nadel Nadeln
shovel shovels f Schaufel Schaufeln
broom brooms m Besen Besen
rope ropes n Seil Seile
towel towels n Handtuch Handtücher
pillow pillows n Kissen Kissen
sofa sofas n Sofa Sofas
shelf shelves n Regal Regale
glass glasses n Glas Gläser
balloon balloons m Ballon Ballons
map maps f Landkarte Landkarten
stamp stamps f Briefmarke Briefmarken
envelope envelopes m Umschlag Umschläge
magazine magazines f Zeitschrift Zeitschriften
statue statues f Statue Statuen
truck trucks m Lastwagen Lastwagen
airplane airplanes n Flugzeug Flugzeuge
wheel wheels n Rad Räder
battery batteries f Batterie Batterien
suitcase suitcases m Koffer Koffer
backpack backpacks m Rucksack Rucksäcke
helmet helmets m Helm Helme
feather feathers f Feder Federn
pearl pearls f Perle Perlen
machine machines f Maschine Maschinen
robot robots m Roboter Roboter
flag flags f Fahne Fahnen
trophy trophies m Pokal Pokale
gift gifts n Geschenk Geschenke
bench benches f Bank Bänke
""")
