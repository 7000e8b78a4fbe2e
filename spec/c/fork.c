/* SPDX-License-Identifier: MIT */
/*
 * A fork while a store is open, a batch kept by a thread, a ticket not looked
 * after yet, buffers that cannot be flushed, one of them freed, and another
 * thread in the middle of its pushes. In the child every verb answers FORKED
 * and freeing what it inherited harms nobody; a store that it opens itself
 * works. Prints what does not hold, in either process.
 */
#include <pthread.h>
#include <sys/wait.h>

#include "holds.h"

enum { CHILDREN = 12, LEASE = 6000 };

/* Everything the parent holds at the fork. */
static respool *s;
static respool_queue *q, *little;
static respool_buffer *buffer;
static respool_batch *batch;
static respool_page *page;
static respool_ticket *ticket;
static respool_dead_letters *dead_letters;
static atomic_int enough;
static atomic_uint_fast64_t pushed_beside;

static const respool_payload item = {.body = {"an item", 7}};

#define FORKED(call) HOLDS((call) == RESPOOL_FORKED)


/* ---- in the child ------------------------------------------------------ */

static int any_name(void *arg, const char *name) {
  (void)arg;
  (void)name;
  return 1;
}

static int any_group(void *arg, const respool_dead_group *g) {
  (void)arg;
  return g->count > 0;
}

static void the_store_is_the_parents(void) {
  respool_store_stats stats = RESPOOL_STORE_STATS_INIT;
  respool_queue *other = NULL;
  FORKED(respool_flush(s));
  FORKED(respool_advance(s, 1));
  FORKED(respool_sleep(s, 1));
  FORKED(respool_store_stat(s, &stats));
  FORKED(respool_queues(s, any_name, NULL));
  FORKED(respool_dead_letter_queues(s, any_name, NULL));
  FORKED(respool_check(s, any_name, NULL));
  FORKED(respool_queue_open(s, "q", NULL, &other));
  FORKED(respool_queue_drop(s, "q"));
  HOLDS(!other && strstr(respool_error_text(), "open it again"));
}

static void the_queue_is_the_parents(void) {
  respool_queue_options o;
  respool_queue_stats stats = RESPOOL_QUEUE_STATS_INIT;
  respool_cursor at = {0};
  respool_page *p = NULL;
  respool_batch *taken = NULL;
  FORKED(respool_queue_config(q, &o, NULL, NULL, NULL));
  FORKED(respool_queue_pause(q, 1));
  FORKED(respool_queue_stat(q, &stats));
  FORKED(respool_push(q, &item, 1, NULL, NULL));
  FORKED(respool_peek(q, 1, &p));
  FORKED(respool_get(q, 1, &p));
  FORKED(respool_browse(q, -1, 1, &at, &p));
  FORKED(respool_remove(q, 1));
  FORKED(respool_purge(q, NULL));
  FORKED(respool_take(q, NULL, &taken));
  HOLDS(!p && !taken);
}

static void the_batch_is_the_parents(void) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  done.kind = RESPOOL_DONE;
  FORKED(respool_batch_mark(batch, 0, &done));
  FORKED(respool_batch_mark_rest(batch, &done));
  FORKED(respool_batch_settle(batch, NULL, NULL));
  FORKED(respool_batch_extend(batch, 1000));
  FORKED(respool_batch_keep(batch));
}

static void the_dead_letters_are_the_parents(void) {
  const respool_purge_options all = RESPOOL_PURGE_OPTIONS_INIT;
  const respool_move_options back = RESPOOL_MOVE_OPTIONS_INIT;
  respool_replay replay = RESPOOL_REPLAY_INIT;
  respool_move move = {.number = 1};
  respool_dead_letters *l = NULL;
  uint64_t n = 1;
  strcpy(replay.name, "job");
  FORKED(respool_dead_list(s, "q", NULL, &l));
  FORKED(respool_dead_get(s, "q", 1, &l));
  FORKED(respool_dead_count(s, "q", &n));
  FORKED(respool_dead_groups(s, "q", any_group, NULL));
  FORKED(respool_dead_remove(s, "q", &n, 1, &n));
  FORKED(respool_dead_purge(s, "q", &all, &n));
  FORKED(respool_dead_move(s, "q", &move, 1, &back, &n));
  FORKED(respool_replay_load(s, "job", &replay));
  FORKED(respool_replay_save(s, &replay));
  FORKED(respool_replay_remove(s, "job"));
  FORKED(respool_replays(s, any_name, NULL));
  HOLDS(!l && n == 1);
}

static int any_buffer(void *arg, const char *queue,
                      const respool_buffer_stats *stats) {
  (void)arg;
  return queue && stats;
}

