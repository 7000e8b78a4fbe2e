/* SPDX-License-Identifier: MIT */
/*
 * The statements that are sent: each a call of one function of the schema.
 * Types of parameters are left to the server, which knows the functions.
 */
#ifndef STATEMENT_H
#define STATEMENT_H

#include <stdbool.h>

/* name, function, parameters */
#define STATEMENTS(X) \
  X(PUSH, "v1_push", 26) X(PUSH_RUN, "v1_push_run", 12) \
  X(PUSH_DEAD, "v1_push_dead", 11) X(TAKE, "v1_take", 9) \
  X(DONE, "v1_done", 11) X(DONE_RUN, "v1_done_run", 9) \
  X(SETTLE, "v1_settle", 36) \
  X(EXTEND, "v1_extend", 6) X(EXPIRE, "v1_expire", 6) \
  X(OBSERVE, "v1_observe", 7) X(RESOLVE, "v1_resolve", 2) \
  X(IDS, "v1_ids", 0) X(TOKENS, "v1_tokens", 0) X(SEEN, "v1_seen", 4) \
  X(META, "v1_meta", 1) X(QUEUE, "v1_queue", 1) \
  X(QUEUE_SAVE, "v1_queue_save", 36) X(QUEUE_PAUSE, "v1_queue_pause", 2) \
  X(QUEUE_HOLD, "v1_queue_hold", 5) X(QUEUE_DROP, "v1_queue_drop", 5) \
  X(FLOW_NOTE, "v1_flow_note", 10) X(FLOW, "v1_flow", 1) \
  X(PARTITIONS, "v1_partitions", 5) X(NAMES, "v1_names", 1) \
  X(STAT, "v1_stat", 2) X(PEEK, "v1_peek", 3) X(GET, "v1_get", 2) \
  X(BROWSE, "v1_browse", 8) X(HISTORY, "v1_history", 4) \
  X(LEASES, "v1_leases", 2) X(HELD, "v1_held", 3) X(LIVE, "v1_live", 2) \
  X(RESULTS, "v1_results", 4) X(RESULT, "v1_result", 2) \
  X(AWAITED, "v1_awaited", 1) \
  X(RUN_NOW, "v1_run_now", 6) X(KILL, "v1_kill", 13) \
  X(MOVE, "v1_move", 12) X(EDIT, "v1_edit", 10) \
  X(CANCEL, "v1_cancel", 6) \
  X(REMOVE, "v1_remove", 7) X(PURGE, "v1_purge", 4) \
  X(DEAD_GET, "v1_dead_get", 2) X(KEY, "v1_key", 2) \
  X(GET_KEY, "v1_get_key", 2) \
  X(DEAD_LIST, "v1_dead_list", 7) X(DEAD_COUNT, "v1_dead_count", 1) \
  X(DEAD_GROUPS, "v1_dead_groups", 2) X(DEAD_REMOVE, "v1_dead_remove", 5) \
  X(DEAD_PURGE, "v1_dead_purge", 5) X(REPLAY_LOAD, "v1_replay_load", 1) \
  X(REPLAY_SAVE, "v1_replay_save", 5) \
  X(REPLAY_REMOVE, "v1_replay_remove", 1) X(NOTE_SAVE, "v1_note_save", 4) \
  X(ENTRY_SAVE, "v1_entry_save", 6) X(ENTRIES, "v1_entries", 2) \
  X(NOTE_LOAD, "v1_note_load", 1) X(MAINTAIN, "v1_maintain", 3) \
  X(FORGET_CALLS, "v1_forget_calls", 1) X(HORIZON, "v1_horizon", 0) \
  X(CHECK, "v1_check", 0) X(SCAN, "v1_scan", 2) \
  X(SCAN_HISTORY, "v1_scan_history", 4) X(SCAN_DEAD, "v1_scan_dead", 3) \
  X(SCAN_REPLAYS, "v1_scan_replays", 0) \
  X(STORE, "v1_store", 0) X(UNDO, "v1_undo", 0) \
  X(PROBE_WRITE, "v1_probe_write", 0) X(PROBE_READ, "v1_probe_read", 0) \
  X(BELL, "v1_bell", 2) \
  X(RING, "v1_ring", 1) X(CHANNEL, "v1_channel", 0) X(GRANT, "v1_grant", 0)

enum statement {
#define ENUM(name, function, n) STATEMENT_##name,
  STATEMENTS(ENUM)
#undef ENUM
  STATEMENT_COUNT
};

#define STATEMENT_TEXT 512

const char *statement_name(enum statement s);

/* The query that calls "schema".function($1, ...), into `text`. `relaxed`: its
   commit does not wait for the disk. */
void statement_text(enum statement s, const char *quoted_schema, bool relaxed,
                    char text[STATEMENT_TEXT]);

#endif
