/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing JSON: any text gives CBOR or a fault that holds nothing of it; the
 * CBOR is written as JSON that gives the same bytes again. The same bytes as
 * CBOR give JSON in each form, or none; lossless JSON gives them back.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "cbor/utf8.h"
#include "json/json.h"

static void read_again(const json_form *form, const packer *text,
                       const void *cbor, size_t n) {
  packer again;
  json_fault fault = {NULL, 0};
  packer_init(&again);
  if (!json_read(form, (const char *)text->data, text->len, &again, &fault))
    abort();
  if (again.len != n || (n && memcmp(again.data, cbor, n))) abort();
  packer_free(&again);
}

static void write_each(const void *cbor, size_t n) {
  static const json_form forms[] = {
    {0}, {.sorted = true, .indent = 2}, {.limit = 10}, {.lossless = true},
  };
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    packer text;
    packer_init(&text);
    bool ok = json_write(&forms[i], cbor, n, &text);
    if (ok && !utf8_valid(text.data, text.len)) abort();
    if (ok && forms[i].lossless) read_again(&forms[i], &text, cbor, n);
    packer_free(&text);
  }
}

static void read_text(const char *text, size_t n) {
  json_form form = {0};
  packer cbor;
  json_fault fault = {NULL, 0};
  packer_init(&cbor);
  if (json_read(&form, text, n, &cbor, &fault))
    write_each(cbor.data, cbor.len);
  else if (!fault.why || fault.at > n + 1)
    abort();
  packer_free(&cbor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  read_text((const char *)data, n);
  write_each(data, n);
  return 0;
}
