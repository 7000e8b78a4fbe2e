# SPDX-License-Identifier: MIT
"""Random cron expressions with the next moment of each, by others' code.

  expected.py croniter SEED N    in UTC, by croniter
  expected.py zones SEED N       about changes of a zone's clock, by a walk
                                 over every minute with zoneinfo

Prints lines of an expression, a zone, a moment and the next, in seconds.
"""
import random
import sys
import time
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
NAMES = [None, None, None,
         "jan feb mar apr may jun jul aug sep oct nov dec".split(),
         "sun mon tue wed thu fri sat".split()]
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
         "America/Santiago", "Africa/Casablanca", "Pacific/Apia",
         "Asia/Kathmandu", "America/St_Johns", "Europe/Dublin"]


def value(i, n):
    names = NAMES[i]
    k = n - RANGES[i][0]
    if names and k < len(names) and random.random() < 0.3:
        name = names[k]
        return random.choice([name, name.upper()])
    return str(n)


def part(i):
    low, high = RANGES[i]
    kind = random.random()
    a, b = sorted(random.randint(low, high) for _ in range(2))
    if kind < 0.5:
        return value(i, a)
    if kind < 0.7 and a < b:
        return "%d-%d" % (a, b)
    if kind < 0.8 and a < b:
        return "%d-%d/%d" % (a, b, random.randint(1, 9))
    if kind < 0.9:
        return "*/%d" % random.randint(1, high + 3)
    return "%d/%d" % (a, random.randint(1, 9))


def field(i, star):
    if random.random() < star:
        return "*"
    return ",".join(part(i) for _ in range(random.choice([1, 1, 1, 2, 3])))


def expression():
    if random.random() < 0.02:
        return random.choice(["@hourly", "@daily", "@midnight", "@weekly",
                              "@monthly", "@yearly", "@annually"])
    stars = [0.3, 0.3, 0.6, 0.7, 0.6]
    return " ".join(field(i, star) for i, star in enumerate(stars))


def by_croniter(n):
    from croniter import croniter
    while n > 0:
        e = expression()
        after = random.randint(0, 2 ** 32)
        if time.strftime("%m", time.gmtime(after)) == "02":
            continue  # croniter 1.3.5 may pass over 1 March from there
        try:
            found = croniter(e, float(after)).get_next(float)
        except Exception:
            continue
        print(e, "UTC", after, int(found), sep="\t")
        n -= 1


def numbers(i, text):
    """The numbers of a field, read anew."""
    low, high = RANGES[i]
    found = set()
    for piece in text.lower().split(","):
        body, _, step = piece.partition("/")
        begin, dash, end = body.partition("-")

        def number(s):
            if NAMES[i] and s in NAMES[i]:
                return NAMES[i].index(s) + low
            return int(s)

        if begin == "*":
            first, last = low, high
        else:
            first = number(begin)
            last = number(end) if dash else high if step else first
        found |= set(range(first, last + 1, int(step or 1)))
    if i == 4:
        found = {n % 7 for n in found}
    return found


def matcher(e):
    sets = [numbers(i, t) for i, t in enumerate(e.split())]
    whole = [31, 7]
    free = [len(sets[2]) == whole[0], len(sets[4]) == whole[1]]

    def matches(t):
        day = t.day in sets[2]
        weekday = t.isoweekday() % 7 in sets[4]
        both = day and weekday if any(free) else day or weekday
        return (t.minute in sets[0] and t.hour in sets[1]
                and t.month in sets[3] and both)
    return matches, len(sets[1]) == 24


def walk(e, name, after, minutes):
    """The rule of the two nights, minute by minute."""
    matches, every_hour = matcher(e)
    zone = ZoneInfo(name)
    t = datetime.fromtimestamp(after - after % 60, timezone.utc)
    before = t.astimezone(zone).replace(tzinfo=None)
    for _ in range(minutes):
        t += timedelta(minutes=1)
        aware = t.astimezone(zone)
        local = aware.replace(tzinfo=None)
        missing = before + timedelta(minutes=1)
        while not every_hour and missing < local:
            if matches(missing):
                return t
            missing += timedelta(minutes=1)
        if matches(local.replace(fold=0)) and (every_hour or not aware.fold):
            return t
        before = local
    return None


def changes(name):
    """Moments shortly before the clock of a zone is changed."""
    zone = ZoneInfo(name)
    t = datetime(2011, 1, 1, tzinfo=timezone.utc)
    found = []
    while t.year < 2045:
        u = t + timedelta(days=1)
        if t.astimezone(zone).utcoffset() != u.astimezone(zone).utcoffset():
            found.append(t)
        t = u
    return found


def by_walk(n):
    moments = {name: changes(name) for name in ZONES}
    while n > 0:
        name = random.choice(ZONES)
        fields = expression()
        if fields[0] == "@" or not moments[name]:
            continue
        e = " ".join(fields.split()[:2]) + " * * *"
        begin = random.choice(moments[name]).timestamp()
        after = int(begin) + random.randint(-7200, 100000)
        found = walk(e, name, after, 3 * 1440)
        if found:
            print(e, name, after, int(found.timestamp()), sep="\t")
            n -= 1


if __name__ == "__main__":
    random.seed(int(sys.argv[2]))
    {"croniter": by_croniter, "zones": by_walk}[sys.argv[1]](int(sys.argv[3]))
