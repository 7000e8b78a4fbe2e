/* SPDX-License-Identifier: MIT */
/*
 * Networks that requests may or may not go to. A list of them is shared by a
 * client and its requests, and freed with the last that holds it.
 */
#ifndef CURL_NETWORKS_H
#define CURL_NETWORKS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* An IPv4 address lies in ::ffff:0:0/96. */
typedef struct network {
  unsigned char address[16];
  unsigned bits;
} network;

typedef struct networks {
  size_t holders;
  size_t n_allow, n_deny;
  network list[]; /* those that are allowed, then those that are denied */
} networks;

/* One held list, its networks not set; NULL: no memory. */
networks *networks_new(size_t n_allow, size_t n_deny);
networks *networks_hold(networks *n); /* NULL is no list */
void networks_free(networks *n);

/* Reads "10.0.0.0/8", "fe80::/10", a single address, or "private": all that
   only a machine and its network should reach. `out` has room for
   networks_count(text). */
size_t networks_count(const char *text);
bool networks_read(const char *text, network *out);

/* Whether an address may be connected to: one that is allowed may, one that
   is denied may not; any other may unless there are only networks that are
   allowed. */
bool networks_allow(const networks *n, const struct sockaddr *address);
bool networks_allow_text(const networks *n, const char *address);

#endif
