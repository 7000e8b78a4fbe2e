/* SPDX-License-Identifier: MIT */
/*
 * The terminal: what the command line asks of the one it may be run in. While
 * it is held, keys come one by one and are not shown, and the screen is
 * another than the one that was there before. However the process ends, but
 * by SIGKILL, the terminal is as it was: signals that end it give it back
 * first, and so does exit.
 */

#include "terminal.h"

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

static int file_number(lua_State *L) {
  lua_Integer fd = luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd >= 0 && fd < 1024, 1, "no file number");
  return (int)fd;
}

/* isatty(fd): whether a person may be looking. */
static int terminal_isatty(lua_State *L) {
  lua_pushboolean(L, isatty(file_number(L)));
  return 1;
}

/* size(fd): columns and rows; nothing when it is no terminal. */
static int terminal_size(lua_State *L) {
  struct winsize size;
  if (ioctl(file_number(L), TIOCGWINSZ, &size) || size.ws_col == 0)
    return 0;
  lua_pushinteger(L, size.ws_col);
  lua_pushinteger(L, size.ws_row);
  return 2;
}


/* Columns. */

static locale_t unicode; /* 0: the system has none, and the program's counts */
static pthread_once_t unicode_once = PTHREAD_ONCE_INIT;

static void find_unicode(void) {
  unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

/* The character at `s`, which ends before `end`; `*n` is how many bytes it has.
   A byte that begins none is a character of its own. */
static wchar_t character(const unsigned char *s, const unsigned char *end,
                         size_t *n) {
  static const unsigned char BITS[] = { 0x7f, 0x1f, 0x0f, 0x07 };
  size_t more = *s >= 0xf0 ? 3 : *s >= 0xe0 ? 2 : *s >= 0xc0 ? 1 : 0;
  uint32_t c = *s & BITS[more];
  *n = 1;
  if (more >= (size_t)(end - s)) return L'?';
  for (; *n <= more && (s[*n] & 0xc0) == 0x80; ++*n) c = c << 6 | (s[*n] & 63);
  return (wchar_t)c;
}

/* columns(text [, most]): how many columns it takes on a terminal, where
   characters of East Asia and emoji take two and those that combine with the
   one before none; and how many bytes of it fit into `most`. */
static int terminal_columns(lua_State *L) {
  size_t size, n, fits = 0;
  const unsigned char *s =
    (const unsigned char *)luaL_checklstring(L, 1, &size);
  const unsigned char *end = s + size;
  lua_Number most = luaL_optnumber(L, 2, (lua_Number)size * 2);
  lua_Integer columns = 0;
  pthread_once(&unicode_once, find_unicode);
  locale_t before = unicode ? uselocale(unicode) : (locale_t)0;
  for (const unsigned char *at = s; at < end; at += n) {
    int wide = *at < 0x80 ? 1 : wcwidth(character(at, end, &n));
    if (*at < 0x80) n = 1;
    columns += wide < 0 ? 1 : wide;
    if ((lua_Number)columns <= most) fits = (size_t)(at + n - s);
  }
  if (before) uselocale(before);
  lua_pushinteger(L, columns);
  lua_pushinteger(L, (lua_Integer)fits);
  return 2;
}


/* Holding it. */

#define IN STDIN_FILENO
#define OUT STDOUT_FILENO

/* xterm's control sequences: the other screen, without a cursor and without
   wrapping lines, and back. */
#define ENTER "\33[?1049h\33[?25l\33[?7l\33[?2004h\33[2J"
#define LEAVE "\33[?2004l\33[?7h\33[?25h\33[?1049l"

static const int FATAL[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT,
                             SIGSEGV, SIGBUS, SIGILL, SIGFPE };
enum { FATALS = sizeof FATAL / sizeof *FATAL };

static volatile sig_atomic_t held, resized;
static volatile sig_atomic_t pressed; /* key that a signal stands for, or 0 */
static struct termios cooked; /* as it was */
static struct sigaction ends[FATALS], resizes, stops, continues;
static sigset_t unblocked;

/* Writes all of it; a terminal may take less at once. */
static int put(const char *text, size_t n) {
  while (n > 0) {
    ssize_t done = write(OUT, text, n);
    struct pollfd out = { OUT, POLLOUT, 0 };
    if (done > 0) {
      text += done;
      n -= (size_t)done;
    } else if (errno == EAGAIN)
      poll(&out, 1, -1);
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

/* May be called by a signal's handler. */
static void give_back(void) {
  if (!held)
    return;
  held = 0;
  put(LEAVE, sizeof LEAVE - 1);
  tcsetattr(IN, TCSANOW, &cooked);
}

static void end(int number) {
  give_back();
  signal(number, SIG_DFL);
  raise(number);
}

static void resize(int number) {
  (void)number;
  resized = 1;
}

/* A stop from outside is one by Ctrl-Z, which gives the terminal back; what is
   continued after SIGSTOP draws anew, as by Ctrl-L. */
static void press(int number) {
  pressed = number == SIGTSTP ? 'Z' - '@' : 'L' - '@';
}

static void take_signals(void) {
  struct sigaction act = { .sa_handler = end };
  sigset_t waits; /* these only come while a key is waited for */
  sigemptyset(&waits);
  sigaddset(&waits, SIGWINCH);
  sigaddset(&waits, SIGTSTP);
  sigaddset(&waits, SIGCONT);
  pthread_sigmask(SIG_BLOCK, &waits, &unblocked);
  for (int i = 0; i < FATALS; i++)
    sigaction(FATAL[i], &act, &ends[i]);
  act.sa_handler = resize;
  sigaction(SIGWINCH, &act, &resizes);
  act.sa_handler = press;
  sigaction(SIGTSTP, &act, &stops);
  sigaction(SIGCONT, &act, &continues);
}

static void return_signals(void) {
  for (int i = 0; i < FATALS; i++)
    sigaction(FATAL[i], &ends[i], NULL);
  sigaction(SIGWINCH, &resizes, NULL);
  sigaction(SIGTSTP, &stops, NULL);
  sigaction(SIGCONT, &continues, NULL);
  pthread_sigmask(SIG_SETMASK, &unblocked, NULL);
}

static int hold(void) {
  if (tcgetattr(IN, &cooked))
    return errno;
  struct termios raw = cooked;
  raw.c_lflag &= ~(tcflag_t)(ECHO | ICANON | ISIG | IEXTEN);
  raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  take_signals();
  held = 1;
  if (tcsetattr(IN, TCSAFLUSH, &raw))
    return errno;
  return put(ENTER, sizeof ENTER - 1);
}

static int result(lua_State *L, int error) {
  if (error) {
    lua_pushnil(L);
    lua_pushfstring(L, "the terminal: %s", strerror(error));
    lua_pushliteral(L, "IO");
    return 3;
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* hold(): keys come one by one, the screen is another. */
static int terminal_hold(lua_State *L) {
  static int registered;
  if (!registered)
    registered = !atexit(give_back);
  return result(L, held ? 0 : hold());
}

/* release(): the terminal is as it was. */
static int terminal_release(lua_State *L) {
  (void)L;
  if (held) {
    give_back();
    return_signals();
  }
  return 0;
}

/* write(text): to the terminal, in one piece where it takes it. */
static int terminal_write(lua_State *L) {
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  return result(L, put(text, n));
}

/* The key that a signal stands for, which came while one was waited for. */
static int pressed_key(lua_State *L) {
  char key = (char)pressed;
  pressed = 0;
  lua_pushlstring(L, &key, 1);
  return 1;
}

/* key(seconds): what was typed, "" when nothing was in time or the window has
   another size; nil when nobody can type any more. */
static int terminal_key(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  luaL_argcheck(L, seconds >= 0 && seconds < 1e6, 1, "out of range");
  struct pollfd in = { IN, POLLIN, 0 };
  time_t whole = (time_t)seconds;
  struct timespec t = { whole, (long)((seconds - (double)whole) * 1e9) };
  char typed[64];
  ssize_t n = 0;
  int ready = resized ? 0 : ppoll(&in, 1, &t, &unblocked);
  resized = 0;
  if (pressed)
    return pressed_key(L);
  if (ready > 0) {
    n = read(IN, typed, sizeof typed);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
      return 0;
  }
  lua_pushlstring(L, typed, n > 0 ? (size_t)n : 0);
  return 1;
}

/* stop(): stops this process, as Ctrl-Z would, until it is continued. */
static int terminal_stop(lua_State *L) {
  (void)L;
  kill(0, SIGTSTP);
  return 0;
}

static const luaL_Reg FUNCTIONS[] = {
  { "isatty", terminal_isatty },
  { "size", terminal_size },
  { "columns", terminal_columns },
  { "hold", terminal_hold },
  { "release", terminal_release },
  { "write", terminal_write },
  { "key", terminal_key },
  { "stop", terminal_stop },
  { NULL, NULL }
};

void lterminal_open(lua_State *L) {
  lua_newtable(L);
  compat_register(L, FUNCTIONS);
  lua_setfield(L, -2, "terminal");
}
