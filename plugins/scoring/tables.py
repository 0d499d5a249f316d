"""Writes src/tables.rs from Python's Unicode data: `python3 tables.py > src/tables.rs && rustfmt src/tables.rs`."""

import unicodedata

pairs = []
for code in range(0x10000):
    if 0xAC00 <= code < 0xAC00 + 11172 or 0xF900 <= code <= 0xFAFF:  # by arithmetic; compatibility ideographs are not answers
        continue
    parts = unicodedata.decomposition(chr(code)).split()
    if parts and not parts[0].startswith("<"):
        base, mark = (int(part, 16) for part in (parts + ["0"])[:2])
        if max(base, mark) < 0x10000:
            pairs.append((code, base, mark))

print(f"//! Written by tables.py from Unicode {unicodedata.unidata_version}.\n")
print("/// Canonical decompositions of the basic plane in ascending order: character, first part, second part or 0.")
print("#[rustfmt::skip]")
print(f"pub const DECOMPOSITIONS: [(u16, u16, u16); {len(pairs)}] = [")
for start in range(0, len(pairs), 8):
    print("    " + " ".join(f"({c}, {b}, {m})," for c, b, m in pairs[start : start + 8]))
print("];\n")
# Runs of letters with the same distance to their lower case, every letter or every other one.
lower = [(code, ord(chr(code).lower())) for code in range(0x80, 0x10000) if len(chr(code).lower()) == 1 and chr(code).lower() != chr(code)]
runs = []
for code, small in lower:
    delta = (small - code) & 0xFFFF
    if runs:
        first, last, step, shift = runs[-1]
        if shift == delta and code - last in (1, 2) and step in (0, code - last):
            runs[-1] = (first, code, code - last, shift)
            continue
    runs.append((code, code, 0, delta))

print("/// Upper case beyond ASCII in the basic plane: first and last letter of a run, distance between its letters, and what to add to")
print("/// get the lower case, modulo 65,536.")
print("#[rustfmt::skip]")
print(f"pub const LOWER: [(u16, u16, u16, u16); {len(runs)}] = [")
for start in range(0, len(runs), 6):
    print("    " + " ".join(f"({a}, {b}, {max(s, 1)}, {d})," for a, b, s, d in runs[start : start + 6]))
print("];\n")
print("/// Canonical combining classes of U+0300 to U+036F.")
print("#[rustfmt::skip]")
print("pub const CLASSES: [u8; 112] = [")
classes = [unicodedata.combining(chr(code)) for code in range(0x300, 0x370)]
for start in range(0, len(classes), 16):
    print("    " + " ".join(f"{c}," for c in classes[start : start + 16]))
print("];")
