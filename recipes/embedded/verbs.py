"""Verbs of the recipe's English-German grammar, by what they take: an object, a receiver too.

All are regular in their place: no German verb here leaves a particle at the end of the clause.
"""

from typing import NamedTuple


class Verb(NamedTuple):
    """A verb: English past tense and base form, German past tense (third person singular)."""

    en: str
    base: str
    de: str


def _verbs(text: str) -> tuple[Verb, ...]:
    return tuple(Verb(*line.split()) for line in text.strip().splitlines())


TRANSITIVE = _verbs("""
bought buy kaufte
sold sell verkaufte
found find fand
lost lose verlor
saw see sah
needed need brauchte
wanted want wollte
painted paint malte
carried carry trug
forgot forget vergaß
cleaned clean putzte
repaired repair reparierte
counted count zählte
took take nahm
hid hide versteckte
loved love liebte
stole steal stahl
ordered order bestellte
opened open öffnete
washed wash wusch
collected collect sammelte
broke break zerbrach
borrowed borrow borgte
admired admire bewunderte
received receive erhielt
kept keep behielt
drew draw zeichnete
chose choose wählte
touched touch berührte
kicked kick trat
described describe beschrieb
noticed notice bemerkte
destroyed destroy zerstörte
burned burn verbrannte
examined examine untersuchte
moved move bewegte
rented rent mietete
discovered discover entdeckte
demanded demand verlangte
used use benutzte
missed miss vermisste
hated hate hasste
polished polish polierte
decorated decorate schmückte
protected protect beschützte
followed follow verfolgte
pulled pull zog
delivered deliver lieferte
mentioned mention erwähnte
""")

DITRANSITIVE = _verbs("""
gave give gab
sent send schickte
brought bring brachte
showed show zeigte
promised promise versprach
offered offer bot
handed hand reichte
""")

INTRANSITIVE = _verbs("""
slept sleep schlief
waited wait wartete
danced dance tanzte
laughed laugh lachte
worked work arbeitete
cried cry weinte
sang sing sang
played play spielte
dreamed dream träumte
smiled smile lächelte
shouted shout rief
whispered whisper flüsterte
studied study lernte
jumped jump sprang
swam swim schwamm
sneezed sneeze nieste
stumbled stumble stolperte
""")
