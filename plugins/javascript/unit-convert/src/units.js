// Units by dimension: [factor to the dimension's base unit, names…]; temperatures are affine and stand apart.

const DIMENSIONS = {
  length: [
    [1, "m", "meter", "metre"], [1e-3, "mm", "millimeter", "millimetre"], [1e-2, "cm", "centimeter", "centimetre"],
    [1e3, "km", "kilometer", "kilometre"], [0.0254, "in", "inch"], [0.3048, "ft", "foot", "feet"], [0.9144, "yd", "yard"],
    [1609.344, "mi", "mile"], [1852, "nmi", "nautical mile"], [9460730472580800, "ly", "light year"],
  ],
  area: [
    [1, "m2", "square meter", "square metre"], [1e-4, "cm2", "square centimeter"], [1e6, "km2", "square kilometer", "square kilometre"],
    [1e4, "ha", "hectare"], [0.09290304, "ft2", "square foot", "square feet"], [4046.8564224, "ac", "acre"],
    [2589988.110336, "mi2", "square mile"],
  ],
  volume: [
    [1, "l", "liter", "litre"], [1e-3, "ml", "milliliter", "millilitre"], [1e3, "m3", "cubic meter", "cubic metre"],
    [3.785411784, "gal", "gallon"], [0.473176473, "pt", "pint"], [0.0295735295625, "fl oz", "fluid ounce"], [0.2365882365, "cup"],
  ],
  mass: [
    [1, "kg", "kilogram"], [1e-3, "g", "gram"], [1e-6, "mg", "milligram"], [1e3, "t", "tonne"], [0.45359237, "lb", "pound"],
    [0.028349523125, "oz", "ounce"], [6.35029318, "st", "stone"],
  ],
  time: [
    [1, "s", "sec", "second"], [1e-3, "ms", "millisecond"], [60, "min", "minute"], [3600, "h", "hr", "hour"], [86400, "d", "day"],
    [604800, "wk", "week"], [31557600, "yr", "year"],
  ],
  speed: [
    [1, "m/s"], [1 / 3.6, "km/h", "kmh", "kph"], [0.44704, "mph", "mi/h"], [1852 / 3600, "kn", "knot"],
  ],
  data: [
    [1, "b", "byte"], [1e3, "kb", "kilobyte"], [1e6, "mb", "megabyte"], [1e9, "gb", "gigabyte"], [1e12, "tb", "terabyte"],
    [1024, "kib"], [1048576, "mib"], [1073741824, "gib"],
  ],
};

// [name, to kelvin, from kelvin]
const TEMPERATURES = [
  [["k", "kelvin"], (x) => x, (x) => x],
  [["c", "°c", "celsius"], (x) => x + 273.15, (x) => x - 273.15],
  [["f", "°f", "fahrenheit"], (x) => ((x - 32) * 5) / 9 + 273.15, (x) => ((x - 273.15) * 9) / 5 + 32],
];

const UNITS = new Map();
for (const [dimension, units] of Object.entries(DIMENSIONS)) {
  for (const [factor, ...names] of units) {
    const unit = { dimension, to: (x) => x * factor, from: (x) => x / factor };
    for (const name of names) UNITS.set(name, unit);
  }
}
for (const [names, to, from] of TEMPERATURES) {
  for (const name of names) UNITS.set(name, { dimension: "temperature", to, from });
}

/** The unit of a name in any case, singular or plural, or undefined. */
export function unit(name) {
  const plain = name.trim().toLowerCase().replace(/\s+/g, " ").replace("²", "2").replace("³", "3").replace(/^degrees? /, "");
  return UNITS.get(plain) ?? UNITS.get(plain.replace(/(ch|sh|s|x)es$/, "$1")) ?? UNITS.get(plain.replace(/s$/, ""));
}

/** A number as people write it: significant digits, no trailing zeros, no exponent where it is short without. */
export function written(value, digits) {
  const rounded = Number(value.toPrecision(digits));
  return String(rounded);
}

const REQUEST = /^\s*([-+]?(?:\d+(?:[ ,_]\d{3})*|\d*)(?:\.\d+)?(?:e[-+]?\d{1,3})?)\s*(.{1,60}?)\s+(?:to|in|into|as|=)\s+(.{1,60}?)\s*\??\s*$/i;

/**
 * Answers a request such as `5 km to miles`. Throws an Error whose message says what would be right.
 */
export function convert(request, digits) {
  if (request.length > 200) throw new Error("the request is longer than 200 characters");
  const match = REQUEST.exec(request);
  if (!match || !/\d/.test(match[1])) throw new Error("expected NUMBER UNIT to UNIT, e.g. 5 km to miles");
  const [, number, from, to] = match;
  const value = Number(number.replace(/[ ,_]/g, ""));
  const [source, target] = [unit(from), unit(to)];
  if (!source) throw new Error(`unknown unit ${JSON.stringify(from)}`);
  if (!target) throw new Error(`unknown unit ${JSON.stringify(to)}`);
  if (source.dimension !== target.dimension) {
    throw new Error(`${from} is a ${source.dimension}, ${to} a ${target.dimension}`);
  }
  const result = target.from(source.to(value));
  if (!Number.isFinite(result)) throw new Error("the number is too large");
  return `${written(value, 15)} ${from} = ${written(result, digits)} ${to}`;
}
