/* SPDX-License-Identifier: MIT */
#include "postgres/client/statement.h"

#include <stdio.h>

static const struct {
  const char *name, *function;
  int parameters;
} statements[] = {
#define ENTRY(name, function, n) {#name, function, n},
  STATEMENTS(ENTRY)
#undef ENTRY
};

const char *statement_name(enum statement s) {
  return statements[s].name;
}

/* Of the most frequent ones that answer one value: a function in FROM costs
   more. */
static bool is_value(enum statement s) {
  return s == STATEMENT_PUSH_RUN || s == STATEMENT_PUSH ||
         s == STATEMENT_DONE_RUN || s == STATEMENT_DONE;
}

void statement_text(enum statement s, const char *quoted_schema, bool relaxed,
                    char text[STATEMENT_TEXT]) {
  size_t size = STATEMENT_TEXT;
  bool value = is_value(s);
  int n = snprintf(text, size, "SELECT %s%s.%s(", value ? "" : "t.* FROM ",
                   quoted_schema, statements[s].function);
  for (int i = 1; i <= statements[s].parameters; i++)
    n += snprintf(text + n, size - (size_t)n, "%s$%d", i > 1 ? ", " : "", i);
  snprintf(text + n, size - (size_t)n, ")%s%s", value ? "" : " t",
           relaxed ? " WHERE set_config('synchronous_commit', 'off', true) "
           "<> ''" : "");
}
