/* SPDX-License-Identifier: MIT */
/*
 * The disk; see disk.h.
 */
#include "disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { SECTOR = 512, FILES = 1024, NAMES = 8, SYNCS = 64 };
#define META_END 8192 /* LMDB's two meta pages come first */

/* A change not synced; a write is cut into sectors when states are made. */
typedef struct change {
  uint32_t kind;
  uint64_t offset, size;
  const uint8_t *bytes;
} change;

typedef struct changes {
  change *of;
  size_t n, room;
} changes;

typedef struct file {
  uint8_t *base, *image; /* certain; as of the last cut */
  uint64_t size, image_size, room;
  changes pending;
  bool chosen; /* in the last cut by some name */
} file;

typedef struct name {
  char name[EVENT_NAME];
  uint32_t file; /* 0: none */
} name;

typedef struct names {
  name of[NAMES];
} names;

typedef struct flush {
  uint32_t sync; /* its number; 0: none */
  uint32_t file; /* or the directory */
  size_t covers; /* so many of the changes */
} flush;

struct disk {
  file files[FILES];
  names base, cut;
  event moves[NAMES * 4];
  size_t n_moves;
  flush syncs[SYNCS];
  uint64_t chance;
};

static void *must_have(void *p) {
  if (p) return p;
  perror("memory");
  exit(EXIT_FAILURE);
}

disk *disk_new(void) {
  return must_have(calloc(1, sizeof(disk)));
}

static file *file_at(disk *d, uint32_t number) {
  if (number > 0 && number < FILES) return &d->files[number];
  fprintf(stderr, "too many files were recorded\n");
  exit(EXIT_FAILURE);
}

/* ---- contents ----------------------------------------------------------- */

static void make_room(file *f, uint64_t size) {
  if (size <= f->room) return;
  uint64_t room = size * 2;
  f->base = must_have(realloc(f->base, room));
  f->image = must_have(realloc(f->image, room));
  memset(f->base + f->room, 0, room - f->room);
  memset(f->image + f->room, 0, room - f->room);
  f->room = room;
}

/* A piece of a change comes to `to`. Beyond `*size` there are zeros. */
static void apply(const change *c, uint64_t from, uint64_t n, uint8_t *to,
                  uint64_t *size) {
  uint64_t end = c->offset + from + n;
  if (c->kind == EV_WRITE) {
    memcpy(to + c->offset + from, c->bytes + from, n);
    if (end > *size) *size = end;
  } else if (c->kind == EV_EXTEND) {
    if (c->offset > *size) *size = c->offset;
  } else {
    if (c->offset < *size) memset(to + c->offset, 0, *size - c->offset);
    *size = c->offset;
  }
}

static void add(file *f, const event *e, const uint8_t *bytes) {
  changes *p = &f->pending;
  if (p->n == p->room) {
    p->room = p->room ? p->room * 2 : 64;
    p->of = must_have(realloc(p->of, p->room * sizeof *p->of));
  }
  make_room(f, e->offset + e->size);
  p->of[p->n++] = (change){e->kind, e->offset, e->size, bytes};
}

/* The first `n` changes are on the platter now. */
static void settle(file *f, size_t n) {
  changes *p = &f->pending;
  if (n > p->n) n = p->n;
  for (size_t i = 0; i < n; i++)
    apply(&p->of[i], 0, p->of[i].size, f->base, &f->size);
  memmove(p->of, p->of + n, (p->n - n) * sizeof *p->of);
  p->n -= n;
}

/* Only the last change is, those before may still be lost. */
static void settle_last(file *f) {
  change c = f->pending.of[f->pending.n - 1];
  apply(&c, 0, c.size, f->base, &f->size);
}

/* ---- syncs -------------------------------------------------------------- */

static void sync_begin(disk *d, uint32_t sync, uint32_t of,
                       size_t covers) {
  for (int i = 0; i < SYNCS; i++) {
    if (d->syncs[i].sync) continue;
    d->syncs[i] = (flush){sync, of, covers};
    return;
  }
}

static size_t sync_end(disk *d, uint32_t sync) {
  for (int i = 0; i < SYNCS; i++) {
    if (d->syncs[i].sync != sync) continue;
    d->syncs[i].sync = 0;
    return d->syncs[i].covers;
  }
  return 0;
}

