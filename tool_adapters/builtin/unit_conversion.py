"""Conversion between units of one quantity."""

from __future__ import annotations

from tool_adapters.builtin.calculator import shown
from tool_adapters.python import tool
from tool_adapters.tool import InvalidArguments

# quantity -> unit (with its other names after "|") -> how many of the quantity's first unit it is
_TABLE: dict[str, dict[str, float]] = {
    "length": {
        "m|meter|meters|metre|metres|米": 1.0, "km|kilometer|kilometers|kilometre|kilometres|公里|千米": 1000.0,
        "cm|centimeter|centimeters|厘米": 0.01, "mm|millimeter|millimeters|毫米": 0.001,
        "in|inch|inches|英寸": 0.0254, "ft|foot|feet|英尺": 0.3048, "yd|yard|yards|码": 0.9144,
        "mi|mile|miles|英里": 1609.344, "nmi|nautical mile|nautical miles|海里": 1852.0, "里": 500.0,
    },
    "mass": {
        "kg|kilogram|kilograms|公斤|千克": 1.0, "g|gram|grams|克": 0.001, "mg|milligram|milligrams|毫克": 1e-6,
        "t|tonne|tonnes|ton|tons|吨": 1000.0, "lb|lbs|pound|pounds|磅": 0.45359237, "oz|ounce|ounces|盎司": 0.028349523125,
        "jin|斤": 0.5, "liang|两": 0.05, "st|stone": 6.35029318,
    },
    "volume": {
        "l|liter|liters|litre|litres|升": 1.0, "ml|milliliter|milliliters|毫升": 0.001,
        "m3|m³|cubic meter|cubic meters|立方米": 1000.0,
        "gal|gallon|gallons|加仑": 3.785411784, "qt|quart|quarts": 0.946352946, "pt|pint|pints": 0.473176473,
        "cup|cups|杯": 0.2365882365, "fl oz|fluid ounce|fluid ounces": 0.0295735295625,
        "tbsp": 0.01478676478125, "tsp": 0.00492892159375,
    },
    "speed": {
        "m/s|mps|米每秒": 1.0, "km/h|kmh|kph|公里每小时|千米每小时": 1 / 3.6, "mph|mile/h|miles per hour|英里每小时": 0.44704,
        "kn|kt|knot|knots|节": 1852 / 3600, "ft/s": 0.3048,
    },
    "area": {
        "m2|m²|square meter|square meters|平方米|平米": 1.0, "km2|km²|square kilometer|square kilometers|平方公里": 1e6,
        "cm2|cm²|平方厘米": 1e-4, "ha|hectare|hectares|公顷": 1e4, "acre|acres|英亩": 4046.8564224, "mu|亩": 10000 / 15,
        "ft2|ft²|square foot|square feet|平方英尺": 0.09290304, "mi2|mi²|square mile|square miles|平方英里": 2589988.110336,
    },
    "time": {
        "s|sec|second|seconds|秒": 1.0, "ms|millisecond|milliseconds|毫秒": 0.001, "min|minute|minutes|分钟|分": 60.0,
        "h|hr|hour|hours|小时": 3600.0, "d|day|days|天": 86400.0, "wk|week|weeks|周|星期": 604800.0,
    },
    "data size": {
        "B|byte|bytes|字节": 1.0, "bit|bits|比特": 0.125, "KB|kilobyte|kilobytes": 1e3, "MB|megabyte|megabytes|兆": 1e6,
        "GB|gigabyte|gigabytes": 1e9, "TB|terabyte|terabytes": 1e12, "PB|petabyte|petabytes": 1e15,
        "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40, "PiB": 2.0**50,
    },
}  # fmt: skip
_TEMPERATURE = {
    "c": "C", "°c": "C", "celsius": "C", "摄氏度": "C", "℃": "C", "摄氏": "C",
    "f": "F", "°f": "F", "fahrenheit": "F", "华氏度": "F", "℉": "F", "华氏": "F",
    "k": "K", "kelvin": "K", "开尔文": "K", "开": "K",
}  # fmt: skip
_UNITS = {
    spelling.lower(): (quantity, factor)
    for quantity, units in _TABLE.items()
    for names, factor in units.items()
    for spelling in names.split("|")
}


@tool(
    name="unit_conversion",
    title="Unit conversion",
    examples=(
        "How many miles are 42 kilometers?",
        "Convert 72 Fahrenheit to Celsius",
        "How many MiB are 5 GB?",
        "5 英里等于多少公里？",
        "把 100 华氏度换算成摄氏度",
        "3 斤是多少千克？",
    ),
    tags=("unit", "measure", "convert"),
    timeout_s=5,
)
def unit_conversion(value: float, from_unit: str, to_unit: str) -> str:
    """Convert a value between units of length, mass, temperature, volume, speed, area, time or data size.

    Args:
        value: The number to convert.
        from_unit: Unit of the value, such as km, lb, celsius or GB.
        to_unit: Unit wanted, such as mile, kg, fahrenheit or MiB.
    """
    return f"{shown(value)} {from_unit} = {shown(converted(value, from_unit, to_unit))} {to_unit}"


def converted(value: float, from_unit: str, to_unit: str) -> float:
    """The value in the other unit. Raises InvalidArguments for an unknown unit or two different quantities."""
    source, target = _known(from_unit), _known(to_unit)
    if source in _TEMPERATURE.values() and target in _TEMPERATURE.values():
        return _from_kelvin(_kelvin(value, str(source)), str(target))
    if isinstance(source, str) or isinstance(target, str) or source[0] != target[0]:
        raise InvalidArguments(f"{from_unit} cannot be converted to {to_unit}.", why="they measure different things")
    return value * source[1] / target[1]


def _known(unit: str) -> str | tuple[str, float]:
    name = " ".join(unit.strip().lower().split())
    if name in _TEMPERATURE:
        return _TEMPERATURE[name]
    if name in _UNITS:
        return _UNITS[name]
    raise InvalidArguments(f"The unit {unit!r} is not known.", hint="use a common name or symbol, such as km, pound, GB")


def _kelvin(value: float, unit: str) -> float:
    kelvin = {"C": value + 273.15, "F": (value + 459.67) * 5 / 9, "K": value}[unit]
    if kelvin < -1e-9:
        raise InvalidArguments(f"{shown(value)} {unit} is below absolute zero.")
    return kelvin


def _from_kelvin(kelvin: float, unit: str) -> float:
    return {"C": kelvin - 273.15, "F": kelvin * 9 / 5 - 459.67, "K": kelvin}[unit]
