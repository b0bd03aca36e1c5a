/*
 * Going on under a lock that a process above holds: a model for spin (Debian package spin).
 *
 *     spin -run -safety nest.pml                     two who take it, and those below one of them: errors: 0
 *     spin -DCRASHES=1 -run -safety nest.pml         one of them may be killed: errors: 0
 *     spin -DNO_MARK -run -safety nest.pml           the environment is believed: assertion violated, two hold it
 *     spin -DNO_SECOND_LOOK -run -safety nest.pml    the mark is not looked at again: assertion violated, two hold it
 *     spin -DNO_WAIT -run -safety nest.pml           released above one below: assertion violated, two hold it
 *     spin -DMARK_LAST -run -safety nest.pml         the mark goes after the byte: assertion violated, two hold it
 *     spin -DLEAVE -run -safety nest.pml             left to those below: assertion violated, it stays held
 *     spin -DREPEATED -run -safety nest.pml          identities repeat, as pids do: assertion violated, a deadlock
 *     spin -DCRASHES=1 -DFLOCK_FIRST -run -safety nest.pml    the bytes go last: assertion violated, one waits for nobody
 *
 * The options before -run choose the variant; tests/models/run.sh runs these lines and compares what they say. spin
 * leaves pan* and *.trail in the current directory.
 *
 * One system call at a time, as src/lock/inherited.rs makes them. A and B take the lock like anybody. A hands it over to
 * a command that starts X, which goes on below A, and Y; or X does so in turn and starts Y. Either command waits for those
 * that it has started, or leaves them behind: they may find who is above them holding the lock, releasing it, or gone.
 * Daemons, which are below nobody, keep what they have inherited open for ever. Each of the four wants the lock for itself,
 * or shared.
 *
 * Each has one open file description, called like the process. Its flock, its mark (byte 2R, R being its own identity),
 * and its share of a byte 2R+1 last until it is closed everywhere. How waiters register is in flock.pml; to wait for a
 * time only is to be killed while waiting.
 *
 * Checked:
 *   - never two that hold the lock, unless both share it or one is below the other;
 *   - nobody waits for ever, but for what a killed process held and somebody still has open;
 *   - when all have ended and none was killed, no file is left and nothing is locked, whatever daemons there are.
 */

#ifndef CRASHES
#define CRASHES 0
#endif

#define A 0
#define B 1
#define X 2
#define Y 3
#define PROCESSES 4
#define DAEMON 16
#define NONE 255

#define SHARED 1
#define ALONE 2

bool deep;                              /* X starts Y; otherwise A does */
bool foreground;                        /* a command waits for those that it has started */
bool daemons;

byte name = NONE;                       /* the file that has the lock's name */

byte want[PROCESSES];                   /* SHARED or ALONE */
bool started[PROCESSES];
bool dead[PROCESSES];
bool over[PROCESSES];
bool holding[PROCESSES];                /* the lock, or its part of it */

/* of each description */
byte file[PROCESSES] = NONE;
byte open[PROCESSES];                   /* by whom, a bit each */
byte flocked[PROCESSES];                /* SHARED or ALONE */
bool marked[PROCESSES];                 /* byte 2R of its own identity R */
bool closed[PROCESSES];                 /* byte 2R+1 of its own identity, taken to release */
byte under[PROCESSES] = NONE;           /* whose byte 2R+1 it has, or wants */
byte taken[PROCESSES];                  /* SHARED or ALONE */

#define bit(p) (1 << (p))
#define above(p) (p == X -> A : (p == Y -> (deep -> X : A) : NONE))
#define above2(p) (p == Y && deep -> A : NONE)

/* Random identities of 60 bits do not repeat. */
#ifdef REPEATED
#define id(p) 0
#else
#define id(p) p
#endif

#define other(d, f) (d != me && file[d] == f)

/* flock(2): somebody else has it, in the way of `kind`. */
#define flock_by(d, f, kind) (other(d, f) && (flocked[d] == ALONE || (kind == ALONE && flocked[d] != 0)))
#define is_flocked(f, kind) (flock_by(A, f, kind) || flock_by(B, f, kind) || flock_by(X, f, kind) \
    || flock_by(Y, f, kind))

