/*
 * A lease and its owner's refreshes, against others who want it: a model for spin (Debian package spin).
 *
 *     spin -run -safety lease.pml                     as it is built: errors: 0 (7,273,811 states, 600 MB, 5 s)
 *     spin -DOWNERS=2 -run -safety lease.pml          the same with two owners: errors: 0 (53,130 states)
 *     spin -DUNLINK_CREATE -run -safety lease.pml     refresh by unlink and create: assertion violated, there is a gap
 *     spin -DTRUNCATE -run -safety lease.pml          written in place: assertion violated, a part is seen
 *     spin -DNO_LOCK -run -safety lease.pml           without the target's lock: assertion violated, two owners
 *
 * The options before -run choose the variant. spin leaves pan* and *.trail in the current directory.
 *
 * Each process does one system call at a time, as src/lease does them: take the lock, read the record, decide, rename
 * the new one over it, give the lock back. The lock's own protocol is in another model; here it is one bit. A process
 * may be killed between any two calls: its lock is free then, its record stays. Time is a flag: at any moment at which
 * the clock may reach the end of the lease that stands, it does. An owner counts itself as owner from its acquisition
 * until its record is replaced by somebody else's or its time is over: what it must never be is overtaken before that.
 *
 * Checked:
 *   - never two who own the lease, each with its time not over;
 *   - a live lease's record is never absent, never partial, and never another's: asserted by a monitor that looks at
 *     any moment, without the lock;
 *   - tokens only grow.
 */

#ifndef OWNERS
#define OWNERS 3
#endif
#define ROUNDS 2                /* acquisitions of each; a refresh follows each, and maybe a release */
#define NOBODY 255

/* The file: its content, as one look at it shows. */
byte owner = NOBODY;            /* NOBODY: there is no such file */
byte token = 0;
bool partial = false;
bool over = true;               /* the time of the record has passed */

/* The truth, for the assertions: who may rely on the lease, by what it has been told. */
byte relies = NOBODY;
byte greatest = 0;              /* token */

bool locked = false;
byte holder = NOBODY;

inline lock(me) {
#ifndef NO_LOCK
    atomic { !locked -> locked = true; holder = me }
#else
    skip
#endif
}

inline unlock(me) {
#ifndef NO_LOCK
    atomic { assert(holder == me); locked = false; holder = NOBODY }
#else
    skip
#endif
}

/* The kernel gives back what a dead process held. */
inline die(me) {
    atomic {
        if
        :: holder == me -> locked = false; holder = NOBODY
        :: else
        fi;
        goto dead
    }
}

/* From here on `me` may act as the owner. */
inline told(me, new_token) {
    assert(relies == NOBODY || relies == me);
    assert(new_token > greatest || (mine && new_token == greatest));
    relies = me;
    greatest = new_token
}

/* Puts a record of `me` in place of whatever is there. */
inline put(me, new_token) {
#ifdef UNLINK_CREATE
    owner = NOBODY;
#endif
#ifdef TRUNCATE
    partial = true;
#endif
    atomic { owner = me; token = new_token; over = false; partial = false; told(me, new_token) }
}

proctype Agent(byte me) {
    byte seen_owner, seen_token, round = 0;
    bool seen_over, mine;

    do
    :: round < ROUNDS ->
        round++;

        /* acquire: or, if it is ours already, refresh */
        lock(me);
        if :: skip :: die(me) fi;
        atomic { seen_owner = owner; seen_token = token; seen_over = over };
        if :: skip :: die(me) fi;
        if
        :: seen_owner == NOBODY || seen_over || seen_owner == me ->
            mine = (seen_owner == me);
            if
            :: mine -> put(me, seen_token)
            :: else ->
                /* The clock is past every token there has been; not so if it was set back, then the record counts. */
                seen_token = (seen_owner == NOBODY -> greatest : seen_token) + 1;
                put(me, seen_token)
            fi
        :: else -> unlock(me); goto next
        fi;
        if :: skip :: die(me) fi;
        unlock(me);
        if :: skip :: die(me) fi;

        /* refresh, by whoever got it: in time or not, what counts is that nobody has taken it */
        lock(me);
        if :: skip :: die(me) fi;
        atomic { seen_owner = owner; seen_token = token };
        if
        :: seen_owner == me -> mine = true; put(me, seen_token)
        :: else
        fi;
        if :: skip :: die(me) fi;
        unlock(me);

        /* release, or not */
        if
        :: skip
        :: lock(me);
           atomic { seen_owner = owner };
           if
           :: seen_owner == me -> atomic { owner = NOBODY; over = true; relies = NOBODY }
           :: else
           fi;
           unlock(me)
        fi;
next:   atomic { seen_owner = 0; seen_token = 0; seen_over = false; mine = false }  /* fewer states */
    :: else -> break
    od;
dead:
    skip
}

/* Time passes: the lease that stands may end at any moment. Whoever relied on it knows, having the same clock. */
proctype Time() {
    byte ends = 0;
end:
    do
    :: atomic { ends < 2 && owner != NOBODY && !over -> over = true; relies = NOBODY; ends++ }
    od
}

/* Reads the record, at any moment and without the lock. */
proctype Monitor() {
end:
    do
    :: atomic {
        relies != NOBODY ->
        assert(owner != NOBODY);
        assert(owner == relies);
        assert(!partial)
    }
    od
}

init {
    byte n = 0;
    atomic {
        do
        :: n < OWNERS -> run Agent(n); n++
        :: else -> break
        od;
        run Time();
        run Monitor()
    }
}