static void the_buffers_are_the_parents(void) {
  respool_buffer_stats stats = RESPOOL_BUFFER_STATS_INIT;
  FORKED(respool_buffer_push(buffer, &item, NULL));
  FORKED(respool_buffer_flush(buffer));
  FORKED(respool_buffer_stat(buffer, &stats));
  FORKED(respool_buffers_flush(s));
  FORKED(respool_buffers(s, any_buffer, NULL));
}

static int no_call(void *arg) {
  (void)arg;
  return 0;
}

static void the_ticket_is_the_parents(void) {
  respool_ticket *t = NULL;
  HOLDS(respool_ticket_poll(ticket)); /* ready to say: */
  FORKED(respool_ticket_finish(ticket, NULL));
  FORKED(respool_push_start(q, &item, 1, NULL, &t));
  FORKED(respool_take_start(q, NULL, &t));
  FORKED(respool_batch_settle_start(batch, NULL, &t));
  FORKED(respool_batch_extend_start(batch, 1000, &t));
  FORKED(respool_flush_start(s, &t));
  FORKED(respool_call(s, no_call, NULL, NULL, &t));
  HOLDS(!t);
}

/* What was read is the child's own copy. */
static void free_all(void) {
  HOLDS(respool_batch_length(batch) == 1);
  HOLDS(respool_page_item(page, 0)->body.size == item.body.size);
  HOLDS(respool_dead_letters_length(dead_letters) == 1);
  respool_batch_unkeep(batch);
  respool_batch_free(batch);
  respool_page_free(page);
  respool_dead_letters_free(dead_letters);
  respool_ticket_free(ticket);
  respool_buffer_free(buffer);
  respool_queue_free(little);
  respool_queue_free(q);
  respool_close(s);
}

static void a_store_of_its_own_works(const char *dir) {
  respool *own = NULL;
  respool_queue *mine = NULL;
  respool_batch *taken = NULL;
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  WORKS(respool_open(dir, NULL, &own));
  if (!own) return;
  WORKS(respool_queue_open(own, "children", NULL, &mine));
  WORKS(respool_push(mine, &item, 1, NULL, NULL));
  WORKS(respool_take(mine, NULL, &taken));
  HOLDS(respool_batch_length(taken) == 1);
  done.kind = RESPOOL_DONE;
  WORKS(respool_batch_keep(taken));
  WORKS(respool_batch_mark_rest(taken, &done));
  WORKS(respool_batch_settle(taken, NULL, NULL));
  respool_batch_free(taken);
  respool_queue_free(mine);
  respool_close(own);
}

/* Odd children open before they free what they inherited, as one does who
   forks and forgets. */
static void be_child(const char *dir, int n) {
  wrong = 0; /* so far, in this process */
  alarm(300); /* a lock that stayed held is a failure, not a hang */
  the_store_is_the_parents();
  the_queue_is_the_parents();
  the_batch_is_the_parents();
  the_dead_letters_are_the_parents();
  the_ticket_is_the_parents();
  the_buffers_are_the_parents();
  if (n % 2) a_store_of_its_own_works(dir);
  free_all();
  if (n % 2 == 0) a_store_of_its_own_works(dir);
  fflush(stdout);
  _exit(exit_status());
}


/* ---- in the parent ----------------------------------------------------- */

/* ASan's allocator does not hand its locks over to a child: a fork while a
   thread allocates leaves the child with a lock that nobody frees. Only there
   the thread beside stands still during a fork. */
#ifdef __SANITIZE_ADDRESS__
static pthread_mutex_t allocating = PTHREAD_MUTEX_INITIALIZER;
#define ALLOCATOR_LOCK() pthread_mutex_lock(&allocating)
#define ALLOCATOR_UNLOCK() \
  do { /* and the other gets its turn */ \
    pthread_mutex_unlock(&allocating); \
    usleep(100); \
  } while (0)
#else
#define ALLOCATOR_LOCK() ((void)0)
#define ALLOCATOR_UNLOCK() ((void)0)
#endif

static void *push_beside(void *arg) {
  (void)arg;
  while (!enough) {
    ALLOCATOR_LOCK();
    WORKS(respool_push(q, &item, 1, NULL, NULL));
    pushed_beside++;
    ALLOCATOR_UNLOCK();
  }
  return NULL;
}

/* A buffer that was freed with two items for which there is no room, and one
   in use with three. */
