/* SPDX-License-Identifier: MIT */
/*
 * XXH3 of xxHash. Where its library chooses the code at run time, that is
 * taken: with AVX2 and more it reads memory four times as fast as with SSE2,
 * and every payload is read by it twice.
 */
#ifndef HASH_H
#define HASH_H

#if defined(__x86_64__) && defined(__has_include)
#if __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif
#endif
#include <xxhash.h>

#endif
