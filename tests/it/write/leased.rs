//! A file that somebody has a lease on (fcntl(2), F_SETLEASE): Samba, for a client that keeps changes to itself. The kernel
//! tells the holder to give it up, and whoever opens the file waits for that.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::common::{TestDir, needs};

/// Takes a write lease, and gives it up some time after the kernel has asked for it. By then it has written.
const HOLDER: &str = "
import fcntl, os, signal, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
def give_up(signal, frame):
    time.sleep(0.3)
    if sys.argv[2]: os.write(file, sys.argv[2].encode())
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os._exit(0)
signal.signal(signal.SIGIO, give_up)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('leased', flush=True)
time.sleep(60)
";

#[test]
fn a_lease_on_the_file_is_waited_for() {
    if !needs("python3") {
        return;
    }
    let ways: [(&[&str], &str); 5] = [
        (&["f"], "new"),
        (&["-b", "f"], "new"),
        (&["-a", "f"], "keptnew"),
        (&["--if-changed", "f"], "new"),
        // Here it writes nothing: what COMMAND is given would not be what the file was when its lock was taken.
        (&["f", "--", "sh", "-c", "cat; printf new"], "old.new"),
    ];
    for (args, content) in ways {
        let dir = TestDir::new();
        let file = dir.file("f", "old.");
        let mut holder = Command::new("python3")
            .args(["-c", HOLDER])
            .arg(&file)
            .arg(if args.contains(&"--") { "" } else { "kept" })
            .stdout(Stdio::piped())
            .current_dir("/")
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "leased\n");
        dir.awrite(args).stdin("new").quiet_success();
        assert!(holder.wait().unwrap().success());
        assert_eq!(dir.read("f"), content, "{args:?}");
        if args[0] == "-b" {
            assert_eq!(fs::read_to_string(dir.join("f.backup")).unwrap(), "kept");
        }
    }
}