static void fill_buffers(void) {
  respool_queue_options none = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_buffer_options o = RESPOOL_BUFFER_OPTIONS_INIT;
  none.max_items = 0;
  o.interval = 1;
  WORKS(respool_queue_open(s, "little", &none, &little));
  WORKS(respool_buffer_open(little, &o, &buffer));
  for (int i = 0; i < 2; i++) WORKS(respool_buffer_push(buffer, &item, NULL));
  respool_buffer_free(buffer);
  WORKS(respool_buffer_open(little, &o, &buffer));
  for (int i = 0; i < 3; i++) WORKS(respool_buffer_push(buffer, &item, NULL));
}

/* One item leased and kept, one dead letter, one page. */
static void set_up(const char *dir) {
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_outcome dead = RESPOOL_OUTCOME_INIT;
  o.lease = LEASE;
  dead.kind = RESPOOL_DEAD;
  WORKS(respool_open(dir, NULL, &s));
  WORKS(respool_queue_open(s, "q", &o, &q));
  for (int i = 0; i < 2; i++) WORKS(respool_push(q, &item, 1, NULL, NULL));
  WORKS(respool_take(q, NULL, &batch));
  WORKS(respool_batch_mark_rest(batch, &dead));
  WORKS(respool_batch_settle(batch, NULL, NULL));
  respool_batch_free(batch);
  WORKS(respool_take(q, NULL, &batch));
  WORKS(respool_batch_keep(batch));
  WORKS(respool_get(q, 2, &page));
  WORKS(respool_dead_list(s, "q", NULL, &dead_letters));
  WORKS(respool_push_start(q, &item, 1, NULL, &ticket));
  fill_buffers();
}

static void bear_children(const char *dir) {
  fflush(stdout);
  for (int i = 0; i < CHILDREN && !wrong; i++) {
    int status = -1;
    pid_t child;
    ALLOCATOR_LOCK();
    child = fork();
    if (child == 0) be_child(dir, i);
    ALLOCATOR_UNLOCK();
    waitpid(child, &status, 0);
    HOLDS(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
}

/* Until the lease of the item that is held ends. */
static int64_t lease_end(void) {
  respool_page *p = NULL;
  WORKS(respool_get(q, 2, &p));
  int64_t end = p ? respool_page_item(p, 0)->about->visible_at : INT64_MAX;
  respool_page_free(p);
  return end;
}

static void the_parent_goes_on(void) {
  respool_queue_stats stats = RESPOOL_QUEUE_STATS_INIT;
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  done.kind = RESPOOL_DONE;
  int64_t first = lease_end();
  while (lease_end() <= first) usleep(20000); /* its thread keeps the lease */
  HOLDS(respool_ticket_poll(ticket));
  WORKS(respool_ticket_finish(ticket, NULL));
  WORKS(respool_batch_mark_rest(batch, &done));
  WORKS(respool_batch_settle(batch, NULL, NULL));
  WORKS(respool_queue_stat(q, &stats));
  HOLDS(stats.pushed == pushed_beside + 3);
  HOLDS(stats.ready == pushed_beside + 1);
  HOLDS(stats.done == 1 && stats.dead == 1 && stats.crashed == 0);
  WORKS(respool_check(s, no_finding, NULL));
}

static void each_buffered_item_is_there_once(void) {
  respool_queue_options any = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_queue_stats stats = RESPOOL_QUEUE_STATS_INIT;
  respool_queue *large = NULL;
  any.max_items = RESPOOL_UNLIMITED;
  WORKS(respool_queue_open(s, "little", &any, &large));
  WORKS(respool_buffers_flush(s));
  WORKS(respool_queue_stat(large, &stats));
  HOLDS(stats.pushed == 5);
  respool_queue_free(large);
}

static void the_children_did_their_work(void) {
  respool_queue *theirs = NULL;
  respool_queue_stats stats = RESPOOL_QUEUE_STATS_INIT;
  WORKS(respool_queue_open(s, "children", NULL, &theirs));
  WORKS(respool_queue_stat(theirs, &stats));
  HOLDS(stats.pushed == CHILDREN && stats.done == CHILDREN);
  respool_queue_free(theirs);
}

int main(void) {
  const char *dir = fresh_dir();
  pthread_t beside;
  setvbuf(stdout, NULL, _IOLBF, 0);
  set_up(dir);
  if (!wrong) {
    pthread_create(&beside, NULL, push_beside, NULL);
    while (!pushed_beside) usleep(1000); /* it has begun to push */
    bear_children(dir);
    enough = 1;
    pthread_join(beside, NULL);
    CHECK(the_parent_goes_on());
    CHECK(each_buffered_item_is_there_once());
    CHECK(the_children_did_their_work());
    free_all();
  }
  remove_dir(dir);
  return exit_status();
}
