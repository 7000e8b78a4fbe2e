/* SPDX-License-Identifier: MIT */
/*
 * The check of a store: the server verifies the invariants, this client every
 * checksum, page by page.
 */
#ifndef POSTGRES_CHECK_H
#define POSTGRES_CHECK_H

#include "postgres/env/env.h"

/* Packs a text for each finding, one after the other. */
int pg_check(pg_env *e, session *l, packer *findings);

#endif
