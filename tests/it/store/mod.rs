//! Leases that a store keeps, through the helper program of the manual page.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::{AWRITE, Run, Running, TestDir, wait_until};

mod faults;
mod fencing;
mod killed;
mod operations;

/// The example of awrite-store(7).
const HELPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/awrite-store-dir");

/// A helper for stores `odd://PATH`, which does wrong what `PATH/fault` says, in lines `REQUEST FAULT`. Everything else it
/// leaves to the one for `dir://PATH`.
const ODD: &str = r#"#!/bin/sh
dir=${1#odd://}
text=''
pass() { printf '%s' "$text" | awrite-store-dir "dir://$dir"; }
ls -l /proc/$$/fd >"$dir/fds"
echo >>"$dir/started"
while IFS= read -r line; do
    text="$text$line
"
    case $line in request=*) request=${line#*=} ;; id=*) id=$line ;; esac
    [ -z "$line" ] || continue
    date +%s%N >"$dir/got-$request"
    echo "$request" >>"$dir/asked"
    case $(sed -n "s/^$request //p" "$dir/fault") in
        '') pass | tee "$dir/last"; touch "$dir/did-$request" ;;
        die) exit 3 ;;
        kill) kill -9 $$ ;;
        hang) sleep 600 ;;
        late) answer=$(pass); sleep 4; printf '%s\n\n' "$answer" ;;
        given)
            answer=$(pass)
            case $answer in answer=ok*) touch "$dir/gave-$request"; sleep 600 ;; esac
            printf '%s\n\n' "$answer" ;;
        nonsense) printf 'hello\n\n' ;;
        half) printf 'answer=ok\n'; exit 0 ;;
        wordy) pass | sed '$d'; for n in 1 2 3; do printf 'x%d=%04000d\n' $n 0; done; echo ;;
        long) head -c 70000 /dev/zero | tr '\0' x ;;
        wrong) printf 'answer=held\nowner=B\n%s\n\n' "$id" ;;
        twice) pass; printf 'answer=ok\n\n'; touch "$dir/did-twice" ;;
        unfit) printf 'answer=ok\nowner=B\n%s\n\n' "$id" ;;
        again) cat "$dir/last" ;;
        nameless) pass | sed /^id=/d ;;
        error) printf 'answer=error\nmessage=the disk of the store is full. Make room.\n\n' ;;
    esac
    text=''
done
touch "$dir/ended"
"#;

struct Scene {
    dir: TestDir,
    scheme: &'static str,
}

impl Scene {
    fn new() -> Scene {
        Scene::with("dir")
    }

    /// Without faults, until some are set.
    fn odd() -> Scene {
        let scene = Scene::with("odd");
        scene.fault("");
        scene
    }

    fn with(scheme: &'static str) -> Scene {
        let dir = TestDir::new();
        dir.dir("bin");
        dir.dir("store");
        for name in ["awrite", "awrite-lock", "awrite-housekeep"] {
            symlink(AWRITE, dir.join("bin").join(name)).unwrap();
        }
        symlink(HELPER, dir.join("bin/awrite-store-dir")).unwrap();
        dir.script("bin/awrite-store-odd", ODD);
        Scene { dir, scheme }
    }

    fn fault(&self, lines: &str) {
        fs::write(self.dir.join("store/fault"), lines).unwrap();
    }

    fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.dir.join("store").display())
    }

    /// With the helpers on PATH, and no store named.
    fn plain(&self, run: Run) -> Run {
        let path = std::env::var("PATH").unwrap();
        run.env("PATH", format!("{}:{path}", self.dir.join("bin").display()))
    }

    fn run(&self, run: Run) -> Run {
        self.plain(run).env("AWRITE_STORE", self.url())
    }

    fn lock(&self, args: &[&str]) -> Run {
        self.run(self.dir.lock(args))
    }

    fn awrite(&self, args: &[&str]) -> Run {
        self.run(self.dir.awrite(args))
    }

    #[track_caller]
    fn acquire(&self, owner: &str, ttl: &str, target: &str) -> u64 {
        let done = self.lock(&["--acquire", "-n", "--owner", owner, "--ttl", ttl, target]).run();
        assert_eq!(done.ok().stderr, "");
        done.stdout.trim_end().parse().unwrap()
    }

    /// Ends whatever lease `target` has.
    #[track_caller]
    fn break_lease(&self, target: &str) {
        self.lock(&["--break", target]).run().ok();
    }

    /// The mark beside `f`.
    #[track_caller]
    fn mark(&self) -> u64 {
        let record: serde_json::Value = serde_json::from_str(&self.dir.read("f.lease")).unwrap();
        record["fence"].as_u64().unwrap()
    }

    /// Runs a script under a lease of A; it has begun when this returns, and waits for the file `go`.
    #[track_caller]
    fn under_lease(&self, options: &[&str], target: &str, after: &str) -> Running {
        let script = format!("touch started; while test ! -e go; do sleep 0.01; done; {after}");
        let mut running = self.lock(&[&["--owner", "A"], options, &[target, "-c", &script]].concat()).spawn();
        wait_until("COMMAND runs", || {
            assert!(!running.has_ended(), "{}", running.stderr());
            self.dir.join("started").exists()
        });
        running
    }
}

/// The manual page has the script as it is, and so it is what is tested.
#[test]
fn the_example_is_the_one_of_the_manual_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("pkg/man/awrite-store.7")).unwrap();
    let begin = page.find("#!/bin/sh\n").expect("the page has a script");
    let end = begin + page[begin..].find("\n.Ed\n").expect("the script has an end") + 1;
    // As roff has it: no special characters, and no line that begins with one of its own.
    let script = page[begin..end].replace("\\e", "\\").replace("\\-", "-").replace("\\(aq", "'").replace("\\&", "");
    let script = script.replace("\\(ga", "`").replace("\\(ti", "~").replace("\\(ha", "^");
    assert_eq!(script, fs::read_to_string(HELPER).unwrap());
}