/* What another sync of the file has settled meanwhile is covered no more. */
static void uncover(disk *d, uint32_t of, size_t n) {
  for (int i = 0; i < SYNCS; i++)
    if (d->syncs[i].file == of)
      d->syncs[i].covers -=
        n < d->syncs[i].covers ? n : d->syncs[i].covers;
}

/* ---- names -------------------------------------------------------------- */

static uint32_t *find(names *n, const char *text, bool make) {
  name *empty = NULL;
  for (int i = 0; i < NAMES; i++) {
    if (!strcmp(n->of[i].name, text)) return &n->of[i].file;
    if (!*n->of[i].name && !empty) empty = &n->of[i];
  }
  if (!make || !empty) return NULL;
  strcpy(empty->name, text);
  return &empty->file;
}

static void move(names *n, const event *e) {
  uint32_t *from = find(n, e->name, true), *to;
  if (!from) return;
  uint32_t was = *from;
  *from = e->kind == EV_LINK ? e->file : 0;
  to = e->kind == EV_RENAME ? find(n, e->other, true) : NULL;
  if (to) *to = was;
}

static void settle_moves(disk *d, size_t n) {
  if (n > d->n_moves) n = d->n_moves;
  for (size_t i = 0; i < n; i++) move(&d->base, &d->moves[i]);
  memmove(d->moves, d->moves + n, (d->n_moves - n) * sizeof *d->moves);
  d->n_moves -= n;
}

static void add_move(disk *d, const event *e) {
  if (d->n_moves == NAMES * 4) settle_moves(d, 1);
  find(&d->base, e->name, true);
  if (*e->other) find(&d->base, e->other, true);
  d->moves[d->n_moves++] = *e;
}

/* ---- playing ------------------------------------------------------------ */

static void play_sync(disk *d, const event *e) {
  bool dir = e->kind == EV_DIR_BEGIN || e->kind == EV_DIR_END;
  file *f = dir ? NULL : file_at(d, e->file);
  if (e->kind == EV_SYNC_BEGIN || e->kind == EV_DIR_BEGIN) {
    sync_begin(d, e->sync, e->file, dir ? d->n_moves : f->pending.n);
    return;
  }
  size_t n = sync_end(d, e->sync);
  if (dir)
    settle_moves(d, n);
  else
    settle(f, n);
  uncover(d, e->file, n);
}

void disk_play(disk *d, const event *e, const uint8_t *bytes, bool lying) {
  switch (e->kind) {
    case EV_WRITE: case EV_TRUNCATE: case EV_EXTEND:
      add(file_at(d, e->file), e, bytes);
      break;
    case EV_DSYNCED:
      if (!lying) settle_last(file_at(d, e->file));
      break;
    case EV_LINK: case EV_RENAME: case EV_UNLINK:
      add_move(d, e);
      break;
    case EV_SYNC_BEGIN: case EV_SYNC_END: case EV_DIR_BEGIN: case EV_DIR_END:
      if (!lying) play_sync(d, e);
      break;
    default:
      break;
  }
}

/* ---- cutting ------------------------------------------------------------ */

static uint64_t pieces(const change *c) {
  uint64_t first = c->offset / SECTOR;
  if (c->kind != EV_WRITE || c->size == 0) return 1;
  return (c->offset + c->size - 1) / SECTOR - first + 1;
}

static uint64_t all_pieces(const file *f) {
  uint64_t n = 0;
  for (size_t i = 0; i < f->pending.n; i++) n += pieces(&f->pending.of[i]);
  return n;
}

int disk_pending(const disk *d) {
  uint64_t n = d->n_moves;
  for (int i = 0; i < FILES; i++) n += all_pieces(&d->files[i]);
  return (int)n;
}