/* Byte 2R+1, R being the identity of p. */
#define below_by(d, f, p, kind) (other(d, f) && ((closed[d] && id(d) == id(p)) \
    || (taken[d] != 0 && id(under[d]) == id(p) && (kind == ALONE || taken[d] == ALONE))))
#define is_taken(f, p, kind) (below_by(A, f, p, kind) || below_by(B, f, p, kind) || below_by(X, f, p, kind) \
    || below_by(Y, f, p, kind))

/* A new description sees the mark, and the inherited one does not: it is on that one alone. */
#define mark_by(d, f, p) (d != p && file[d] == f && marked[d] && id(d) == id(p))
#define is_marked_by_others(f, p) (mark_by(A, f, p) || mark_by(B, f, p) || mark_by(X, f, p) || mark_by(Y, f, p))
#ifdef NO_MARK
#define is_above(p, f) (p != NONE && file[p] == f)
#else
#define is_above(p, f) (p != NONE && file[p] == f && marked[p] && !is_marked_by_others(f, p))
#endif

#define is_under(p, q) (under[p] == q || (under[p] != NONE && under[under[p]] == q))
#define excludes(p, q) (p != q && holding[q] && !is_under(p, q) && !is_under(q, p) \
    && (want[p] == ALONE || want[q] == ALONE))

#define is_gone(i) (over[i] || dead[i])
/* Or never begins. */
#define has_ended(i) (is_gone(i) || (!started[i] && (is_gone(above(i)) || (!started[above(i)] && is_gone(A)))))

/* The last descriptor of a description takes its locks with it. */
inline close_unused() {
    d_step {
        for (i : 0 .. PROCESSES - 1) {
            if
            :: open[i] == 0 ->
                flocked[i] = 0; marked[i] = false; closed[i] = false; taken[i] = 0; under[i] = NONE; file[i] = NONE;
                holding[i] = false
            :: else
            fi
        }
        i = 0
    }
}

/* A child has what its parent has, and so has a daemon of it. */
inline start_child(p) {
    d_step {
        started[p] = true;
        for (i : 0 .. PROCESSES - 1) {
            if
            :: (open[i] & bit(me)) != 0 -> open[i] = open[i] | bit(p) | (daemons -> DAEMON : 0)
            :: else
            fi
        }
        i = 0
    }
}

inline start_over() {
    atomic {
        flocked[me] = 0; taken[me] = 0; under[me] = NONE;
        open[me] = open[me] & ~bit(me);
        close_unused()
    }
    goto start
}

inline unlock_bytes() {
#ifdef MARK_LAST
    closed[me] = false;
    marked[me] = false
#else
    marked[me] = false;
    closed[me] = false
#endif
}

