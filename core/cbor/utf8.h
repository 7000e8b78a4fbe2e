/* SPDX-License-Identifier: MIT */
/*
 * Validation of UTF-8.
 */
#ifndef UTF8_H
#define UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bits that no byte of ASCII has, in a word. */
#define NOT_ASCII UINT64_C(0x8080808080808080)

/* True when the bytes are valid UTF-8 (RFC 3629: no surrogates, nothing
   over U+10FFFF, no overlong forms). */
bool utf8_valid(const void *data, size_t n);

#endif
