"""Units of measurement and currencies: their names, dimensions and factors.

A unit is a product of powers of base units with a factor, so that ``60 minutes`` equals ``1 hour``
and ``1 km/h`` equals ``1000 m/h``. A counted thing (``10 apples``) is a base unit of its own. There
is no conversion between scales of temperature or between currencies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from autotts_gym.answers.word_sets import word_set


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit.

    Attributes:
        dimension: powers of base units, sorted by name.
        factor: its size in base units.
    """

    dimension: tuple[tuple[str, int], ...]
    factor: Fraction = Fraction(1)

    def times(self, other: Unit, power: int = 1) -> Unit:
        """The product with a power of another unit."""
        powers = dict(self.dimension)
        for name, exponent in other.dimension:
            powers[name] = powers.get(name, 0) + power * exponent
        dimension = tuple(sorted((n, p) for n, p in powers.items() if p))
        return Unit(dimension, self.factor * other.factor**power)


NO_UNIT: Final = Unit(())

#: Base unit, then "factor names" groups. Names of one letter only count in ``\text{...}``, or after
#: a number and a space.
_TABLE: Final = """
m: 1 m meter meters metre metres 米
 | 1/100 cm centimeter centimeters centimetre centimetres 厘米
 | 1/1000 mm millimeter millimeters millimetre millimetres
 | 1000 km kilometer kilometers kilometre kilometres 千米 公里
 | 1/1000000 μm micrometer micrometers micron microns
 | 1/1000000000 nm nanometer nanometers | 1/10 dm decimeter decimeters
ft: 1 ft foot feet | 1/12 inch inches in | 3 yd yard yards yds | 5280 mi mile miles
kg: 1 kg kilogram kilograms kgs 千克 公斤 | 1/1000 g gram grams 克
 | 1/1000000 mg milligram milligrams
 | 1000 tonne tonnes
lb: 1 lb lbs pound pounds | 1/16 oz ounce ounces
s: 1 s sec secs second seconds 秒 | 60 min mins minute minutes 分钟 | 3600 h hr hrs hour hours 小时
 | 86400 d day days 天 | 604800 week weeks wk 周 | 1/1000 ms millisecond milliseconds
month: 1 month months 月 | 12 yr yrs year years 年 | 120 decade decades | 1200 century centuries
deg: 1 ° degree degrees deg 度 | 1/60 arcminute arcminutes | 1/3600 arcsecond arcseconds
rad: 1 rad radian radians
°C: 1 degC celsius
°F: 1 degF fahrenheit
K: 1 K kelvin kelvins
L: 1 L l liter liters litre litres 升
 | 1/1000 mL ml milliliter milliliters millilitre millilitres 毫升
gal: 1 gal gallon gallons | 1/4 quart quarts qt | 1/8 pint pints pt | 1/16 cup cups
mol: 1 mol mole moles
N: 1 N newton newtons | 1000 kN
J: 1 J joule joules | 1000 kJ | 3600 Wh | 3600000 kWh
eV: 1 eV | 1000 keV | 1000000 MeV | 1000000000 GeV
cal: 1 cal calorie calories | 1000 kcal
W: 1 W watt watts | 1000 kW kilowatt kilowatts | 1000000 MW
Pa: 1 Pa pascal pascals | 1000 kPa | 1000000 MPa
atm: 1 atm atmosphere atmospheres
Hz: 1 Hz hertz | 1000 kHz | 1000000 MHz | 1000000000 GHz
V: 1 V volt volts | 1/1000 mV | 1000 kV
A: 1 A amp amps ampere amperes | 1/1000 mA
Ω: 1 Ω ohm ohms
C: 1 coulomb coulombs
T: 1 T tesla
byte: 1 byte bytes B | 1000 KB kB kilobyte kilobytes | 1000000 MB megabyte megabytes
 | 1000000000 GB gigabyte gigabytes
bit: 1 bit bits
mph: 1 mph
dollar: 1 dollar dollars USD US$ $ usd 美元 | 1/100 cent cents ¢
euro: 1 euro euros EUR € eur 欧元
GBP: 1 £ GBP gbp | 1/100 pence penny pennies
¥: 1 ¥
yuan: 1 yuan CNY RMB 元 人民币 rmb
yen: 1 yen JPY 円
rupee: 1 ₹ rupee rupees Rs INR Rs.
ruble: 1 ₽ ruble rubles
won: 1 ₩ won KRW
franc: 1 CHF franc francs
"""


def _read_table() -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    for line in _TABLE.strip().replace("\n ", " ").splitlines():
        base, _, groups = line.partition(": ")
        for group in groups.split(" | "):
            factor, *names = group.split()
            for name in names:
                units[name] = Unit(((base, 1),), Fraction(factor))
    return units


UNITS: Final = _read_table()
UNITS["mph"] = UNITS["mile"].times(UNITS["hour"], -1)
UNITS["kph"] = UNITS["kmh"] = UNITS["km"].times(UNITS["hour"], -1)
UNITS["acre"] = UNITS["acres"] = Unit((("ft", 2),), Fraction(43560))
UNITS["ha"] = UNITS["hectare"] = UNITS["hectares"] = Unit((("m", 2),), Fraction(10000))
UNITS["hertz"] = UNITS["Hz"]

#: Signs and codes of currencies that may stand before a number.
CURRENCY_SIGNS: Final = frozenset(("\\$", "$", "€", "£", "¥", "₹", "₽", "₩", "US$"))
CURRENCY_CODES: Final = word_set("USD EUR GBP CNY RMB JPY INR Rs KRW CHF")

_IRREGULAR: Final = {
    **{"children": "child", "men": "man", "women": "woman", "people": "person", "feet": "foot"},
    **{"mice": "mouse", "teeth": "tooth", "geese": "goose", "dice": "die", "leaves": "leaf"},
    **{"halves": "half", "knives": "knife", "vertices": "vertex", "persons": "person"},
}


def singular(word: str) -> str:
    """The singular of an English noun, roughly: equal for both numbers of most nouns."""
    word = word.casefold()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and re.search("(?:ch|sh|x|z|ss)es$", word):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def counted(words: list[str]) -> Unit:
    """The unit of a counted thing."""
    name = " ".join(singular(word) for word in words)
    return Unit(((f"[{name}]", 1),))