/* splitmix64, Steele et al. 2014. */
static uint64_t next(disk *d) {
  uint64_t z = (d->chance += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* How a cut chooses among the pieces that may be there. */
enum way {
  NOTHING, EVERYTHING, FIRST_ONES, ALL_BUT_ONE, ONLY_ONE, HALF, MOST, FEW,
  META_AND_HALF, META_AND_ALL_BUT_ONE, WHOLE_WRITES, WAYS
};

typedef struct choice {
  enum way way;
  uint64_t edge; /* the piece that matters */
  bool whole;    /* of WHOLE_WRITES: this one is kept */
} choice;

static bool keep(disk *d, const choice *w, uint64_t at, bool meta) {
  switch (w->way) {
    case NOTHING: return false;
    case EVERYTHING: return true;
    case FIRST_ONES: return at < w->edge;
    case ALL_BUT_ONE: return at != w->edge;
    case ONLY_ONE: return at == w->edge;
    case HALF: return next(d) & 1;
    case MOST: return next(d) % 10 != 0;
    case FEW: return next(d) % 10 == 0;
    case META_AND_HALF: return meta || next(d) & 1;
    case META_AND_ALL_BUT_ONE: return meta || at != w->edge;
    default: return w->whole;
  }
}

/* Applies the pieces of a change that are kept; the first is number `at`. */
static void cut_change(disk *d, file *f, const change *c, const choice *w,
                       uint64_t at) {
  uint64_t from = 0;
  bool meta = c->offset < META_END;
  for (uint64_t n = pieces(c); n > 0; n--, at++) {
    uint64_t end = SECTOR - (c->offset + from) % SECTOR + from;
    if (end > c->size) end = c->size;
    if (keep(d, w, at, meta))
      apply(c, from, end - from, f->image, &f->image_size);
    from = end;
  }
}

static void cut_file(disk *d, file *f, choice w) {
  uint64_t n = all_pieces(f), at = 0, was = f->image_size;
  w.edge = n ? next(d) % n : 0;
  if (f->size) memcpy(f->image, f->base, f->size);
  if (was > f->size) memset(f->image + f->size, 0, was - f->size);
  f->image_size = f->size;
  for (size_t i = 0; i < f->pending.n; i++) {
    w.whole = next(d) & 1;
    cut_change(d, f, &f->pending.of[i], &w, at);
    at += pieces(&f->pending.of[i]);
  }
}

static void cut_names(disk *d) {
  size_t n = d->n_moves ? next(d) % (d->n_moves + 1) : 0;
  d->cut = d->base;
  for (size_t i = 0; i < n; i++) move(&d->cut, &d->moves[i]);
}

/* Lock files are written through a mapping, and made anew by whoever comes
   first; what they hold after a cut is anything. */
static bool is_lock(const name *n) {
  return strstr(n->name, "lock") != NULL;
}

uint64_t disk_cut(disk *d, uint64_t seed) {
  uint64_t hash = 0;
  d->chance = seed;
  choice w = {.way = (enum way)(next(d) % WAYS)};
  cut_names(d);
  for (int i = 0; i < NAMES; i++) {
    name *n = &d->cut.of[i];
    if (!n->file || is_lock(n)) continue;
    file *f = file_at(d, n->file);
    cut_file(d, f, w);
    hash = XXH3_64bits_withSeed(n->name, strlen(n->name), hash);
    hash = XXH3_64bits_withSeed(f->image, f->image_size, hash);
    hash += f->image_size;
  }
  return hash;
}

/* ---- writing ------------------------------------------------------------ */

static void write_file(const char *path, const uint8_t *b, uint64_t n) {
  int fd = open(path, O_WRONLY | O_CREAT, 0600);
  if (fd < 0 || (n && pwrite(fd, b, n, 0) != (ssize_t)n) ||
      ftruncate(fd, (off_t)n)) {
    perror(path);
    exit(EXIT_FAILURE);
  }
  close(fd);
}

static void write_lock(const disk *d, const char *path) {
  static uint8_t junk[16512];
  if (d->chance % 4 == 0) return; /* the one of the state before */
  memset(junk, (int)(d->chance % 251), sizeof junk);
  write_file(path, junk, d->chance % 3 ? sizeof junk : d->chance % 9000);
}

void disk_clear(const char *dir) {
  char path[4200];
  struct dirent *entry;
  DIR *all = opendir(dir);
  while (all && (entry = readdir(all))) {
    snprintf(path, sizeof path, "%s/%.64s", dir, entry->d_name);
    unlink(path); /* `.` and `..` stay */
  }
  if (all) closedir(all);
}

void disk_write(const disk *d, const char *dir) {
  char path[4200];
  for (int i = 0; i < NAMES; i++) {
    const name *n = &d->cut.of[i];
    if (!*n->name) continue;
    snprintf(path, sizeof path, "%s/%s", dir, n->name);
    if (!n->file)
      unlink(path);
    else if (is_lock(n))
      write_lock(d, path);
    else
      write_file(path, d->files[n->file].image,
                 d->files[n->file].image_size);
  }
}
