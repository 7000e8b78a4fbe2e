/* SPDX-License-Identifier: MIT */
/*
 * Calls a fuzz target with each of the files that are named: the corpus,
 * where there is no libFuzzer.
 */
#include <stdio.h>

#include "fuzz.h"

int main(int argc, char **argv) {
  static uint8_t bytes[1 << 20];
  for (int i = 1; i < argc; i++) {
    FILE *f = fopen(argv[i], "rb");
    if (!f) {
      perror(argv[i]);
      return EXIT_FAILURE;
    }
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    LLVMFuzzerTestOneInput(bytes, n);
  }
  printf("%d inputs\n", argc - 1);
  return EXIT_SUCCESS;
}
