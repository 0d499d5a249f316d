// Text as the reward compares it.
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>
#include <stdint.h>

// Most characters that are compared; work and memory grow with their square and with them.
#define MAX_CHARS 2048

// The first MAX_CHARS characters of a text.
typedef struct {
  uint32_t chars[MAX_CHARS];
  size_t len;
  // Characters beyond.
  size_t rest;
} text_t;

// Reads UTF-8: ASCII letters in lower case, white space at the ends dropped and elsewhere folded into single spaces.
void text_read(text_t *text, const uint8_t *bytes, size_t len);

// 1 for equal texts down to 0: 1 - edits / characters of the longer text. Characters beyond MAX_CHARS count as edits.
// Returns 0 without computing it when it cannot reach `least`.
double text_similarity(const text_t *a, const text_t *b, double least);

#endif
