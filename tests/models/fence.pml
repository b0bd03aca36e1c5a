/*
 * A write under a lease that a store keeps, against its successor: a model for spin (Debian package spin).
 *
 *     spin -run -safety fence.pml                     as it is built: errors: 0
 *     spin -DNO_LOCK -run -safety fence.pml           without the target's lock: assertion violated, a smaller token writes
 *     spin -DNO_MARK -run -safety fence.pml           without a look at the mark: assertion violated, the same
 *     spin -DNO_SYNC -run -safety fence.pml           the mark is not durable: assertion violated, content without it
 *     spin -DNO_ASK -run -safety fence.pml            the store is not asked: assertion violated, a late write
 *     spin -DNO_CLOCK -run -safety fence.pml          no look at the clock: assertion violated, a late write
 *     spin -DLATE_CLOCK -run -safety fence.pml        counted from the answer: assertion violated, a late write
 *
 * The options before -run choose the variant. spin leaves pan* and *.trail in the current directory.
 *
 * Each holder acquires the lease from the store, takes the lock of the target, and does F1 to F5 of src/lease/fence.rs one
 * by one. It may be stopped for any time, or killed, between any two steps. Leases end by time, once the holder's own
 * clock says so; one is broken by hand; and the store is made anew once, and counts its tokens from the beginning.
 *
 * Checked:
 *   - no smaller token writes after a greater one;
 *   - no holder writes that had a successor before its last look: at the store, where its lease was broken, and at its
 *     clock, where its time was over;
 *   - content that a power cut may leave has a durable mark that is not smaller than its token.
 */

#define HOLDERS 2
#define NOBODY 255

/* The store. */
byte owner = NOBODY;
byte next_token = 2;            /* made anew, it begins with 1 */
bool expired = false;           /* the last lease ended by time */

/* The target, and what is beside it. */
byte holder = NOBODY;           /* of the lock */
byte mark = 0;
byte durable = 0;               /* the mark that a power cut leaves */
byte file = 0;                  /* the token that wrote it last */

byte token[HOLDERS];
bool over[HOLDERS];             /* on the holder's own clock */
bool asked[HOLDERS];            /* its last look at the store is over */
bool looked[HOLDERS];           /* and that at its clock */
bool late[HOLDERS];

/* The kernel gives back what a dead process held. */
inline die(me) {
    atomic {
        if
        :: holder == me -> holder = NOBODY
        :: else
        fi;
        goto dead
    }
}

proctype Holder(byte me) {
    byte other = 1 - me;

    atomic {
        owner == NOBODY;
        owner = me;
        token[me] = next_token;
        next_token++;
        if
        :: token[other] > 0 && expired && !looked[other] -> late[other] = true
        :: token[other] > 0 && !expired && !asked[other] -> late[other] = true
        :: else
        fi
    };
    if :: skip :: die(me) fi;
#ifndef NO_LOCK
    atomic { holder == NOBODY -> holder = me };
#endif
    if :: skip :: die(me) fi;
    /* F1 */
#ifndef NO_MARK
    if
    :: mark > token[me] -> goto refused
    :: else
    fi;
#endif
    if :: skip :: die(me) fi;
    /* F2 */
    mark = token[me];
    if :: skip :: die(me) fi;
#ifndef NO_SYNC
    durable = mark;
#endif
    if :: skip :: die(me) fi;
    /* F3: the answer says what was when it was given */
#ifndef NO_ASK
    atomic {
        asked[me] = true;
        if
        :: owner != me -> goto refused
        :: else
        fi
    };
#else
    asked[me] = true;
#endif
    if :: skip :: die(me) fi;
    /* F4 */
    atomic {
        looked[me] = true;
#ifndef NO_CLOCK
        if
        :: over[me] -> goto refused
        :: else
        fi
#endif
    };
    if :: skip :: die(me) fi;
    /* F5 */
    atomic {
        assert(!late[me]);
        assert(token[me] >= file);
        file = token[me];
        assert(durable >= file)
    };
    if :: skip :: die(me) fi;
refused:
    atomic {
        if
        :: holder == me -> holder = NOBODY
        :: else
        fi
    };
dead:
    skip
}

proctype Time() {
end:
    do
    :: atomic { token[0] > 0 && !over[0] -> over[0] = true }
    :: atomic { token[1] > 0 && !over[1] -> over[1] = true }
#ifdef LATE_CLOCK
    :: atomic { owner != NOBODY -> owner = NOBODY; expired = true }
#else
    :: atomic { owner != NOBODY && over[owner] -> owner = NOBODY; expired = true }
#endif
    od
}

/* Somebody breaks a lease, and makes the store anew. */
proctype Hand() {
    bool broken = false, anew = false;
end:
    do
    :: atomic { owner != NOBODY && !broken -> owner = NOBODY; expired = false; broken = true }
    :: atomic { !anew -> owner = NOBODY; expired = false; next_token = 1; anew = true }
    od
}

init {
    atomic {
        run Holder(0);
        run Holder(1);
        run Time();
        run Hand()
    }
}
