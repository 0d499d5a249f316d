#include "text.h"

#include <stdbool.h>

// The character at `*at`, which moves past it. The host hands over valid UTF-8; a torn end reads as the replacement character.
static uint32_t next(const uint8_t *bytes, size_t len, size_t *at) {
  uint8_t lead = bytes[(*at)++];
  size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
  uint32_t c = more == 3 ? lead & 0x07 : more == 2 ? lead & 0x0f : more == 1 ? lead & 0x1f : lead;
  for (; more > 0; more--) {
    if (*at >= len) return 0xfffd;
    c = c << 6 | (bytes[(*at)++] & 0x3f);
  }
  return c;
}

static bool is_space(uint32_t c) {
  return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0xa0 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x3000;
}

void text_read(text_t *text, const uint8_t *bytes, size_t len) {
  text->len = 0;
  text->rest = 0;
  bool gap = false;
  for (size_t at = 0; at < len;) {
    uint32_t c = next(bytes, len, &at);
    if (is_space(c)) {
      gap = text->len > 0;
      continue;
    }
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    for (int i = gap ? 0 : 1; i < 2; i++) {
      if (text->len < MAX_CHARS) {
        text->chars[text->len++] = i == 0 ? ' ' : c;
      } else {
        text->rest++;
      }
    }
    gap = false;
  }
}

double text_similarity(const text_t *a, const text_t *b, double least) {
  size_t total_a = a->len + a->rest, total_b = b->len + b->rest;
  size_t longer = total_a > total_b ? total_a : total_b, shorter = total_a > total_b ? total_b : total_a;
  if (longer == 0) return 1.0;
  // No edit script is shorter than the difference in length.
  if ((double)shorter / (double)longer < least) return 0.0;
  // One row of the table of distances between beginnings of `a` and of `b`.
  static size_t row[MAX_CHARS + 1];
  for (size_t j = 0; j <= b->len; j++) row[j] = j;
  for (size_t i = 0; i < a->len; i++) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b->len; j++) {
      size_t edits = diagonal + (a->chars[i] != b->chars[j]);
      diagonal = row[j + 1];
      if (row[j + 1] + 1 < edits) edits = row[j + 1] + 1;
      if (row[j] + 1 < edits) edits = row[j] + 1;
      row[j + 1] = edits;
    }
  }
  size_t edits = row[b->len] + (a->rest > b->rest ? a->rest : b->rest);
  return edits >= longer ? 0.0 : 1.0 - (double)edits / (double)longer;
}
