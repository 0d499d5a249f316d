#include "reward.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

// The number of a key of the configuration, which the host writes as one JSON object without white space and with every key.
static double number(const char *key) {
  reward_string_t raw;
  mmhost_plugin_config_get(&raw);
  char *json = calloc(raw.len + 1, 1);
  if (json == NULL) abort();
  memcpy(json, raw.ptr, raw.len);
  const char *found = strstr(json, key);
  double number = found == NULL ? 0.0 : strtod(found + strlen(key), NULL);
  free(json);
  reward_string_free(&raw);
  return number;
}

static reward_string_t trim(reward_string_t text) {
  while (text.len > 0 && text.ptr[0] <= ' ') text.ptr++, text.len--;
  while (text.len > 0 && text.ptr[text.len - 1] <= ' ') text.len--;
  return text;
}

// Where `tag` stands in `text` from `from` on, or `text.len`.
static size_t find(reward_string_t text, const char *tag, size_t from) {
  size_t len = strlen(tag);
  for (size_t at = from; at + len <= text.len; at++) {
    if (memcmp(text.ptr + at, tag, len) == 0) return at;
  }
  return text.len;
}

// The answer of a turn. Several answers are none, or a policy would learn to give them all.
static reward_string_t answer(reward_string_t turn) {
  reward_string_t none = {0};
  size_t open = find(turn, "<answer>", 0), close = find(turn, "</answer>", 0);
  if (open == turn.len || close == turn.len || close < open) return none;
  if (find(turn, "<answer>", open + 1) != turn.len || find(turn, "</answer>", close + 1) != turn.len) return none;
  reward_string_t inside = {turn.ptr + open + strlen("<answer>"), close - open - strlen("<answer>")};
  return trim(inside);
}

static void score(double penalty, const exports_mmhost_plugin_scoring_episode_t *episode, exports_mmhost_plugin_scoring_verdict_t *verdict) {
  reward_string_t given = {0};
  if (episode->turns.len > 0) given = answer(episode->turns.ptr[episode->turns.len - 1]);
  bool has_truth = false, right = false;
  for (size_t i = 0; i <= episode->candidate_answers.len; i++) {
    reward_string_t truth = trim(i == 0 ? episode->ground_truth : episode->candidate_answers.ptr[i - 1]);
    if (truth.len == 0) continue;
    has_truth = true;
    if (truth.len == given.len && strncasecmp((char *)truth.ptr, (char *)given.ptr, truth.len) == 0) right = true;
  }
  if (!has_truth) {
    verdict->tag = EXPORTS_MMHOST_PLUGIN_SCORING_VERDICT_ABSTAINED;
    reward_string_dup(&verdict->val.abstained, "the sample has no reference answer");
    return;
  }
  verdict->tag = EXPORTS_MMHOST_PLUGIN_SCORING_VERDICT_SCORED;
  exports_mmhost_plugin_scoring_rating_t *rating = &verdict->val.scored;
  rating->total = right ? (episode->calls.len > 0 ? 1.0 - penalty : 1.0) : 0.0;
  rating->components.len = 1;
  rating->components.ptr = calloc(1, sizeof *rating->components.ptr);
  if (rating->components.ptr == NULL) abort();
  reward_string_dup(&rating->components.ptr[0].name, "accuracy");
  rating->components.ptr[0].value = right ? 1.0 : 0.0;
}

bool exports_mmhost_plugin_scoring_describe(
    exports_mmhost_plugin_scoring_description_t *ret, exports_mmhost_plugin_scoring_config_error_t *err) {
  (void)err;
  reward_string_dup(&ret->summary, "the right answer, cheaper");
  ret->lowest = 0.0;
  ret->highest = 1.0;
  ret->components.len = 1;
  ret->components.ptr = calloc(1, sizeof *ret->components.ptr);
  if (ret->components.ptr == NULL) abort();
  reward_string_dup(&ret->components.ptr[0], "accuracy");
  return true;
}

bool exports_mmhost_plugin_scoring_score(
    exports_mmhost_plugin_scoring_list_episode_t *batch, exports_mmhost_plugin_scoring_list_verdict_t *ret,
    exports_mmhost_plugin_scoring_reward_error_t *err) {
  (void)err;
  double penalty = number("\"search_penalty\":");
  ret->len = batch->len;
  ret->ptr = calloc(batch->len + 1, sizeof *ret->ptr);
  if (ret->ptr == NULL) abort();
  for (size_t i = 0; i < batch->len; i++) score(penalty, &batch->ptr[i], &ret->ptr[i]);
  exports_mmhost_plugin_scoring_list_episode_free(batch);
  return true;
}
