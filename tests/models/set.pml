/*
 * Several files replaced together, by a writer that may be killed or suspended, and those who lock its targets: a model
 * for spin (Debian package spin, and a C compiler).
 *
 *     spin -run -safety set.pml                       as it is built: errors: 0 (5,598 states)
 *     spin -DSTALLS -run -safety set.pml              the writer may lose its locks and go on: errors: 0 (258,118 states)
 *     spin -DONE_RECORD -run -safety set.pml          no record of the second target: assertion violated
 *     spin -DSTAGES_FIRST -run -safety set.pml        stages have names before there are records: assertion violated
 *     spin -DFIRST_OUT -run -safety set.pml           the first to finish removes the journal: assertion violated
 *     spin -DSTALLS -DNO_CHECK -run -safety set.pml   no look at the locks before the commit: assertion violated
 *     spin -DSTALLS -DNO_DRAFT -run -safety set.pml   taken back without removing the draft: assertion violated
 *     spin -DSTALLS -DONE_LOOK -run -safety set.pml   no second look for the journal: assertion violated
 *     spin -DSTALLS -DNO_NONCE -run -safety set.pml   stages have the same name in every write: assertion violated
 *     spin -DBACKUP_LAST -run -safety set.pml         the target is replaced before its backup: assertion violated
 *     spin -DFORGETS -run -safety set.pml             the lease that was there does not come back: assertion violated
 *
 * The options before -run choose the variant. spin leaves pan* and *.trail in the current directory.
 *
 * Each process does one system call at a time, as src/lease/set.rs and src/write/together.rs do them; the steps have the
 * names that they have there. The locks' own protocols are in other models; here each is one bit. A process may be killed
 * between any two calls: its locks are free then, what it has made stays.
 *
 * Checked, whenever somebody holds both locks and has recovered both targets: both are old or both are new; the leases are
 * those that were there before; and, unless the writer has been suspended, no temporary file is left and exactly the
 * replaced targets have a backup. At every moment: what was replaced has a backup, and no late rename moves another
 * writer's half-written stage.
 */

#define FREE 255
#define SET 0                   /* the writer of the set */
#define SINGLE 3                /* the writer of the first target */

mtype = { none, prior, set };           /* T.lease */
mtype = { no_journal, draft, journal };
mtype = { no_stage, of_set, half };     /* half: the single writer's */

byte lock[2] = { FREE, FREE };
bool new[2], backup[2], temp[2];
mtype stage[2] = { no_stage, no_stage };
mtype lease[2] = { prior, none };
mtype j = no_journal;
bool stalled;

#define before(i) (i == 0 -> prior : none)
#define held(i) (lock[i] == _pid)

inline die() { atomic {
    if :: held(0) -> lock[0] = FREE :: else fi;
    if :: held(1) -> lock[1] = FREE :: else fi;
    goto dead
} }

/* Between any two calls. */
inline may_die() { if :: true :: die() fi }

inline take(i) { atomic { lock[i] == FREE -> lock[i] = _pid } }

inline rename_backup(i) { atomic {
    if :: temp[i] -> temp[i] = false; backup[i] = true :: else fi
} }

inline rename_stage(i) { atomic {
    assert(stage[i] != half);
    if :: stage[i] == of_set -> stage[i] = no_stage; new[i] = true; assert(backup[i]) :: else fi
} }

inline finish(i) {
#ifdef BACKUP_LAST
    rename_stage(i); may_die(); rename_backup(i)
#else
    rename_backup(i); may_die(); rename_stage(i)
#endif
}

inline restore(i) {
#ifdef FORGETS
    lease[i] = none
#else
    lease[i] = before(i)
#endif
}

inline forget() { atomic {
#ifdef FIRST_OUT
    j = (j == journal -> no_journal : j)
#else
    j = (j == journal && lease[0] != set && lease[1] != set -> no_journal : j)
#endif
} }

