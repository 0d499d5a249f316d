#include "search_tool.h"

#include <stdlib.h>
#include <string.h>

// The value of a key of the configuration, which the host writes as one JSON object without white space and with every key.
static const char *value(const char *json, const char *key) {
  const char *found = strstr(json, key);
  return found == NULL ? "" : found + strlen(key);
}

// The configuration as a C string, to be freed.
static char *config(void) {
  search_tool_string_t raw;
  mmhost_plugin_config_get(&raw);
  char *json = calloc(raw.len + 1, 1);
  if (json == NULL) abort();
  memcpy(json, raw.ptr, raw.len);
  search_tool_string_free(&raw);
  return json;
}

bool exports_mmhost_plugin_tool_describe(
    exports_mmhost_plugin_tool_description_t *ret, exports_mmhost_plugin_tool_config_error_t *err) {
  (void)err;
  char *json = config();
  search_tool_string_dup(&ret->name, "{{name}}");
  search_tool_string_dup(&ret->description, "search for a passage");
  // The policy writes <{{name}}>QUERY</{{name}}>.
  ret->call.tag = EXPORTS_MMHOST_PLUGIN_TOOL_CALL_FORM_TAG;
  search_tool_string_dup(&ret->call.val.tag, "{{name}}");
  ret->max_calls = (uint32_t)strtoul(value(json, "\"max_calls\":"), NULL, 10);
  search_tool_string_dup(&ret->instruction, "Answer now.");
  ret->needs_image = false;
  free(json);
  return true;
}

bool exports_mmhost_plugin_tool_call(
    exports_mmhost_plugin_tool_call_input_t *input, exports_mmhost_plugin_tool_list_part_t *ret,
    exports_mmhost_plugin_tool_tool_error_t *err) {
  // The policy in training writes anything, of any length. A cut must not tear a character in two.
  search_tool_string_t query = input->argument;
  while (query.len > 0 && (query.ptr[0] <= ' ')) query.ptr++, query.len--;
  if (query.len > 200) query.len = 200;
  while (query.len > 0 && input->argument.ptr + input->argument.len > query.ptr + query.len && (query.ptr[query.len] & 0xc0) == 0x80) query.len--;
  bool ok = false;
  mmhost_plugin_corpus_list_hit_t hits = {0};
  mmhost_plugin_corpus_corpus_error_t failed;
  char *json = config();
  const char *name = value(json, "\"corpus\":\"");
  search_tool_string_t corpus = {(uint8_t *)name, strcspn(name, "\"")};
  if (query.len == 0) {
    err->tag = EXPORTS_MMHOST_PLUGIN_TOOL_TOOL_ERROR_BAD_ARGUMENT;
    search_tool_string_dup(&err->val.bad_argument, "the query is empty");
  } else if (!mmhost_plugin_corpus_search_text(&corpus, &query, 1, &hits, &failed)) {
    err->tag = EXPORTS_MMHOST_PLUGIN_TOOL_TOOL_ERROR_UNAVAILABLE;
    search_tool_string_dup(&err->val.unavailable, "the corpus does not answer");
    mmhost_plugin_corpus_corpus_error_free(&failed);
  } else if (hits.len == 0 || hits.ptr[0].text.len == 0) {
    err->tag = EXPORTS_MMHOST_PLUGIN_TOOL_TOOL_ERROR_NOTHING_FOUND;
  } else {
    ret->len = 1;
    ret->ptr = calloc(1, sizeof *ret->ptr);
    if (ret->ptr == NULL) abort();
    ret->ptr[0].tag = EXPORTS_MMHOST_PLUGIN_TOOL_PART_TEXT;
    search_tool_string_dup_n(&ret->ptr[0].val.text, (char *)hits.ptr[0].text.ptr, hits.ptr[0].text.len);
    ok = true;
  }
  free(json);
  mmhost_plugin_corpus_list_hit_free(&hits);
  exports_mmhost_plugin_tool_call_input_free(input);
  return ok;
}
