/* SPDX-License-Identifier: MIT */
/*
 * The journal's protocol, small: a log of two halves with END, the tail that
 * moves last, a flush for all, an application in three steps, repair, and a
 * half that is given back. Clients push, settle and apply; each may be killed
 * between any two steps, and another takes its place; and the power may fail
 * between any two, after which any part of what was not flushed is there, and
 * LMDB is as its last commit or the one before.
 *
 * Checked at each cut: who was told that an item is pushed finds it, or has
 * begun to settle it; who was told that it is done does not; and no item is in
 * both places (J4). Work goes on from the cut; -DNO_END, -DNO_FLUSH and
 * -DNO_SYNC break a rule each, and must fail.
 */
#ifndef KILLS
#define KILLS 2
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef ITEMS
#define ITEMS 4
#endif
#define H 3             /* records of a half, END among them */
#define CELLS 6
#define BIT(i) (1 << (i))

typedef cell { byte kind, item, pos, sum, prev }
#define PUSH 1
#define DONE 2
#define END 3

cell mem[CELLS];        /* as the kernel shows the file */
cell dsk[CELLS];        /* as it is on the disk */

/* the block */
byte tail, flushed, freed, applied, applying;
byte chain, applied_chain, applying_chain;
byte live;              /* items of the journal */
byte in_old;            /* those pushed before `applying` */

/* LMDB: its last commit, and the last that is durable */
byte db_items, db_applied, db_chain;
byte du_items, du_applied, du_chain;

byte next_item, sums;   /* to give; sums are all different */
byte pushed, settling, told_pushed, told_done;
byte kills, cuts;
byte gone, ended;       /* processes up to this one; those that are through */

#define STATE 0
#define FLUSH 1
#define WRITE 2
byte owner[3];          /* a process, or 0 */
bit dirty[3];

/* Scans the file from a position, and the sum there, up to a limit or as far as
   the records follow; at most into the next half. */
byte s_pos, s_chain, s_live, s_half, s_next;
bit s_on;
inline scan(from, sum0, limit) {
  s_pos = from; s_chain = sum0; s_live = 0; s_on = 1; s_half = from / H;
  do
  :: !s_on || s_pos >= limit -> break
  :: else ->
    s_next = (s_pos / H + 1) * H;
    if
    :: mem[s_pos % CELLS].kind != 0 && mem[s_pos % CELLS].pos == s_pos &&
       mem[s_pos % CELLS].prev == s_chain ->
      if
      :: mem[s_pos % CELLS].kind == PUSH ->
        s_live = s_live | BIT(mem[s_pos % CELLS].item);
        s_chain = mem[s_pos % CELLS].sum; s_pos++
      :: mem[s_pos % CELLS].kind == DONE ->
        s_live = s_live & ~BIT(mem[s_pos % CELLS].item);
        s_chain = mem[s_pos % CELLS].sum; s_pos++
      :: else -> /* END */
        if
        :: s_pos / H == s_half ->
          s_chain = mem[s_pos % CELLS].sum; s_pos = s_next
        :: else -> s_on = 0
        fi
      fi
    :: else ->
#ifdef NO_END /* goes on where a record follows */
      if
      :: s_pos / H == s_half && mem[s_next % CELLS].kind != 0 &&
         mem[s_next % CELLS].pos == s_next &&
         mem[s_next % CELLS].prev == s_chain -> s_pos = s_next
      :: else -> s_on = 0
      fi
#else
      s_on = 0
#endif
    fi
  od
}

inline put(k, i) { /* at the tail, in one write */
  sums++;
  mem[tail % CELLS].kind = k; mem[tail % CELLS].item = i;
  mem[tail % CELLS].pos = tail; mem[tail % CELLS].sum = sums;
  mem[tail % CELLS].prev = chain
}

/* A process may be killed here: its locks are free, and tell of it. */
inline step() {
  if
  :: kills < KILLS ->
    d_step {
      kills++;
      if :: owner[STATE] == _pid -> owner[STATE] = 0 :: else fi;
      if :: owner[FLUSH] == _pid -> owner[FLUSH] = 0 :: else fi;
      if :: owner[WRITE] == _pid -> owner[WRITE] = 0 :: else fi
    };
    goto again
  :: true
  fi
}

