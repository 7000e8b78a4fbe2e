/* SPDX-License-Identifier: MIT */
#include "networks.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char MAPPED[12] = { [10] = 0xff, [11] = 0xff };

static const char *const PRIVATE[] = {
  "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
  "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15",
  "224.0.0.0/3", "::/127", "64:ff9b::/32", "2002::/16", "fc00::/7", "fe80::/9",
  "ff00::/8",
};

#define PRIVATE_N (sizeof PRIVATE / sizeof *PRIVATE)

networks *networks_new(size_t n_allow, size_t n_deny) {
  networks *n = malloc(sizeof *n + (n_allow + n_deny) * sizeof(network));
  if (n)
    *n = (networks){ 1, n_allow, n_deny };
  return n;
}

networks *networks_hold(networks *n) {
  if (n)
    n->holders++;
  return n;
}

void networks_free(networks *n) {
  if (n && --n->holders == 0)
    free(n);
}

/* The number of bits in front of the address's own; 0 if it is none. */
static unsigned read_address(const char *text, unsigned char out[16],
                             bool *ok) {
  *ok = true;
  memcpy(out, MAPPED, sizeof MAPPED);
  if (inet_pton(AF_INET, text, out + sizeof MAPPED) == 1)
    return 8 * sizeof MAPPED;
  *ok = inet_pton(AF_INET6, text, out) == 1;
  return 0;
}

static bool read_one(const char *text, network *out) {
  char address[INET6_ADDRSTRLEN];
  size_t n = strcspn(text, "/");
  if (n >= sizeof address)
    return false;
  memcpy(address, text, n);
  address[n] = 0;
  bool ok;
  unsigned before = read_address(address, out->address, &ok);
  out->bits = 128;
  if (!ok || !text[n])
    return ok;
  char *end;
  const char *digits = text + n + 1;
  unsigned long bits = strtoul(digits, &end, 10);
  out->bits = before + (unsigned)bits;
  return *digits >= '0' && *digits <= '9' && !*end && bits <= 128 - before;
}

size_t networks_count(const char *text) {
  return strcmp(text, "private") ? 1 : PRIVATE_N;
}

bool networks_read(const char *text, network *out) {
  if (networks_count(text) == 1)
    return read_one(text, out);
  for (size_t i = 0; i < PRIVATE_N; i++)
    if (!read_one(PRIVATE[i], &out[i]))
      return false;
  return true;
}

static bool covers(const network *n, const unsigned char address[16]) {
  unsigned whole = n->bits / 8, rest = n->bits % 8;
  if (memcmp(n->address, address, whole))
    return false;
  return !rest || (n->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}

static bool in_any(const network *list, size_t n,
                   const unsigned char address[16]) {
  for (size_t i = 0; i < n; i++)
    if (covers(&list[i], address))
      return true;
  return false;
}

static bool may_connect(const networks *n, const unsigned char address[16]) {
  if (in_any(n->list, n->n_allow, address))
    return true;
  if (in_any(n->list + n->n_allow, n->n_deny, address))
    return false;
  return n->n_deny > 0 || n->n_allow == 0;
}

bool networks_allow(const networks *n, const struct sockaddr *address) {
  unsigned char bytes[16];
  if (address->sa_family == AF_INET) {
    const struct sockaddr_in *in = (const void *)address;
    memcpy(bytes, MAPPED, sizeof MAPPED);
    memcpy(bytes + sizeof MAPPED, &in->sin_addr, sizeof in->sin_addr);
  } else if (address->sa_family == AF_INET6) {
    memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)address)
                     ->sin6_addr, sizeof bytes);
  } else {
    return false;
  }
  return may_connect(n, bytes);
}

bool networks_allow_text(const networks *n, const char *address) {
  unsigned char bytes[16];
  bool ok;
  read_address(address, bytes, &ok);
  return ok && may_connect(n, bytes);
}
