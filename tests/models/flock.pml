/*
 * The flock lock and the file that comes and goes with it: a model for spin (Debian package spin).
 *
 *     spin -run -safety flock.pml                         three processes: errors: 0
 *     spin -DCRASHES=1 -run -safety flock.pml             one of them may die: errors: 0
 *     spin -DNO_LOOK_AT_INODE -run -safety flock.pml      whoever has it is content: assertion violated, two hold it
 *     spin -DNO_SECOND_LOOK -run -safety flock.pml        a releaser looks once: assertion violated, a file is left
 *     spin -DNO_LAST_TRY -run -safety flock.pml           who gives up just goes: assertion violated, a file is left
 *
 * The options before -run choose the variant; tests/models/run.sh runs these lines and compares what they say. spin
 * leaves pan* and *.trail in the current directory.
 *
 * One system call at a time, as src/lock/flock.rs makes them. A lock file is a number; `name` is which of them has the
 * name, or NONE. Numbers do not come back. Each process takes the lock once and gives it back; one that waits may give
 * up at any moment, or be patient. What a dead process held is free, and its registration is gone.
 *
 * Checked:
 *   - never two processes that hold the lock;
 *   - nobody waits for ever, which would be an invalid end state;
 *   - when all have ended and none has died, no file is left.
 */

#ifndef CRASHES
#define CRASHES 0
#endif
#define PROCESSES 3
#define FILES 8
#define NONE 255

byte name = NONE;
byte files = 0;
byte locked[FILES] = NONE;              /* by whom */
byte registered[FILES];                 /* a bit for each process */

bool dead[PROCESSES];
bool over[PROCESSES];
byte holders = 0;
byte holder = NONE;

#define me_bit (1 << me)
#define wanted(f) ((registered[f] & ~me_bit) != 0)

inline unlock(f) {
    if
    :: locked[f] == me -> locked[f] = NONE
    :: else
    fi
}

proctype Process(byte me) {
    byte f;
    bool got, again;

    {
    skip;
start:
    again = false;
    /* open(O_CREAT|O_EXCL), or open what is there */
    atomic {
        if
        :: name == NONE -> assert(files < FILES); f = files; files++; name = f
        :: else -> f = name
        fi
    }
    /* flock(LOCK_NB) */
    atomic {
        if
        :: locked[f] == NONE -> locked[f] = me; goto look
        :: else
        fi
    }
    registered[f] = registered[f] | me_bit;
    if
    :: got = true; atomic { locked[f] == NONE -> locked[f] = me }
    :: got = false                      /* enough of waiting */
    fi;
    registered[f] = registered[f] & ~me_bit;
    if
    :: got -> goto look
#ifdef NO_LAST_TRY
    :: else -> goto closed
#else
    :: else
#endif
    fi;
    atomic {
        if
        :: locked[f] == NONE -> locked[f] = me
        :: else -> goto relinquish
        fi
    }

look:
#ifndef NO_LOOK_AT_INODE
    if
    :: name == f
    :: else -> again = true; goto relinquish
    fi;
#endif
    atomic {
        assert(holder == NONE || dead[holder]);
        holder = me
    }
    atomic {
        assert(holder == me);
        holder = NONE
    }

relinquish:
    /* flock(LOCK_NB): a holder has it already */
    atomic {
        if
        :: locked[f] == NONE || locked[f] == me -> locked[f] = me
        :: else -> goto closed
        fi
    }
    if
    :: wanted(f) ->
        unlock(f);
#ifdef NO_SECOND_LOOK
        goto closed;
#endif
        if
        :: wanted(f) -> goto closed
        :: else
        fi;
        atomic {
            if
            :: locked[f] == NONE -> locked[f] = me
            :: else -> goto closed
            fi
        }
    :: else
    fi;
    if
    :: name == f -> name = NONE
    :: else
    fi;

closed:
    atomic { unlock(f) };
    if
    :: again -> goto start
    :: else
    fi;
    over[me] = true
    } unless { dead[me] }
}

#define has_ended(i) (over[i] || dead[i])

init {
    byte i, victim, crashes = 0;
    atomic {
        for (i : 0 .. PROCESSES - 1) {
            run Process(i)
        }
    }
    do
    :: crashes < CRASHES ->
        atomic {
            select(victim : 0 .. PROCESSES - 1);
            if
            :: !has_ended(victim) ->
                dead[victim] = true;
                crashes++;
                for (i : 0 .. FILES - 1) {
                    registered[i] = registered[i] & ~(1 << victim);
                    if
                    :: locked[i] == victim -> locked[i] = NONE
                    :: else
                    fi
                }
            :: else -> goto enough
            fi
        }
    :: goto enough
    od;
enough:
    (has_ended(0) && has_ended(1) && has_ended(2));
    assert(crashes > 0 || name == NONE)
}