inline lock(which) { /* repairing the block when its holder died inside */
  atomic {
    owner[which] == 0 ->
    owner[which] = _pid;
    if
    :: which == STATE && dirty[STATE] ->
      d_step {
        scan(applied, applied_chain, tail);
#ifdef NO_END
        assert(s_pos == tail || tail == (s_pos / H + 1) * H);
#else
        assert(s_pos == tail);
#endif
        live = s_live; chain = s_chain;
        if :: applying <= applied -> applying = 0 :: else fi
      }
    :: else
    fi;
    dirty[which] = 1
  }
}

inline unlock(which) { dirty[which] = 0; owner[which] = 0 }

/* With STATE: room for a record at the tail, or not. Records have many sizes,
   so any may be too large for what is left; one cell is left for END. */
inline room() {
  if
  :: tail % H < H - 1 -> has_room = 1
  :: tail % H > 0 && freed >= tail / H * H ->
#ifndef NO_END
    d_step { put(END, 0); sum = sums };
    step();
    d_step { chain = sum; tail = (tail / H + 1) * H };
#else
    tail = (tail / H + 1) * H;
#endif
    step();
    has_room = 1
  :: tail % H == H - 1 && freed < tail / H * H -> has_room = 0
  fi
}

inline append(k, i) { /* leaves STATE */
  d_step { put(k, i); sum = sums };
  step();
  d_step {
    if
    :: k == PUSH -> live = live | BIT(i)
    :: else -> live = live & ~BIT(i)
    fi
  };
  step();
  d_step { chain = sum; tail = tail + 1; end = tail };
  step();
  d_step { unlock(STATE) }
}

byte c_i;
inline copy_all() {
  c_i = 0;
  do
  :: c_i < CELLS ->
    dsk[c_i].kind = mem[c_i].kind; dsk[c_i].item = mem[c_i].item;
    dsk[c_i].pos = mem[c_i].pos; dsk[c_i].sum = mem[c_i].sum;
    dsk[c_i].prev = mem[c_i].prev; c_i++
  :: else -> break
  od; c_i = 0
}

inline flush() {
  do
  :: flushed >= end || freed >= end -> break
  :: else ->
    atomic { lock(FLUSH); upto = tail };
    step();
#ifndef NO_FLUSH
    d_step { copy_all() };
    step();
#endif
    d_step {
      if :: upto > flushed -> flushed = upto :: else fi;
      unlock(FLUSH)
    }
  od
}

/* With STATE: LMDB has what lies before `applying`. */
inline finish() {
  d_step { applied = applying; applied_chain = applying_chain };
  step();
  d_step { live = live & ~in_old; applying = 0 }
}

inline apply() {
  atomic { lock(WRITE) };
  step();
  atomic { lock(STATE) };
  if
  :: applying != 0 && db_applied >= applying -> finish()
  :: else -> applying = 0
  fi;
  d_step {
    assert(db_applied == applied);
    in_old = live; applying_chain = chain; upto = tail; applying = upto
  };
  step();
  d_step { unlock(STATE) };
  step();
  d_step { /* the commit; the one before is durable now */
    du_items = db_items; du_applied = db_applied; du_chain = db_chain;
    db_items = db_items | in_old; db_applied = upto;
    db_chain = applying_chain
  };
  step();
  atomic { lock(STATE) };
  if :: applying == upto && upto > applied -> finish() :: else fi;
  d_step { unlock(STATE) };
  step();
#ifndef NO_SYNC
  d_step { du_items = db_items; du_applied = db_applied; du_chain = db_chain };
  step();
#endif
  d_step { freed = upto; unlock(WRITE) }
}

