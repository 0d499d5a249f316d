#include "dataset_filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The number of a key of the configuration, which the host writes as one JSON object without white space and with every key.
static size_t number(const char *key) {
  dataset_filter_string_t raw;
  mmhost_plugin_config_get(&raw);
  char *json = calloc(raw.len + 1, 1);
  if (json == NULL) abort();
  memcpy(json, raw.ptr, raw.len);
  const char *found = strstr(json, key);
  size_t number = found == NULL ? 0 : strtoul(found + strlen(key), NULL, 10);
  free(json);
  dataset_filter_string_free(&raw);
  return number;
}

static void decide(size_t max_bytes, const exports_mmhost_plugin_filtering_sample_t *sample, exports_mmhost_plugin_filtering_decision_t *decision) {
  if (sample->ground_truth.len > max_bytes) {
    char reason[80];
    snprintf(reason, sizeof reason, "the answer has more than %zu bytes", max_bytes);
    decision->tag = EXPORTS_MMHOST_PLUGIN_FILTERING_DECISION_DROP;
    dataset_filter_string_dup(&decision->val.drop, reason);
    return;
  }
  decision->tag = EXPORTS_MMHOST_PLUGIN_FILTERING_DECISION_KEEP;
  decision->val.keep.len = sample->images.len > 0 ? 1 : 0;
  decision->val.keep.ptr = calloc(1, sizeof *decision->val.keep.ptr);
  if (decision->val.keep.ptr == NULL) abort();
  if (sample->images.len > 0) dataset_filter_string_dup(&decision->val.keep.ptr[0], "image");
}

bool exports_mmhost_plugin_filtering_describe(
    exports_mmhost_plugin_filtering_description_t *ret, exports_mmhost_plugin_filtering_config_error_t *err) {
  (void)err;
  dataset_filter_string_dup(&ret->summary, "drops samples with long answers");
  ret->tags.len = 1;
  ret->tags.ptr = calloc(1, sizeof *ret->tags.ptr);
  if (ret->tags.ptr == NULL) abort();
  dataset_filter_string_dup(&ret->tags.ptr[0], "image");
  return true;
}

bool exports_mmhost_plugin_filtering_filter(
    exports_mmhost_plugin_filtering_list_sample_t *batch, exports_mmhost_plugin_filtering_list_decision_t *ret,
    exports_mmhost_plugin_filtering_filter_error_t *err) {
  (void)err;
  size_t max_bytes = number("\"max_bytes\":");
  ret->len = batch->len;
  ret->ptr = calloc(batch->len + 1, sizeof *ret->ptr);
  if (ret->ptr == NULL) abort();
  for (size_t i = 0; i < batch->len; i++) decide(max_bytes, &batch->ptr[i], &ret->ptr[i]);
  exports_mmhost_plugin_filtering_list_sample_free(batch);
  return true;
}
