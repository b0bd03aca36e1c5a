/*
 * Locks by link(2), with breakers that may die in the middle of it: a model for spin (Debian package spin).
 *
 *     spin -run -safety link.pml                              three processes, one may die: errors: 0
 *     spin -DCRASHES=2 -run -safety -m100000 link.pml         two may die (4 million states, 600 MB): errors: 0
 *     spin -DNO_MARK -run -safety link.pml                    break without the mark: assertion violated, two hold it
 *     spin -DNO_LOOK -run -safety link.pml                    mark, but no second look: assertion violated, two hold it
 *     spin -DNO_MARK_ON_MARK -run -safety link.pml            a dead breaker's mark simply removed: assertion violated
 *     spin -DSTAT_UNLINK -run -safety link.pml                look, unlink, link: assertion violated, two hold it
 *     spin -DMARK_STAYS -run -safety link.pml                 no unlink of the mark: assertion violated, a file is left
 *
 * The options before -run choose the variant; tests/models/run.sh runs these lines and compares what they say. spin
 * leaves pan* and *.trail in the current directory.
 *
 * One system call at a time, as src/lock/link.rs makes them. A file is a number, which is also its nonce: nonces never
 * come back, and neither do numbers here. L is the lock's name, mark[n] the name L.break-n, mark2[p] the name
 * L.break-n.break-p, mark3[q] that with .break-q behind it (a file is linked to one place of each depth at most, so the
 * last number says which). Each is the number of the file that has that name, or NONE. A file is stale when its maker
 is
 * dead: that a living process stalls for the stale time between two steps is excluded by the protocol's one assumption.
 *
 * A process takes the lock once, and gives it back. Any process may die between any two steps, CRASHES of them in all.
 *
 * Checked:
 *   - never two living processes that hold the lock;
 *   - who holds it finds it its own at the commit;
 *   - nobody waits for ever, which would be an invalid end state;
 *   - when all have ended and none has died, nothing is left; and a lock that is left is a dead process's.
 */

#ifndef CRASHES
#define CRASHES 1
#endif
#define PROCESSES 3
#define FILES 12
#define NONE 255

byte L = NONE;
byte mark[FILES] = NONE;
byte mark2[FILES] = NONE;
byte mark3[FILES] = NONE;
byte maker[FILES] = NONE;
byte files = 0;

bool dead[PROCESSES];
bool holds[PROCESSES];
bool over[PROCESSES];

#define stale(f) (dead[maker[f]])

inline fresh_file() {
    /* A file that nobody has ever seen needs no new number. */
    if
    :: u == NONE || seen -> assert(files < FILES); u = files; maker[u] = me; files++; seen = false
    :: else
    fi
}

proctype Process(byte me) {
    byte u = NONE, n, p, q;
    bool seen = false, ok;

    {
    skip;
start:
    /* Look. */
    atomic {
        fresh_file();
        n = L; p = NONE; q = NONE
    }
    if
    :: n == NONE ->
        /* link(U, L) */
        atomic {
            if
            :: L == NONE -> L = u; seen = true; goto held
            :: else -> goto start
            fi
        }
    :: n != NONE && !stale(n) ->
        (L != n || stale(n));
        goto start
    :: n != NONE && stale(n)
    fi;

#if defined(STAT_UNLINK)
    L = NONE;
    goto start;
#elif defined(NO_MARK)
    ok = true;
    goto marked;
#endif

    /* link(U, L.break-n) */
    atomic {
        if
        :: mark[n] == NONE -> mark[n] = u; seen = true; goto look_again
        :: else
        fi
    }
    /* Whose is it? */
    p = mark[n];
    if
    :: p == NONE -> goto start
    :: p != NONE && !stale(p) ->
        (mark[n] != p || stale(p) || L != n);
        goto start
    :: p != NONE && stale(p)
    fi;
#ifdef NO_MARK_ON_MARK
    mark[n] = NONE;
    goto start;
#endif
    /* link(U, L.break-n.break-p) */
    atomic {
        if
        :: mark2[p] == NONE -> mark2[p] = u; seen = true; goto second_marked
        :: else
        fi
    }
    q = mark2[p];
    if
    :: q == NONE -> goto start
    :: q != NONE && !stale(q) ->
        (mark2[p] != q || stale(q) || mark[n] != p || L != n);
        goto start
    :: q != NONE && stale(q)
    fi;
    /* link(U, L.break-n.break-p.break-q); for one more, three would have to die one inside the other. */
    atomic {
        if
        :: mark3[q] == NONE -> mark3[q] = u; seen = true
        :: else ->
            assert(CRASHES > 2 || !stale(mark3[q]));
            goto start
        fi
    }
    ok = (mark2[p] == q);
    if
    :: ok -> mark2[p] = u
    :: else
    fi;
    mark3[q] = NONE;
    if
    :: ok
    :: else -> goto start
    fi;

second_marked:
    ok = (mark[n] == p);
    if
    :: ok -> mark[n] = u
    :: else
    fi;
    mark2[p] = NONE;
    if
    :: ok
    :: else -> goto start
    fi;

look_again:
#ifdef NO_LOOK
    ok = true;
#else
    ok = (L == n);
#endif
marked:
    if
    :: ok -> L = u; seen = true          /* rename(U2, L) */
    :: else
    fi;
#ifndef NO_MARK
    mark[n] = NONE;
#endif
    if
    :: ok
    :: else -> goto start
    fi;

held:
    atomic {
        holds[me] = true;
        assert(!(holds[0] && !dead[0] && holds[1] && !dead[1]));
        assert(!(holds[0] && !dead[0] && holds[2] && !dead[2]));
        assert(!(holds[1] && !dead[1] && holds[2] && !dead[2]))
    }
    /* The commit. */
    atomic {
        assert(L == u);
        holds[me] = false
    }

    /* Release: link(L, L.break-u) */
    atomic {
        if
        :: mark[u] == NONE && L != NONE -> mark[u] = L
        :: else
        fi
    }
    if
    :: mark[u] == u ->
        assert(L == u);
        L = NONE;
#ifndef MARK_STAYS
        mark[u] = NONE
#endif
    :: else -> assert(false)            /* nobody breaks the lock of the living */
    fi;
    goto end;

end:
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
    /* Processes die, or do not. */
    do
    :: crashes < CRASHES ->
        atomic {
            select(victim : 0 .. PROCESSES - 1);
            if
            :: !has_ended(victim) -> dead[victim] = true; crashes++
            :: else -> goto enough
            fi
        }
    :: goto enough
    od;
enough:
    (has_ended(0) && has_ended(1) && has_ended(2));
    atomic {
        assert(L == NONE || stale(L));
        if
        :: crashes == 0 ->
            assert(L == NONE);
            for (i : 0 .. FILES - 1) {
                assert(mark[i] == NONE && mark2[i] == NONE && mark3[i] == NONE)
            }
        :: else
        fi
    }
}
