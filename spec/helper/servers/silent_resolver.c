/* SPDX-License-Identifier: MIT */
/*
 * Stands before libc (LD_PRELOAD): the name server does not answer for
 * "silent.test"; other names are looked up as ever.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *,
                   struct addrinfo **);

int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **result) {
  lookup *real;
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  if (node && strcmp(node, "silent.test") == 0) {
    sleep(3600);
    return EAI_AGAIN;
  }
  return real(node, service, hints, result);
}
