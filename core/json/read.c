/* SPDX-License-Identifier: MIT */
/*
 * Reading JSON with jansson; see json.h. The tree that jansson makes takes many
 * times the text's size, and its parser calls itself for each level: so
 * values and levels are counted first, and a text with too many is refused.
 */
#include "json/json.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

#include "base/decimal.h"
#include "json/base64.h"

#define EXACT 9007199254740992.0 /* 2^53 */
#define LOSSLESS_DEPTH (3 * JSON_DEPTH + 8) /* $map: three levels for one */

typedef struct reader {
  const json_form *form;
  packer *out;
  json_fault *fault;
} reader;

static bool refuse(json_fault *fault, const char *why, size_t at) {
  *fault = (json_fault){why, at};
  return false;
}


/* ---- bounds ------------------------------------------------------------ */

/* Behind a string that begins at `at`. */
static const char *skip_string(const char *at, const char *end) {
  for (at++; at < end && *at != '"'; at++)
    if (*at == '\\') at++;
  return at < end ? at : end;
}

static bool check_bounds(const json_form *form, const char *text, size_t n,
                         json_fault *fault) {
  int depth = 0, most = form->lossless ? LOSSLESS_DEPTH : JSON_DEPTH;
  size_t values = 0;
  const char *end = text + n, *nul = memchr(text, '\0', n);
  if (nul) /* jansson skips a NUL behind a number */
    return refuse(fault, "a NUL", (size_t)(nul - text) + 1);
  for (const char *at = text; at < end; at++) {
    if (*at == '"') {
      at = skip_string(at, end);
    } else if (*at == '[' || *at == '{') {
      values++;
      if (++depth > most)
        return refuse(fault, form->lossless ? "nested too deep"
                      : "nested deeper than 64", (size_t)(at - text) + 1);
    } else if (*at == ']' || *at == '}') {
      depth--;
    } else if (*at == ',' && ++values > JSON_VALUES) {
      return refuse(fault, "more than 4,194,304 values",
                    (size_t)(at - text) + 1);
    }
  }
  return true;
}


/* ---- jansson ----------------------------------------------------------- */

static const char *reason(enum json_error_code code) {
  switch (code) {
    case json_error_out_of_memory: return "not enough memory";
    case json_error_stack_overflow: return "nested too deep";
    case json_error_invalid_utf8: return "not UTF-8";
    case json_error_premature_end_of_input: return "it ends too early";
    case json_error_end_of_input_expected:
      return "it goes on behind its value";
    case json_error_null_byte_in_key: return "a name with U+0000";
    default: return "a syntax error";
  }
}

/* An overflow is recognised by the words of jansson, which hold a part of the
   text as well. */
static const char *which_number(const json_error_t *e) {
  return strstr(e->text, "real number") ? "a number beyond what a double holds"
    : "a whole number beyond what Lua holds";
}

static json_t *load(const json_form *form, const char *text, size_t n,
                    json_fault *fault) {
  json_error_t e;
  if (!check_bounds(form, text, n, fault)) return NULL;
  void *before = decimal_enter(); /* jansson asks the locale */
  json_t *j = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
  decimal_leave(before);
  if (j) return j;
  enum json_error_code code = json_error_code(&e);
  refuse(fault, code == json_error_numeric_overflow ? which_number(&e)
         : reason(code), e.position > 0 ? (size_t)e.position : 0);
  return NULL;
}


/* ---- values ------------------------------------------------------------ */

static bool put(reader *r, json_t *j);

static bool put_integer(reader *r, int64_t v) {
  int64_t largest = r->form->largest;
  if (largest && (v > largest || v < -largest))
    return refuse(r->fault, "a whole number beyond what Lua holds", 0);
  pack_int(r->out, v);
  return true;
}

/* Whole numbers are integers, however they are written. */
static bool put_real(reader *r, double v) {
  bool whole = fabs(v) <= EXACT && v == trunc(v) && !(v == 0 && signbit(v));
  if (whole && !r->form->lossless) return put_integer(r, (int64_t)v);
  pack_double(r->out, v);
  return true;
}

static bool put_array(reader *r, json_t *j) {
  size_t n = json_array_size(j);
  pack_array(r->out, n);
  for (size_t i = 0; i < n; i++)
    if (!put(r, json_array_get(j, i))) return false;
  return true;
}

