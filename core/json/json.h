/* SPDX-License-Identifier: MIT */
/*
 * JSON (RFC 8259) as CBOR and back, with no other form of the value between.
 * jansson reads; writing needs no tree, so it is done here.
 *
 * Plain JSON is for people and other programs: a value that JSON does not have
 * is written as the nearest that it has. Lossless JSON gives the same bytes of
 * CBOR again, or is not written at all; doc/archive.md has its notation.
 */
#ifndef JSON_H
#define JSON_H

#include "cbor/packer.h"

#define JSON_DEPTH 64             /* containers in one another */
#define JSON_VALUES (1 << 22)     /* in one text: jansson's tree takes up to
                                     300 bytes for each */

/* Why a text is refused, in words that hold nothing of it, and behind which
   byte of it; 0: not known. */
typedef struct json_fault {
  const char *why;
  size_t at;
} json_fault;

typedef struct json_form {
  bool lossless;
  bool whole;      /* lossless but for floats that are whole numbers, which
                      become integers */
  bool sorted;     /* maps by their keys, not as they are stored */
  int indent;      /* spaces a level, over several lines; 0: in one line */
  size_t limit;    /* bytes after which the text is cut off; 0: none */
  int64_t largest; /* integers read; 0: any of 64 bits */
} json_form;

/* Appends the CBOR of a text. Of a name that an object has twice the last
   counts. False: the fault is set, `out` holds anything. */
bool json_read(const json_form *form, const char *text, size_t n, packer *out,
               json_fault *fault);

/* The same of an object without the members named, whose CBOR is appended to
   the packer of each; an empty one: there is no such member. */
bool json_split(const json_form *form, const char *text, size_t n,
                packer *out, const char *const *names, packer *parts,
                size_t count, json_fault *fault);

/* Appends the JSON of one item of CBOR. False when it is malformed, nested too
   deep, or cannot be written so that nothing is lost. */
bool json_write(const json_form *form, const void *cbor, size_t n,
                packer *out);

#endif