/* Whoever has taken the lock of target i. */
inline recover(i) {
    if
    :: lease[i] != set
    :: lease[i] == set ->
        may_die();
        if
        :: j == journal -> goes_on = true
        :: else ->
            may_die();
#ifdef NO_DRAFT
            goes_on = false
#else
            if
            :: atomic { j == draft -> j = no_journal }; goes_on = false
            :: j != draft ->
                may_die();
#ifdef ONE_LOOK
                goes_on = false
#else
                goes_on = (j == journal)
#endif
            fi
#endif
        fi;
        may_die();
        if
        :: goes_on -> finish(i)
        :: else -> atomic {
                if :: stage[i] == of_set -> stage[i] = no_stage :: else fi;
                temp[i] = false
            }
        fi;
        may_die();
        atomic { if :: lease[i] == set -> restore(i) :: else fi };
        may_die();
        forget()
    fi
}

inline records() {
    lease[0] = set; may_die();
#ifndef ONE_RECORD
    lease[1] = set; may_die()
#endif
}

inline names() {
    stage[0] = of_set; may_die();
    temp[0] = true; may_die();
    stage[1] = of_set; may_die();
    temp[1] = true; may_die()
}

active proctype writer() {
    bool goes_on;
    assert(_pid == SET);
    /* P1 */
    take(0); may_die(); recover(0);
    take(1); may_die(); recover(1);
    may_die();
#ifdef STAGES_FIRST
    j = draft; may_die(); names(); records();
#else
    /* P3, P4, P5 */
    records(); j = draft; may_die(); names();
#endif
    /* C1 */
#ifndef NO_CHECK
    if :: !(held(0) && held(1)) -> goto give_up :: held(0) && held(1) fi;
    may_die();
#endif
    if
    :: atomic { j == draft -> j = journal }
    :: j != draft -> goto give_up
    fi;
    may_die();
    /* C2 */
    finish(0); may_die();
    finish(1); may_die();
    /* C4 */
    atomic { if :: lease[0] == set && held(0) -> restore(0) :: else fi }; may_die();
    atomic { if :: lease[1] == set && held(1) -> restore(1) :: else fi }; may_die();
    forget(); may_die();
    die();
give_up:
    atomic { if :: j == draft -> j = no_journal :: else fi }; may_die();
    atomic {
        if :: stage[0] == of_set -> stage[0] = no_stage :: else fi;
        if :: stage[1] == of_set -> stage[1] = no_stage :: else fi;
        temp[0] = false; temp[1] = false
    }; may_die();
    atomic { if :: lease[0] == set && held(0) -> restore(0) :: else fi }; may_die();
    atomic { if :: lease[1] == set && held(1) -> restore(1) :: else fi }; may_die();
    die();
dead: skip
}

active [2] proctype locker() {
    bool goes_on;
    take(0); may_die(); recover(0); may_die();
    take(1); may_die(); recover(1);
    atomic {
        assert(new[0] == new[1]);
        assert(stalled || (lease[0] == before(0) && lease[1] == before(1)));
        assert(stalled || (stage[0] != of_set && stage[1] != of_set && !temp[0] && !temp[1]));
        assert(stalled || (backup[0] == new[0] && backup[1] == new[1]))
    };
    die();
dead: skip
}

active proctype single() {
    bool goes_on;
    assert(_pid == SINGLE);
    take(0); may_die(); recover(0); may_die();
#ifdef NO_NONCE
    stage[0] = half; may_die();
    atomic { if :: stage[0] == half -> stage[0] = no_stage :: else fi };
#endif
    die();
dead: skip
}

#ifdef STALLS
active proctype server() {
    if
    :: atomic { lock[0] == SET -> lock[0] = FREE; stalled = true }
    :: atomic { lock[1] == SET -> lock[1] = FREE; stalled = true }
    :: true
    fi;
    if
    :: atomic { lock[0] == SET -> lock[0] = FREE; stalled = true }
    :: atomic { lock[1] == SET -> lock[1] = FREE; stalled = true }
    :: true
    fi
}
#endif