static bool put_map(reader *r, json_t *j) {
  const char *name;
  json_t *value;
  pack_map(r->out, json_object_size(j));
  json_object_foreach(j, name, value) {
    pack_text(r->out, name, strlen(name));
    if (!put(r, value)) return false;
  }
  return true;
}

static bool misunderstood(reader *r) {
  return refuse(r->fault, "a '$' that is not understood", 0);
}

static bool put_pairs(reader *r, json_t *list) {
  size_t n = json_array_size(list);
  if (!json_is_array(list)) return misunderstood(r);
  pack_map(r->out, n);
  for (size_t i = 0; i < n; i++) {
    json_t *pair = json_array_get(list, i);
    if (json_array_size(pair) != 2) return misunderstood(r);
    if (!put(r, json_array_get(pair, 0)) || !put(r, json_array_get(pair, 1)))
      return false;
  }
  return true;
}

static bool put_base64(reader *r, json_t *text) {
  size_t n = json_string_length(text);
  if (!json_is_string(text)) return misunderstood(r);
  packer bytes;
  packer_init(&bytes);
  bool ok = base64_read(json_string_value(text), n, &bytes);
  if (ok) pack_bytes(r->out, bytes.data, bytes.len);
  packer_free(&bytes);
  return ok ? true : misunderstood(r);
}

static bool put_float(reader *r, json_t *text) {
  double v;
  if (!json_is_string(text) || !decimal_read(json_string_value(text), &v))
    return misunderstood(r);
  pack_double(r->out, v);
  return true;
}

static const struct {
  const char *name;
  bool (*put)(reader *r, json_t *value);
} TAGS[] = {
  {"$base64", put_base64}, {"$float", put_float}, {"$map", put_pairs},
};

/* An object of lossless JSON, one of whose names begins with '$'. */
static bool put_tagged(reader *r, json_t *j, const char *name) {
  for (size_t i = 0; i < sizeof TAGS / sizeof *TAGS; i++)
    if (strcmp(TAGS[i].name, name) == 0 && json_object_size(j) == 1)
      return TAGS[i].put(r, json_object_get(j, name));
  return misunderstood(r);
}

static const char *tag_of(json_t *j) {
  const char *name;
  json_t *value;
  json_object_foreach(j, name, value)
    if (*name == '$') return name;
  return NULL;
}

static bool put_object(reader *r, json_t *j) {
  const char *tag = r->form->lossless ? tag_of(j) : NULL;
  return tag ? put_tagged(r, j, tag) : put_map(r, j);
}

static bool put(reader *r, json_t *j) {
  switch (json_typeof(j)) {
    case JSON_OBJECT: return put_object(r, j);
    case JSON_ARRAY: return put_array(r, j);
    case JSON_INTEGER: return put_integer(r, json_integer_value(j));
    case JSON_REAL: return put_real(r, json_real_value(j));
    case JSON_STRING:
      pack_text(r->out, json_string_value(j), json_string_length(j));
      return true;
    case JSON_NULL: pack_null(r->out); return true;
    default: pack_bool(r->out, json_is_true(j)); return true;
  }
}

static bool put_into(const json_form *form, json_t *j, packer *out,
                     json_fault *fault) {
  reader r = {form, out, fault};
  if (!put(&r, j)) return false;
  return out->rc == 0 || refuse(fault, "not enough memory", 0);
}

bool json_read(const json_form *form, const char *text, size_t n, packer *out,
               json_fault *fault) {
  json_t *j = load(form, text, n, fault);
  bool ok = j && put_into(form, j, out, fault);
  json_decref(j);
  return ok;
}

static bool split(const json_form *form, json_t *j, packer *out,
                  const char *const *names, packer *parts, size_t count,
                  json_fault *fault) {
  if (!json_is_object(j)) return refuse(fault, "no object", 0);
  for (size_t i = 0; i < count; i++) {
    json_t *part = json_object_get(j, names[i]);
    if (part && !put_into(form, part, &parts[i], fault)) return false;
    json_object_del(j, names[i]);
  }
  return put_into(form, j, out, fault);
}

bool json_split(const json_form *form, const char *text, size_t n,
                packer *out, const char *const *names, packer *parts,
                size_t count, json_fault *fault) {
  json_t *j = load(form, text, n, fault);
  bool ok = j && split(form, j, out, names, parts, count, fault);
  json_decref(j);
  return ok;
}