inline done_in_lmdb() {
  step();
  apply();
  atomic { lock(WRITE) };
  d_step {
    if
    :: db_items & BIT(item) -> /* a commit, and its sync */
      db_items = db_items & ~BIT(item);
      du_items = db_items; du_applied = db_applied; du_chain = db_chain;
      told_done = told_done | BIT(item)
    :: else
    fi;
    unlock(WRITE)
  }
}

proctype client() provided (_pid > gone) {
  byte item, end, upto, sum;
  bit has_room;
again:
  skip;
  d_step { item = 0; end = 0; upto = 0; sum = 0; has_room = 0 };
  do
  :: next_item < ITEMS -> /* push */
    atomic { lock(STATE) };
    room();
    if
    :: !has_room -> d_step { unlock(STATE) }; apply()
    :: has_room && next_item < ITEMS ->
      d_step { item = next_item; next_item++; pushed = pushed | BIT(item) };
      append(PUSH, item);
      step();
      flush();
      step();
      told_pushed = told_pushed | BIT(item)
    :: has_room && next_item == ITEMS -> d_step { unlock(STATE) }
    fi
  :: told_pushed & ~settling -> /* settle one that was told */
    atomic {
      lock(STATE);
      item = 0;
      do
      :: item == ITEMS || ((told_pushed & ~settling) & BIT(item)) -> break
      :: else -> item++
      od
    };
    if
    :: item == ITEMS -> d_step { unlock(STATE) }
    :: item < ITEMS && (live & BIT(item)) && applying == 0 ->
      settling = settling | BIT(item);
      room();
      if
      :: has_room ->
        append(DONE, item);
        step();
        flush();
        step();
        told_done = told_done | BIT(item)
      :: else -> d_step { unlock(STATE) }; done_in_lmdb()
      fi
    :: else ->
      d_step { settling = settling | BIT(item); unlock(STATE) };
      done_in_lmdb()
    fi
  :: next_item == ITEMS && !(told_pushed & ~settling) -> break
  od;
  ended++;
  false
}

/* What a cut leaves: LMDB as of its last commit, or of the last durable one;
   of each cell what was written or what was on the disk. */
byte p_i;
inline cut() {
  if
  :: du_items = db_items; du_applied = db_applied; du_chain = db_chain
  :: db_items = du_items; db_applied = du_applied; db_chain = du_chain
  fi;
  p_i = 0;
  do
  :: p_i < CELLS ->
    if
    :: mem[p_i].sum != dsk[p_i].sum ->
      if
      :: dsk[p_i].kind = mem[p_i].kind; dsk[p_i].item = mem[p_i].item;
         dsk[p_i].pos = mem[p_i].pos; dsk[p_i].sum = mem[p_i].sum;
         dsk[p_i].prev = mem[p_i].prev
      :: mem[p_i].kind = dsk[p_i].kind; mem[p_i].item = dsk[p_i].item;
         mem[p_i].pos = dsk[p_i].pos; mem[p_i].sum = dsk[p_i].sum;
         mem[p_i].prev = dsk[p_i].prev
      fi
    :: else
    fi;
    p_i++
  :: else -> break
  od;
  p_i = 0
}

inline open_store() {
  scan(db_applied, db_chain, 255);
  assert((db_items & s_live) == 0);
  assert(((told_pushed & ~settling) & ~(db_items | s_live)) == 0);
  assert((told_done & (db_items | s_live)) == 0);
  live = s_live; chain = s_chain; tail = s_pos; flushed = s_pos;
  applied = db_applied; freed = db_applied; applied_chain = db_chain;
  applying = 0; in_old = 0;
  dirty[STATE] = 0; dirty[FLUSH] = 0; dirty[WRITE] = 0;
  owner[STATE] = 0; owner[FLUSH] = 0; owner[WRITE] = 0
}

active proctype world() {
  atomic { run client(); run client() };
  do
  :: atomic { cuts < CUTS ->
      cuts++; gone = gone + 2; ended = 0;
      cut();
      d_step { open_store() };
#ifdef GO_ON
      run client(); run client()
#else
      break
#endif
    }
  :: timeout ->
    assert(ended == 2); /* nobody hangs */
    d_step { open_store() };
    break
  od
}
