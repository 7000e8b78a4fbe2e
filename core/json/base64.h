/* SPDX-License-Identifier: MIT */
/*
 * Base64 (RFC 4648, section 4), as JSON holds bytes.
 */
#ifndef BASE64_H
#define BASE64_H

#include "cbor/packer.h"

void base64_write(const void *bytes, size_t n, packer *out);

/* False when the text is not what base64_write would have made. */
bool base64_read(const char *text, size_t n, packer *out);

#endif