proctype Process(byte me) {
    byte f, i;

    {
    skip;
end_unborn:
    started[me];
start:
    /* open(O_CREAT|O_EXCL), or open what is there */
    atomic {
        f = name;
        if
        :: f == NONE ->
            /* Numbers come back when nobody has the file open any more. */
            for (f : 0 .. PROCESSES) {
                if
                :: file[A] != f && file[B] != f && file[X] != f && file[Y] != f -> break
                :: else
                fi
            }
            name = f
        :: else
        fi;
        file[me] = f;
        open[me] = open[me] | bit(me)
    }
    /* Who holds it above? The innermost counts. */
    atomic {
        if
        :: is_above(above(me), f) -> under[me] = above(me)
        :: else ->
            if
            :: is_above(above2(me), f) -> under[me] = above2(me)
            :: else -> goto outside
            fi
        fi;
        /* An exclusive lock cannot be had below a shared one: an error. */
        if
        :: want[me] == ALONE && want[under[me]] == SHARED -> goto leave
        :: else
        fi
    }
    /* fcntl(F_OFD_SETLKW) */
end_below:
    atomic { !is_taken(f, under[me], want[me]) -> taken[me] = want[me] }
#ifndef NO_SECOND_LOOK
    if
    :: is_above(under[me], f) && name == f
    :: else -> start_over()
    fi;
#endif
    goto hold;

outside:
    /* flock(2) */
end_outside:
    atomic { !is_flocked(f, want[me]) -> flocked[me] = want[me] }
    if
    :: name == f
    :: else -> start_over()
    fi;

hold:
    atomic {
        holding[me] = true;
        assert(!excludes(me, A) && !excludes(me, B) && !excludes(me, X) && !excludes(me, Y));
        if
        :: me == A || (me == X && deep)
        :: else -> goto release
        fi
    }
    /* The lock is handed over. */
    marked[me] = true;
    if
    :: me == A ->
        start_child(X);
        if
        :: !deep -> start_child(Y)
        :: else
        fi
    :: else -> start_child(Y)
    fi;
    /* The command ends. */
    if
    :: !foreground
    :: foreground ->
end_foreground:
        has_ended(X) && has_ended(Y) || me == X && has_ended(Y)
    fi;
#ifdef NO_WAIT
    marked[me] = false;
#else
#ifdef LEAVE
    if
    :: atomic { !is_taken(f, me, ALONE) -> closed[me] = true }
    :: else -> goto leave
    fi;
#else
end_wait:
    atomic { !is_taken(f, me, ALONE) -> closed[me] = true }
#endif
#ifndef FLOCK_FIRST
    unlock_bytes();
#endif
#endif

release:
    atomic {
        holding[me] = false;
        if
        :: under[me] != NONE -> taken[me] = 0; under[me] = NONE; goto unlocked
        :: under[me] == NONE && want[me] == SHARED ->
            /* flock(LOCK_EX|LOCK_NB) drops the shared lock, come what may. */
            flocked[me] = 0;
            if
            :: !is_flocked(f, ALONE) -> flocked[me] = ALONE
            :: else -> goto unlocked
            fi
        :: else
        fi
    }
    if
    :: name == f -> name = NONE
    :: else
    fi;
    flocked[me] = 0;
unlocked:
#ifdef FLOCK_FIRST
    if
    :: closed[me] -> unlock_bytes()
    :: else
    fi;
#endif
leave:
    atomic {
        for (i : 0 .. PROCESSES - 1) {
            open[i] = open[i] & ~bit(me)
        }
        i = 0;
        close_unused();
        over[me] = true
    }
    } unless { dead[me] }
}

/* What a killed process held is held for as long as somebody has the descriptor. */
#define left_by(i) (dead[i] && open[i] != 0 && (flocked[i] != 0 || taken[i] != 0))

init {
    byte i, victim, crashes = 0;
    atomic {
        if
        :: deep = true
        :: deep = false
        fi;
        /* With kills only what includes the rest. */
        if
        :: CRASHES == 0 -> foreground = true
        :: foreground = false
        fi;
        if
        :: daemons = true
        :: CRASHES == 0 -> daemons = false
        fi;
        for (i : 0 .. PROCESSES - 1) {
            if
            :: want[i] = ALONE
            :: CRASHES == 0 || i != B -> want[i] = SHARED
            fi;
            run Process(i)
        }
        i = 0;
        started[A] = true;
        started[B] = true;
    }
    do
    :: crashes < CRASHES ->
        atomic {
            select(victim : 0 .. PROCESSES - 1);
            if
            :: started[victim] && !has_ended(victim) ->
                dead[victim] = true;
                crashes++;
                for (i : 0 .. PROCESSES - 1) {
                    open[i] = open[i] & ~bit(victim)
                }
                i = 0;
                close_unused()
            :: else -> goto enough
            fi
        }
    :: goto enough
    od;
enough:
    do
    :: has_ended(A) && has_ended(B) && has_ended(X) && has_ended(Y) -> break
    :: timeout ->
        assert(left_by(A) || left_by(B) || left_by(X) || left_by(Y));
        goto stuck
    od;
    if
    :: crashes == 0 ->
        assert(name == NONE);
        for (i : 0 .. PROCESSES - 1) {
            assert(flocked[i] == 0 && taken[i] == 0 && !marked[i] && !closed[i])
        }
    :: else
    fi;
stuck:
    skip
}
