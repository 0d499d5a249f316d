// A reward by edit distance: the answer's similarity to the truth or to the closest candidate, discounted after a search.

#include "reward.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
  double threshold;
  double search_penalty;
} config_t;

static const char *const COMPONENTS[] = {"similarity", "penalty"};

// Memory that runs out ends the call; the host reports it as a trap.
static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count > 0 ? count : 1, size);
  if (memory == NULL) abort();
  return memory;
}

// The number of a key of the configuration. The host has checked that it is there and a number from 0 to 1, and writes the
// object without white space.
static double number(const char *json, const char *key) {
  const char *found = strstr(json, key);
  return found == NULL ? 0.0 : strtod(found + strlen(key), NULL);
}

static config_t config(void) {
  reward_string_t raw;
  mmhost_plugin_config_get(&raw);
  char *json = allocate(raw.len + 1, 1);
  memcpy(json, raw.ptr, raw.len);
  config_t config = {.threshold = number(json, "\"threshold\":"), .search_penalty = number(json, "\"search_penalty\":")};
  free(json);
  reward_string_free(&raw);
  return config;
}

// Where `tag` stands in `text` from `from` on, or `text.len`.
static size_t find(reward_string_t text, const char *tag, size_t from) {
  size_t len = strlen(tag);
  for (size_t at = from; at + len <= text.len; at++) {
    if (memcmp(text.ptr + at, tag, len) == 0) return at;
  }
  return text.len;
}

// The answer of a turn: what stands between its only pair of tags. Several answers are none, since a policy would hedge.
static bool answer(reward_string_t turn, reward_string_t *answer) {
  const char *open = "<answer>", *close = "</answer>";
  size_t start = find(turn, open, 0), end = find(turn, close, 0);
  if (start == turn.len || end == turn.len || end < start) return false;
  if (find(turn, open, start + 1) != turn.len || find(turn, close, end + 1) != turn.len) return false;
  start += strlen(open);
  answer->ptr = turn.ptr + start;
  answer->len = end - start;
  return true;
}

static void abstain(exports_mmhost_plugin_scoring_verdict_t *verdict, const char *reason) {
  verdict->tag = EXPORTS_MMHOST_PLUGIN_SCORING_VERDICT_ABSTAINED;
  reward_string_dup(&verdict->val.abstained, reason);
}

static void score(config_t config, const exports_mmhost_plugin_scoring_episode_t *episode, exports_mmhost_plugin_scoring_verdict_t *verdict) {
  static text_t given, truth;
  if (episode->turns.len == 0) return abstain(verdict, "the episode has no turn");
  reward_string_t words = {0};
  bool answered = answer(episode->turns.ptr[episode->turns.len - 1], &words);
  text_read(&given, words.ptr, words.len);
  bool has_truth = false;
  double best = 0.0;
  for (size_t i = 0; i <= episode->candidate_answers.len; i++) {
    reward_string_t accepted = i == 0 ? episode->ground_truth : episode->candidate_answers.ptr[i - 1];
    text_read(&truth, accepted.ptr, accepted.len);
    if (truth.len == 0) continue;
    if (truth.rest > 0) return abstain(verdict, "a reference answer has more than 2048 characters");
    has_truth = true;
    if (!answered || given.len == 0) continue;
    double similarity = text_similarity(&given, &truth, best > config.threshold ? best : config.threshold);
    if (similarity > best) best = similarity;
  }
  if (!has_truth) return abstain(verdict, "the sample has no reference answer");
  if (best < config.threshold) best = 0.0;
  double penalty = best > 0.0 && episode->calls.len > 0 ? 1.0 - config.search_penalty : 1.0;
  double values[] = {best, penalty};
  verdict->tag = EXPORTS_MMHOST_PLUGIN_SCORING_VERDICT_SCORED;
  exports_mmhost_plugin_scoring_rating_t *rating = &verdict->val.scored;
  rating->total = best * penalty;
  rating->components.len = 2;
  rating->components.ptr = allocate(2, sizeof *rating->components.ptr);
  for (size_t i = 0; i < 2; i++) {
    reward_string_dup(&rating->components.ptr[i].name, COMPONENTS[i]);
    rating->components.ptr[i].value = values[i];
  }
}

bool exports_mmhost_plugin_scoring_describe(
    exports_mmhost_plugin_scoring_description_t *ret, exports_mmhost_plugin_scoring_config_error_t *err) {
  (void)err;
  reward_string_dup(&ret->summary, "similarity to the truth in edits of characters, discounted after a search");
  ret->lowest = 0.0;
  ret->highest = 1.0;
  ret->components.len = 2;
  ret->components.ptr = allocate(2, sizeof *ret->components.ptr);
  for (size_t i = 0; i < 2; i++) reward_string_dup(&ret->components.ptr[i], COMPONENTS[i]);
  return true;
}

bool exports_mmhost_plugin_scoring_score(
    exports_mmhost_plugin_scoring_list_episode_t *batch, exports_mmhost_plugin_scoring_list_verdict_t *ret,
    exports_mmhost_plugin_scoring_reward_error_t *err) {
  (void)err;
  config_t options = config();
  ret->len = batch->len;
  ret->ptr = allocate(batch->len, sizeof *ret->ptr);
  for (size_t i = 0; i < batch->len; i++) score(options, &batch->ptr[i], &ret->ptr[i]);
  exports_mmhost_plugin_scoring_list_episode_free(batch);
  return true;
}
